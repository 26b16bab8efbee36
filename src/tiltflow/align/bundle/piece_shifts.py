"""A shift for every piece of a montage, where tracks decide better than overlaps.

A stitched view is made of pieces whose places are known to the standard error of the stitching.  A position is seen at

    projection + sum over pieces of (its weight there) (shift of the piece)

and the shifts are solved together with views and points.  Their prior is the stitching's standard error, times one factor that is
estimated from the tracks of all views (:mod:`tiltflow.align.bundle.empirical_bayes`); over the pieces of a view they have the sum 0,
as their mean is the view's own shift.  A piece whose tracks agree on a jump beyond its prior is given the prior of that jump, and named:
an edge of it was matched wrongly.  The shifts are used if they reduce the leave-out error.

What remains uncertain of the pieces' places is part of the estimated error.  Without the shifts that is the standard error of the
stitching, less what the views take up of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from tiltflow.align.bundle.adjustment import (
    BundleFit,
    misfit_and_motion,
    residual_autocorrelation,
    residual_noise,
    robust_weights,
    spread_notes,
)
from tiltflow.align.bundle.empirical_bayes import estimate_spreads
from tiltflow.align.bundle.expected_error import expected_error_of_pieces
from tiltflow.align.bundle.leave_out import LeaveOut, leave_out, leave_tracks_out, view_covariance
from tiltflow.align.bundle.normal_equations import Geometry, adjust, normal_equations
from tiltflow.align.bundle.params import SolveParams
from tiltflow.align.bundle.piece_equations import PieceEquations, inverse, prior_roots
from tiltflow.align.bundle.problem import BundleProblem
from tiltflow.align.bundle.variables import PER_VIEW, ROTATION, choose_variables
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.model import PieceShifts

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ROUNDS = 14
"""Most rounds of solution, robust weights and noise."""
_SETTLED_PX, _SETTLED_WEIGHT = 1e-3, 0.01
"""The rounds end when no shift and no weight changes by more."""
_PRIOR_ROUNDS = (3, 6)
"""Rounds after which the priors are estimated: those of the views again, as they were without pieces."""
_ALTERNATIONS = 3
"""How often the priors of views and of pieces are estimated in turn."""
_SCALE_CYCLES, _SCALE_SETTLED = 200, 1e-3
"""Most iterations of the factor of the prior, and its relative change that ends them."""
_TRUST = 50.0
"""Shifts that the standard errors of the stitching are worth as evidence of the factor of the prior: they are right within 10 %, 1 over
the root of twice as many.  With few tracks a factor that is estimated from them alone is often near 0, whatever is true."""
_LARGEST_SCALE = 3.0
"""Largest factor of the prior: what scatters more is a specimen that deforms, or has not to do with pieces."""
_WORTH = 0.99
"""Largest leave-out error with the shifts, relative to the one without, for the shifts to be used."""
_INSIDE = 0.8
"""Weight of a piece from which on a position belongs to it alone."""
_FEWEST_JUMPED = 2
"""Positions that must agree on the jump of a piece."""
_DOUBT = 6.0
"""Standard deviations of the stitching, and of the positions, beyond which a piece is doubted: one in 10^8 by chance."""
_LEAST_JUMP_PX = 0.5
"""Pixels below which no piece is doubted: the shift takes it up, whatever the standard error was said to be."""
_TINY = 1e-16
"""Added to the diagonal of a covariance, squared pixels and radians: rounding."""
_PLACES_PER_PIECE = 3
"""Places on a piece, along each side, at which the error is evaluated: a field that grows evenly has 97 % of its mean square there."""


def fit_pieces(problem: BundleProblem, fit: BundleFit, params: SolveParams) -> tuple[BundleProblem, BundleFit, PieceShifts | None]:
    """Return the problem and its fit with the shifts of the pieces worked in, if these reduce the leave-out error, and the shifts.

    The positions of the problem returned are those of views stitched by the corrected offsets.  An adjustment whose views were taken
    in one piece is returned as it is, with None.
    """
    pieces, weights = problem.pieces, problem.piece_weights
    if pieces is None or weights is None or not pieces.movable[problem.view].any():
        return problem, fit, None
    return _PieceAdjustment(problem, pieces, weights, params).fit(fit)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """A fit with shifts: `t` `(views r 2,)`, the factor of their prior, and how many numbers but the views' shifts are determined."""

    fit: BundleFit
    t: Floats
    scale: float = 1.0
    determined: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """A fit, the error by the placement of pieces, and the standard errors of their places `(used views, pieces)`."""

    fit: BundleFit
    placement_px: float
    sd_px: Floats


