"""Local areas: what each needs on top of the geometry of all, for specimens that change their shape while they are looked at.

Of every view an area has its own shift, and its own changes of axis angle, tilt and magnification, grouped as tiltalign groups
them.  Around the global solution the tracks say of these numbers z of an area: z' S z / 2 - b' z, their points worked out.  How far
they stray, and drift in order of tilt, is learnt from all areas together, as :mod:`tiltflow.align.bundle.empirical_bayes` does for
the views; so a rigid specimen gives changes near nothing, however few tracks an area holds.

Whether they help is asked of tracks that the areas have not seen: a fifth is left out at a time, and if the others do not say better
where it is seen than the global geometry does, there are no local areas.
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
_LEARNING = 4
_FOLDS = 5
_FLOOR = 1e-5
_WORTH = 0.97
"""Part of the error of unseen tracks that may be left, if the areas are to be used."""


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
        Measured minus predicted with them, `(tracks, used views, 2)`, and the weights they leave, `(tracks, used views)`.
    unseen_px
        Mean distance of tracks from where areas that have not seen them put them.
    error_px
        The error of the alignment that is left, as the fit expects it.
    """

    areas: Areas
    changes: Floats
    residual: Floats
    weights: Floats
    unseen_px: float
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
    return _Work(problem, geometry, areas, params, _kinds(params.local, problem)).fit(fit)


def _point_steps(problem: BundleProblem, geometry: Geometry, weights: Floats, residual: Floats | None = None) -> Floats:
    """Return how far the points `(tracks, 3)` are from where they fit best.

    Of tracks that were rejected all positions count: what a rigid specimen does not explain an area may.
    """
    observations, rejected = problem.observations, weights.max(axis=1) == 0
    weighted = observations.weighted(np.where(rejected[:, None] & observations.seen, 1.0, weights))
    residual = geometry.residual(observations) if residual is None else residual
    normal, right = weighted.pull(geometry.point_jacobians(), residual)
    scale = np.trace(normal, axis1=1, axis2=2)
    return np.asarray(np.linalg.solve(normal + (1e-7 * scale + 1e-12)[:, None, None] * np.eye(3), right[..., None])[..., 0])


