"""IMOD's `.ecd`: how far the neighbours of a montage lie from where they were written to be, an edge a line.

The first line has the numbers of edges along x and along y.  A displacement is the offset of the upper piece less that of the lower one,
x and y in pixels: what is to be added to the distance of their written corners.  All edges along x come first, view by view, then all
along y; within a view they have the order of :attr:`tiltflow.piece_grid.PieceGrid.edges`.  An edge of a missing piece has no line.

blendmont takes them as they are with `ReadInXcorrs 1` and `ShiftFromXcorrs 1`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.text_files import read_text
from tiltflow.piece_grid import PieceGrid

Floats = NDArray[np.float64]


def displacements_of(grid: PieceGrid, offsets: Floats) -> Floats:
    """Return the displacement of every edge, `(views, edges, 2)` pixels, NaN where one of its pieces is missing.

    Parameters
    ----------
    grid
        The layout.
    offsets
        What is to be added to the written corner of each piece, `(views, pieces, 2)`, x and y in pixels.
    """
    lower, upper = _ends(grid)
    there = grid.taken[:, lower] & grid.taken[:, upper]
    return np.where(there[..., None], offsets[:, upper] - offsets[:, lower], np.nan)


def render_edge_displacements(grid: PieceGrid, displacements: Floats) -> str:
    """Return the text of an `.ecd`: displacements `(views, edges, 2)` pixels, NaN for edges that a view does not have."""
    axis = np.array([edge.axis for edge in grid.edges], int)
    along = [displacements[:, axis == each].reshape(-1, 2) for each in (0, 1)]
    present = [rows[~np.isnan(rows[:, 0])] for rows in along]
    counts = "".join(f"{len(rows):7d}" for rows in present)
    return f"{counts}\n" + "".join(f"{x:9.3f} {y:9.3f}\n" for rows in present for x, y in rows.tolist())


def write_edge_displacements(path: str | os.PathLike[str], grid: PieceGrid, offsets: Floats) -> None:
    """Write the displacements that follow from the offsets of the pieces, as :func:`displacements_of` has them."""
    Path(path).write_text(render_edge_displacements(grid, displacements_of(grid, offsets)), "utf-8")


def read_edge_displacements(path: str | os.PathLike[str], grid: PieceGrid) -> Floats:
    """Return the displacements in a file, `(views, edges, 2)` pixels, NaN for edges that a view does not have.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It does not hold a pair of numbers for each edge of the grid.
    """
    try:
        words = read_text(Path(path)).split()
        counts, values = [int(word) for word in words[:2]], np.array(words[2:], np.float64)
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise FormatError(f"{path}: is no list of edge displacements: {error}") from error
    lower, upper = _ends(grid)
    there = grid.taken[:, lower] & grid.taken[:, upper]
    axis = np.array([edge.axis for edge in grid.edges], int)
    expected = [int(there[:, axis == each].sum()) for each in (0, 1)]
    if counts != expected or values.size != 2 * sum(expected):
        raise FormatError(
            f"{path}: has {' and '.join(map(str, counts))} edges in x and y and {values.size // 2} lines of them, but the pieces "
            f"of the series have {expected[0]} and {expected[1]}; it belongs to another piece list"
        )
    found, pairs = np.full((*there.shape, 2), np.nan), values.reshape(-1, 2)
    for each, rows in ((0, pairs[: expected[0]]), (1, pairs[expected[0] :])):
        part, among = found[:, axis == each], there[:, axis == each]
        part[among] = rows
        found[:, axis == each] = part
    return found


def _ends(grid: PieceGrid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    edges = np.array([(edge.lower, edge.upper) for edge in grid.edges], np.int64).reshape(-1, 2)
    return edges[:, 0], edges[:, 1]