class _PieceAdjustment:
    """Shifts, geometry, robust weights, noise and the factor of the prior, estimated in turns."""

    def __init__(self, problem: BundleProblem, pieces: StitchedPieces, weights: Floats, params: SolveParams) -> None:
        self._problem, self._pieces, self._params = problem, pieces, params
        self._weights = np.where(problem.observations.seen[..., None], weights, 0.0)
        self._movable = pieces.movable[problem.view]
        self._sd = np.where(self._movable, np.nan_to_num(pieces.sd_px[problem.view]), 0.0)
        self._widest = choose_variables(params, problem.used_tilt_deg)
        self._set_prior(self._sd)

    def _set_prior(self, sd: Floats) -> None:
        self._root = prior_roots(sd, self._movable)
        self._phi = np.einsum("jvk,vkr->jvr", self._weights, self._root)

    def fit(self, fit: BundleFit) -> tuple[BundleProblem, BundleFit, PieceShifts]:
        """Return the problem, the fit and the shifts, used or not."""
        self._by_view = np.stack([fit.geometry.view_jacobians(point) for point in fit.geometry.points])
        state = self._with_jumps(fit)
        moved = self._corrected(state.t)
        equations = self._equations(moved, state.fit)
        with_them = self._left_out(moved, state, equations)
        errors = self._compared(self._left_out_without(fit, state.fit.weights), with_them, state.fit.weights)
        used = errors[1] < _WORTH * errors[0]
        result = self._finished(moved, state, equations, with_them) if used else self._unmoved(fit, equations, state.scale)
        found = self._shifts(state.t)
        return (moved if used else self._problem), *self._told(result, found, self._doubted(found), errors, state.scale, used=used)

    def _with_jumps(self, fit: BundleFit) -> _State:
        """Return the fit with shifts, in which pieces that jumped have a prior as wide as their jump."""
        loose = self._loose(fit)
        if not loose.any():
            return self._iterate(self._still(fit))
        # Robust weights have rejected what lies on a piece that jumped, and the view may have followed it: all start anew.
        fit = replace(fit, weights=np.where((loose > 0) & self._problem.observations.seen, 1.0, fit.weights))
        self._set_prior(np.where(loose[:, None] > 0, loose[:, None], self._sd))
        tried = self._iterate(self._still(fit), estimate=False)
        found = self._shifts(tried.t)
        jumped = self._doubted(found) & (loose[:, None] > 0)
        self._set_prior(np.where(jumped, _from_others(found, self._movable), self._sd))
        return self._iterate(self._still(tried.fit))

    def _still(self, fit: BundleFit) -> _State:
        return _State(fit, np.zeros(self._phi.shape[1] * self._phi.shape[2] * 2))

    def _iterate(self, state: _State, *, estimate: bool = True) -> _State:
        for number in range(_ROUNDS):
            moved = self._corrected(state.t)
            equations = self._equations(moved, state.fit)
            if estimate and number in _PRIOR_ROUNDS:
                state = self._with_estimated_priors(equations, moved, state)
            after = self._step(equations, state)
            moved = self._corrected(after.t)
            geometry, weights = after.fit.geometry, after.fit.weights
            if self._params.robust:
                weights = robust_weights(moved, geometry.residual(moved.observations), self._params)
            sigma = residual_noise(moved, geometry, weights, round(after.determined))
            change = float(np.abs(self._shifts(after.t) - self._shifts(state.t)).max())
            settled = float(np.abs(weights - after.fit.weights).max()) < _SETTLED_WEIGHT and change < _SETTLED_PX
            state = replace(after, fit=replace(after.fit, weights=weights, sigma=sigma))
            if settled and number > max(_PRIOR_ROUNDS):
                break
        return self._step(self._equations(self._corrected(state.t), state.fit), state)

    def _with_estimated_priors(self, equations: PieceEquations, moved: BundleProblem, state: _State) -> _State:
        """Return the state with the priors of views and pieces estimated together: what pieces explain is no scatter of the views."""
        fit, scale = state.fit, state.scale
        noise = fit.sigma * np.sqrt(residual_autocorrelation(moved, fit))
        variables, notes = fit.variables, fit.notes
        for _ in range(_ALTERNATIONS):
            if self._params.adapt and variables.kinds:
                spreads = estimate_spreads(*equations.of_views(fit.values, state.t, scale, noise), self._widest)
                variables, notes = variables.with_spreads(spreads), spread_notes(spreads)
            scale = _most_probable_scale(*equations.of_pieces(fit.values, state.t, variables.precision(), noise))
        return replace(state, scale=scale, fit=replace(fit, variables=variables, notes=notes))

    def _step(self, equations: PieceEquations, state: _State) -> _State:
        fit, views = state.fit, len(equations.views)
        prior = linalg.block_diag(
            fit.sigma**2 * fit.variables.precision(), (fit.sigma / state.scale) ** 2 * np.eye(len(equations.own))
        )
        values = np.concatenate([fit.values, state.t])
        covariance = equations.covariance(fit.variables.precision(), state.scale, fit.sigma)
        step = covariance @ (np.concatenate([equations.view_right, equations.right]) - prior @ values)
        by_view = equations.map_ @ step[:views]
        points = fit.geometry.points + equations.point_steps(by_view, step[views:])
        geometry = Geometry(fit.geometry.views + by_view.reshape(-1, PER_VIEW), points)
        values = values + step
        determined = len(values) - float(np.sum(covariance * prior)) - 2 * len(fit.geometry.views)
        return _State(replace(fit, geometry=geometry, values=values[:views]), values[views:], state.scale, determined)

    def _equations(self, moved: BundleProblem, fit: BundleFit) -> PieceEquations:
        return PieceEquations.at(
            fit.geometry, moved.observations.weighted(fit.weights), fit.variables, self._by_view, self._phi
        )

    def _shifts(self, t: Floats) -> Floats:
        """Return the shifts of the pieces in the used views, `(views, pieces, 2)`."""
        return np.asarray(np.einsum("vkr,vra->vka", self._root, t.reshape(*self._root.shape[::2], 2)))

    def _corrected(self, t: Floats) -> BundleProblem:
        """Return the problem with positions as they are once the pieces are moved back."""
        observations = self._problem.observations
        displaced = np.einsum("jvr,vra->jva", self._phi, t.reshape(*self._phi.shape[1:], 2))
        return replace(self._problem, observations=replace(observations, xy=observations.xy - displaced))

    def _loose(self, fit: BundleFit) -> Floats:
        """Return how far pieces seem to have jumped in a view, `(views,)`; 0 where all lie where the stitching put them."""
        observations = self._problem.observations
        residual, seen = fit.geometry.residual(observations), observations.seen
        information = observations.information[..., 0] + observations.information[..., 2]
        noise = fit.sigma / np.sqrt(0.5 * float(np.median(information[seen])))
        out = np.zeros(len(self._movable))
        for view, piece in np.argwhere(self._movable & self._judged()):
            jump = np.hypot(*np.median(residual[self._inside()[:, view, piece], view], axis=0))
            if jump > _DOUBT * np.hypot(self._sd[view, piece], noise):
                out[view] = max(out[view], jump)
        return out

    def _inside(self) -> Bools:
        """Return the positions that belong to one piece alone, `(tracks, views, pieces)`."""
        return np.asarray(self._weights > _INSIDE)

    def _judged(self) -> Bools:
        """Return the pieces on which so many positions lie that a jump can be told, `(views, pieces)`."""
        return np.asarray(self._inside().sum(axis=0) >= _FEWEST_JUMPED)

    def _doubted(self, found: Floats) -> Bools:
        """Return the pieces that lie off the others of their view by more than their overlaps allow, `(views, pieces)`."""
        off = _from_others(found, self._movable)
        # Of n independent errors less their mean, each is off the mean of the others by n / (n - 1) as much.
        count = self._movable.sum(axis=1, keepdims=True)
        limit = np.maximum(_DOUBT * self._sd * count / np.maximum(count - 1, 1), _LEAST_JUMP_PX)
        return np.asarray(self._movable & self._judged() & (off > limit))

    def _left_out(self, moved: BundleProblem, state: _State, equations: PieceEquations) -> LeaveOut:
        fit = state.fit
        observations = moved.observations.weighted(fit.weights)
        covariance = equations.covariance(fit.variables.precision(), state.scale, fit.sigma)
        return equations.leave_out(fit.geometry, observations, self._by_view, self._phi, covariance)

    def _left_out_without(self, fit: BundleFit, weights: Floats) -> LeaveOut:
        """Return the leave-out residuals of a fit without shifts, by the weights of that with them."""
        observations = self._problem.observations.weighted(weights)
        geometry, _ = adjust(fit.geometry, observations, fit.variables, fit.sigma, values=fit.values)
        normal = normal_equations(geometry, observations)
        if observations.joint is not None:
            return leave_tracks_out(geometry, observations, normal, fit.variables, fit.sigma)
        return leave_out(geometry, observations, normal, view_covariance(geometry, normal, fit.variables, fit.sigma))

    @staticmethod
    def _compared(without: LeaveOut, with_them: LeaveOut, weights: Floats) -> tuple[float, float]:
        """Return the mean distances without and with the shifts, over positions that have both."""
        distances = [np.hypot(each.residual[..., 0], each.residual[..., 1]) for each in (without, with_them)]
        known = ~np.isnan(distances[0]) & ~np.isnan(distances[1]) & (weights > 0)
        before, after = (float(np.average(each[known], weights=weights[known])) for each in distances)
        return before, after

    def _finished(self, moved: BundleProblem, state: _State, equations: PieceEquations, left_out: LeaveOut) -> _Result:
        """Return the fit with shifts, its error and that of the shifts."""
        fit = state.fit
        autocorrelation = residual_autocorrelation(moved, fit)
        noise = fit.sigma * np.sqrt(autocorrelation)
        covariance = equations.covariance(fit.variables.precision(), state.scale, noise) * noise**2
        views = len(equations.views)
        root = linalg.cholesky(covariance + _TINY * np.eye(len(covariance)), lower=True)
        modes, shift_modes = equations.map_ @ root[:views], self._shift_modes(root[views:])
        misfit, motion = misfit_and_motion(moved, fit)
        of_views = modes[ROTATION::PER_VIEW]
        fit = replace(
            fit,
            autocorrelation=autocorrelation,
            left_out=left_out,
            error_px=float(np.hypot(self._error(fit, modes, shift_modes), misfit)),
            motion_px=motion,
            axis_error=float(np.sqrt(np.mean((of_views**2).sum(axis=1)))),
        )
        return _Result(fit, self._error(fit, np.zeros_like(modes), shift_modes), _sd_of(shift_modes))

    def _unmoved(self, fit: BundleFit, equations: PieceEquations, scale: float) -> _Result:
        """Return the fit without shifts, and its error with that of the stitching."""
        noise = fit.sigma * np.sqrt(fit.autocorrelation)
        views = len(equations.views)
        system = equations.system(fit.variables.precision(), scale, noise)[:views, :views]
        covariance = inverse(system) * noise**2
        by_noise = linalg.cholesky(covariance + _TINY * np.eye(views), lower=True)
        # The views follow pieces that lie off by (covariance without noise) times what joins them.
        by_pieces = -scale * inverse(system) @ equations.between
        count = by_pieces.shape[1]
        modes = equations.map_ @ np.concatenate([by_noise, by_pieces], axis=1)
        t_modes = np.concatenate([np.zeros((count, views)), scale * np.eye(count)], axis=1)
        shift_modes = self._shift_modes(t_modes)
        misfit, _ = misfit_and_motion(self._problem, fit)
        error = float(np.hypot(self._error(fit, modes, shift_modes), misfit))
        return _Result(replace(fit, error_px=error), self._error(fit, np.zeros_like(modes), shift_modes), _sd_of(shift_modes))

    def _shift_modes(self, t_modes: Floats) -> Floats:
        """Return modes of t `(views r 2, n)` as modes of the shifts, `(views, pieces, 2, n)`."""
        views, _, shapes = self._root.shape
        return np.asarray(np.einsum("vkr,vran->vkan", self._root, t_modes.reshape(views, shapes, 2, -1), optimize=True))

    def _error(self, fit: BundleFit, modes: Floats, shift_modes: Floats) -> float:
        ny, nx = self._problem.image_shape
        grid, centre = self._pieces.grid, np.array([nx / 2, ny / 2])

        def weights(places: Floats) -> Floats:
            return self._pieces.weights(places + centre, view=self._problem.view)

        along = (_PLACES_PER_PIECE * grid.columns, _PLACES_PER_PIECE * grid.rows)
        return expected_error_of_pieces(fit.geometry, modes, shift_modes, weights, (nx / 2, ny / 2), along)

    def _told(
        self, result: _Result, found: Floats, doubted: Bools, errors: tuple[float, float], scale: float, *, used: bool
    ) -> tuple[BundleFit, PieceShifts]:
        """Return the fit and the shifts over all views, with words."""
        shape, view = self._pieces.grid.section.shape, self._problem.view
        sd = np.where(self._pieces.movable, np.nan_to_num(self._pieces.sd_px), 0.0)
        sd[view] = np.where(self._movable, result.sd_px, 0.0)
        every, every_doubt = np.zeros((*shape, 2)), np.zeros(shape, bool)
        every[view], every_doubt[view] = found, doubted
        length = np.hypot(*np.moveaxis(found[self._movable], -1, 0))
        compared = f"leave-out error {errors[1]:.3g} px with them and {errors[0]:.3g} px without"
        note = (
            f"a shift for each piece of the montage, {float(np.sqrt(np.mean(length**2))):.2g} px rms: {compared}"
            if used
            else f"the pieces of the montage stay where they were stitched: shifts do not reduce the leave-out error ({compared})"
        )
        prior = f"the tracks scatter by piece {scale:.2g} times as much as the standard errors of the stitching say"
        off = _from_others(found, self._movable)
        warnings = tuple(
            f"piece {piece + 1} of view {view[number] + 1} lies {off[number, piece]:.3g} px from where its overlaps put it, by the tracks, "
            f"and their standard error is {self._sd[number, piece]:.2g} px: an edge of it was matched wrongly"
            for number, piece in np.argwhere(doubted)
        )
        return result.fit, PieceShifts(every, sd, used, every_doubt, errors, result.placement_px, (note, prior), warnings)


