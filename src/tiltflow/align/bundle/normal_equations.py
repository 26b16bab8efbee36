"""Least squares over views and points: the points are eliminated exactly, what is left is a small dense system.

With U, W, V the blocks of the normal equations of views, of views with points, and of points, the view parameters follow from
(U - W V^-1 W') dp = g - W V^-1 h (Brown's Schur complement; Triggs et al. 2000, doi:10.1007/3-540-44480-7_21).  Each V is 3 x 3, so
2,000 tracks over 120 views are one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.bundle.joint_weights import JointWeights
from tiltflow.align.bundle.observations import Observations
from tiltflow.align.bundle.variables import PER_VIEW, SHIFT_X, SHIFT_Y, Rows, Variables
from tiltflow.kernels import solve as kernels

Floats = NDArray[np.float64]

_POINT_RIDGE = 1e-7, 1e-12
"""Added to the diagonal of a point's normal matrix, relative to its trace and absolutely: at nearly one tilt a track has no depth."""
_RIDGE, _UNIT_RIDGE = 1e-9, 1e-10
"""Added to the diagonal of the reduced system, relative to its mean, and after scaling to a unit diagonal: what the data do not
determine stays in place."""
_CYCLES = 30
"""Most Gauss-Newton steps; convergence ends them earlier."""
_CONVERGED = 1e-7, 1e-12
"""The steps end when the objective falls by less, relatively and absolutely."""
_ROUNDING = 1e-12
"""Relative increase of the objective that counts as rounding."""
_FIRST_DAMPING, _MORE_DAMPING, _LESS_DAMPING = 1e-4, 10.0, 0.1
_LEAST_DAMPING, _MOST_DAMPING = 1e-5, 1e6
"""Levenberg's damping: the first, the factors after a failed and after a successful step, and where it is dropped or given up.
Marquardt's factor of 10; the result does not depend on them, as the steps are repeated until they converge."""


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

    def positions(self, point: Floats) -> Floats:
        """Return where a point is seen, `(views, 2)`."""
        out = np.empty((1, len(self.views), 2))
        kernels.predict(self.views, point[None], out)
        return np.asarray(out[0])

    def point_jacobians(self) -> Floats:
        """Return the derivative of positions by their point, the same for all points, `(views, 2, 3)`."""
        out = np.empty((len(self.views), 2, 3))
        kernels.point_jacobians(self.views, out)
        return out

    def view_jacobians(self, points: Floats) -> Floats:
        """Return the derivatives of the positions of points `(n, 3)` by the parameters of their view, `(n, views, 2, 7)`."""
        out = np.empty((len(points), len(self.views), 2, PER_VIEW))
        kernels.view_jacobians(self.views, np.ascontiguousarray(points), out)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """Normal equations of n variables at a geometry, points eliminated.

    `matrix` `(n, n)` and `right` `(n,)` are the Schur complement; `factor`, `cross` and `point_right` (the Cholesky factor L of
    each V, L^-1 W' and L^-1 h) lead back to the points.
    """

    matrix: Floats
    right: Floats
    factor: Floats
    cross: Floats
    point_right: Floats

    def point_steps(self, steps: Floats) -> Floats:
        """Return the step of the points, `(tracks, 3)`, that belongs to a step of the variables `(n,)`."""
        right = self.point_right - self.cross @ steps
        return np.asarray(np.linalg.solve(np.swapaxes(self.factor, 1, 2), right[..., None])[..., 0])


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """U `(n, n)`, g, W' `(tracks, 3, n)`, V `(tracks, 3, 3)` and h of the module's formula."""

    views: Floats
    view_right: Floats
    cross: Floats
    points: Floats
    point_right: Floats


