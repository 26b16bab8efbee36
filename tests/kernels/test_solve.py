"""The bundle adjustment's kernels against the same thing in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from tiltflow.align.bundle.variables import Rows
from tiltflow.kernels import solve as kernel

VIEWS, TRACKS = 6, 9


@pytest.fixture
def views(rng: np.random.Generator) -> np.ndarray:
    spread = np.array([20.0, 20.0, 0.3, 1.0, 0.05, 0.05, 0.05])
    return rng.normal(0, spread, (VIEWS, 7))


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, [150.0, 150.0, 40.0], (TRACKS, 3))


@pytest.fixture
def information(rng: np.random.Generator) -> np.ndarray:
    """Weights xx, xy, yy of every position; a fifth of them unseen."""
    factor = rng.normal(size=(TRACKS, VIEWS, 2, 2)) + 2 * np.eye(2)
    matrix = factor @ np.swapaxes(factor, -1, -2)
    matrix[rng.random((TRACKS, VIEWS)) < 0.2] = 0.0
    return np.stack([matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]], axis=-1)


def _seen(view: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return where a point is seen: the formula of the module's docstring."""
    shift, (axis, tilt, log_magnification, stretch, skew) = view[:2], view[2:]
    x, y, z = point
    flat = np.array([(1 + stretch) * np.cos(tilt) * x + np.sin(tilt) * z, y + skew * x])
    turn = np.array([[np.cos(axis), -np.sin(axis)], [np.sin(axis), np.cos(axis)]])
    return shift + np.exp(log_magnification) * turn @ flat


