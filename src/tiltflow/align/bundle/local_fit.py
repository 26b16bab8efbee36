"""Local alignments: corrections of the global geometry by area, for specimens that change their shape during the series.

An area has its own shift in every view, and changes of axis angle, tilt and magnification, grouped as in tiltalign.  About the global
solution minus the log-likelihood of these variables z of an area is z' S z / 2 - b' z, with the points eliminated.  Their scatter and
their drift in order of tilt are estimated from all areas together, as :mod:`tiltflow.align.bundle.empirical_bayes` does for the
views, so that for a rigid specimen the corrections are near zero, however few tracks an area holds.

The areas are used only if they reduce the leave-out error: a fifth of the tracks is left out at a time, and predicted from areas
fitted to the others and from the global geometry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.bundle.adjustment import BundleFit, robust_weights
from tiltflow.align.bundle.bead_surfaces import fit_surfaces
from tiltflow.align.bundle.expected_error import expected_error
from tiltflow.align.bundle.local_areas import Areas, lay_out_areas
from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.params import LocalParams, SolveParams
from tiltflow.align.bundle.problem import BundleProblem
from tiltflow.align.bundle.variables import (
    MAGNIFICATION,
    PER_VIEW,
    ROTATION,
    SHIFT_X,
    SHIFT_Y,
    TILT,
    Kind,
    Spread,
    grouped_kind,
)

Floats = NDArray[np.float64]

_ROUNDS = 5
"""Rounds of priors, solution, robust weights and noise."""
_PRIOR_ITERATIONS = 4
"""Iterations of the priors' standard deviations in a round."""
_FOLDS = 5
"""Parts of the tracks that are left out in turn."""
_FLOOR = 1e-5
"""Lower bound of a standard deviation, as a fraction of the widest."""
_WORTH = 0.97
"""Largest leave-out error with areas, relative to the one without, for the areas to be used."""
_WIDEST_PX, _WIDEST_DEG, _WIDEST_MAGNIFICATION = 2.0, 1.0, 0.01
"""Widest prior standard deviations of an area's corrections: shifts, angles, and magnifications."""
_START_DRIFT = 0.05
"""Initial standard deviation of the drift, as a fraction of the widest."""
_RIDGE = 1e-7, 1e-12
"""Added to the diagonal of a point's normal matrix, relative to its trace and absolutely: a track seen at one tilt alone has no depth."""
_LEAST_NOISE_PX = 1e-4
"""Lower bound of the noise: exact tracks leave none."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalFit:
    """Changes of the view parameters by area.

    Attributes
    ----------
    areas
        Where they are.
    changes
        `(areas, used views, 7)` to add to the parameters of the views.
    residual, weights
        Measured minus predicted, `(tracks, used views, 2)`, and robust weights, `(tracks, used views)`.
    leave_out_px
        Mean distance of tracks from their prediction by areas fitted to other tracks.
    error_px
        The estimated error of the alignment.
    """

    areas: Areas
    changes: Floats
    residual: Floats
    weights: Floats
    leave_out_px: float
    error_px: float | None


def fit_areas(problem: BundleProblem, fit: BundleFit, geometry: Geometry, params: SolveParams) -> tuple[LocalFit | None, str]:
    """Return the local fit around `geometry`, or None, and a sentence about it."""
    if params.local is None:
        return None, ""
    geometry = Geometry(geometry.views, geometry.points + _point_steps(problem, geometry, fit.weights))
    points = geometry.points
    surface = np.zeros(len(points), np.int64)
    if params.surfaces == 2 and len(points) > params.local.minimum_tracks[0]:
        surface = fit_surfaces(points, 2).member
    areas = lay_out_areas(points, surface, params.local)
    if isinstance(areas, str):
        return None, f"no local areas, the global alignment is used: {areas}"
    return _AreaAdjustment(problem, geometry, areas, params, _kinds(params.local, problem)).fit(fit)


def _point_steps(problem: BundleProblem, geometry: Geometry, weights: Floats, residual: Floats | None = None) -> Floats:
    """Return the step of the points, `(tracks, 3)`, to their best positions.

    Of rejected tracks all positions count: an area may explain what a rigid specimen does not.
    """
    observations, rejected = problem.observations, weights.max(axis=1) == 0
    weighted = observations.weighted(np.where(rejected[:, None] & observations.seen, 1.0, weights))
    residual = geometry.residual(observations) if residual is None else residual
    normal, right = weighted.pull(geometry.point_jacobians(), residual)
    scale = np.trace(normal, axis1=1, axis2=2)
    return np.asarray(
        np.linalg.solve(normal + (_RIDGE[0] * scale + _RIDGE[1])[:, None, None] * np.eye(3), right[..., None])[..., 0]
    )


def _kinds(params: LocalParams, problem: BundleProblem) -> tuple[Kind, ...]:
    """Return the variables of an area, with their widest priors."""
    rank = problem.rank.astype(float)
    angle = float(np.deg2rad(_WIDEST_DEG))
    return (
        grouped_kind("shift x", SHIFT_X, rank, 1, Spread(_WIDEST_PX)),
        grouped_kind("shift y", SHIFT_Y, rank, 1, Spread(_WIDEST_PX)),
        grouped_kind("rotation", ROTATION, rank, params.rotation_group, Spread(angle)),
        grouped_kind("tilt", TILT, rank, params.tilt_group, Spread(angle)),
        grouped_kind("magnification", MAGNIFICATION, rank, params.magnification_group, Spread(_WIDEST_MAGNIFICATION)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Equations:
    """S and b of every area, points eliminated, in squared pixels: `(areas, folds, n, n)` and `(areas, folds, n)`.

    The folds of the tracks are kept apart, so that any of them can be left out.
    """

    matrix: Floats
    right: Floats

    def of(self, area: int, without: int | None = None) -> tuple[Floats, Floats]:
        """Return those of an area, without one of the folds."""
        folds = [fold for fold in range(_FOLDS) if fold != without]
        return self.matrix[area, folds].sum(axis=0), self.right[area, folds].sum(axis=0)


class _AreaAdjustment:
    """A local fit: priors, solution, robust weights and noise are estimated in turns."""

    def __init__(
        self, problem: BundleProblem, geometry: Geometry, areas: Areas, params: SolveParams, kinds: tuple[Kind, ...]
    ) -> None:
        self._problem, self._geometry, self._areas, self._params, self._kinds = problem, geometry, areas, params, kinds
        self._observations = problem.observations
        self._shares = areas.shares(*geometry.points[:, :2].T)
        self._residual = geometry.residual(problem.observations)
        # Neighbours in order of x fall into different folds.
        self._fold = np.empty(len(geometry.points), np.int64)
        self._fold[np.argsort(geometry.points[:, 0], kind="stable")] = np.arange(len(geometry.points)) % _FOLDS
        self._by_view = geometry.view_jacobians(geometry.points)
        views = len(geometry.views)
        self._map = np.zeros((views, PER_VIEW, sum(kind.map.shape[1] for kind in kinds)))
        self._blocks: dict[str, slice] = {}
        begin = 0
        for kind in kinds:
            block = slice(begin, begin + kind.map.shape[1])
            self._map[:, kind.parameter, block], self._blocks[kind.name], begin = kind.map, block, block.stop

    def fit(self, fit: BundleFit) -> tuple[LocalFit | None, str]:
        """Return the local fit if it reduces the leave-out error, and a sentence about it."""
        # Positions that a rigid specimen does not explain have lost their weight; areas may explain them, so all start equal.
        weights = np.where(self._observations.seen, 1.0, 0.0) if self._params.robust else fit.weights
        spreads = {kind.name: kind.spread for kind in self._kinds}
        equations = self._equations(weights)
        noise = self._noise(equations, weights, spreads, fit.sigma)
        for _ in range(_ROUNDS):
            spreads = self._updated_spreads(equations, spreads, noise)
            values = self._solve(equations, spreads, noise)
            if self._params.robust:
                weights = robust_weights(self._problem, self._left(values, weights), self._params)
                equations = self._equations(weights)
            noise = self._noise(equations, weights, spreads, noise)
        values = self._solve(equations, spreads, noise)
        leave_out = self._leave_out_error(equations, spreads, noise, weights)
        unchanged = np.zeros_like(values)
        before, after = self._mean(unchanged, weights), self._mean(values, weights)
        without = self._mean(unchanged, weights, self._areas.held)
        grid = self._areas.grid
        areas = f"{grid[0]} x {grid[1]} local areas of {self._areas.members.sum(axis=1).min()} tracks or more"
        if leave_out > _WORTH * without:
            return None, (
                f"the global alignment is used: {areas} have a leave-out error of {leave_out:.3g} px, the global alignment one of "
                f"{without:.3g} px"
            )
        grown = f", {self._areas.grown} of them enlarged to hold so many" if self._areas.grown else ""
        left, error = self._left(values, weights), self._error(fit, equations, spreads, noise)
        found = LocalFit(self._areas, self._changes(values), left, weights, leave_out, error)
        return found, (
            f"{areas}{grown}: mean residual {before:.3g} px without and {after:.3g} px with them, leave-out error {leave_out:.3g} px"
        )

    def _equations(self, weights: Floats) -> _Equations:
        weighted = self._observations.weighted(weights)
        areas, n = len(self._areas.members), self._map.shape[2]
        by_point = self._geometry.point_jacobians().reshape(-1, 3)
        out = _Equations(np.zeros((areas, _FOLDS, n, n)), np.zeros((areas, _FOLDS, n)))
        for track in np.flatnonzero(self._areas.held & (weights.max(axis=1) > 0)).tolist():
            design = (self._by_view[track] @ self._map).reshape(-1, n)
            weighed, pulled = weighted.weigh(track, design), weighted.weigh(track, by_point)
            normal, across = by_point.T @ pulled, design.T @ pulled
            through = np.linalg.solve(normal + _RIDGE[0] * np.trace(normal) * np.eye(3), across.T).T
            residual = self._residual[track].ravel()
            matrix, right = design.T @ weighed - through @ across.T, weighed.T @ residual - through @ (pulled.T @ residual)
            for area in np.flatnonzero(self._areas.members[:, track]):
                out.matrix[area, self._fold[track]] += matrix
                out.right[area, self._fold[track]] += right
        return out

    def _covariance(self, spreads: dict[str, Spread]) -> Floats:
        out = np.zeros((self._map.shape[2], self._map.shape[2]))
        for kind in self._kinds:
            block = self._blocks[kind.name]
            out[block, block] = kind.covariance(spreads[kind.name])
        return out

    def _solve(self, equations: _Equations, spreads: dict[str, Spread], noise: float, without: int | None = None) -> Floats:
        """Return the variables of every area, `(areas, n)`: C (1 + S C)^-1 b, which needs no inverse of C."""
        covariance = self._covariance(spreads)
        values = []
        for area in range(len(self._areas.members)):
            s, b = equations.of(area, without)
            values.append(covariance @ np.linalg.solve(noise**2 * np.eye(len(b)) + s @ covariance, b))
        return np.array(values)

    def _updated_spreads(self, equations: _Equations, spreads: dict[str, Spread], noise: float) -> dict[str, Spread]:
        """Return the priors after some updates of :mod:`tiltflow.align.bundle.empirical_bayes`, over all areas."""
        systems = [equations.of(area) for area in range(len(self._areas.members))]
        for _ in range(_PRIOR_ITERATIONS):
            covariance = self._covariance(spreads)
            explained = {(kind.name, part): 0.0 for kind in self._kinds for part in ("scatter", "drift")}
            expected = dict(explained)
            for s, b in systems:
                inverse = np.linalg.inv(noise**2 * np.eye(len(b)) + s @ covariance)
                alpha, p = inverse @ b, inverse @ s
                for kind in self._kinds:
                    block = self._blocks[kind.name]
                    a, q = alpha[block], p[block, block]
                    drift = kind.drift()
                    explained[kind.name, "scatter"] += float(a @ a)
                    expected[kind.name, "scatter"] += float(np.trace(q))
                    explained[kind.name, "drift"] += float(a @ drift @ a)
                    expected[kind.name, "drift"] += float(np.sum(q * drift))
            spreads = {
                kind.name: _updated(
                    spreads[kind.name],
                    kind.spread,
                    *(
                        (explained[kind.name, part] / max(expected[kind.name, part], 1e-300)) ** 0.25
                        for part in ("scatter", "drift")
                    ),
                )
                for kind in self._kinds
            }
        return spreads

    def _noise(self, equations: _Equations, weights: Floats, spreads: dict[str, Spread], noise: float) -> float:
        """Return the standard deviation of a coordinate of unit weight in the residuals, pixels."""
        covariance, squares, freedom = self._covariance(spreads), 0.0, 0.0
        rigid = weights * self._observations.squared(self._without_points(self._residual, weights))
        for area, inside in enumerate(self._areas.members):
            s, b = equations.of(area)
            gain = np.linalg.solve(noise**2 * np.eye(len(b)) + s @ covariance, np.column_stack([b, s]))
            value, fitted = covariance @ gain[:, 0], float(np.trace(covariance @ gain[:, 1:]))
            some = weights * inside[:, None]
            squares += float(rigid[inside].sum()) - 2 * float(b @ value) + float(value @ s @ value)
            freedom += self._observations.measured(some) - 3 * float((some.sum(axis=1) > 0).sum()) - fitted
        return max(float(np.sqrt(max(squares, 0.0) / max(freedom, 1.0))), _LEAST_NOISE_PX)

    def _changes(self, values: Floats) -> Floats:
        return np.asarray(np.einsum("vpn,an->avp", self._map, values))

    def _left(self, values: Floats, weights: Floats) -> Floats:
        """Return the residuals after the areas' corrections, interpolated between their centres, each track with its best point."""
        moved = np.einsum("jvap,jvp->jva", self._by_view, np.einsum("ja,avp->jvp", self._shares, self._changes(values)))
        return self._without_points(self._residual - moved, weights)

    def _without_points(self, residual: Floats, weights: Floats) -> Floats:
        """Return the residuals with the points moved to their best positions."""
        step = _point_steps(self._problem, self._geometry, weights, residual)
        left = residual - np.einsum("vak,jk->jva", self._geometry.point_jacobians(), step)
        return np.where(self._observations.seen[..., None], left, 0.0)

    def _mean(self, values: Floats, weights: Floats, tracks: NDArray[np.bool_] | None = None) -> float:
        """Return the weighted mean length of the residuals."""
        return self._mean_of(self._left(values, weights), weights, tracks)

    def _mean_of(self, left: Floats, weights: Floats, tracks: NDArray[np.bool_] | None = None) -> float:
        some = weights if tracks is None else weights * tracks[:, None]
        return float(np.average(np.hypot(left[..., 0], left[..., 1]), weights=np.maximum(some, 1e-300)))

    def _leave_out_error(self, equations: _Equations, spreads: dict[str, Spread], noise: float, weights: Floats) -> float:
        """Return the mean distance of tracks from their prediction by areas solved without them."""
        left = np.zeros_like(self._residual)
        for fold in range(_FOLDS):
            out = self._fold == fold
            left[out] = self._left(self._solve(equations, spreads, noise, fold), weights)[out]
        return self._mean_of(left, weights, self._areas.held)

    def _error(self, fit: BundleFit, equations: _Equations, spreads: dict[str, Spread], noise: float) -> float | None:
        """Return the estimated error: that of the global geometry, scaled to the noise in the residuals, and that of the areas."""
        if fit.error_px is None:
            return None
        covariance, flat = self._covariance(spreads), self._map.reshape(-1, self._map.shape[2])
        squares = []
        for area, inside in enumerate(self._areas.members):
            s, _ = equations.of(area)
            posterior = covariance @ np.linalg.inv(np.eye(len(s)) + s @ covariance / noise**2)
            nx, ny = (max(np.ptp(axis[inside]) / 2, 1.0) for axis in self._geometry.points[:, :2].T)
            squares.append(expected_error(self._geometry, flat @ ((posterior + posterior.T) / 2) @ flat.T, (nx, ny)) ** 2)
        return float(np.hypot(fit.error_px * min(noise / fit.sigma, 1.0), np.sqrt(np.mean(squares))))


def _updated(now: Spread, most: Spread, scatter: float, drift: float) -> Spread:
    """Return the standard deviations multiplied by `scatter` and `drift`, never wider than `most`."""
    start = now.drift_sd or _START_DRIFT * most.independent_sd
    return Spread(
        independent_sd=max(min(now.independent_sd * scatter, most.independent_sd), _FLOOR * most.independent_sd),
        drift_sd=max(min(start * drift, most.independent_sd), _FLOOR * most.independent_sd),
    )
