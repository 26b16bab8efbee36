"""RELION 5's tilt series, `tilt_series/NAME.star`, alone or by way of the table of all series (`tomograms.star`).

A row is a view that is kept: `rlnTomoZRot` is the angle of the tilt axis, `rlnTomoYTilt` the tilt, `rlnTomoXTilt` the tilt about x that
precedes it, and `rlnTomoXShiftAngst`, `rlnTomoYShiftAngst` are the shift of the raw view in Å, all with tiltflow's signs.  RELION
measures from the pixel at half the width, rounded down; a shift is taken over as it stands, as RELION does when it imports alignments
itself.  For an alignment that was refined in RELION the centre is then off by half a pixel along sides of an even length.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.errors import FormatError, LocationError, MissingValueError
from tiltflow.formats.foreign_alignment import ForeignAlignment, one_x_tilt, read_text

Block = Mapping[str, list[str]]
"""Column (without its underscore) to its values; of a block without a loop, one value each."""

_NEEDED = ("rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst")
_MATRICES = tuple(f"rlnTomoProj{row}" for row in "XYZW")
_NAME, _SERIES_FILE = "rlnTomoName", "rlnTomoTiltSeriesStarFile"
_MOST_PARENTS = 4
"""Folders above the table in which the project folder is looked for: `Tomograms/job010/tomograms.star` lies two below it."""


def parse_star(text: str, where: str = "star file") -> dict[str, Block]:
    r"""Return the blocks of a STAR file, by the name after `data_`: of each its one loop, or its pairs.

    Raises
    ------
    FormatError
        If a row has another number of words than the loop has columns, or the text is not in blocks.

    Examples
    --------
    >>> parse_star("data_S\nloop_\n_a #1\n_b #2\n1 x\n2 'y z'\n")
    {'S': {'a': ['1', '2'], 'b': ['x', 'y z']}}
    """
    blocks: dict[str, dict[str, list[str]]] = {}
    block: dict[str, list[str]] | None = None
    columns: list[str] = []
    in_loop = False
    for number, line in _lines(text):
        if line.startswith("data_"):
            block, columns, in_loop = blocks.setdefault(line[5:].strip(), {}), [], False
        elif block is None:
            raise FormatError(
                f"{where}, line {number}: {line[:60]!r} stands before the first block (data_...): this is not a STAR file"
            )
        elif line.lower() == "loop_":
            columns, in_loop = [], True
        elif line.startswith("_"):
            words = _words(line, f"{where}, line {number}")
            columns.append(words[0][1:])
            block[words[0][1:]] = [] if in_loop else words[1:2]
        else:
            words = _words(line, f"{where}, line {number}")
            if not in_loop or len(words) != len(columns):
                raise FormatError(f"{where}, line {number}: has {len(words)} values for {len(columns) if in_loop else 0} columns")
            for column, word in zip(columns, words, strict=True):
                block[column].append(word)
    return dict(blocks)


def read_star(path: Path) -> dict[str, Block]:
    """Return the blocks of a file.

    Raises
    ------
    LocationError, FormatError
        If it cannot be read, or is not a STAR file.
    """
    blocks = parse_star(read_text(path, "a STAR file"), str(path))
    if not blocks:
        raise FormatError(f"{path}: has no block (data_...): this is not a STAR file")
    return blocks


def read_relion_alignment(path: Path, name: str, pixel_size_angstrom: float) -> ForeignAlignment:
    """Return the alignment of a series.

    Parameters
    ----------
    path
        The star file of the series, or the table of all series.
    name
        Name of the series: `rlnTomoName` in the table.
    pixel_size_angstrom
        Of a raw pixel.

    Raises
    ------
    LocationError, FormatError
        If a file cannot be read.
    MissingValueError
        If the series or a column is missing.
    """
    files = [*dict.fromkeys((path, relion_series_file(path, name)))]
    views = _views_of(read_star(files[-1]), files[-1], name)
    number = _Columns(views, str(files[-1]))
    zero = np.zeros(len(views[_NEEDED[0]]))
    shifts = np.stack([number("rlnTomoXShiftAngst"), number("rlnTomoYShiftAngst")], axis=1) / pixel_size_angstrom
    nominal = number("rlnTomoNominalStageTiltAngle") if "rlnTomoNominalStageTiltAngle" in views else None
    x_tilt = number("rlnTomoXTilt") if "rlnTomoXTilt" in views else zero
    return ForeignAlignment(
        program="RELION",
        files=tuple(files),
        transforms=geometry.from_axis_and_shifts(number("rlnTomoZRot"), shifts),
        tilt_deg=number("rlnTomoYTilt"),
        used=np.ones(len(zero), bool),
        section=_sections(views.get("rlnMicrographName", []), name),
        nominal_deg=nominal,
        x_tilt_deg=one_x_tilt(x_tilt, str(files[-1])),
    )


def relion_series_file(path: Path, name: str) -> Path:
    """Return the star file that holds the views of a series: the one that a table of all series names, or the file itself.

    Raises
    ------
    LocationError, FormatError
        If a file is missing or cannot be read.
    MissingValueError
        If the table has no such series.
    """
    table = _table(path)
    return path if table is None else series_star(path, table, name)


def names_in(path: Path) -> tuple[str, ...]:
    """Return the names of the series in a table of all series; none for any other file.

    Raises
    ------
    LocationError, FormatError
        If it cannot be read, or is not a STAR file.
    """
    table = _table(path)
    return tuple(table.get(_NAME, ())) if table is not None else ()


def series_star(path: Path, table: Block, name: str) -> Path:
    """Return the star file of a series by the table of all series, which gives it from the project folder or its own.

    Raises
    ------
    MissingValueError
        If the table has no such series.
    LocationError
        If its file is missing.
    """
    names = table.get(_NAME, [])
    if name not in names:
        raise MissingValueError(
            f"{path}: has no series {name!r} ({_NAME}); there are {', '.join(names[:8])}{', ...' * (len(names) > 8)}"
        )
    given = table[_SERIES_FILE][names.index(name)]
    folders = [path.parent, *path.resolve().parents[:_MOST_PARENTS]]
    for folder in folders:
        if (found := folder / given).is_file():
            return found
    raise LocationError(f"{path}: the star file of {name}, {given}, is neither in its folder nor in one of the folders above")


def _table(path: Path) -> Block | None:
    return next((block for block in read_star(path).values() if _SERIES_FILE in block), None)


class _Columns:
    """The columns of a block as numbers."""

    def __init__(self, block: Block, where: str) -> None:
        self._block, self._where = block, where

    def __call__(self, column: str) -> NDArray[np.float64]:
        try:
            values = np.array(self._block[column], float)
        except ValueError as error:
            raise FormatError(f"{self._where}: {column} holds something that is not a number: {error}") from error
        if not np.isfinite(values).all():
            raise FormatError(
                f"{self._where}: {column} holds a number that is not finite (row {int(np.argmin(np.isfinite(values))) + 1})"
            )
        return values


def _views_of(blocks: Mapping[str, Block], path: Path, name: str) -> Block:
    """Return the block of a series: the one of its name, or the only one."""
    views = blocks.get(name, next(iter(blocks.values())) if len(blocks) == 1 else {})
    if not views:
        raise MissingValueError(f"{path}: has no block data_{name}; there are {', '.join(f'data_{each}' for each in blocks)}")
    if all(column in views for column in _MATRICES):
        raise FormatError(
            f"{path}: holds projection matrices ({_MATRICES[0]} ...), which outrank its angles in RELION and which tiltflow does "
            f"not read; give a star file of RELION 5"
        )
    missing = [column for column in _NEEDED if column not in views]
    if missing:
        raise MissingValueError(f"{path}: has no {', '.join(missing)}: its series is not aligned yet")
    if not views[_NEEDED[0]]:
        raise FormatError(f"{path}: holds no views")
    return views


def _sections(micrographs: list[str], name: str) -> NDArray[np.int64] | None:
    """Return the sections, from 0, that names like `000003@NAME.mrcs` give; None where a row names something else."""
    found = [re.fullmatch(rf"(\d+)@(?:.*/)?{re.escape(name)}\.\w+", each) for each in micrographs]
    if not found or not all(found):
        return None
    return np.array([int(each[1]) - 1 for each in found if each], np.int64)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _words(line: str, where: str) -> list[str]:
    """Return the words of a line; quotes hold words together, and a `#` after a blank begins a comment."""
    line = re.sub(r"\s#.*$", "", line)
    if "'" not in line and '"' not in line:
        return line.split()
    try:
        return shlex.split(line)
    except ValueError as error:
        raise FormatError(f"{where}: {line[:60]!r}: {error}") from error
