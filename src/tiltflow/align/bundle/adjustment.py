"""The adjustment: initial geometry, fit, robust weights, priors by empirical Bayes, and fit again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.bundle.empirical_bayes import estimate_spreads
from tiltflow.align.bundle.expected_error import expected_error, specimen_motion, view_misfit
from tiltflow.align.bundle.leave_out import LeaveOut, leave_out, leave_tracks_out, view_covariance
from tiltflow.align.bundle.normal_equations import Geometry, adjust, hold_translations, normal_equations
from tiltflow.align.bundle.params import SolveParams
from tiltflow.align.bundle.problem import BundleProblem
from tiltflow.align.bundle.robust_weights import track_weights
from tiltflow.align.bundle.variables import PER_VIEW, ROTATION, SHIFT_X, SHIFT_Y, TILT, Spread, Variables, choose_variables

Floats = NDArray[np.float64]

_WEIGHT_CYCLES = 12
"""Most iterations of robust weights; half as many or twice as many change the error by less than 5 % (benchmarks/sensitivity.py)."""
_NOISE_CYCLES = 2
"""Iterations without robust weights: the fit depends on the noise only through the priors."""
_SETTLED_WEIGHT = 0.01
"""The iterations end when no weight changes by more."""
_LEAST_FREEDOM = 0.2
"""Least degrees of freedom, as a fraction of the measurements: with few tracks the nominal count may be negative."""
_LEAST_NOISE_PX = 1e-4
"""Lower bound of the noise: exact tracks leave none, and the priors are weighted by it."""
_MOST_CORRELATED = 0.95
"""Upper bound of the residuals' autocorrelation: above, the variance would grow without limit (40-fold here)."""


@dataclass(frozen=True, slots=True, eq=False)
class BundleFit:
    """A finished adjustment of the used tracks and views.

    Attributes
    ----------
    geometry
        Parameters of views and points.
    values
        Of the variables.
    variables
        The free variables, with the priors as estimated.
    weights
        Robust weights, `(tracks, views)`.
    sigma
        Standard deviation of a coordinate of unit weight, pixels.
    autocorrelation
        Factor on the variance of the result, as errors of a track are correlated from view to view.
    left_out
        Leave-out residuals, where asked for.
    error_px
        The estimated error of the alignment of a rigid specimen.
    motion_px
        By how much a specimen that deforms moves against it; what local areas follow.
    axis_error
        Standard error of the mean angle of the tilt axis, radians.
    notes
        The priors as estimated.
    """

    geometry: Geometry
    values: Floats
    variables: Variables
    weights: Floats
    sigma: float
    autocorrelation: float = 1.0
    left_out: LeaveOut | None = None
    error_px: float | None = None
    motion_px: float = 0.0
    axis_error: float | None = None
    notes: tuple[str, ...] = ()


def fit_bundle(problem: BundleProblem, params: SolveParams, start: Geometry | None = None) -> BundleFit:
    """Return the adjustment of a problem, from `start` if one is known.

    Without one, shifts come first (a linear problem at given angles), then a common tilt axis angle, then all variables; robust
    weights and priors last, as they need converged residuals.
    """
    geometry = _begin(problem, params) if start is None else start
    observations = problem.observations
    variables = choose_variables(params, problem.used_tilt_deg)
    weights = np.where(observations.seen, 1.0, 0.0)
    sigma = residual_noise(problem, geometry, weights, 0)
    values = _values(problem, geometry, variables)
    geometry, values = adjust(geometry, observations, variables, sigma, values=values)
    fit = _weigh(problem, BundleFit(geometry, values, variables, weights, sigma), params)
    if params.adapt and variables.kinds:
        fit = _weigh(problem, _with_estimated_priors(problem, fit), params)
    return _with_errors(problem, fit) if params.leave_out else fit


