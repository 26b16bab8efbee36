"""Rotation and magnification of pieces, from how displacements vary along the overlaps.

An overlap tells the difference of its two pieces.  Over all views a piece has a constant one; where the focus follows the height of
each piece, the lens turns and magnifies in proportion to it: height = distance from the tilt axis times tan(tilt).  What all pieces of
a view have in common is no business of stitching: their mean is 0, the alignment finds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage.solution import incidence

Floats = NDArray[np.float64]

_SURE = 4.0
"""Standard deviations by which the sum of squares has to fall beyond chance for rotations and magnifications to be believed."""
_ASKED = 2.0
"""The same for those along the height, where focus is said to follow it."""
_LEAST_VALUES = 5
"""Overlaps for each piece: with fewer, what is left says nothing of the noise."""
_ROUNDS = 6
"""Of robust weights."""
_HUBER = 2.0
"""Residuals above so many standard deviations lose weight."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearParts:
    """Of each piece, `(views, pieces)`: magnification, a fraction, and rotation, radians counter-clockwise; and what was found.

    Attributes
    ----------
    magnification, rotation
        `(views, pieces)`, mean 0 in a view.
    constant, along_height
        Whether pieces have any in all views alike, and any that follows their height.
    """

    magnification: Floats
    rotation: Floats
    constant: bool
    along_height: bool


def estimate_linear_parts(
    grid: PieceGrid, difference: Floats, variance: Floats, height: Floats | None, *, focus: bool
) -> LinearParts:
    """Return the rotation and magnification of each piece; 0 where the overlaps do not show any.

    Parameters
    ----------
    grid
        The pieces.
    difference
        `(views, edges, 2)`: magnification and rotation, upper less lower; NaN where nothing was measured.
    variance
        `(views, edges, 2)`.
    height
        `(views, pieces)`, of any unit; None where the tilt axis is unknown.
    focus
        Whether the focus is said to follow the height.
    """
    b = incidence(grid)
    views, pieces = len(difference), grid.pieces
    parts, constant, along = np.zeros((2, views, pieces)), False, False
    rise = None if height is None else height - height.mean(axis=1, keepdims=True)
    rise = None if rise is None or not np.abs(rise).max() else rise / np.abs(rise).max()
    for kind in (0, 1):
        y, var = difference[..., kind], variance[..., kind]
        good = np.isfinite(y) & np.isfinite(var)
        if good.sum() < _LEAST_VALUES * pieces:
            continue
        edge = np.broadcast_to(b, (views, *b.shape))[good]
        slope = np.zeros((len(edge), 0)) if rise is None else (rise @ b.T)[good][:, None]
        w = 1 / var[good]
        shown = {
            name: _fit(design, y[good], w, least)
            for name, design, least in (
                ("constant", edge, _SURE),
                ("height", slope, _ASKED if focus else _SURE),
            )
        }
        use = [name for name, fit in shown.items() if fit]
        if not use:
            continue
        design = np.concatenate([{"constant": edge, "height": slope}[name] for name in use], axis=1)
        x = _weighted(design, y[good], w)[0]
        if "constant" in use:
            constant, parts[kind] = True, parts[kind] + x[:pieces] - x[:pieces].mean()
        if "height" in use and rise is not None:
            along, parts[kind] = True, parts[kind] + x[-1] * rise
    return LinearParts(parts[0], parts[1], constant, along)


def _weighted(design: Floats, y: Floats, w: Floats) -> tuple[Floats, float, float]:
    """Return a robust fit, and by how much it lowers the sum of squares, in variances, with the standard deviations of chance."""
    robust = np.ones(len(y))
    scale = max(float(np.median(y**2 * w)) / 0.4549, 1e-30)
    x = np.zeros(design.shape[1])
    for _ in range(_ROUNDS):
        ww = w * robust
        normal = design.T @ (ww[:, None] * design)
        x = np.linalg.pinv(normal, rcond=1e-9, hermitian=True) @ (design.T @ (ww * y))
        r = (y - design @ x) * np.sqrt(w)
        scale = max(float(np.median(r**2)) / 0.4549, 1e-30)
        robust = np.minimum(1.0, _HUBER * np.sqrt(scale) / np.maximum(np.abs(r), 1e-30))
    rank = int(np.linalg.matrix_rank(normal, hermitian=True, tol=1e-9 * max(float(np.trace(normal)), 1e-30)))
    return x, float(x @ normal @ x) / scale, rank


def _fit(design: Floats, y: Floats, w: Floats, least: float) -> bool:
    if not design.shape[1]:
        return False
    _, fall, rank = _weighted(design, y, w)
    return rank > 0 and fall > rank + least * np.sqrt(2 * rank) + least**2 / 2
