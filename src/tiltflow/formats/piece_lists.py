"""Piece lists, `.pl`: the corner of each piece of a montage and the view it belongs to, a line x y z a section of the stack.

x and y are pixels on a regular grid, z is the number of the view.  IMOD's extractpieces writes them in widths of 7, 7 and 5; what is read
is free in form.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.text_files import read_text
from tiltflow.piece_grid import PieceGrid

ENDING = ".pl"
_LARGEST = 1 << 24
"""Pixels; greater than the side of any montage."""


def parse_piece_list(text: str, where: str = "piece list") -> NDArray[np.int64]:
    r"""Return the coordinates in a text: x, y, z of each section, `(sections, 3)`.

    Blank lines are left out.

    Raises
    ------
    FormatError
        A line is not three whole numbers; the message begins with `where` and names the line.

    Examples
    --------
    >>> parse_piece_list("  0 0 0\n224 0 0\n")
    array([[  0,   0,   0],
           [224,   0,   0]])
    """
    rows = [_row(line, f"{where}, line {number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not rows:
        raise FormatError(f"{where}: is empty; write a line x y z for each section, or remove the file")
    return np.array(rows, np.int64)


def read_piece_list(path: str | os.PathLike[str]) -> NDArray[np.int64]:
    """Return the coordinates in a file, as :func:`parse_piece_list`.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It is not text, or a line is not three whole numbers.
    """
    try:
        return parse_piece_list(read_text(Path(path)), str(path))
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not text, so it is no list of pieces") from error
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror}") from error


def render_piece_list(coordinates: ArrayLike) -> str:
    r"""Return coordinates x, y, z, `(sections, 3)`, as IMOD's extractpieces writes them.

    >>> render_piece_list([[224, 0, 1]])
    '    224      0    1\n'
    """
    return "".join(f"{x:7d}{y:7d}{z:5d}\n" for x, y, z in np.asarray(coordinates, np.int64).reshape(-1, 3).tolist())


def write_piece_list(path: str | os.PathLike[str], coordinates: ArrayLike) -> None:
    """Write coordinates x, y, z, `(sections, 3)`, a section a line."""
    Path(path).write_text(render_piece_list(coordinates), "utf-8")


def coordinates_of(grid: PieceGrid) -> NDArray[np.int64]:
    """Return x, y, z of each section of a montage, `(sections, 3)`: corners that begin at 0, views that are numbered without gaps."""
    views, pieces = np.nonzero(grid.taken)
    coordinates = np.empty((grid.sections, 3), np.int64)
    coordinates[grid.section[views, pieces]] = np.column_stack((grid.corner_px[pieces], views))
    return coordinates


def _row(line: str, where: str) -> tuple[int, int, int]:
    words = line.split()
    try:
        x, y, z = map(int, words)
    except ValueError:
        raise FormatError(f"{where}: {line.strip()[:60]!r} is not three whole numbers x y z, as a piece of a montage has") from None
    if max(abs(x), abs(y), abs(z)) > _LARGEST:
        raise FormatError(
            f"{where}: {line.strip()[:60]!r} lies outside of any montage; write x, y in pixels and the number z of the view"
        )
    return x, y, z
