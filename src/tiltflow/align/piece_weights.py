"""Where the pieces of a montage lie in a stitched view, and how much of each is seen at a place of it.

In an overlap a stitched view is the mean of its pieces, weighted by the distance to the edge of each.  A piece that lies off by a shift
displaces what is seen there by its weight times that shift, to first order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import PieceShifts
from tiltflow.piece_grid import PieceGrid

Floats = NDArray[np.float64]

RIM_PX = 2.0
"""Pixels along the edge of a piece that are never used."""
_NOWHERE = 1e-6
"""Weight, relative to that of one pixel from the edge, of the nearest piece where no piece covers a place."""
_SAMPLES = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Where the weights are taken across a patch, as fractions of its size from its centre: at its ends its window has faded to a third."""


def piece_weights(grid: PieceGrid, offset_px: ArrayLike, present: ArrayLike, xy: ArrayLike) -> Floats:
    """Return how much of each piece is seen at places of stitched views.

    Parameters
    ----------
    grid
        The layout of the pieces.
    offset_px
        `(views, pieces, 2)` to add to the corners of the pieces, x and y.
    present
        `(views, pieces)` pieces that there are.
    xy
        `(..., views, 2)` places in the frame, pixels from the corner of pixel 0.

    Returns
    -------
    NDArray
        `(..., views, pieces)`, their sum 1: in proportion to the distance to the piece's nearest edge, less :data:`RIM_PX`.  Where no
        piece covers a place, that of the nearest one is 1; where `xy` is NaN, all are 0.

    Examples
    --------
    Two pieces of 100 pixels share 20 of them, from 80 to 100; the middle of these is half of either.

    >>> grid = PieceGrid.of_sections([[0, 0, 0], [80, 0, 0]], (100, 100))
    >>> piece_weights(grid, np.zeros((1, 2, 2)), np.ones((1, 2), bool), [[90.0, 50.0]]).round(3).tolist()
    [[0.5, 0.5]]
    """
    places = np.asarray(xy, float)[..., None, :]
    corner = grid.corner_px + np.array(grid.margin_px) + np.asarray(offset_px, float)
    size = np.array(grid.piece_shape[::-1], float)
    # Over both axes and both sides, the least: negative beyond the piece.
    inside = np.minimum(places - corner, corner + size - places).min(axis=-1) - RIM_PX
    exists = np.broadcast_to(np.asarray(present, bool), inside.shape)
    nearest = exists & (inside >= np.where(exists, inside, -np.inf).max(axis=-1, keepdims=True))
    weight = np.where(exists, np.maximum(inside, 0.0), 0.0) + _NOWHERE * nearest
    total = weight.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(total > 0, weight / np.where(total > 0, total, 1.0), 0.0), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class StitchedPieces:
    """How the views of a montage were stitched, for an alignment of the stitched views.

    Attributes
    ----------
    grid
        The layout of the pieces.
    offset_px
        `(views, pieces, 2)`: what was added to the corner of each piece, x and y.
    sd_px
        `(views, pieces)` standard error of a coordinate of these offsets; that of missing pieces is ignored.

    Raises
    ------
    ParameterError
        If the arrays do not fit the grid, or a standard error of a piece that was taken is no number or below 0.
    """

    grid: PieceGrid
    offset_px: Floats
    sd_px: Floats

    def __post_init__(self) -> None:
        shape = self.grid.section.shape
        if self.offset_px.shape != (*shape, 2) or self.sd_px.shape != shape:
            raise ParameterError(
                f"A montage of {shape[0]} views and {shape[1]} pieces needs offsets {(*shape, 2)} and standard errors {shape}; "
                f"those given are {self.offset_px.shape} and {self.sd_px.shape}"
            )
        sound = np.isfinite(self.sd_px) & (self.sd_px >= 0) & np.isfinite(self.offset_px).all(axis=-1)
        wrong = np.argwhere(self.grid.taken & ~sound)
        if len(wrong):
            view, piece = wrong[0]
            raise ParameterError(
                f"Piece {piece + 1} of view {view + 1} has the offset {self.offset_px[view, piece]} and the standard error "
                f"{self.sd_px[view, piece]}: give numbers, the standard error from 0 on"
            )

    @property
    def movable(self) -> NDArray[np.bool_]:
        """The pieces that can lie off in their view, `(views, pieces)`: those that were taken, and not alone."""
        taken = self.grid.taken
        return np.asarray(taken & (taken.sum(axis=1, keepdims=True) > 1))

    def weights(self, xy: ArrayLike, size_px: Floats | None = None, *, view: NDArray[np.int64] | None = None) -> Floats:
        """Return how much of each piece acts on positions, `(..., views, pieces)`.

        Parameters
        ----------
        xy
            `(..., views, 2)`, pixels from the corner of pixel 0; NaN where unseen.
        size_px
            `(..., 1, 2)`: width and height over which each position is a mean, as that of a patch is; None for points.
        view
            The views that `xy` is of; all by default.
        """
        offsets, present = np.nan_to_num(self.offset_px), self.grid.taken
        if view is not None:
            offsets, present = offsets[view], present[view]
        if size_px is None:
            return piece_weights(self.grid, offsets, present, xy)
        steps = [np.array([x, y]) * size_px for x in _SAMPLES for y in _SAMPLES]
        return np.asarray(np.mean([piece_weights(self.grid, offsets, present, np.asarray(xy) + step) for step in steps], axis=0))

    def corrected_offsets(self, shifts: PieceShifts) -> Floats:
        """Return the offsets `(views, pieces, 2)` that put every piece where the tracks see it: those given, less the shifts."""
        return np.asarray(self.offset_px - shifts.shift_px)

    def corrected_positions(self, xy: Floats, shifts: PieceShifts, size_px: Floats | None = None) -> Floats:
        """Return where positions `(..., views, 2)` of the stitched views are once these are stitched by the corrected offsets."""
        return np.asarray(xy - np.einsum("...vk,vka->...va", self.weights(xy, size_px), shifts.shift_px))

    def claimed_error(self, error_px: float, used: ArrayLike | None = None) -> float:
        """Return the error of an alignment with that of the stitching, px: for methods that do not see the pieces.

        Parameters
        ----------
        error_px
            Root mean square displacement by the alignment alone, over views and specimen.
        used
            `(views,)` views that take part; all by default.
        """
        rows = np.ones(len(self.sd_px), bool) if used is None else np.asarray(used, bool)
        variance = np.where(self.movable, np.nan_to_num(self.sd_px), 0.0) ** 2
        per_view = (variance.sum(axis=1) / np.maximum(self.movable.sum(axis=1), 1))[rows]
        # Of both coordinates.
        return float(np.sqrt(error_px**2 + 2 * per_view.mean())) if len(per_view) else error_px