def _begin(problem: BundleProblem, params: SolveParams) -> Geometry:
    observations = problem.observations
    views = _nominal(problem)
    geometry = Geometry(views, np.zeros((len(observations.xy), 3)))
    geometry, _ = adjust(geometry, observations, Variables(len(views), ()), 1.0)
    if params.rotation != "fixed":
        stiff = replace(params, rotation="one", tilt="fixed", magnification="fixed", stretch=False, skew=False)
        geometry, _ = adjust(geometry, observations, choose_variables(stiff, problem.used_tilt_deg), 1.0)
    return geometry


def _nominal(problem: BundleProblem) -> Floats:
    views = np.zeros((len(problem.view), PER_VIEW))
    views[:, ROTATION], views[:, TILT] = np.deg2rad(problem.axis_angle_deg), np.deg2rad(problem.used_tilt_deg)
    return views


def _values(problem: BundleProblem, geometry: Geometry, variables: Variables) -> Floats:
    """Return the values of the variables that `geometry` holds, counted from the nominal."""
    change = geometry.views - _nominal(problem)
    shifts = change[:, [SHIFT_X, SHIFT_Y]].ravel()
    return np.concatenate([shifts, *(np.linalg.lstsq(kind.map, change[:, kind.parameter])[0] for kind in variables.kinds)])


def _with_errors(problem: BundleProblem, fit: BundleFit) -> BundleFit:
    """Return the fit with its leave-out residuals and its estimated error."""
    weighted = problem.observations.weighted(fit.weights)
    normal = normal_equations(fit.geometry, weighted)
    covariance = view_covariance(fit.geometry, normal, fit.variables, fit.sigma)
    ny, nx = problem.image_shape
    autocorrelation = residual_autocorrelation(problem, fit)
    # Correlated errors increase the variance of the views; the priors are as strong as before.
    noise = fit.sigma * np.sqrt(autocorrelation)
    covariance_px = view_covariance(fit.geometry, normal, fit.variables, noise) * noise**2
    if weighted.joint is None:
        left_out = leave_out(fit.geometry, weighted, normal, covariance)
    else:
        left_out = leave_tracks_out(fit.geometry, weighted, normal, fit.variables, fit.sigma)
    misfit, motion = misfit_and_motion(problem, fit)
    return replace(
        fit,
        autocorrelation=autocorrelation,
        left_out=left_out,
        error_px=float(np.hypot(expected_error(fit.geometry, covariance_px, (nx / 2, ny / 2)), misfit)),
        motion_px=motion,
        axis_error=float(np.sqrt(max(np.mean(covariance_px[ROTATION::PER_VIEW, ROTATION::PER_VIEW]), 0.0))),
    )


def misfit_and_motion(problem: BundleProblem, fit: BundleFit) -> tuple[float, float]:
    """Return what held variables leave wrong, and how a specimen that deforms moves against the fit, px; 0 where errors are joint."""
    if problem.observations.joint is not None:
        return 0.0, 0.0
    residual = fit.geometry.residual(problem.observations)
    misfit = view_misfit(fit.geometry, residual, np.where(fit.weights > 0, 1.0, 0.0))
    order = np.argsort(problem.rank)
    seen = problem.observations.seen[:, order]
    return misfit, 0.0 if problem.drifting else specimen_motion(residual[:, order], seen, fit.sigma)


def _weigh(problem: BundleProblem, fit: BundleFit, params: SolveParams) -> BundleFit:
    """Return the fit with robust weights: fitting and weighting alternate until the weights stay."""
    observations = problem.observations
    cycles = _WEIGHT_CYCLES if params.robust else _NOISE_CYCLES
    for cycle in range(cycles):
        residual = fit.geometry.residual(observations)
        weights = robust_weights(problem, residual, params) if params.robust else fit.weights
        settled = float(np.abs(weights - fit.weights).max()) < _SETTLED_WEIGHT
        # While weights still change one step serves as well as the least squares of these weights.
        steps = 1 if params.robust and not settled and cycle < cycles - 1 else None
        weighted = observations.weighted(weights)
        geometry, values = adjust(fit.geometry, weighted, fit.variables, fit.sigma, values=fit.values, cycles=steps)
        sigma = residual_noise(problem, geometry, weights, fit.variables.count)
        fit = replace(fit, geometry=geometry, values=values, weights=weights, sigma=sigma)
        if params.robust and settled:
            break
    return fit


