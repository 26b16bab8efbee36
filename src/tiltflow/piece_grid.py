"""The layout of a montage: which section of a stack is which piece of which view.

A **view** of a montaged tilt series is made of overlapping **pieces** on a regular grid.  Two neighbours share an **overlap**, and are an
**edge**.  The **frame** is the image that a view becomes: the nominal whole, padded as IMOD's blendmont pads it, so that transforms of
either program fit both.  Coordinates are pixels; x points right and y up the rows of the file, as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import FormatError

LARGEST_PRIME = 19
"""Greatest prime factor of the sides of a frame (`niceframe` of IMOD, as blendmont calls it)."""

ABSENT = -1
"""In place of a section, for a piece that was never taken."""


class Edge(NamedTuple):
    """Two neighbours: numbers of the lower and of the upper piece, and 0 where they lie along x, 1 along y."""

    lower: int
    upper: int
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class PieceGrid:
    """The pieces of a montaged series.

    Attributes
    ----------
    piece_shape
        `(ny, nx)` of every piece.
    corner_px
        `(pieces, 2)`, x and y of the corner of each piece as written, x fastest, the least of each being 0.
    section
        `(views, pieces)`: the section of the stack, counted from 0; :data:`ABSENT` for a missing piece.
    """

    piece_shape: tuple[int, int]
    corner_px: NDArray[np.int64]
    section: NDArray[np.int64]

    @classmethod
    def of_sections(cls, coordinates: ArrayLike, piece_shape: tuple[int, int]) -> PieceGrid:
        """Return the grid of coordinates x, y, z, `(sections, 3)`: corner of the piece, and number of its view.

        Sections may come in any order.  Views are numbered in the order of z, in which gaps are closed.

        Raises
        ------
        FormatError
            If two sections are the same piece, or if the corners do not lie on a regular grid whose neighbours overlap.
        """
        written = np.asarray(coordinates, np.int64).reshape(-1, 3)
        if not len(written):
            raise FormatError("no piece has coordinates")
        names, view = np.unique(written[:, 2], return_inverse=True)
        corners = written[:, :2] - written[:, :2].min(axis=0)
        columns, rows = (_levels(corners[:, axis], piece_shape[1 - axis], "xy"[axis]) for axis in (0, 1))
        places = np.searchsorted(rows, corners[:, 1]) * len(columns) + np.searchsorted(columns, corners[:, 0])
        section = np.full((len(names), len(columns) * len(rows)), ABSENT)
        for number, (at, place) in enumerate(zip(view, places, strict=True)):
            if section[at, place] != ABSENT:
                x, y, z = written[number]
                raise FormatError(f"sections {section[at, place]} and {number} both have the piece coordinates {x} {y} {z}")
            section[at, place] = number
        grid = np.array([(x, y) for y in rows for x in columns], np.int64)
        return cls(piece_shape, grid, section)

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.section)

    @property
    def pieces(self) -> int:
        """Number of places of the grid, whether or not a view has a piece there."""
        return len(self.corner_px)

    @property
    def columns(self) -> int:
        """Pieces along x."""
        return len(np.unique(self.corner_px[:, 0]))

    @property
    def rows(self) -> int:
        """Pieces along y."""
        return len(np.unique(self.corner_px[:, 1]))

    @property
    def sections(self) -> int:
        """Number of pieces that were taken."""
        return int((self.section != ABSENT).sum())

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Which pieces were taken, `(views, pieces)`."""
        return np.asarray(self.section != ABSENT)

    @property
    def first_section(self) -> NDArray[np.int64]:
        """The first section of each view in the file, `(views,)`: whose angle, pixel size and exposure are those of the view."""
        return np.asarray(np.where(self.taken, self.section, np.iinfo(np.int64).max).min(axis=1))

    @property
    def view_of_section(self) -> NDArray[np.int64]:
        """The view of each section, `(sections,)`."""
        views, places = np.nonzero(self.taken)
        belongs = np.zeros(self.sections, np.int64)
        belongs[self.section[views, places]] = views
        return belongs

    @property
    def overlap_px(self) -> tuple[int, int]:
        """Nominal overlap of neighbours along x and along y; 0 where there is one piece."""
        across, along = (np.unique(self.corner_px[:, axis]) for axis in (0, 1))
        ny, nx = self.piece_shape
        return int(nx - across[1]) if len(across) > 1 else 0, int(ny - along[1]) if len(along) > 1 else 0

    @property
    def nominal_shape(self) -> tuple[int, int]:
        """`(ny, nx)` of the nominal whole."""
        width, height = self.corner_px.max(axis=0) + self.piece_shape[::-1]
        return int(height), int(width)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """`(ny, nx)` of a stitched view: the nominal whole with blendmont's padding, half of it on each side."""
        ny, nx = self.nominal_shape
        return padded_size(ny), padded_size(nx)

    @property
    def margin_px(self) -> tuple[int, int]:
        """Where the corner of the nominal whole lies in the frame, x and y."""
        (ny, nx), (height, width) = self.nominal_shape, self.frame_shape
        return (width - nx) // 2, (height - ny) // 2

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All pairs of neighbours of the grid: those along x first, then those along y, in the order of blendmont's `.ecd`."""
        columns, rows = self.columns, self.rows
        along_x = [Edge(row * columns + at, row * columns + at + 1, 0) for row in range(rows) for at in range(columns - 1)]
        along_y = [Edge(row * columns + at, (row + 1) * columns + at, 1) for at in range(columns) for row in range(rows - 1)]
        return (*along_x, *along_y)


def padded_size(size: int) -> int:
    """Return the least even size from `size` on without a prime factor above :data:`LARGEST_PRIME`, as blendmont takes it.

    >>> padded_size(474), padded_size(480)
    (476, 480)
    """
    nice = size + size % 2
    while _largest_prime(nice) > LARGEST_PRIME:
        nice += 2
    return nice


def _largest_prime(number: int) -> int:
    largest, factor = 1, 2
    while factor * factor <= number:
        while number % factor == 0:
            largest, number = factor, number // factor
        factor += 1
    return max(largest, number) if number > 1 else largest


def _levels(values: NDArray[np.int64], size: int, axis: str) -> NDArray[np.int64]:
    """Return the places of the grid along an axis, checked to be equally spaced and to overlap."""
    levels = np.unique(values)
    if len(levels) < 2:
        return levels
    steps = np.diff(levels)
    if (steps % steps.min()).any():
        raise FormatError(
            f"the piece coordinates along {axis} are on no regular grid ({', '.join(map(str, levels[:6]))}); "
            "those that an acquisition program has aligned are not meant here, but those before"
        )
    if steps.min() >= size:
        raise FormatError(f"neighbours along {axis} are {steps.min()} pixels apart and {size} wide, so that they do not overlap")
    return np.arange(0, levels[-1] + 1, steps.min())
