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
)
from tiltflow.align.bundle.expected_error import expected_error_of_pieces
from tiltflow.align.bundle.leave_out import LeaveOut, leave_out, leave_tracks_out, view_covariance
from tiltflow.align.bundle.normal_equations import Geometry, adjust, normal_equations
from tiltflow.align.bundle.params import SolveParams
from tiltflow.align.bundle.piece_equations import PieceEquations, inverse, prior_roots
from tiltflow.align.bundle.problem import BundleProblem
from tiltflow.align.bundle.variables import PER_VIEW, ROTATION
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.model import PieceShifts

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ROUNDS = 12
"""Most rounds of solution, robust weights and noise."""
_SETTLED_PX, _SETTLED_WEIGHT = 1e-3, 0.01
"""The rounds end when no shift and no weight changes by more."""
_SCALE_ROUNDS = (1, 3)
"""Rounds after which the factor of the prior is estimated."""
_SCALE_CYCLES, _SCALE_SETTLED = 200, 1e-3
_LEAST_SCALE, _LARGEST_SCALE = 0.03, 3.0
"""Bounds of the factor of the prior.  Standard errors of overlaps are right within 10 % where patterns repeat in all views, and may be
too small by 2 where gray levels are correlated; what is beyond is not the stitching's."""
_WORTH = 0.99
"""Largest leave-out error with the shifts, relative to the one without, for the shifts to be used."""
_INSIDE = 0.8
"""Weight of a piece from which on a position belongs to it alone."""
_FEWEST_JUMPED = 3
"""Positions that must agree on the jump of a piece: two may be wrong in the same way."""
_AGREE = 0.5
"""Largest distance of half of them from their median, relative to the jump."""
_DOUBT = 6.0
"""Standard deviations of the stitching, and of the positions, beyond which a piece is doubted: one in 10^8 by chance."""
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
    if pieces is None or weights is None or not (_movable(pieces)[problem.view].any()):
        return problem, fit, None
    return _PieceAdjustment(problem, pieces, weights, params).fit(fit)