def robust_weights(problem: BundleProblem, residual: Floats, params: SolveParams) -> Floats:
    """Return the robust weights `(tracks, views)` for residuals `(tracks, views, 2)`."""
    observations = problem.observations
    seen = observations.seen
    squared = observations.squared(residual)
    if observations.joint is not None:
        typical = np.sqrt(np.maximum(squared.sum(axis=1), 0.0) / np.maximum(seen.sum(axis=1), 1))
        whole = track_weights(np.where(seen, typical[:, None], np.nan), params.k_factor)
        return np.where(seen, whole[:, None], 0.0)
    length = np.where(seen, np.sqrt(squared), np.nan)
    weights = problem.point_groups.weights(length, params.k_factor)
    if params.weight_whole_tracks:
        weights = weights * track_weights(length, params.k_factor)[:, None]
    return weights


def residual_noise(problem: BundleProblem, geometry: Geometry, weights: Floats, view_variables: int) -> float:
    """Return the standard deviation of a coordinate of unit weight, pixels."""
    observations = problem.observations
    squared = observations.squared(geometry.residual(observations))
    measured = observations.measured(weights)
    used = int((weights.sum(axis=1) > 0).sum())
    unknowns = view_variables + 3 * used + 2 * observations.xy.shape[1]
    freedom = max(measured - unknowns, _LEAST_FREEDOM * measured, 1.0)
    return max(float(np.sqrt(problem.crowding * (weights * squared).sum() / freedom)), _LEAST_NOISE_PX)


def _with_estimated_priors(problem: BundleProblem, fit: BundleFit) -> BundleFit:
    """Return the fit with the priors' standard deviations estimated from its tracks."""
    normal = normal_equations(fit.geometry, problem.observations.weighted(fit.weights), fit.variables.rows)
    matrix, right = normal.matrix, normal.right
    hold_translations(matrix, fit.geometry)
    noise = fit.sigma**2 * residual_autocorrelation(problem, fit)
    spreads = estimate_spreads(matrix / noise, (matrix @ fit.values + right) / noise, fit.variables)
    return replace(fit, variables=fit.variables.with_spreads(spreads), notes=spread_notes(spreads))


def spread_notes(spreads: Mapping[str, Spread]) -> tuple[str, ...]:
    """Return estimated standard deviations in words."""
    notes = []
    for name, spread in spreads.items():
        scale, unit = (1.0, "") if name in {"magnification", "stretch"} else (180 / np.pi, " degrees")
        notes.append(
            f"{name}: standard deviation {spread.independent_sd * scale:.2g}{unit} from view to view and "
            f"{spread.drift_sd * scale:.2g}{unit} drift per view, estimated from the tracks"
        )
    return tuple(notes)


def residual_autocorrelation(problem: BundleProblem, fit: BundleFit) -> float:
    """Return (1 + r) / (1 - r), with r the correlation of the residuals of neighbouring views: the variance ratio of an AR(1) process."""
    if problem.observations.joint is not None:
        return 1.0
    order = np.argsort(problem.rank)
    weights = fit.weights[:, order]
    residual = fit.geometry.residual(problem.observations)[:, order] * np.sqrt(weights[..., None])
    pairs = (weights[:, 1:] > 0) & (weights[:, :-1] > 0)
    together = float((residual[:, 1:] * residual[:, :-1])[pairs].sum())
    alone = float(0.5 * (residual[:, 1:] ** 2 + residual[:, :-1] ** 2)[pairs].sum())
    r = min(max(together / max(alone, 1e-12), 0.0), _MOST_CORRELATED)
    return (1 + r) / (1 - r)
