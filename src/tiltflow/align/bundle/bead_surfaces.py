"""Planes through the points: the angles that level the specimen, as tiltalign's SurfacesToAnalyze reports.

A plane z = a x + b y + c is levelled by adding -atan(a) to every tilt and an X-axis tilt of atan(b).  Points that clearly lie on two
surfaces are fitted with two planes also where one was asked for: a single plane through beads that are more on the left of one
surface and on the right of the other is inclined by degrees, whatever the residual of the alignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ENOUGH_POINTS, _ENOUGH_EACH = 7, 3
"""Points in all and on each surface for two surfaces to be recognised; a plane has three unknowns."""
_CLEARLY_TWO = 12.0
_CLEARLY_TWO_OF_FEW: Mapping[int, float] = {7: 30.0, 8: 24.0, 9: 18.0}
"""Distance of two planes in standard deviations about them, and the same for so few points.  One in a hundred sets of points spread
evenly in depth comes to 24, 21, 12 with seven to nine points and to 8 with twelve; one in twenty on two surfaces stays below 31 to 37."""
_FEWEST_FOR_TWO = 5
"""Points for two planes where they were asked for: one more than their four unknowns."""
_CYCLES = 30
"""Most alternations between assigning points and fitting; they end when no point changes sides."""
_RIDGE = 1e-6
"""Weight of slopes of 0 relative to the points', so that points in a line have a solution."""
_MOST_PITCH_ERROR_DEG = 1.5
"""Standard error of the tilt about x up to which it levels the specimen: most specimens lie within 2 degrees of level, so that 0 is the
better guess beyond."""
_SLANTED_DEG, _CERTAIN = 5.0, 3.0
"""Slope along x from which on a specimen is said to be slanted, as lamellae are by 8 to 15 degrees: it climbs by 90 pixels in 1000.
And how many standard errors it must be."""
_START_SLOPES_DEG = (-8.0, -4.0, 0.0, 4.0, 8.0)
"""Slopes along x and y that the fit of two planes starts from; sections lie within 8 degrees of the grid's plane."""


@dataclass(frozen=True, slots=True, eq=False)
class Surfaces:
    """One or two parallel planes: slopes, the height of each at the origin, which plane each point lies on, and the scatter about them.

    `pitch_error_deg` and `tilt_error_deg` are the standard errors of the tilt about x and of the slope along x; infinite where the points
    leave no scatter to judge them by.
    """

    slope_x: float
    slope_y: float
    heights: tuple[float, ...]
    member: NDArray[np.int64]
    residual_sd: float
    pitch_error_deg: float = np.inf
    tilt_error_deg: float = np.inf

    @property
    def levels(self) -> bool:
        """Whether the tilt about x is known well enough to level the specimen by it."""
        return self.pitch_error_deg <= _MOST_PITCH_ERROR_DEG

    @property
    def clearly_two(self) -> bool:
        """Whether the points cannot be spread evenly in depth."""
        count, upper = len(self.member), int(self.member.sum())
        if len(self.heights) < 2 or count < _ENOUGH_POINTS or min(upper, count - upper) < _ENOUGH_EACH:
            return False
        spread = self.residual_sd * np.sqrt(count / (count - 4))
        limit = _CLEARLY_TWO_OF_FEW.get(count, _CLEARLY_TWO)
        return bool(abs(self.heights[1] - self.heights[0]) > limit * spread)

    def slanted(self, crowding: float = 1.0) -> bool:
        """Return whether the slope along x is certainly more than that of a section on its grid.

        `crowding` is the number of points divided by that of independent ones, as of :class:`tiltflow.model.Tracks`.
        """
        return bool(abs(self.tilt_offset_deg) > max(_SLANTED_DEG, _CERTAIN * np.sqrt(crowding) * self.tilt_error_deg))

    @property
    def tilt_offset_deg(self) -> float:
        """Angle to add to every tilt to level the points along x, degrees."""
        return float(-np.rad2deg(np.arctan(self.slope_x)))

    @property
    def pitch_deg(self) -> float:
        """Tilt of the points about the x axis, degrees."""
        return float(np.rad2deg(np.arctan(self.slope_y * np.cos(np.arctan(self.slope_x)))))


def fit_surfaces(points: Floats, surfaces: int) -> Surfaces:
    """Return the plane, or the two parallel planes, through points `(n, 3)`, pixels; two also where they are clear.

    Points are assigned to two surfaces by alternating between assigning each to the nearer plane and fitting, from the split of
    least variance of the heights above a starting plane; the best of several starts is kept.
    """
    single = _fit(points, np.zeros(len(points), np.int64), 1)
    if len(points) < (_ENOUGH_POINTS if surfaces == 1 else _FEWEST_FOR_TWO):
        return _with_errors(points, single)
    two = _fit_two(points, single)
    return _with_errors(points, two if surfaces == 2 or two.clearly_two else single)


