"""The parts of pieces that their neighbours show too: cut out, and freed of outliers and slow changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.kernels.montage import median_3x3
from tiltflow.model import Image, Stack
from tiltflow.piece_grid import ABSENT, Edge, PieceGrid
from tiltflow.preprocess.montage.params import MontageParams

Floats = NDArray[np.float64]

_OUTLIER_SD = 6.0
"""Robust standard deviations from the median of its neighbours beyond which a pixel is an x-ray hit."""
_SAMPLE = 4
"""Every fourth pixel along a row tells what these standard deviations are."""
_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_LEAST_SEARCH_PX = 32
"""Search unless the overlap is less: stages and image shifts miss by as much in small overlaps."""
LEAST_OVERLAP_PX = 8
"""Pieces that share fewer pixels across their edge are not compared: 6 are left after smoothing."""
_COARSE_CELLS = 16
"""Overlaps are binned for the search until they are so many cells wide."""
_BOX = 25
"""Side of the box whose mean, twice, is the background of an overlap, pixels: as broad as a Gaussian of 10 pixels.  Neighbours differ in
shading, which is broader, and structures that tell where they lie are narrower."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """An edge of the grid as seen from its two pieces.

    Attributes
    ----------
    edge
        Of the grid.
    written
        `(2,)`: corner of the upper piece less that of the lower one, x and y.
    piece_shape
        `(ny, nx)`.
    search
        How far the pieces may lie from where they are written, pixels.
    binning
        Of the search.
    """

    edge: Edge
    written: NDArray[np.int64]
    piece_shape: tuple[int, int]
    search: int
    binning: int

    @property
    def size(self) -> NDArray[np.int64]:
        """`(2,)`: sides of a piece, x and y."""
        return np.array(self.piece_shape[::-1])

    @property
    def overlap(self) -> int:
        """Pixels that the pieces share as written, across the edge."""
        return int(self.size[self.edge.axis] - self.written[self.edge.axis])

    @property
    def reach(self) -> int:
        """Width of the strips that are searched, a multiple of the binning."""
        wanted = -(-(self.overlap + self.search) // self.binning) * self.binning
        return min(wanted, int(self.size[self.edge.axis]) // self.binning * self.binning)

    def strips(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the parts of the lower and of the upper piece that are searched, rows and columns."""
        along = slice(0, int(self.size[1 - self.edge.axis]))
        far = int(self.size[self.edge.axis])
        low, high = slice(far - self.reach, far), slice(0, self.reach)
        return ((along, low), (along, high)) if self.edge.axis == 0 else ((low, along), (high, along))

    def common(self, displacement: NDArray[np.int64]) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """Return the parts, within their strips, that both pieces show if the upper lies so much further; None for too few."""
        lag = self.written + displacement
        low, high = np.maximum(lag, 0), np.minimum(self.size, self.size + lag)
        first = np.zeros(2, np.int64)
        first[self.edge.axis] = self.size[self.edge.axis] - self.reach
        low = np.maximum(low, first)
        last = np.minimum(high - lag, self.size)
        last[self.edge.axis] = min(last[self.edge.axis], self.reach)
        high = np.minimum(high, last + lag)
        if (high - low).min() < LEAST_OVERLAP_PX:
            return None
        a = tuple(slice(int(s), int(e)) for s, e in zip((low - first)[::-1], (high - first)[::-1], strict=True))
        b = tuple(slice(int(s), int(e)) for s, e in zip((low - lag)[::-1], (high - lag)[::-1], strict=True))
        return (a[0], a[1]), (b[0], b[1])

    def middle(self, displacement: NDArray[np.int64]) -> Floats:
        """Return the middle of what both show, from the centre of the lower piece, `(2,)` pixels."""
        lag = self.written + displacement
        return np.asarray((np.maximum(lag, 0) + np.minimum(self.size, self.size + lag)) / 2 - self.size / 2)


def overlaps_of(grid: PieceGrid, params: MontageParams) -> list[Overlap]:
    """Return the overlaps of a grid, in the order of its edges."""
    found = []
    for edge in grid.edges:
        overlap = grid.overlap_px[edge.axis]
        search = max(min(overlap, _LEAST_SEARCH_PX), overlap // 2) if params.search_px is None else min(params.search_px, overlap)
        written = grid.corner_px[edge.upper] - grid.corner_px[edge.lower]
        found.append(Overlap(edge, written, grid.piece_shape, search, max(round(overlap / _COARSE_CELLS), 1)))
    return found


def view_pieces(pieces: Stack, grid: PieceGrid, view: int) -> list[Image | None]:
    """Return the pieces of a view; None for those that were not taken."""
    return [None if s == ABSENT else np.asarray(pieces[int(s)]) for s in grid.section[view]]


def strip_of(piece: NDArray[np.generic], part: tuple[slice, slice]) -> Image:
    """Return a part of a piece with x-ray hits and pixels that are not numbers replaced by the median of their surroundings."""
    image = np.ascontiguousarray(piece[part], np.float32)
    if piece.dtype.kind == "f" and not np.isfinite(image).all():
        image = np.where(
            np.isfinite(image), image, np.float32(np.median(image[np.isfinite(image)]) if np.isfinite(image).any() else 0)
        )
    median = np.empty_like(image)
    median_3x3(image, median)
    away = np.abs(image - median)
    limit = _OUTLIER_SD * _MAD * float(np.median(away[:, ::_SAMPLE]))
    return np.where(away > limit, median, image)


def flattened(strip: Image) -> Image:
    """Return a strip without what is broader than :data:`_BOX`."""
    broad = strip
    for _ in range(2):
        for axis in (0, 1):
            broad = scipy.ndimage.uniform_filter1d(broad, min(_BOX, strip.shape[axis] | 1), axis=axis, mode="nearest")
    return np.asarray(strip - broad, np.float32)
