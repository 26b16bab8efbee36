"""A montage through batchruntomo: its piece list and angles, and the displacements of its edges, which IMOD then blends by.

batchruntomo reads `NAME.pl` and, with `userawtlt`, `NAME.rawtlt` of one angle a view; it never looks into an `.mdoc`.  blendmont's own
displacements of edges stick to half pixels, and are wrong by many where overlaps are small.  With offsets of the pieces from elsewhere
the run is made in three steps: set-up (`-end 0`), `NAME.ecd` and the options of blendmont in the command files, the rest (`-start 1`).
Directives cannot do it: batchruntomo refuses those of blendmont in `xcorr.com` and `blend.com`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tiltflow.engines.base import EngineJob
from tiltflow.engines.stitching import stitch
from tiltflow.errors import EngineError
from tiltflow.formats.edge_displacements import write_edge_displacements
from tiltflow.formats.montages import MONTAGE
from tiltflow.formats.piece_lists import coordinates_of, write_piece_list
from tiltflow.formats.tilts import write_tilts
from tiltflow.model import ImageStack, TiltSeries
from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage import PieceOffsets
from tiltflow.preprocess.preparation import RepairingStack
from tiltflow.recipe import Recipe

OffsetsOf: TypeAlias = Callable[[EngineJob, ImageStack], PieceOffsets | None]
"""Returns where the pieces of a montage lie, from its stack of pieces; None leaves it to IMOD."""

_TILT_SOURCES = ("setupset.copyarg.extract", "setupset.copyarg.firstinc")
_FIRST_BLEND = "xcorr.com"
"""Where blendmont finds displacements; the later runs read what it left."""
_LATER_BLENDS = ("preblend.com", "blend.com")
_SAMPLES = "sample.com"
"""Makes the sample tomograms of positioning; there is none without it."""
_SHIFTS, _FROM_XCORRS, _READS = "ShiftPieces", "ShiftFromXcorrs", "ReadInXcorrs"


def pieces_offsets(job: EngineJob, raw: ImageStack) -> PieceOffsets | None:
    """Return where the pieces of a montage lie; None for an ordinary series.

    Parameters
    ----------
    job
        The work on it.
    raw
        Its pieces, `(section, y, x)`.
    """
    grid = job.series.montage
    return None if grid is None else stitch(job, RepairingStack(raw, job.recipe.xrays), grid).offsets


def directives_instead(series: TiltSeries, recipe: Recipe) -> Mapping[str, str | None]:
    """Return values of directives that the data decide, in place of the recipe's; None for one that is left out."""
    if series.montage is None:
        return {MONTAGE: "0"} if any(each.name == MONTAGE for each in recipe.directives) else {}
    return {MONTAGE: "1", "setupset.copyarg.userawtlt": "1", **dict.fromkeys(_TILT_SOURCES)}


def write_piece_files(series: TiltSeries, grid: PieceGrid, stack: Path) -> None:
    """Write `NAME.pl`, whose views are numbered without gaps, and `NAME.rawtlt` beside the copy of a stack."""
    write_piece_list(stack.with_suffix(".pl"), coordinates_of(grid))
    write_tilts(stack.with_suffix(".rawtlt"), series.tilt_deg)


def blend_by(grid: PieceGrid, offsets: NDArray[np.float64], stack: Path) -> None:
    """Write `NAME.ecd`, and have blendmont take it as it is in all command files that run it.

    Parameters
    ----------
    grid
        The layout.
    offsets
        What is to be added to the written corner of each piece, `(views, pieces, 2)` pixels.
    stack
        The copy that IMOD works on, in a folder that batchruntomo has set up.

    Raises
    ------
    EngineError
        If a command file is missing, or is not what the known versions write.
    """
    write_edge_displacements(stack.with_suffix(".ecd"), grid, offsets)
    for name in (_FIRST_BLEND, *_LATER_BLENDS):
        _edit(stack.with_name(name))
    if (samples := stack.with_name(_SAMPLES)).is_file() and _SHIFTS in samples.read_text(encoding="utf-8", errors="replace"):
        _edit(samples)


def _edit(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise EngineError(
            f"batchruntomo has set up the data set without {path.name}, by which pieces are blended: {error.strerror}"
        ) from error
    path.write_text(shift_from_displacements(text, path.name), encoding="utf-8", errors="surrogateescape")


def shift_from_displacements(text: str, name: str) -> str:
    """Return a command file in which blendmont reads displacements of edges and places pieces by nothing else.

    Parameters
    ----------
    text
        As batchruntomo wrote it.
    name
        Of the file, for the message.

    Raises
    ------
    EngineError
        If it does not run blendmont with the options that are to be changed.
    """
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        if word == _FROM_XCORRS:
            continue
        lines.append(f"{_READS}\t1\n" if word == _READS else line)
        if word == _SHIFTS:
            lines.append(f"{_FROM_XCORRS}\t1\n")
    found = "".join(lines)
    for option in (_FROM_XCORRS, _READS):
        if option not in found:
            raise EngineError(
                f"{name} of this version of IMOD has no {option} or {_SHIFTS} of blendmont, so that pieces cannot be placed"
            )
    return found