def _jacobians(views: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `(tracks, views, 2, 7)` and `(tracks, views, 2, 3)` by central differences."""
    by_view, by_point = np.empty((TRACKS, VIEWS, 2, 7)), np.empty((TRACKS, VIEWS, 2, 3))
    for j, point in enumerate(points):
        for i, view in enumerate(views):
            for k, unit in enumerate(np.eye(7) * 1e-5):
                by_view[j, i, :, k] = (_seen(view + unit, point) - _seen(view - unit, point)) / 2e-5
            for k, unit in enumerate(np.eye(3) * 1e-3):
                by_point[j, i, :, k] = (_seen(view, point + unit) - _seen(view, point - unit)) / 2e-3
    return by_view, by_point


def _matrices(information: np.ndarray) -> np.ndarray:
    xx, xy, yy = np.moveaxis(information, -1, 0)
    return np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)


def test_positions_follow_the_formula(views: np.ndarray, points: np.ndarray) -> None:
    out = np.empty((TRACKS, VIEWS, 2))
    kernel.predict(views, points, out)
    np.testing.assert_allclose(out, [[_seen(view, point) for view in views] for point in points], rtol=1e-12)


def test_derivatives_are_those_of_finite_differences(views: np.ndarray, points: np.ndarray) -> None:
    by_view, by_point = _jacobians(views, points)
    jv, jp = np.empty((TRACKS, VIEWS, 2, 7)), np.empty((VIEWS, 2, 3))
    kernel.point_jacobians(views, jp)
    kernel.view_jacobians(views, points, jv)
    np.testing.assert_allclose(jv, by_view, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(np.broadcast_to(jp, by_point.shape), by_point, rtol=1e-6, atol=1e-8)


def test_normal_equations_are_the_products_of_dense_jacobians(
    views: np.ndarray, points: np.ndarray, information: np.ndarray, rng: np.random.Generator
) -> None:
    residual = rng.normal(size=(TRACKS, VIEWS, 2))
    by_view, by_point = _jacobians(views, points)
    weight = _matrices(information)
    shape = (7 * VIEWS, 20)
    map_ = np.where(rng.random(shape) < 0.1, rng.normal(size=shape), 0.0)
    rows = Rows.of(map_)
    view_normal, view_right = np.zeros((20, 20)), np.zeros(20)
    cross, normal, right = np.zeros((TRACKS, 3, 20)), np.zeros((TRACKS, 3, 3)), np.zeros((TRACKS, 3))
    kernel.accumulate(
        views, points, residual, information, rows.first, rows.column, rows.share, view_normal, view_right, cross, normal, right
    )
    by_variable = np.einsum("jiap,ipn->jian", by_view, map_.reshape(VIEWS, 7, 20))
    close = {"rtol": 1e-5, "atol": 1e-2}
    np.testing.assert_allclose(view_normal, np.einsum("jiap,jiab,jibq->pq", by_variable, weight, by_variable), **close)
    np.testing.assert_allclose(view_right, np.einsum("jiap,jiab,jib->p", by_variable, weight, residual), **close)
    np.testing.assert_allclose(cross, np.einsum("jiap,jiab,jibq->jpq", by_point, weight, by_variable), **close)
    np.testing.assert_allclose(normal, np.einsum("jiap,jiab,jibq->jpq", by_point, weight, by_point), **close)
    np.testing.assert_allclose(right, np.einsum("jiap,jiab,jib->jp", by_point, weight, residual), **close)


def test_whitening_solves_with_the_triangular_factor(rng: np.random.Generator) -> None:
    matrix = rng.normal(size=(TRACKS, 3, 3))
    factor = np.linalg.cholesky(matrix @ np.swapaxes(matrix, 1, 2) + np.eye(3))
    cross, right = rng.normal(size=(TRACKS, 3, 20)), rng.normal(size=(TRACKS, 3))
    white_cross, white_right = cross.copy(), right.copy()
    kernel.whiten(factor, white_cross, white_right)
    for j in range(TRACKS):
        np.testing.assert_allclose(white_cross[j], linalg.solve_triangular(factor[j], cross[j], lower=True), rtol=1e-10)
        np.testing.assert_allclose(white_right[j], linalg.solve_triangular(factor[j], right[j], lower=True), rtol=1e-10)


def test_leave_out_residuals_are_those_of_the_hat_matrix(
    views: np.ndarray, points: np.ndarray, information: np.ndarray, rng: np.random.Generator
) -> None:
    residual = rng.normal(size=(TRACKS, VIEWS, 2))
    by_view, by_point = _jacobians(views, points)
    design = np.zeros((TRACKS, VIEWS, 2, VIEWS * 7 + TRACKS * 3))
    for j in range(TRACKS):
        for i in range(VIEWS):
            design[j, i, :, 7 * i : 7 * i + 7] = by_view[j, i]
            design[j, i, :, 7 * VIEWS + 3 * j : 7 * VIEWS + 3 * j + 3] = by_point[j, i]
    weight = _matrices(information)
    normal = np.einsum("jiap,jiab,jibq->pq", design, weight, design)
    # A prior on every number, as the adjustment has: the system is no longer singular.
    covariance = np.linalg.inv(normal + np.diag(0.5 + rng.random(len(normal))))
    in_views = covariance[: 7 * VIEWS, : 7 * VIEWS].reshape(VIEWS, 7, VIEWS, 7)
    in_points = covariance[7 * VIEWS :, 7 * VIEWS :].reshape(TRACKS, 3, TRACKS, 3)
    out = np.full_like(residual, np.nan)
    trace = kernel.leave_out(
        views,
        points,
        residual,
        information,
        np.ascontiguousarray(in_views[np.arange(VIEWS), :, np.arange(VIEWS)]),
        np.ascontiguousarray(-covariance[7 * VIEWS :, : 7 * VIEWS].reshape(TRACKS, 3, VIEWS, 7)),
        np.ascontiguousarray(in_points[np.arange(TRACKS), :, np.arange(TRACKS)]),
        out,
    )
    hats = np.einsum("jiap,pq,jibq,jibc->jiac", design, covariance, design, weight)
    seen = information[..., 0] > 0
    expected = np.linalg.solve(np.eye(2) - hats[seen], residual[seen][..., None])[..., 0]
    np.testing.assert_allclose(out[seen], expected, rtol=1e-4, atol=1e-4)
    assert np.isnan(out[~seen]).all()
    assert trace == pytest.approx(np.trace(hats[seen], axis1=1, axis2=2).sum(), rel=1e-5)