def _movable(pieces: StitchedPieces) -> Bools:
    """Return the pieces that can lie off in their view, `(views, pieces)`: not those that are alone."""
    taken = pieces.grid.taken
    return np.asarray(taken & (taken.sum(axis=1, keepdims=True) > 1))


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """A fit with shifts: `t` `(views r 2,)` and the factor of their prior."""

    fit: BundleFit
    t: Floats
    scale: float = 1.0


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
        self._movable = _movable(pieces)[problem.view]
        self._sd = np.where(self._movable, np.nan_to_num(pieces.sd_px[problem.view]), 0.0)
        self._set_prior(self._sd)

    def _set_prior(self, sd: Floats) -> None:
        self._root = prior_roots(sd, self._movable)
        self._phi = np.einsum("jvk,vkr->jvr", self._weights, self._root)

    def fit(self, fit: BundleFit) -> tuple[BundleProblem, BundleFit, PieceShifts]:
        """Return the problem, the fit and the shifts, used or not."""
        self._by_view = np.stack([fit.geometry.view_jacobians(point) for point in fit.geometry.points])
        self._precision = fit.variables.precision()
        jumps = self._jumps(fit)
        jumped = np.hypot(*np.moveaxis(jumps, -1, 0)) > 0
        weights = fit.weights
        if jumped.any():
            # The robust weights have rejected what lies on a piece that jumped.
            self._set_prior(np.where(jumped, np.hypot(*np.moveaxis(jumps, -1, 0)), self._sd))
            on_it = (self._weights * jumped).sum(axis=-1) > _INSIDE
            weights = np.where(on_it & self._problem.observations.seen, 1.0, weights)
        state = self._iterate(_State(replace(fit, weights=weights), np.zeros(self._phi.shape[1] * self._phi.shape[2] * 2)))
        moved = self._corrected(state.t)
        equations = self._equations(moved, state.fit)
        with_them = self._left_out(moved, state, equations)
        without = self._left_out_without(fit, state.fit.weights)
        errors = self._compared(without, with_them, state.fit.weights)
        used = errors[1] < _WORTH * errors[0]
        found, doubted = self._shifts(state.t), np.zeros_like(self._movable)
        doubted |= jumped & (np.hypot(*np.moveaxis(found, -1, 0)) > _DOUBT * self._sd)
        if used:
            result = self._finished(moved, state, equations, with_them)
        else:
            result = self._unmoved(fit, equations)
        return (moved if used else self._problem), *self._told(result, found, doubted, errors, state.scale, used=used)

    def _iterate(self, state: _State) -> _State:
        for number in range(1, _ROUNDS + 1):
            moved = self._corrected(state.t)
            equations = self._equations(moved, state.fit)
            if number - 1 in _SCALE_ROUNDS:
                state = replace(state, scale=self._scale(equations, moved, state))
            after = self._step(equations, state)
            moved = self._corrected(after.t)
            geometry, weights = after.fit.geometry, after.fit.weights
            if self._params.robust:
                weights = robust_weights(moved, geometry.residual(moved.observations), self._params)
            unknowns = after.fit.variables.count + self._determined(equations, after)
            sigma = residual_noise(moved, geometry, weights, unknowns)
            change = float(np.abs(self._shifts(after.t) - self._shifts(state.t)).max())
            settled = float(np.abs(weights - after.fit.weights).max()) < _SETTLED_WEIGHT and change < _SETTLED_PX
            state = replace(after, fit=replace(after.fit, weights=weights, sigma=sigma))
            if settled and number > max(_SCALE_ROUNDS):
                break
        return self._step(self._equations(self._corrected(state.t), state.fit), state)

    def _step(self, equations: PieceEquations, state: _State) -> _State:
        fit, precision = state.fit, self._precision
        views = len(equations.views)
        right = np.concatenate(
            [
                equations.view_right - fit.sigma**2 * precision @ fit.values,
                equations.right - (fit.sigma / state.scale) ** 2 * state.t,
            ]
        )
        step = inverse(equations.system(precision, state.scale, fit.sigma)) @ right
        by_view = equations.map_ @ step[:views]
        points = fit.geometry.points + equations.point_steps(by_view, step[views:])
        geometry = Geometry(fit.geometry.views + by_view.reshape(-1, PER_VIEW), points)
        return replace(state, fit=replace(fit, geometry=geometry, values=fit.values + step[:views]), t=state.t + step[views:])

    def _equations(self, moved: BundleProblem, fit: BundleFit) -> PieceEquations:
        return PieceEquations.at(
            fit.geometry, moved.observations.weighted(fit.weights), fit.variables, self._by_view, self._phi
        )

    def _scale(self, equations: PieceEquations, moved: BundleProblem, state: _State) -> float:
        """Return the most probable factor of the prior, by the update of :mod:`tiltflow.align.bundle.empirical_bayes`."""
        noise = state.fit.sigma * np.sqrt(residual_autocorrelation(moved, state.fit))
        s, b = equations.scatter(self._precision, state.fit.values, state.t, state.fit.sigma, noise)
        values, vectors = np.linalg.eigh(s)
        values, along = np.maximum(values, 0.0), vectors.T @ b
        scale = 1.0
        for _ in range(_SCALE_CYCLES):
            explained = float(np.sum((along / (1 + values * scale**2)) ** 2))
            expected = float(np.sum(values / (1 + values * scale**2)))
            before, scale = scale, scale * (explained / max(expected, 1e-300)) ** 0.25
            scale = min(max(scale, _LEAST_SCALE), _LARGEST_SCALE)
            if abs(scale - before) < _SCALE_SETTLED * before:
                break
        return scale

    def _determined(self, equations: PieceEquations, state: _State) -> int:
        """Return how many numbers the tracks determine of the shifts, beyond their prior."""
        ratio = (state.fit.sigma / state.scale) ** 2
        values = np.maximum(np.diag(equations.own), 0.0)
        return round(float(np.sum(values / (values + ratio))))

    def _shifts(self, t: Floats) -> Floats:
        """Return the shifts of the pieces in the used views, `(views, pieces, 2)`."""
        return np.asarray(np.einsum("vkr,vra->vka", self._root, t.reshape(*self._root.shape[::2], 2)))

    def _corrected(self, t: Floats) -> BundleProblem:
        """Return the problem with positions as they are once the pieces are moved back."""
        observations = self._problem.observations
        displaced = np.einsum("jvr,vra->jva", self._phi, t.reshape(*self._phi.shape[1:], 2))
        return replace(self._problem, observations=replace(observations, xy=observations.xy - displaced))

    def _jumps(self, fit: BundleFit) -> Floats:
        """Return the jumps of pieces that their positions agree on and their edges exclude, `(views, pieces, 2)`; 0 elsewhere."""
        observations = self._problem.observations
        residual, seen = fit.geometry.residual(observations), observations.seen
        out = np.zeros((*self._movable.shape, 2))
        noise = fit.sigma / np.sqrt(0.5 * float(np.median((observations.information[..., 0] + observations.information[..., 2])[seen])))
        for view, piece in np.argwhere(self._movable):
            inside = seen[:, view] & (self._weights[:, view, piece] > _INSIDE)
            if inside.sum() < _FEWEST_JUMPED:
                continue
            off = residual[inside, view]
            jump = np.median(off, axis=0)
            far, scatter = float(np.hypot(*jump)), float(np.median(np.hypot(*(off - jump).T)))
            if far > _DOUBT * np.hypot(self._sd[view, piece], noise) and scatter < _AGREE * far:
                out[view, piece] = jump
        return out

    def _left_out(self, moved: BundleProblem, state: _State, equations: PieceEquations) -> LeaveOut:
        fit = state.fit
        observations = moved.observations.weighted(fit.weights)
        covariance = equations.covariance(self._precision, state.scale, fit.sigma)
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
        covariance = equations.covariance(self._precision, state.scale, noise) * noise**2
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

    def _unmoved(self, fit: BundleFit, equations: PieceEquations) -> _Result:
        """Return the fit without shifts, and its error with that of the stitching."""
        noise = fit.sigma * np.sqrt(fit.autocorrelation)
        views = len(equations.views)
        system = equations.system(self._precision, 1.0, noise)[:views, :views]
        covariance = inverse(system) * noise**2
        by_noise = linalg.cholesky(covariance + _TINY * np.eye(views), lower=True)
        # The views follow pieces that lie off by (covariance without noise) times what joins them.
        by_pieces = -inverse(system) @ equations.between
        count = by_pieces.shape[1]
        modes = equations.map_ @ np.concatenate([by_noise, by_pieces], axis=1)
        t_modes = np.concatenate([np.zeros((count, views)), np.eye(count)], axis=1)
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
        sd = np.where(_movable(self._pieces), np.nan_to_num(self._pieces.sd_px), 0.0)
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
        warnings = tuple(
            f"piece {piece + 1} of view {view[number] + 1} lies {np.hypot(*found[number, piece]):.3g} px from where its overlaps put it, "
            f"whose standard error is {self._sd[number, piece]:.2g} px: its edges were matched wrongly"
            for number, piece in np.argwhere(doubted)
        )
        return result.fit, PieceShifts(every, sd, used, every_doubt, errors, result.placement_px, (note, prior), warnings)


def _sd_of(shift_modes: Floats) -> Floats:
    """Return the standard deviation of a coordinate, `(views, pieces)`."""
    return np.asarray(np.sqrt((shift_modes**2).sum(axis=-1).mean(axis=-1)))