def normal_equations(geometry: Geometry, observations: Observations, rows: Rows | None = None) -> Normal:
    """Return the normal equations at `geometry`, of variables whose map is given by rows; by default of the parameters of the views."""
    residual = geometry.residual(observations)
    if observations.joint is None:
        blocks = _independent(geometry, observations, residual, rows)
    else:
        blocks = _joint(geometry, observations.joint, residual, rows)
    scale = np.trace(blocks.points, axis1=1, axis2=2)
    factor = np.asarray(
        np.linalg.cholesky(blocks.points + (_POINT_RIDGE[0] * scale + _POINT_RIDGE[1])[:, None, None] * np.eye(3)), np.float64
    )
    cross, point_right = blocks.cross, blocks.point_right
    kernels.whiten(factor, cross, point_right)
    flat, matrix, right = cross.reshape(-1, cross.shape[2]), blocks.views, blocks.view_right
    matrix -= flat.T @ flat
    right -= flat.T @ point_right.ravel()
    return Normal(matrix, right, factor, cross, point_right)


def _independent(geometry: Geometry, observations: Observations, residual: Floats, rows: Rows | None) -> _Blocks:
    tracks, views = observations.xy.shape[:2]
    rows = Rows.of_parameters(views) if rows is None else rows
    n = rows.variables
    blocks = _Blocks(np.zeros((n, n)), np.zeros(n), np.zeros((tracks, 3, n)), np.zeros((tracks, 3, 3)), np.zeros((tracks, 3)))
    kernels.accumulate(
        geometry.views,
        geometry.points,
        residual,
        observations.information,
        rows.first,
        rows.column,
        rows.share,
        blocks.views,
        blocks.view_right,
        blocks.cross,
        blocks.points,
        blocks.point_right,
    )
    return blocks


def _joint(geometry: Geometry, joint: JointWeights, residual: Floats, rows: Rows | None) -> _Blocks:
    """Return the blocks of tracks that share their weight matrices M but for a factor.

    The derivatives D of the positions by their views are the same sums of a few shapes, D_j = sum over k of c_jk S_k, for all tracks j.
    So M S_k is made once, and the tracks enter the block of the views by the sums of c_jk c_jl alone.
    """
    tracks, views = residual.shape[:2]
    size = views * PER_VIEW
    by_point = geometry.point_jacobians().reshape(-1, 3)
    pull = joint.times(residual)
    normal, right = np.zeros((size, size)), np.zeros((views, PER_VIEW))
    cross, of_points = np.empty((tracks, 3, size)), np.empty((tracks, 3, 3))
    for matrix, some in joint.groups():
        shapes, of_tracks = _shapes(geometry, some)
        of_weights = joint.factor[some, None] * of_tracks
        across = np.zeros((shapes.shape[0], 3, size))
        kernels.accumulate_joint(matrix, shapes, of_weights.T @ of_tracks, by_point, normal, across)
        right += np.einsum("kvap,kva->vp", shapes, np.tensordot(of_tracks, pull[some], (0, 0)))
        cross[some] = np.tensordot(of_weights, across, 1)
        of_points[some] = joint.factor[some, None, None] * (by_point.T @ matrix @ by_point)
    of_residuals = pull.reshape(tracks, -1) @ by_point
    blocks = _Blocks(normal, right.ravel(), cross, of_points, of_residuals)
    if rows is None:
        return blocks
    to_variables = rows.transposed
    return replace(
        blocks,
        views=np.asarray(to_variables @ (to_variables @ blocks.views).T),
        view_right=to_variables @ blocks.view_right,
        cross=np.ascontiguousarray((to_variables @ blocks.cross.reshape(-1, size).T).T).reshape(tracks, 3, -1),
    )