def _fit_two(points: Floats, single: Surfaces) -> Surfaces:
    flat, z = points[:, :2], points[:, 2]
    member = _split(z - _starting_slopes(single) @ flat.T)
    for _ in range(_CYCLES):
        slopes, heights = _pairs(points, member)
        height = z - slopes @ flat.T
        nearer = np.abs(height[..., None] - heights[:, None]).argmin(axis=2)
        moving = (nearer != member).any(axis=1) & (nearer.min(axis=1) < nearer.max(axis=1))
        if not moving.any():
            break
        member = np.where(moving[:, None], nearer, member)
    slopes, heights = _pairs(points, member)
    residual = z - slopes @ flat.T - np.take_along_axis(heights, member, axis=1)
    best = _fit(points, member[np.argmin((residual**2).sum(axis=1))], 2)
    return best if best.residual_sd < single.residual_sd else single


def _pairs(points: Floats, member: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the slopes, `(n, 2)`, and heights, `(n, 2)`, of the parallel planes of n ways to share the points, `(n, points)`.

    They are those of :func:`_fit`: with the points counted from the mean of their surface no height is left to be fitted.
    """
    share = np.eye(2)[member]
    means = np.einsum("npk,pc->nkc", share, points) / np.maximum(share.sum(axis=1), 1)[..., None]
    off = points - np.take_along_axis(means, member[..., None], axis=1)
    normal = np.swapaxes(off[..., :2], 1, 2) @ off
    slopes = np.linalg.solve(normal[..., :2] + _ridge(points) * np.eye(2), normal[..., 2:])[..., 0]
    return slopes, means[..., 2] - np.einsum("nkc,nc->nk", means[..., :2], slopes)


def _ridge(points: Floats) -> float:
    return _RIDGE * max(float((points[:, :2] ** 2).sum()), 1e-12)


def _fit(points: Floats, member: NDArray[np.int64], planes: int) -> Surfaces:
    design = _design(points, member, planes)
    ridge = np.zeros((2, 2 + planes))
    ridge[0, 0] = ridge[1, 1] = np.sqrt(_ridge(points))
    solution = np.linalg.lstsq(np.vstack([design, ridge]), np.concatenate([points[:, 2], np.zeros(2)]), rcond=None)[0]
    residual = points[:, 2] - design @ solution
    heights = tuple(float(h) for h in solution[2:])
    sd = float(np.sqrt(np.mean(residual**2)))
    return Surfaces(float(solution[0]), float(solution[1]), heights, member, sd)


def _design(points: Floats, member: NDArray[np.int64], planes: int) -> Floats:
    return np.column_stack([points[:, :2], np.eye(planes)[member]])


def _with_errors(points: Floats, fit: Surfaces) -> Surfaces:
    """Return the planes with the standard errors of their slopes."""
    tilt, pitch = _slope_errors(_design(points, fit.member, len(fit.heights)), fit.residual_sd)
    return replace(fit, pitch_error_deg=pitch, tilt_error_deg=tilt)


def _slope_errors(design: Floats, residual_sd: float) -> tuple[float, float]:
    """Return the standard errors of the slopes along x and y as angles, degrees."""
    count, unknowns = design.shape
    if count <= unknowns or np.linalg.matrix_rank(design) < unknowns:
        return np.inf, np.inf
    variances = np.diag(np.linalg.pinv(design.T @ design))[:2] * residual_sd**2 * count / (count - unknowns)
    along_x, along_y = np.rad2deg(np.arctan(np.sqrt(variances))).tolist()
    return along_x, along_y


def _split(height: Floats) -> NDArray[np.int64]:
    """Return 0 or 1 for each height of each row, `(n, points)`: the split in two of least variance."""
    ordered = np.sort(height, axis=1)
    count = height.shape[1]
    n = np.arange(1, count)
    total, squares = ordered.cumsum(axis=1), (ordered**2).cumsum(axis=1)
    below = squares[:, :-1] - total[:, :-1] ** 2 / n
    above = squares[:, -1:] - squares[:, :-1] - (total[:, -1:] - total[:, :-1]) ** 2 / (count - n)
    cut = np.argmin(below + above, axis=1)[:, None]
    middle = 0.5 * (np.take_along_axis(ordered, cut, axis=1) + np.take_along_axis(ordered, cut + 1, axis=1))
    return np.asarray(height > middle, np.int64)


def _starting_slopes(single: Surfaces) -> Floats:
    """Return the slopes along x and y that the fit of two planes starts from, `(starts, 2)`."""
    steps = np.tan(np.deg2rad(_START_SLOPES_DEG))
    return np.array([(single.slope_x, single.slope_y), *((a, b) for a in steps for b in steps)])