def _kinds(params: LocalParams, problem: BundleProblem) -> tuple[Kind, ...]:
    """Return the variables of an area, with the widest spreads that they may have."""
    rank = problem.rank.astype(float)
    degree = float(np.deg2rad(1))
    return (
        grouped_kind("shift x", SHIFT_X, rank, 1, Spread(2.0)),
        grouped_kind("shift y", SHIFT_Y, rank, 1, Spread(2.0)),
        grouped_kind("rotation", ROTATION, rank, params.rotation_group, Spread(degree)),
        grouped_kind("tilt", TILT, rank, params.tilt_group, Spread(degree)),
        grouped_kind("magnification", MAGNIFICATION, rank, params.magnification_group, Spread(0.01)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Equations:
    """S and b of every area, their points worked out, in squared pixels: `(areas, folds, n, n)` and `(areas, folds, n)`.

    The folds of the tracks are kept apart, so that any of them can be left out.
    """

    matrix: Floats
    right: Floats

    def of(self, area: int, without: int | None = None) -> tuple[Floats, Floats]:
        """Return those of an area, without one of the folds."""
        folds = [fold for fold in range(_FOLDS) if fold != without]
        return self.matrix[area, folds].sum(axis=0), self.right[area, folds].sum(axis=0)


class _Work:
    """The state of a local fit: weights, noise and spreads that are learnt in turns."""

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
        self._by_view = np.stack([geometry.view_jacobians(point) for point in geometry.points])
        views = len(geometry.views)
        self._map = np.zeros((views, PER_VIEW, sum(kind.map.shape[1] for kind in kinds)))
        self._blocks: dict[str, slice] = {}
        begin = 0
        for kind in kinds:
            block = slice(begin, begin + kind.map.shape[1])
            self._map[:, kind.parameter, block], self._blocks[kind.name], begin = kind.map, block, block.stop

    def fit(self, fit: BundleFit) -> tuple[LocalFit | None, str]:
        """Return the local fit if it tells where unseen tracks are, and a sentence about it."""
        # What a rigid specimen does not explain has lost weight; an area may explain it, so that all begin alike.
        weights = np.where(self._observations.seen, 1.0, 0.0) if self._params.robust else fit.weights
        spreads = {kind.name: kind.spread for kind in self._kinds}
        equations = self._equations(weights)
        noise = self._noise(equations, weights, spreads, fit.sigma)
        for _ in range(_ROUNDS):
            spreads = self._learn(equations, spreads, noise)
            values = self._solve(equations, spreads, noise)
            if self._params.robust:
                weights = robust_weights(self._problem, self._left(values, weights), self._params)
                equations = self._equations(weights)
            noise = self._noise(equations, weights, spreads, noise)
        values = self._solve(equations, spreads, noise)
        unseen = self._unseen(equations, spreads, noise, weights)
        idle = np.zeros_like(values)
        before, after = self._mean(idle, weights), self._mean(values, weights)
        without = self._mean(idle, weights, self._areas.held)
        grid = self._areas.grid
        said = f"{grid[0]} x {grid[1]} local areas of {self._areas.members.sum(axis=1).min()} tracks or more"
        if unseen > _WORTH * without:
            return None, (
                f"the global alignment is used: {said} say where unseen tracks are to {unseen:.3g} px, and without them it is "
                f"{without:.3g} px"
            )
        grown = f", {self._areas.grown} of them grown to hold so many" if self._areas.grown else ""
        left, error = self._left(values, weights), self._error(fit, equations, spreads, noise)
        found = LocalFit(self._areas, self._changes(values), left, weights, unseen, error)
        return found, (
            f"{said}{grown}: mean residual {before:.3g} px without and {after:.3g} px with them, "
            f"{unseen:.3g} px for tracks that they have not seen"
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
            # The point moves with the areas: it is worked out, and held weakly where it is seen at one tilt alone.
            through = np.linalg.solve(normal + 1e-7 * np.trace(normal) * np.eye(3), across.T).T
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

    def _learn(self, equations: _Equations, spreads: dict[str, Spread], noise: float) -> dict[str, Spread]:
        """Return spreads that explain the areas better: the update of :mod:`tiltflow.align.bundle.empirical_bayes`, over all areas."""
        systems = [equations.of(area) for area in range(len(self._areas.members))]
        for _ in range(_LEARNING):
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
        """Return the standard deviation of a coordinate of unit weight that is left, pixels."""
        covariance, squares, freedom = self._covariance(spreads), 0.0, 0.0
        rigid = weights * self._observations.squared(self._without_points(self._residual, weights))
        for area, inside in enumerate(self._areas.members):
            s, b = equations.of(area)
            gain = np.linalg.solve(noise**2 * np.eye(len(b)) + s @ covariance, np.column_stack([b, s]))
            value, fitted = covariance @ gain[:, 0], float(np.trace(covariance @ gain[:, 1:]))
            some = weights * inside[:, None]
            squares += float(rigid[inside].sum()) - 2 * float(b @ value) + float(value @ s @ value)
            freedom += self._observations.measured(some) - 3 * float((some.sum(axis=1) > 0).sum()) - fitted
        return max(float(np.sqrt(max(squares, 0.0) / max(freedom, 1.0))), 1e-4)

    def _changes(self, values: Floats) -> Floats:
        return np.asarray(np.einsum("vpn,an->avp", self._map, values))

    def _left(self, values: Floats, weights: Floats) -> Floats:
        """Return what the areas, interpolated between their centres, leave of the residuals, each track with its best point."""
        moved = np.einsum("jvap,jvp->jva", self._by_view, np.einsum("ja,avp->jvp", self._shares, self._changes(values)))
        return self._without_points(self._residual - moved, weights)

    def _without_points(self, residual: Floats, weights: Floats) -> Floats:
        """Return residuals with their points moved to where they fit best."""
        step = _point_steps(self._problem, self._geometry, weights, residual)
        left = residual - np.einsum("vak,jk->jva", self._geometry.point_jacobians(), step)
        return np.where(self._observations.seen[..., None], left, 0.0)

    def _mean(self, values: Floats, weights: Floats, tracks: NDArray[np.bool_] | None = None) -> float:
        """Return the mean length of what is left, weighted."""
        return self._mean_of(self._left(values, weights), weights, tracks)

    def _mean_of(self, left: Floats, weights: Floats, tracks: NDArray[np.bool_] | None = None) -> float:
        some = weights if tracks is None else weights * tracks[:, None]
        return float(np.average(np.hypot(left[..., 0], left[..., 1]), weights=np.maximum(some, 1e-300)))

    def _unseen(self, equations: _Equations, spreads: dict[str, Spread], noise: float, weights: Floats) -> float:
        """Return the mean distance of tracks from where areas put them that were solved without them."""
        left = np.zeros_like(self._residual)
        for fold in range(_FOLDS):
            out = self._fold == fold
            left[out] = self._left(self._solve(equations, spreads, noise, fold), weights)[out]
        return self._mean_of(left, weights, self._areas.held)

    def _error(self, fit: BundleFit, equations: _Equations, spreads: dict[str, Spread], noise: float) -> float | None:
        """Return the error that is expected: that of the global geometry by the noise that is left, and that of the areas."""
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
    """Return a spread whose parts are multiplied, never wider than it may be."""
    start = now.drift_sd or 0.05 * most.independent_sd
    return Spread(
        independent_sd=max(min(now.independent_sd * scatter, most.independent_sd), _FLOOR * most.independent_sd),
        drift_sd=max(min(start * drift, most.independent_sd), _FLOOR * most.independent_sd),
    )
