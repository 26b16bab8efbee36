"""A view made of its pieces: each piece is interpolated once, straight into the frame or into the aligned image.

The weight of a piece grows from its edge on, over the width of the overlap, so that those of two neighbours add up to 1.  The last two
pixels count only where nothing else is.  Where no piece reaches, the nearest edge goes over into the mean of the view.

The interpolation is a cubic spline through all pixels (Unser 1999, doi:10.1109/79.799930).  IMOD's cubic convolution (a = -1) places
structures by up to 0.09 pixels away from where the shift says, as it does not reproduce a straight line; for pieces with a shift each,
this would be as much as the error of stitching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.binning import bin_image
from tiltflow.errors import ParameterError
from tiltflow.kernels.montage import OUTSIDE, lay_piece
from tiltflow.model import Image, Stack
from tiltflow.piece_grid import ABSENT, PieceGrid
from tiltflow.preprocess.montage.offsets import PieceOffsets

Floats = NDArray[np.float64]

_PAD = 3
"""Pixels of repeated edge around a piece: the spline reads two beyond the edge, and positions are rounded."""
_UNUSED_PX = 2.0
"""Pixels at the edge of a piece that are not used where another piece is: cameras and gain references are at their worst there."""
_REACH_PX = 16.0
"""Pixels over which the edge of what was seen goes over into the mean of the view."""
_IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""The transform that leaves everything where it is."""


@dataclass(frozen=True, slots=True, eq=False)
class BlendedView:
    """One view: its image `(ny, nx)`, and where a piece was, `(ny, nx)`."""

    image: Image
    covered: NDArray[np.bool_]


def blend_view(
    pieces: Stack,
    grid: PieceGrid,
    offsets: PieceOffsets,
    view: int,
    *,
    transform: ArrayLike = _IDENTITY,
    out_shape: tuple[int, int] | None = None,
    binning: int = 1,
) -> BlendedView:
    """Return a view put together from its pieces.

    Parameters
    ----------
    pieces
        Sections `(sections, ny, nx)`; one is read at a time.
    grid, offsets
        Which section is which piece, and where pieces lie.
    view
        Counted from 0.
    transform
        `(2, 3)`, from the frame to the image, unbinned pixels, about the centres of both (:mod:`tiltflow.geometry`).
    out_shape
        `(ny, nx)` of the image; None for the frame divided by the binning.
    binning
        Pixels of a piece averaged into one, along x and y, before it is interpolated.

    Raises
    ------
    ParameterError
        If the transform cannot be inverted, or the binning is below 1.
    """
    if binning < 1:
        raise ParameterError(f"binning {binning} of a stitched view: it must be 1 or more")
    xf = np.asarray(transform, float)
    if xf.shape != (2, 3) or not abs(np.linalg.det(xf[:, :2])) > 1e-6:
        raise ParameterError(f"the transform of view {view} cannot be inverted: {xf.tolist()}")
    shape = (grid.frame_shape[0] // binning, grid.frame_shape[1] // binning) if out_shape is None else out_shape
    total, weight, covered = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, bool)
    beam = offsets.gray.beam(view, grid.piece_shape) if offsets.gray.changes else None
    linear, sums, lowest = offsets.linear[view], [], np.float32(0)
    for place in np.flatnonzero(grid.section[view] != ABSENT):
        piece = _evened(pieces[int(grid.section[view, place])], beam, float(offsets.gray.log_gain[view, place]))
        padded, first = _padded(piece, binning)
        matrix, origin = _into_piece(
            grid, offsets.offset_px[view, place], int(place), linear[place], geometry.invert(xf), shape, binning, first
        )
        ramps = [
            max(width or size, 2 * _UNUSED_PX + 1) - 2 * _UNUSED_PX
            for width, size in zip(grid.overlap_px, piece.shape[::-1], strict=True)
        ]
        lay_piece(
            scipy.ndimage.spline_filter(padded, 3, np.float32, "mirror"),
            _PAD,
            origin,
            matrix,
            _UNUSED_PX / binning,
            ramps[0] / binning,
            ramps[1] / binning,
            _REACH_PX / binning,
            total,
            weight,
            covered,
        )
        inner = padded[_PAD:-_PAD, _PAD:-_PAD]
        sums.append((float(inner.mean(dtype=np.float64)), float(inner.min())))
    if not sums:
        return BlendedView(total, covered)
    fill, lowest = np.float32(np.mean([mean for mean, _ in sums])), np.float32(min(least for _, least in sums))
    # Beyond the pieces the weight falls from OUTSIDE to 0; what lacks of OUTSIDE is the fill.
    total += np.maximum(OUTSIDE - weight, 0) * fill
    total /= np.maximum(weight, OUTSIDE)
    if lowest >= 0:
        np.maximum(total, 0, out=total)
    return BlendedView(total, covered)


