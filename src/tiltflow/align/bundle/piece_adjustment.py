"""The adjustment of views, points and pieces together: shifts, geometry, robust weights, noise and priors, estimated in turns.

The prior of the shifts is the standard error of the stitching times one factor, which is estimated from the tracks of all views with the
priors of the views (:mod:`tiltflow.align.bundle.empirical_bayes`): what the pieces explain is no scatter of rotations and magnifications.
A piece whose tracks agree on a jump is given the prior of that jump.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.bundle.adjustment import BundleFit, residual_autocorrelation, residual_noise, robust_weights, spread_notes
from tiltflow.align.bundle.empirical_bayes import estimate_spreads
from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.params import SolveParams
from tiltflow.align.bundle.piece_equations import PieceEquations, prior_roots
from tiltflow.align.bundle.problem import BundleProblem
from tiltflow.align.bundle.variables import PER_VIEW, choose_variables
from tiltflow.align.piece_weights import StitchedPieces

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ROUNDS = 14
"""Most rounds of solution, robust weights and noise."""
_SETTLED_PX, _SETTLED_WEIGHT = 1e-3, 0.01
"""The rounds end when no shift and no weight changes by more."""
_LEAST_FREEDOM = 0.2
"""Degrees of freedom, as a fraction of the measurements, below which the noise is not estimated."""
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
INSIDE = 0.8
"""Weight of a piece from which on a position belongs to it alone."""
_FEWEST_JUMPED = 2
"""Positions that must agree on the jump of a piece."""
_DOUBT = 6.0
"""Standard deviations of the stitching, and of the positions, beyond which a piece is doubted: one in 10^8 by chance."""
_LEAST_JUMP_PX = 0.5
"""Pixels below which no piece is doubted: the shift takes it up, whatever the standard error was said to be."""


@dataclass(frozen=True, slots=True, eq=False)
class PieceFit:
    """A fit of the positions as they are once the pieces are moved back.

    Attributes
    ----------
    fit
        Geometry, robust weights, noise and priors.
    t
        `(views r 2,)`: the shifts of the pieces, in units of their prior (:mod:`tiltflow.align.bundle.piece_equations`).
    scale
        Factor of that prior.
    determined
        How many numbers the positions determine, but for the views' shifts and the points.
    """

    fit: BundleFit
    t: Floats
    scale: float = 1.0
    determined: float = 0.0


class PieceAdjustment:
    """The adjustment of a problem that starts from its fit without shifts.

    `root` `(views, pieces, r)` and `phi` `(tracks, views, r)` are B and phi of :mod:`tiltflow.align.bundle.piece_equations`.  `movable`
    and `sd_px`, `(views, pieces)`, are the pieces that can lie off in the used views, and the standard errors of the stitching.
    """

    def __init__(
        self, problem: BundleProblem, pieces: StitchedPieces, weights: Floats, fit: BundleFit, params: SolveParams
    ) -> None:
        self._problem, self._params = problem, params
        self._weights = np.where(problem.observations.seen[..., None], weights, 0.0)
        self.movable = pieces.movable[problem.view]
        self.sd_px = np.where(self.movable, np.nan_to_num(pieces.sd_px[problem.view]), 0.0)
        self._widest = choose_variables(params, problem.used_tilt_deg)
        self._fit = fit
        self._set_prior(self.sd_px)

    def _set_prior(self, sd: Floats) -> None:
        self.root = prior_roots(sd, self.movable)
        self.phi = np.einsum("jvk,vkr->jvr", self._weights, self.root)

    def fit(self) -> PieceFit:
        """Return the fit with shifts, in which pieces that jumped have a prior as wide as their jump."""
        fit = self._fit
        loose = self._loose(fit)
        if not loose.any():
            return self._iterate(self._still(fit))
        # Robust weights have rejected what lies on a piece that jumped, and the view may have followed it: all start anew.
        fit = replace(fit, weights=np.where((loose > 0) & self._problem.observations.seen, 1.0, fit.weights))
        self._set_prior(np.where(loose[:, None] > 0, loose[:, None], self.sd_px))
        tried = self._iterate(self._still(fit), estimate=False)
        found = self.shifts(tried.t)
        jumped = self.doubted(found) & (loose[:, None] > 0)
        self._set_prior(np.where(jumped, from_others(found, self.movable), self.sd_px))
        return self._iterate(self._still(tried.fit))

    def _still(self, fit: BundleFit) -> PieceFit:
        return PieceFit(fit, np.zeros(self.phi.shape[1] * self.phi.shape[2] * 2))

    def _iterate(self, state: PieceFit, *, estimate: bool = True) -> PieceFit:
        for number in range(_ROUNDS):
            moved = self.corrected(state.t)
            equations = self.equations(moved, state.fit)
            if estimate and number in _PRIOR_ROUNDS:
                state = self._with_estimated_priors(equations, moved, state)
            after = self._step(equations, state)
            moved = self.corrected(after.t)
            geometry, weights = after.fit.geometry, after.fit.weights
            if self._params.robust:
                weights = robust_weights(moved, geometry.residual(moved.observations), self._params)
            sigma = self._noise(moved, replace(after, fit=replace(after.fit, weights=weights)))
            change = float(np.abs(self.shifts(after.t) - self.shifts(state.t)).max())
            settled = float(np.abs(weights - after.fit.weights).max()) < _SETTLED_WEIGHT and change < _SETTLED_PX
            state = replace(after, fit=replace(after.fit, weights=weights, sigma=sigma))
            if settled and number > max(_PRIOR_ROUNDS):
                break
        return self._step(self.equations(self.corrected(state.t), state.fit), state)

    def _noise(self, moved: BundleProblem, state: PieceFit) -> float:
        """Return the noise; what it was where shifts can follow nearly all measurements, whose residuals then say nothing."""
        fit = state.fit
        measured, used = moved.observations.measured(fit.weights), int((fit.weights.sum(axis=1) > 0).sum())
        free = measured - state.determined - 2 * len(self.movable) - 3 * used
        if free < _LEAST_FREEDOM * measured:
            return fit.sigma
        return residual_noise(moved, fit.geometry, fit.weights, round(state.determined))

    def _with_estimated_priors(self, equations: PieceEquations, moved: BundleProblem, state: PieceFit) -> PieceFit:
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

    def _step(self, equations: PieceEquations, state: PieceFit) -> PieceFit:
        fit, views = state.fit, len(equations.views)
        prior = scipy.linalg.block_diag(
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
        return PieceFit(replace(fit, geometry=geometry, values=values[:views]), values[views:], state.scale, determined)

    def equations(self, moved: BundleProblem, fit: BundleFit) -> PieceEquations:
        """Return the equations of positions that are moved back, at a fit."""
        return PieceEquations.at(fit.geometry, moved.observations.weighted(fit.weights), fit.variables, self.phi)

    def shifts(self, t: Floats) -> Floats:
        """Return the shifts of the pieces in the used views, `(views, pieces, 2)`."""
        return np.asarray(np.einsum("vkr,vra->vka", self.root, t.reshape(*self.root.shape[::2], 2)))

    def corrected(self, t: Floats) -> BundleProblem:
        """Return the problem with positions as they are once the pieces are moved back."""
        observations = self._problem.observations
        displaced = np.einsum("jvr,vra->jva", self.phi, t.reshape(*self.phi.shape[1:], 2))
        return replace(self._problem, observations=replace(observations, xy=observations.xy - displaced))

    def _loose(self, fit: BundleFit) -> Floats:
        """Return how far pieces seem to have jumped in a view, `(views,)`; 0 where all lie where the stitching put them."""
        observations = self._problem.observations
        residual, seen = fit.geometry.residual(observations), observations.seen
        information = observations.information[..., 0] + observations.information[..., 2]
        noise = fit.sigma / np.sqrt(0.5 * float(np.median(information[seen])))
        out, inside = np.zeros(len(self.movable)), self._inside()
        for view, piece in np.argwhere(self.movable & self._judged()):
            jump = np.hypot(*np.median(residual[inside[:, view, piece], view], axis=0))
            if jump > _DOUBT * np.hypot(self.sd_px[view, piece], noise):
                out[view] = max(out[view], jump)
        return out

    def _inside(self) -> Bools:
        """Return the positions that belong to one piece alone, `(tracks, views, pieces)`."""
        return np.asarray(self._weights > INSIDE)

    def _judged(self) -> Bools:
        """Return the pieces on which so many positions lie that a jump can be told, `(views, pieces)`."""
        return np.asarray(self._inside().sum(axis=0) >= _FEWEST_JUMPED)

    def doubted(self, found: Floats) -> Bools:
        """Return the pieces that lie off the others of their view by more than their overlaps allow, `(views, pieces)`."""
        off = from_others(found, self.movable)
        # Of n independent errors less their mean, each is off the mean of the others by n / (n - 1) as much.
        count = self.movable.sum(axis=1, keepdims=True)
        limit = np.maximum(_DOUBT * self.sd_px * count / np.maximum(count - 1, 1), _LEAST_JUMP_PX)
        return np.asarray(self.movable & self._judged() & (off > limit))


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


def from_others(found: Floats, movable: Bools) -> Floats:
    """Return how far each piece lies from the median of the others of its view, `(views, pieces)`; 0 for those that cannot move."""
    out = np.zeros(movable.shape)
    for view, piece in np.argwhere(movable):
        others = movable[view].copy()
        others[piece] = False
        out[view, piece] = np.hypot(*(found[view, piece] - np.median(found[view, others], axis=0)))
    return out