def _most_probable_scale(matrix: Floats, right: Floats) -> float:
    """Return the most probable factor of the prior, by the update of :mod:`tiltflow.align.bundle.empirical_bayes`."""
    values, vectors = np.linalg.eigh(matrix)
    values, along = np.maximum(values, 0.0), vectors.T @ right
    scale = 1.0
    for _ in range(_SCALE_CYCLES):
        variance = scale**2
        explained = float(np.sum((along / (1 + values * variance)) ** 2)) + _TRUST / variance**2
        expected = float(np.sum(values / (1 + values * variance))) + _TRUST / variance
        before, scale = scale, min(scale * (explained / expected) ** 0.25, _LARGEST_SCALE)
        if abs(scale - before) < _SCALE_SETTLED * before:
            break
    return scale


def _from_others(found: Floats, movable: Bools) -> Floats:
    """Return how far each piece lies from the median of the others of its view, `(views, pieces)`; 0 for those that cannot move."""
    out = np.zeros(movable.shape)
    for view, piece in np.argwhere(movable):
        others = movable[view].copy()
        others[piece] = False
        out[view, piece] = np.hypot(*(found[view, piece] - np.median(found[view, others], axis=0)))
    return out


def _sd_of(shift_modes: Floats) -> Floats:
    """Return the standard deviation of a coordinate, `(views, pieces)`."""
    return np.asarray(np.sqrt((shift_modes**2).sum(axis=-1).mean(axis=-1)))
