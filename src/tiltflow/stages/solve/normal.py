"""Least squares over views and points: the points are eliminated exactly, what is left is a small dense system.

With U, W, V the blocks of the normal equations of views, of views with points, and of points, the view parameters follow from
(U - W V^-1 W') dp = g - W V^-1 h (Brown's Schur complement; Triggs et al. 2000, doi:10.1007/3-540-44480-7_21).  Each V is 3 x 3, so
2,000 tracks over 120 views are one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from tiltflow.kernels import solve as kernels
from tiltflow.stages.solve.variables import PER_VIEW, SHIFT_X, SHIFT_Y, Variables

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Positions `(tracks, views, 2)` from the image centre, and their weights xx, xy, yy `(tracks, views, 3)`, 0 where unseen."""

    xy: Floats
    information: Floats

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Where a point counts, `(tracks, views)`."""
        return np.asarray(self.information[..., 0] + self.information[..., 2] > 0)

    def weighted(self, weights: Floats) -> Observations:
        """Return the same positions with their weights multiplied by `(tracks, views)`."""
        return Observations(self.xy, self.information * weights[..., None])


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Parameters of the views `(views, 7)` and the points `(tracks, 3)`."""

    views: Floats
    points: Floats

    def residual(self, observations: Observations) -> Floats:
        """Return measured minus predicted `(tracks, views, 2)`; 0 where unseen."""
        out = np.empty_like(observations.xy)
        kernels.predict(self.views, self.points, out)
        return np.where(observations.seen[..., None], observations.xy - out, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """Normal equations at a geometry, points eliminated.

    `matrix` `(7 views, 7 views)` and `right` `(7 views,)` are the Schur complement; `factor`, `cross` and `point_right`
    (the Cholesky factor L of each V, L^-1 W' and L^-1 h) lead back to the points; `cost` is the weighted sum of squares.
    """

    matrix: Floats
    right: Floats
    factor: Floats
    cross: Floats
    point_right: Floats
    cost: float

    def point_steps(self, view_steps: Floats) -> Floats:
        """Return how the points follow a step of the views `(7 views,)`: `(tracks, 3)`."""
        right = self.point_right - self.cross @ view_steps
        return np.asarray(np.linalg.solve(np.swapaxes(self.factor, 1, 2), right[..., None])[..., 0])


def weighted_cost(residual: Floats, information: Floats) -> float:
    """Return the weighted sum of squares."""
    return float(mahalanobis_squared(residual, information).sum())


def mahalanobis_squared(residual: Floats, information: Floats) -> Floats:
    """Return r' Omega r of every point, `(tracks, views)`."""
    x, y = residual[..., 0], residual[..., 1]
    return np.asarray(information[..., 0] * x * x + 2 * information[..., 1] * x * y + information[..., 2] * y * y)


def normal_equations(geometry: Geometry, observations: Observations) -> Normal:
    """Return the normal equations at `geometry`."""
    tracks, views = observations.xy.shape[:2]
    residual = geometry.residual(observations)
    view_normal, view_right = np.zeros((views, PER_VIEW, PER_VIEW)), np.zeros((views, PER_VIEW))
    cross = np.zeros((tracks, 3, views, PER_VIEW))
    point_normal, point_right = np.zeros((tracks, 3, 3)), np.zeros((tracks, 3))
    kernels.accumulate(
        geometry.views,
        geometry.points,
        residual,
        observations.information,
        view_normal,
        view_right,
        cross,
        point_normal,
        point_right,
    )
    # A track seen at nearly one tilt has no depth: hold it where it is, weakly.
    scale = np.trace(point_normal, axis1=1, axis2=2)
    point_normal += (1e-7 * scale + 1e-12)[:, None, None] * np.eye(3)
    factor = np.asarray(np.linalg.cholesky(point_normal), np.float64)
    whitened = cross.reshape(tracks, 3, -1)
    kernels.whiten(factor, whitened, point_right)
    flat = whitened.reshape(tracks * 3, -1)
    matrix = -(flat.T @ flat)
    blocks = matrix.reshape(views, PER_VIEW, views, PER_VIEW)
    blocks[np.arange(views), :, np.arange(views), :] += view_normal
    return Normal(
        matrix=matrix,
        right=view_right.ravel() - flat.T @ point_right.ravel(),
        factor=factor,
        cross=whitened,
        point_right=point_right,
        cost=weighted_cost(residual, observations.information),
    )


def translations(views: Floats) -> Floats:
    """Return `(7 views, 3)`: how the shifts answer to a move of the whole specimen along x, y and z, which nothing determines."""
    out = np.zeros((len(views), PER_VIEW, 3))
    jacobian = np.empty((2, 3))
    for i, view in enumerate(views):
        kernels.point_jacobian(view, jacobian)
        out[i, [SHIFT_X, SHIFT_Y]] = jacobian
    return out.reshape(-1, 3)


def reduced_system(normal: Normal, views: Floats, map_: Floats) -> tuple[Floats, Floats]:
    """Return the normal matrix and right side of the variables, the specimen's translation held still."""
    matrix = map_.T @ normal.matrix @ map_
    null = np.linalg.qr(map_.T @ translations(views))[0]
    matrix += null @ null.T * (np.trace(matrix) / len(matrix))
    return matrix, map_.T @ normal.right


def adjust(
    geometry: Geometry,
    observations: Observations,
    variables: Variables,
    sigma: float,
    *,
    values: Floats | None = None,
    cycles: int = 30,
) -> tuple[Geometry, Floats]:
    """Return the geometry of least squares and the values of the variables: Gauss-Newton, damped (Levenberg) when a step fails.

    `sigma` is the standard deviation of a coordinate, pixels: what the priors are weighed against.  `values` are those that
    `geometry` already holds, so that a prior goes on counting from where it started.
    """
    map_, precision = variables.matrix(), sigma**2 * variables.precision()
    values = np.zeros(map_.shape[1]) if values is None else values
    damping = 0.0
    normal = normal_equations(geometry, observations)
    objective = normal.cost + float(values @ precision @ values)
    for _ in range(cycles):
        matrix, right = reduced_system(normal, geometry.views, map_)
        matrix += precision + 1e-9 * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
        while True:
            damped = matrix + damping * np.diag(np.diag(matrix))
            step = linalg.solve(damped, right - precision @ values, assume_a="pos")
            view_steps = map_ @ step
            trial = Geometry(geometry.views + view_steps.reshape(-1, PER_VIEW), geometry.points + normal.point_steps(view_steps))
            trial_cost = weighted_cost(trial.residual(observations), observations.information)
            trial_objective = trial_cost + float((values + step) @ precision @ (values + step))
            if trial_objective <= objective * (1 + 1e-12) or damping > 1e6:
                break
            damping = max(10 * damping, 1e-4)
        gain = objective - trial_objective
        if gain < 0:
            break
        geometry, values, objective, damping = trial, values + step, trial_objective, 0.1 * damping if damping > 1e-5 else 0.0
        if gain <= 1e-7 * objective + 1e-12:
            break
        normal = normal_equations(geometry, observations)
    return geometry, values
