"""AreTomo's alignment, `NAME.aln`: a table `SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT`, one row a view that is kept.

ROT is the angle of the tilt axis, TX and TY are the shift of the raw view in pixels, TILT is the refined tilt, all with tiltflow's
signs and about the image centre: `A = Rz(-ROT)`, `d = -A (TX, TY)`.  AreTomo 3 counts SEC from 1, AreTomo and AreTomo 2 from 0; which
one it is follows from the sections of all rows and of the `DarkFrame` lines, which name the views that were left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.errors import FormatError
from tiltflow.formats.foreign_alignment import ForeignAlignment, read_text

_COLUMNS = 10
_SEC, _ROT, _MAG, _TX, _TY, _TILT = 0, 1, 2, 3, 4, 9
_LOCAL = re.compile(r"#\s*Local Alignment", re.IGNORECASE)
_HEAD = re.compile(r"#\s*(\w+)\s*=\s*(.*)")


def read_aln(path: Path) -> ForeignAlignment:
    """Return the alignment in a file of AreTomo.

    Raises
    ------
    LocationError, FormatError
        If the file cannot be read, or is not one of AreTomo's.
    """
    rows: list[list[float]] = []
    head: dict[str, list[str]] = {}
    notes: list[str] = []
    lines = read_text(path, "an alignment of AreTomo").splitlines()
    for number, line in enumerate(lines, 1):
        if _LOCAL.match(line.strip()):
            if any(further.strip() for further in lines[number:]):
                notes.append(f"{path.name}: its local alignment by patches is not taken over, the global one is used")
            break
        if entry := _HEAD.match(line.strip()):
            head.setdefault(entry[1], []).append(entry[2])
        elif line.strip() and not line.lstrip().startswith("#"):
            rows.append(_row(line, f"{path}, line {number}"))
    if not rows:
        raise FormatError(
            f"{path}: holds no row SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT, so it is not an alignment of AreTomo"
        )
    table = np.array(rows)
    width, height, views = _raw_size(head, path)
    dark = [_section(text, path) for text in head.get("DarkFrame", ())]
    section = _counted_from_0(table[:, _SEC].astype(np.int64), dark, views)
    if (beta := _offset(head, "BetaOffset")) != 0:
        notes.append(f"{path.name}: BetaOffset {beta:g} degrees is not taken over; the volume is level to that angle")
    if np.any(table[:, _MAG] != 1):
        raise FormatError(f"{path}: GMAG is not 1 in every row; AreTomo writes 1, and what another value means is not known")
    return ForeignAlignment(
        program="AreTomo",
        files=(path,),
        transforms=geometry.from_axis_and_shifts(table[:, _ROT], table[:, [_TX, _TY]]),
        tilt_deg=table[:, _TILT].copy(),
        used=np.ones(len(table), bool),
        section=section,
        image_size=(width, height),
        views=views,
        notes=tuple(notes),
    )


def _row(line: str, where: str) -> list[float]:
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        numbers = []
    if len(numbers) != _COLUMNS or not np.isfinite(numbers).all():
        raise FormatError(f"{where}: {line.strip()[:80]!r} is not SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT")
    return numbers


def _raw_size(head: dict[str, list[str]], path: Path) -> tuple[int, int, int]:
    words = head.get("RawSize", [""])[0].split()
    if len(words) != 3 or not all(word.isdigit() for word in words):
        raise FormatError(f"{path}: no line '# RawSize = width height views', so it is not an alignment of AreTomo")
    width, height, views = map(int, words)
    return width, height, views


def _section(text: str, path: Path) -> int:
    words = text.split()
    if len(words) < 2 or not words[1].isdigit():
        raise FormatError(f"{path}: DarkFrame = {text.strip()[:40]!r} does not name a section")
    return int(words[1])


def _counted_from_0(sections: NDArray[np.int64], dark: Sequence[int], views: int) -> NDArray[np.int64] | None:
    """Return the sections of the rows counted from 0; None where rows and dark frames leave it open what the first one is called."""
    for named in (sections.tolist(), [*sections.tolist(), *dark]):
        from_zero, from_one = 0 in named, views in named
        if from_zero != from_one:
            return sections - int(from_one)
    return None


def _offset(head: dict[str, list[str]], name: str) -> float:
    try:
        return float(head.get(name, ["0"])[0])
    except ValueError:
        return 0.0