@dataclass(frozen=True, slots=True, eq=False)
class StitchedViews:
    """The views of a montaged series, `(views, ny, nx)` of the frame, each put together when it is read; a thread may read any.

    Attributes
    ----------
    pieces
        Sections `(sections, ny, nx)`.
    grid
        Which section is which piece.
    offsets
        Where pieces lie.
    """

    pieces: Stack
    grid: PieceGrid
    offsets: PieceOffsets

    @property
    def shape(self) -> tuple[int, ...]:
        """`(views, ny, nx)`."""
        return (self.grid.views, *self.grid.frame_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the views: that of numbers between counts."""
        return np.dtype(np.float32)

    def __getitem__(self, view: int, /) -> Image:
        """Return one view, `(ny, nx)`."""
        return blend_view(self.pieces, self.grid, self.offsets, range(self.grid.views)[view]).image


def _evened(piece: NDArray[np.generic], beam: Image | None, log_gain: float) -> Image:
    """Return a piece with even gray levels, float32."""
    image = np.asarray(piece, np.float32)
    return image if beam is None else np.asarray(image * (beam * np.float32(np.exp(-log_gain))))


def _padded(piece: Image, factor: int) -> tuple[Image, Floats]:
    """Return the binned piece with its edge repeated around it, and the pixel (x, y) at which its first bin begins."""
    ny, nx = piece.shape[0] // factor, piece.shape[1] // factor
    y0, x0 = (piece.shape[0] - ny * factor) // 2, (piece.shape[1] - nx * factor) // 2
    out = np.empty((ny + 2 * _PAD, nx + 2 * _PAD), np.float32)
    out[_PAD:-_PAD, _PAD:-_PAD] = bin_image(piece[y0 : y0 + ny * factor, x0 : x0 + nx * factor], factor)
    out[:_PAD], out[-_PAD:] = out[_PAD], out[-_PAD - 1]
    out[:, :_PAD], out[:, -_PAD:] = out[:, _PAD, None], out[:, -_PAD - 1, None]
    return out, np.array([x0, y0], float)


def _into_piece(
    grid: PieceGrid, offset: Floats, place: int, linear: Floats, back: Floats, shape: tuple[int, int], binning: int, first: Floats
) -> tuple[Floats, Floats]:
    """Return the map from pixels of the image to those of the padded, binned piece: a `(2, 2)` matrix, and where pixel 0, 0 goes."""
    half = np.array(grid.piece_shape[::-1]) / 2
    frame = np.array(grid.frame_shape[::-1]) / 2
    # From the centre of the image to that of the frame, from there to the centre of the piece, from there to its corner.
    centre = np.array(grid.margin_px) + grid.corner_px[place] + half + offset
    matrix = np.ascontiguousarray(linear @ back[:, :2])
    shift = linear @ (back[:, 2] + frame - centre) + half - first
    origin = matrix @ (0.5 - np.array(shape[::-1]) / 2) + shift / binning - 0.5 + _PAD
    return matrix, origin
