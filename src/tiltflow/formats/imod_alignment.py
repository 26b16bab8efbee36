"""IMOD's alignment of a data set: `NAME.xf` with `NAME.tlt`, and what may lie beside them.

| file | what is taken from it |
|---|---|
| `NAME.xf`, `NAME.tlt` | transforms and tilts, both needed |
| `NAME.xtilt` | tilt about x |
| `tilt.com` | XAXISTILT, OFFSET (added to the tilts), EXCLUDELIST and EXCLUDELIST2 (views that are left out) |
| `NAMElocal.xf` | local areas (:mod:`tiltflow.formats.imod_local`) |
| `NAME.zfac`, tiltflow's `NAME_local.json` | nothing; that there is one is noted |

The tilt about x that a volume needs is `.xtilt` minus XAXISTILT: IMOD's `tilt` applies the first and undoes the second.  Warp and AreTomo
write `.xf` and `.tlt` too, with lines for the views alone that they keep.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, MissingValueError
from tiltflow.formats.foreign_alignment import ForeignAlignment, one_x_tilt, read_text
from tiltflow.formats.imod_local import read_local_alignment
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms

Floats = NDArray[np.float64]

TILT_COM = "tilt.com"


def read_imod_alignment(path: Path, image_size: tuple[int, int], pixel_size_angstrom: float) -> ForeignAlignment:
    """Return the alignment of `NAME.xf` and the files beside it.

    Parameters
    ----------
    path
        `NAME.xf`.
    image_size
        Width and height of the raw views.
    pixel_size_angstrom
        Of a raw pixel.

    Raises
    ------
    MissingValueError
        If there is no `NAME.tlt`.
    LocationError, FormatError
        If a file cannot be read, or they do not belong together.
    """
    tilts_path = path.with_suffix(".tlt")
    if not tilts_path.is_file():
        raise MissingValueError(f"{path}: the tilt angles of this alignment are missing: put {tilts_path.name} beside it")
    transforms, tilts = read_transforms(path), read_tilts(tilts_path)
    if len(transforms) != len(tilts):
        raise FormatError(
            f"{path}: has {len(transforms)} transforms, and {tilts_path.name} has {len(tilts)} angles; each view takes one of both"
        )
    if not len(transforms):
        raise FormatError(f"{path}: holds no transforms")
    files = [path, tilts_path]
    command = _command(path.with_name(TILT_COM), path.stem, files)
    tilts = tilts + command.offset_deg
    x_tilt = _x_tilt(path.with_suffix(".xtilt"), len(tilts), files) - command.x_axis_tilt_deg
    local, notes = None, command.notes
    if (z_factors := path.with_suffix(".zfac")).is_file():
        notes = (*notes, f"{z_factors.name}: its z factors are not taken over")
    if path.with_name(f"{path.stem}_local.json").is_file():
        notes = (*notes, f"{path.stem}_local.json: the local areas are not taken over, the global alignment is used")
    if (local_path := path.with_name(f"{path.stem}local.xf")).is_file():
        local, more = read_local_alignment(local_path, len(tilts), image_size, pixel_size_angstrom)
        files.append(local_path)
        notes = (*notes, *more)
    return ForeignAlignment(
        program="IMOD",
        files=tuple(files),
        transforms=transforms,
        tilt_deg=tilts,
        used=np.ones(len(tilts), bool),
        left_out=command.left_out,
        x_tilt_deg=x_tilt,
        local=local,
        notes=notes,
    )


def companions(path: Path) -> tuple[Path, ...]:
    """Return the files that are read with `NAME.xf`, as far as they exist."""
    beside = [path.with_suffix(suffix) for suffix in (".tlt", ".xtilt")]
    beside += [path.with_name(TILT_COM), path.with_name(f"{path.stem}local.xf")]
    return tuple(each for each in beside if each.is_file())


@dataclass(frozen=True, slots=True)
class _TiltCommand:
    """What `tilt.com` says of the geometry."""

    x_axis_tilt_deg: float = 0.0
    offset_deg: float = 0.0
    left_out: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def _command(path: Path, name: str, files: list[Path]) -> _TiltCommand:
    if not path.is_file():
        return _TiltCommand()
    entries = _entries(read_text(path, "a command file"))
    tilts = entries.get("TILTFILE", f"{name}.tlt").split("/")[-1]
    if tilts != f"{name}.tlt":
        return _TiltCommand(notes=(f"{path.name} is not taken into account, as it reads {tilts} and not {name}.tlt",))
    files.append(path)
    lists = [entries[key] for key in ("EXCLUDELIST", "EXCLUDELIST2", "EXCLUDE") if key in entries]
    return _TiltCommand(
        x_axis_tilt_deg=_number(entries.get("XAXISTILT", "0"), path, "XAXISTILT"),
        offset_deg=_number(entries.get("OFFSET", "0").replace(",", " "), path, "OFFSET"),
        left_out=tuple(sorted({view - 1 for text in lists for view in parse_view_list(text, str(path))})),
    )


def _entries(text: str) -> dict[str, str]:
    pairs = (re.split(r"[ \t=]+", line.strip(), maxsplit=1) for line in text.splitlines() if line[:1] not in ("$", "#", ""))
    return {pair[0].upper(): pair[1] if len(pair) > 1 else "" for pair in pairs}


def _number(text: str, path: Path, name: str) -> float:
    try:
        value = float(text.split()[0])
    except (ValueError, IndexError):
        value = np.nan
    if not np.isfinite(value):
        raise FormatError(f"{path}: {name} {text.strip()[:40]!r} is not a number")
    return value


def parse_view_list(text: str, where: str = "list of views") -> list[int]:
    """Return the views of an IMOD list, counted from 1.

    Raises
    ------
    FormatError
        If it is not such a list.

    >>> parse_view_list("2, 4-6")
    [2, 4, 5, 6]
    """
    views: list[int] = []
    for part in filter(None, re.split(r"[\s,]+", re.sub(r"\s*-\s*", "-", text.strip()))):
        found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        if found is None or int(found[1]) < 1:
            raise FormatError(f"{where}: {part[:40]!r} is not a view or a range of views; write 2,4-6")
        views += range(int(found[1]), int(found[2] or found[1]) + 1)
    return views


def _x_tilt(path: Path, rows: int, files: list[Path]) -> float:
    if not path.is_file():
        return 0.0
    angles = read_tilts(path)
    if len(angles) != rows:
        raise FormatError(f"{path}: has {len(angles)} angles, and the transforms have {rows} lines; each view takes one of both")
    files.append(path)
    return one_x_tilt(angles, str(path))
