"""A shift for every piece of a montage, where tracks decide better than overlaps.

A stitched view is made of pieces whose places are known to the standard error of the stitching.  A position is seen at

    projection + sum over pieces of (its weight there) (shift of the piece)

and the shifts are solved together with views and points (:mod:`tiltflow.align.bundle.piece_adjustment`); over the pieces of a view they
have the sum 0, as their mean is the view's own shift.  They are used if they reduce the leave-out error.  A piece that lies further off
than its overlaps allow is named: an edge of it was matched wrongly.  So is one on which no track is seen that belongs there: beads are
lost where a piece lies further off than they are looked for.

What remains uncertain of the pieces' places is part of the estimated error.  Without the shifts that is the error of the stitching, less
what the views take up of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.bundle.adjustment import BundleFit, misfit_and_motion, residual_autocorrelation
from tiltflow.align.bundle.expected_error import expected_error_of_pieces
from tiltflow.align.bundle.leave_out import LeaveOut, leave_out, leave_tracks_out, view_covariance
from tiltflow.align.bundle.normal_equations import adjust, normal_equations
from tiltflow.align.bundle.params import SolveParams
from tiltflow.align.bundle.piece_adjustment import INSIDE, PieceAdjustment, PieceFit, from_others
from tiltflow.align.bundle.piece_equations import PieceEquations, root_of_inverse
from tiltflow.align.bundle.problem import BundleProblem
from tiltflow.align.bundle.variables import PER_VIEW, ROTATION
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.model import PieceShifts

Floats = NDArray[np.float64]

_WORTH = 0.99
"""Largest leave-out error with the shifts, relative to the one without, for the shifts to be used: shifts of pieces that lie right change
it by less than half of that (simulated tracks)."""
_PLACES_PER_PIECE = 3
"""Places on a piece, along each side, at which the error is evaluated: a field that grows evenly has 97 % of its mean square there."""
_FEWEST_LOST = 3
"""Tracks that belong on a piece and are not seen there, for the piece to be doubted."""
_BY_CHANCE = 0.05
"""Most pieces of a series on which no track is seen by chance, as tracks are lost here and there: these are not doubted."""
_MOST_NAMED = 5
"""Pieces that are named one by one."""


def fit_pieces(problem: BundleProblem, fit: BundleFit, params: SolveParams) -> tuple[BundleProblem, BundleFit, PieceShifts | None]:
    """Return the problem and its fit with the shifts of the pieces worked in, if these reduce the leave-out error, and the shifts.

    The positions of the problem returned are those of views stitched by the corrected offsets.  An adjustment whose views were taken
    in one piece is returned as it is, with None.
    """
    pieces, weights = problem.pieces, problem.piece_weights
    if pieces is None or weights is None or not pieces.movable[problem.view].any():
        return problem, fit, None
    adjustment = PieceAdjustment(problem, pieces, weights, fit, params)
    found = adjustment.fit()
    moved = adjustment.corrected(found.t)
    equations = adjustment.equations(moved, found.fit)
    with_them = _left_out(moved, found, equations)
    leave_out_px = _compared(_left_out_without(problem, fit, found.fit.weights), with_them, found.fit.weights)
    used = leave_out_px[1] < _WORTH * leave_out_px[0]
    errors = _Errors(problem, pieces, adjustment, equations, found.scale)
    result = errors.with_shifts(moved, found.fit, with_them) if used else errors.without(fit)
    shifts = _over_all_views(problem, pieces, adjustment, found, result, leave_out_px, used=used)
    shifts = _with_lost(shifts, moved if used else problem, result.fit, pieces)
    return moved if used else problem, result.fit, shifts


def _left_out(moved: BundleProblem, found: PieceFit, equations: PieceEquations) -> LeaveOut:
    fit = found.fit
    covariance = equations.covariance(fit.variables.precision(), found.scale, fit.sigma)
    return equations.leave_out(fit.geometry, moved.observations.weighted(fit.weights), covariance)


def _left_out_without(problem: BundleProblem, fit: BundleFit, weights: Floats) -> LeaveOut:
    """Return the leave-out residuals of a fit without shifts, by the weights of that with them."""
    observations = problem.observations.weighted(weights)
    geometry, _ = adjust(fit.geometry, observations, fit.variables, fit.sigma, values=fit.values)
    normal = normal_equations(geometry, observations)
    if observations.joint is not None:
        return leave_tracks_out(geometry, observations, normal, fit.variables, fit.sigma)
    return leave_out(geometry, observations, normal, view_covariance(geometry, normal, fit.variables, fit.sigma))


def _compared(without: LeaveOut, with_them: LeaveOut, weights: Floats) -> tuple[float, float]:
    """Return the mean distances without and with the shifts, over positions that have both; NaN where none has."""
    distances = [np.hypot(each.residual[..., 0], each.residual[..., 1]) for each in (without, with_them)]
    known = ~np.isnan(distances[0]) & ~np.isnan(distances[1]) & (weights > 0)
    if not known.any():
        return np.nan, np.nan
    before, after = (float(np.average(each[known], weights=weights[known])) for each in distances)
    return before, after


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """A fit, the error by the placement of pieces, and the standard errors of their places `(used views, pieces)`."""

    fit: BundleFit
    placement_px: float
    sd_px: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Errors:
    """The estimated errors of views and pieces; `equations` and the factor `scale` of the prior are those of the fit with shifts."""

    problem: BundleProblem
    pieces: StitchedPieces
    adjustment: PieceAdjustment
    equations: PieceEquations
    scale: float

    def with_shifts(self, moved: BundleProblem, fit: BundleFit, left_out: LeaveOut) -> _Result:
        """Return the fit with shifts, its error and that of the shifts, by their joint covariance."""
        autocorrelation = residual_autocorrelation(moved, fit)
        noise = fit.sigma * np.sqrt(autocorrelation)
        root = noise * root_of_inverse(self.equations.system(fit.variables.precision(), self.scale, noise))
        views = len(self.equations.views)
        modes, shift_modes = self.equations.map_ @ root[:views], self._of_shifts(root[views:])
        misfit, motion = misfit_and_motion(moved, fit)
        fit = replace(
            fit,
            autocorrelation=autocorrelation,
            left_out=left_out,
            error_px=float(np.hypot(self._error(fit, modes, shift_modes), misfit)),
            motion_px=motion,
            axis_error=float(np.sqrt(np.mean((modes[ROTATION::PER_VIEW] ** 2).sum(axis=1)))),
        )
        return self._result(fit, shift_modes)

    def without(self, fit: BundleFit) -> _Result:
        """Return the fit without shifts, its error with that of the stitching, and that of the stitching."""
        noise = fit.sigma * np.sqrt(fit.autocorrelation)
        views, count = self.equations.between.shape
        # The prior of the pieces has no part in the block of the views.
        root = root_of_inverse(self.equations.system(fit.variables.precision(), self.scale, noise)[:views, :views])
        # Views follow pieces that lie off.
        by_pieces = -self.scale * root @ (root.T @ self.equations.between)
        modes = self.equations.map_ @ np.concatenate([noise * root, by_pieces], axis=1)
        shift_modes = self._of_shifts(np.concatenate([np.zeros((count, views)), self.scale * np.eye(count)], axis=1))
        misfit, _ = misfit_and_motion(self.problem, fit)
        error = float(np.hypot(self._error(fit, modes, shift_modes), misfit))
        return self._result(replace(fit, error_px=error), shift_modes)

    def _result(self, fit: BundleFit, shift_modes: Floats) -> _Result:
        still = np.zeros((PER_VIEW * len(shift_modes), shift_modes.shape[-1]))
        sd = np.sqrt((shift_modes**2).sum(axis=-1).mean(axis=-1))
        return _Result(fit, self._error(fit, still, shift_modes), sd)

    def _of_shifts(self, t_modes: Floats) -> Floats:
        """Return modes of t `(views r 2, n)` as modes of the shifts, `(views, pieces, 2, n)`."""
        root = self.adjustment.root
        views, _, shapes = root.shape
        return np.asarray(np.einsum("vkr,vran->vkan", root, t_modes.reshape(views, shapes, 2, -1), optimize=True))

    def _error(self, fit: BundleFit, modes: Floats, shift_modes: Floats) -> float:
        ny, nx = self.problem.image_shape
        grid, centre = self.pieces.grid, np.array([nx / 2, ny / 2])

        def weights(places: Floats) -> Floats:
            return self.pieces.weights(places + centre, view=self.problem.view)

        along = (_PLACES_PER_PIECE * grid.columns, _PLACES_PER_PIECE * grid.rows)
        return expected_error_of_pieces(fit.geometry, modes, shift_modes, weights, (nx / 2, ny / 2), along)


def _over_all_views(
    problem: BundleProblem,
    pieces: StitchedPieces,
    adjustment: PieceAdjustment,
    found: PieceFit,
    result: _Result,
    leave_out_px: tuple[float, float],
    *,
    used: bool,
) -> PieceShifts:
    """Return the shifts over all views, with words; a view without tracks keeps what the stitching says."""
    shifts, view = adjustment.shifts(found.t), problem.view
    every = np.zeros((*pieces.grid.section.shape, 2))
    every_doubt = np.zeros(pieces.grid.section.shape, bool)
    sd = np.where(pieces.movable, found.scale * np.nan_to_num(pieces.sd_px), 0.0)
    every[view], every_doubt[view] = shifts, adjustment.doubted(shifts)
    sd[view] = np.where(adjustment.movable, result.sd_px, 0.0)
    return PieceShifts(
        found_px=every,
        sd_px=sd,
        used=used,
        doubted=every_doubt,
        leave_out_px=leave_out_px,
        error_px=result.placement_px,
        notes=(
            _sentence(shifts[adjustment.movable], leave_out_px, used=used),
            f"the pieces scatter by {found.scale:.2g} times the standard errors of the stitching, estimated from the tracks",
        ),
        warnings=_named(every_doubt, from_others(every, pieces.movable), pieces.sd_px),
    )


def _with_lost(shifts: PieceShifts, problem: BundleProblem, fit: BundleFit, pieces: StitchedPieces) -> PieceShifts:
    """Return the shifts with a doubt about pieces on which the tracks that belong there are not seen."""
    ny, nx = problem.image_shape
    places = np.stack([fit.geometry.positions(point) for point in fit.geometry.points]) + np.array([nx / 2, ny / 2])
    field = ((places > 0) & (places < [nx, ny])).all(axis=-1)
    inside = field[..., None] & (pieces.weights(places, view=problem.view) > INSIDE) & (fit.weights.max(axis=1) > 0)[:, None, None]
    expected, seen = inside.sum(axis=0), (inside & problem.observations.seen[..., None]).sum(axis=0)
    loss = (expected.sum() - seen.sum() + 1) / (expected.sum() + 2)
    lost = pieces.movable[problem.view] & (seen == 0) & (expected >= _FEWEST_LOST)
    lost &= inside.shape[1] * inside.shape[2] * loss**expected < _BY_CHANCE
    places_lost = np.argwhere(lost)
    named = tuple(
        f"none of the {expected[view, piece]} tracks that belong there is seen on piece {piece + 1} of view {problem.view[view] + 1}: "
        "it may lie far from where it was stitched"
        for view, piece in places_lost[:_MOST_NAMED]
    )
    if (more := len(places_lost) - len(named)) > 0:
        named = (*named, f"nor is any on {more} more pieces")
    doubted = shifts.doubted.copy()
    doubted[problem.view] |= lost
    return replace(shifts, doubted=doubted, warnings=(*shifts.warnings, *named))


def _sentence(shifts: Floats, leave_out_px: tuple[float, float], *, used: bool) -> str:
    before, after = leave_out_px
    if np.isnan(before):
        return "the pieces of the montage stay where they were stitched: the tracks are too few to tell whether shifts are right"
    if not used:
        return (
            "the pieces of the montage stay where they were stitched: with a shift for each the leave-out error is "
            f"{after:.3g} px, without {before:.3g} px"
        )
    rms = float(np.sqrt(np.mean((shifts**2).sum(axis=-1))))
    return (
        f"the pieces of the montage are shifted by {rms:.2g} px rms: leave-out error {after:.3g} px, without shifts {before:.3g} px"
    )


def _named(doubted: NDArray[np.bool_], off_px: Floats, sd_px: Floats) -> tuple[str, ...]:
    """Return a sentence on each doubted piece, and one on those beyond the number that are named."""
    found = np.argwhere(doubted)
    named = [
        f"the tracks put piece {piece + 1} of view {view + 1} {off_px[view, piece]:.3g} px from where its overlaps do, whose standard "
        f"error is {sd_px[view, piece]:.2g} px: an edge of it was matched wrongly"
        for view, piece in found[:_MOST_NAMED]
    ]
    more = len(found) - len(named)
    return (*named, f"so they do {more} more pieces, in {len(np.unique(found[_MOST_NAMED:, 0]))} views") if more else tuple(named)