def _shapes(geometry: Geometry, tracks: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return shapes `(k, views, 2, 7)` that add up to the derivatives by the views, and how much a track has of each, `(tracks, k)`.

    A derivative is linear in the point: four shapes, or those of the tracks themselves where they are fewer.
    """
    points = geometry.points[tracks]
    if len(tracks) < 4:
        return geometry.view_jacobians(points), np.eye(len(tracks))
    shapes = geometry.view_jacobians(np.vstack([np.zeros(3), np.eye(3)]))
    shapes[1:] -= shapes[0]
    return shapes, np.column_stack([np.ones(len(tracks)), points])


def reduced_system(normal: Normal, geometry: Geometry, map_: Floats) -> tuple[Floats, Floats]:
    """Return the normal matrix and right side of the variables.

    A translation of the whole specimen, which the data do not determine, is held at zero.
    """
    translations = np.zeros((len(geometry.views), PER_VIEW, 3))
    translations[:, [SHIFT_X, SHIFT_Y]] = geometry.point_jacobians()
    matrix = congruent(normal.matrix, map_)
    null = np.linalg.qr(map_.T @ translations.reshape(-1, 3))[0]
    matrix += null @ null.T * (np.trace(matrix) / len(matrix))
    return matrix, map_.T @ normal.right


def congruent(matrix: Floats, map_: Floats) -> Floats:
    """Return map' M map of a symmetric matrix; the map is nearly all zeros, which saves most of the work."""
    few = scipy.sparse.csr_array(map_.T)
    return np.asarray(few @ (few @ matrix).T)


def adjust(
    geometry: Geometry,
    observations: Observations,
    variables: Variables,
    sigma: float,
    *,
    values: Floats | None = None,
    cycles: int | None = None,
) -> tuple[Geometry, Floats]:
    """Return the geometry of least squares and the values of the variables: Gauss-Newton, damped (Levenberg) when a step fails.

    `sigma` is the standard deviation of a coordinate, pixels, which the priors are weighted by.  `values` are those of the variables
    at `geometry`, counted from the centre of their priors; `cycles` are the most steps, by default as many as it takes.
    """
    map_, precision = variables.matrix(), sigma**2 * variables.precision()
    values = np.zeros(map_.shape[1]) if values is None else values
    damping = 0.0
    objective = _cost(geometry, observations) + float(values @ precision @ values)
    for _ in range(cycles or _CYCLES):
        normal = normal_equations(geometry, observations, variables.rows)
        matrix = normal.matrix
        hold_translations(matrix, geometry)
        matrix += precision
        # Variables of different units, and priors: damped as if they were scaled to a unit diagonal.
        diagonal = matrix.diagonal() + _RIDGE * np.trace(matrix) / len(matrix)
        right = normal.right - precision @ values
        while True:
            step = _solved(matrix, diagonal * (1 + damping + _UNIT_RIDGE), right)
            changed = geometry.views + (map_ @ step).reshape(-1, PER_VIEW)
            trial = Geometry(changed, geometry.points + normal.point_steps(step))
            trial_objective = _cost(trial, observations) + float((values + step) @ precision @ (values + step))
            if trial_objective <= objective * (1 + _ROUNDING) or damping > _MOST_DAMPING:
                break
            damping = max(_MORE_DAMPING * damping, _FIRST_DAMPING)
        gain = objective - trial_objective
        if gain < 0:
            break
        geometry, values, objective = trial, values + step, trial_objective
        damping = _LESS_DAMPING * damping if damping > _LEAST_DAMPING else 0.0
        if gain <= _CONVERGED[0] * objective + _CONVERGED[1]:
            break
    return geometry, values


def _cost(geometry: Geometry, observations: Observations) -> float:
    return float(observations.squared(geometry.residual(observations)).sum())


def hold_translations(matrix: Floats, geometry: Geometry) -> None:
    """Hold a translation of the whole specimen at zero in a normal matrix whose first variables are the shifts, in place."""
    moved, scale = geometry.point_jacobians().reshape(-1, 3), np.trace(matrix) / len(matrix)
    # At one tilt alone the translation along the beam moves nothing.
    gram = moved.T @ moved
    gram += _RIDGE * np.trace(gram) * np.eye(3)
    matrix[: len(moved), : len(moved)] += moved @ (scale * np.linalg.solve(gram, moved.T))


def _solved(matrix: Floats, diagonal: Floats, right: Floats) -> Floats:
    """Return the solution of a positive definite system whose diagonal is replaced."""
    work = matrix.copy()
    np.fill_diagonal(work, diagonal)
    _, step, failed = scipy.linalg.lapack.dposv(work.T, right, overwrite_a=True)
    if failed:
        raise np.linalg.LinAlgError(f"the normal matrix is not positive definite: its leading minor of order {failed} is not")
    return np.asarray(step)
