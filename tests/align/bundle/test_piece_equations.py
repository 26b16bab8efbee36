"""The equations of views and pieces against dense least squares over views, pieces and points, by numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.align.bundle.stitched_points import stitched_case

from tiltflow.align.bundle import SolveParams
from tiltflow.align.bundle.adjustment import fit_bundle
from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.piece_adjustment import PieceAdjustment
from tiltflow.align.bundle.piece_equations import PieceEquations, prior_roots
from tiltflow.align.bundle.problem import BundleProblem, build_problem
from tiltflow.model import Tracks

Floats = NDArray[np.float64]

TRACKS, VIEWS = 16, 7
PLAIN = SolveParams(adapt=False, robust=False, restrict=False)


class Dense:
    """The linear problem about a fit: rows are positions x, y; columns are variables of the views, t and points."""

    def __init__(self, joint: bool) -> None:
        case = stitched_case(tracks=TRACKS, views=VIEWS, missing=0.0 if joint else 0.1)
        rng, tracks = np.random.default_rng(5), case.tracks
        if joint:
            root = rng.normal(size=(TRACKS, 2 * VIEWS, 2 * VIEWS)) + 3 * np.eye(2 * VIEWS)
            weight = (root @ np.swapaxes(root, 1, 2)).reshape(TRACKS, VIEWS, 2, VIEWS, 2)
        else:
            root = rng.normal(size=(TRACKS, VIEWS, 2, 2)) + 2 * np.eye(2)
            weight = root @ np.swapaxes(root, -1, -2)
        tracks = Tracks(tracks.xy, "bead", weight)
        self.problem: BundleProblem = build_problem(
            tracks, case.points.truth.nominal_deg, -8.0, (512, 512), None, None, case.pieces
        )
        fit = fit_bundle(self.problem, PLAIN)
        self.adjustment = PieceAdjustment(self.problem, case.pieces, self.problem.piece_weights, fit, PLAIN)
        self.found = self.adjustment.fit()
        self.moved = self.adjustment.corrected(self.found.t)
        self.equations: PieceEquations = self.adjustment.equations(self.moved, self.found.fit)
        self.views, self.pieces = self.equations.between.shape
        self.design, self.weight = self._design(), self._weight()
        fit, self.prior = self.found.fit, np.zeros((self.design.shape[1], self.design.shape[1]))
        self.prior[: self.views, : self.views] = fit.sigma**2 * fit.variables.precision()
        at = slice(self.views, self.views + self.pieces)
        self.prior[at, at] = (fit.sigma / self.found.scale) ** 2 * np.eye(self.pieces)

    def _predicted(self, change: Floats) -> Floats:
        fit, ends = self.found.fit, np.cumsum([self.views, self.pieces])
        by_view, t, points = np.split(change, ends)
        geometry = Geometry(
            fit.geometry.views + (fit.variables.matrix() @ by_view).reshape(-1, 7), fit.geometry.points + points.reshape(-1, 3)
        )
        projected = self.problem.observations.xy - geometry.residual(self.problem.observations)
        shifts = self.adjustment.shifts(self.found.t + t)
        seen = self.problem.observations.seen[..., None]
        return np.where(seen, projected + np.einsum("jvk,vka->jva", self.problem.piece_weights, shifts), 0.0).ravel()

    def _design(self) -> Floats:
        size, step = self.views + self.pieces + 3 * TRACKS, 1e-5
        steps = step * np.eye(size)
        return np.stack([(self._predicted(each) - self._predicted(-each)) / (2 * step) for each in steps], axis=1)

    def _weight(self) -> Floats:
        observations = self.problem.observations
        out = np.zeros((TRACKS, VIEWS, 2, TRACKS, VIEWS, 2))
        for track in range(TRACKS):
            if observations.joint is not None:
                out[track, :, :, track] = observations.joint.of_track(track).reshape(VIEWS, 2, VIEWS, 2)
                continue
            for view in range(VIEWS):
                xx, xy, yy = observations.information[track, view]
                out[track, view, :, track, view] = [[xx, xy], [xy, yy]]
        return out.reshape(2 * TRACKS * VIEWS, -1)

    def residual(self) -> Floats:
        return self.found.fit.geometry.residual(self.moved.observations).ravel()

    def without(self, rows: NDArray[np.bool_]) -> Floats:
        """Return the residuals of rows that are left out of the fit of views and pieces."""
        weight = self.weight.copy()
        weight[rows], weight[:, rows] = 0.0, 0.0
        values = np.concatenate([self.found.fit.values, self.found.t, np.zeros(3 * TRACKS)])
        right = self.design.T @ weight @ self.residual() - self.prior @ values
        step = np.linalg.pinv(self.design.T @ weight @ self.design + self.prior, rcond=1e-13, hermitian=True) @ right
        return self.residual()[rows] - (self.design @ step)[rows]


@pytest.fixture(scope="module", params=[False, True], ids=["each position", "joint"])
def dense(request) -> Dense:
    return Dense(request.param)


def test_the_covariance_of_the_shifts_is_that_of_dense_least_squares(dense):
    normal = dense.design.T @ dense.weight @ dense.design + dense.prior
    at = slice(dense.views, dense.views + dense.pieces)
    expected = np.linalg.pinv(normal, rcond=1e-13, hermitian=True)[at, at]
    fit = dense.found.fit
    found = dense.equations.covariance(fit.variables.precision(), dense.found.scale, fit.sigma)[dense.views :, dense.views :]
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_the_fit_is_at_the_optimum(dense):
    values = np.concatenate([dense.found.fit.values, dense.found.t, np.zeros(3 * TRACKS)])
    pull = dense.design.T @ dense.weight @ dense.residual() - dense.prior @ values
    normal = dense.design.T @ dense.weight @ dense.design + dense.prior
    at = slice(dense.views, dense.views + dense.pieces)
    step = np.linalg.pinv(normal, rcond=1e-13, hermitian=True) @ pull
    assert np.abs(dense.adjustment.shifts(step[at])).max() < 2e-3


def test_leave_out_residuals_are_those_of_fits_without(dense):
    fit = dense.found.fit
    covariance = dense.equations.covariance(fit.variables.precision(), dense.found.scale, fit.sigma)
    found = dense.equations.leave_out(fit.geometry, dense.moved.observations, covariance).residual
    if dense.problem.observations.joint is not None:
        # The point of a track left out is fitted to itself, by its own weights.
        for track in (0, 7):
            rows = np.zeros((TRACKS, VIEWS, 2), bool)
            rows[track] = True
            left = dense.without(rows.ravel())
            own = dense.design[rows.ravel()][:, dense.views + dense.pieces + 3 * track :][:, :3]
            weight = dense.weight[rows.ravel()][:, rows.ravel()]
            left = left - own @ np.linalg.solve(own.T @ weight @ own, own.T @ weight @ left)
            np.testing.assert_allclose(found[track].ravel(), left, atol=5e-3)
        return
    seen = np.argwhere(dense.problem.observations.seen)
    for track, view in seen[:: len(seen) // 6]:
        rows = np.zeros((TRACKS, VIEWS, 2), bool)
        rows[track, view] = True
        np.testing.assert_allclose(found[track, view], dense.without(rows.ravel()), atol=5e-3)


@pytest.mark.parametrize(
    ("sd", "present", "expected"),
    [
        pytest.param([0.2] * 4, [1, 1, 1, 1], [0.2] * 4, id="of equal errors it is what was said"),
        pytest.param([0.2] * 4, [1, 1, 0, 1], [0.2, 0.2, 0.0, 0.2], id="a missing piece"),
        pytest.param([0.2] * 4, [0, 1, 0, 0], [0.0] * 4, id="one piece is the view"),
        pytest.param([0.0] * 4, [1, 1, 1, 1], [0.0] * 4, id="no errors"),
        pytest.param([0.3, 0.1], [1, 1], [np.sqrt(0.05)] * 2, id="of two each has half of the difference"),
    ],
)
def test_the_prior_has_the_standard_errors_told_and_the_sum_0(sd, present, expected):
    root = prior_roots(np.array([sd]), np.array([present], bool))[0]
    np.testing.assert_allclose(np.sqrt((root**2).sum(axis=1)), expected, atol=1e-12)
    np.testing.assert_allclose(root.sum(axis=0), 0, atol=1e-12)
