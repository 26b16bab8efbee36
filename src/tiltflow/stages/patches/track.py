"""The passes: cut out, compare, solve, until the views stay where they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.errors import StageError
from tiltflow.model import Progress, Stack, Tracks
from tiltflow.stages.patches.coherence import Coherence, covariance, cross_spectra, fit_coherence, rate_views
from tiltflow.stages.patches.layout import Layout, lay_out
from tiltflow.stages.patches.likelihood import compare, drift_shapes, measure_drift, settle
from tiltflow.stages.patches.params import PatchParams, PatchResult
from tiltflow.stages.patches.spectra import choose_cells, independent_fraction, patch_spectra, window_shape
from tiltflow.stages.patches.views import Level, read_views
from tiltflow.stages.solve.bundle import Fit, fit_bundle
from tiltflow.stages.solve.normal import Geometry
from tiltflow.stages.solve.observations import Observations
from tiltflow.stages.solve.params import SolveParams
from tiltflow.stages.solve.problem import Problem
from tiltflow.stages.solve.report import assemble
from tiltflow.stages.solve.variables import MAGNIFICATION, PER_VIEW, ROTATION, SHIFT_X, SHIFT_Y, TILT

Floats = NDArray[np.float64]

_FEWEST_VIEWS = 3
_COARSE_PASSES = ((0.2, 2), (0.45, 2))
"""Fraction of the highest frequency, and how many passes there."""
_COARSE_ERROR_PX = 2.5
"""Standard deviation of a coordinate by which a coarse alignment may be off."""
_STEP_PX = 1.0
"""How far a view may go in one pass on no evidence."""
_DRIFT_PX = 1.0
"""How far patches are expected to drift before that is known."""


def track_patches(
    stack: Stack,
    transforms: ArrayLike,
    tilt_deg: ArrayLike,
    params: PatchParams,
    *,
    included: ArrayLike | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> PatchResult:
    """Follow patches through the views; `transforms` `(views, 2, 3)` is the coarse alignment, raw to aligned."""
    start, tilt = np.asarray(transforms, float), np.asarray(tilt_deg, float)
    use = np.ones(len(tilt), bool) if included is None else np.asarray(included, bool)
    view = np.nonzero(use)[0]
    if len(view) < _FEWEST_VIEWS:
        raise StageError(f"{len(view)} views are left to follow patches through; at least {_FEWEST_VIEWS} are needed")
    shape = (int(stack.shape[1]), int(stack.shape[2]))
    layout = lay_out(params, shape)
    levels = [
        replace(level, images=level.images[view], power=level.power[view])
        for level in read_views(stack, use, params, min(layout.size_px), threads)
    ]
    if progress:
        progress(0.2)
    tracker = _Tracker(levels, layout, params, tilt, view, start, shape, threads)
    state = tracker.begin()
    highest = min(params.low_pass + params.low_pass_sigma, 0.4 / levels[0].bin)
    for fraction, passes in _COARSE_PASSES:
        for _ in range(passes):
            state = tracker.advance(state, fraction * highest, 1.0)
    for number in range(params.passes):
        state = tracker.advance(state, highest, 0.1)
        if progress:
            progress(0.4 + 0.6 * (number + 1) / params.passes)
        if state.moved_px < params.settled_px:
            break
    return tracker.result(state)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Where the views and patches are believed to be, and what the last pass saw."""

    geometry: Geometry
    problem: Problem | None = None
    fit: Fit | None = None
    agreement: Floats | None = None
    coherence: Coherence | None = None
    moved_px: float = np.inf
    unsettled_px: float = _COARSE_ERROR_PX
    drift: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Tracker:
    levels: list[Level]
    layout: Layout
    params: PatchParams
    tilt_deg: Floats
    view: NDArray[np.int64]
    start: Floats
    shape: tuple[int, int]
    threads: int

    def begin(self) -> _State:
        """Return the geometry that the coarse alignment stands for."""
        transforms = self.start[self.view]
        views = np.zeros((len(self.view), PER_VIEW))
        views[:, [SHIFT_X, SHIFT_Y]] = geometry.invert(transforms)[..., 2]
        views[:, ROTATION] = np.deg2rad(geometry.axis_angles(transforms))
        views[:, TILT] = np.deg2rad(self.tilt_deg[self.view])
        views[:, MAGNIFICATION] = -0.5 * np.log(np.abs(np.linalg.det(transforms[..., :2])))
        return _State(Geometry(views, np.column_stack([self.layout.centres, np.zeros(len(self.layout.centres))])))

    def advance(self, state: _State, highest: float, caution: float) -> _State:
        """Return the state after one pass with frequencies up to `highest`, cycles per raw pixel."""
        level = self._level(highest)
        window = window_shape(self.layout.size_px, level.bin)
        lowest = max(self.params.high_pass_sigma / 4, 1.5 / (max(window) * level.bin))
        cells = choose_cells(window, level.bin, lowest, highest)
        tilt = state.geometry.views[:, TILT]
        spectra = patch_spectra(level, state.geometry, cells, window, self.threads)
        cross = cross_spectra(spectra, cells)
        model = fit_coherence(cross, cells, tilt, highest, 0.35 * max(self.shape))
        model = rate_views(model, covariance(model, cells, tilt, 0.0), cross, cells)
        now, believed = (covariance(model, cells, tilt, px) for px in (0.0, state.unsettled_px))
        displacements = compare(spectra, cross, believed, now, cells, independent_fraction(window))
        settled = settle(displacements, caution, max(state.unsettled_px, _STEP_PX))
        params = SolveParams(leave_out=False, weight_whole_tracks=True)
        shapes = drift_shapes(tilt)
        drift = np.full(shapes.shape[1], _DRIFT_PX) if state.drift is None else state.drift
        problem = self._problem(state.geometry, settled.moved, settled.information(drift, shapes))
        fit = fit_bundle(problem, params, state.geometry)
        plane = np.linalg.inv(state.geometry.point_jacobians()[..., :2])
        drift = measure_drift(np.einsum("vpa,jva->jvp", plane, fit.geometry.residual(problem.observations)), shapes)
        problem = self._problem(state.geometry, settled.moved, settled.information(drift, shapes))
        fit = fit_bundle(problem, params, fit.geometry)
        moved = _distance(state.geometry, fit.geometry)
        unsettled = min(max(0.5 * moved, 0.1), state.unsettled_px)
        return _State(fit.geometry, problem, fit, displacements.agreement, model, moved, unsettled, drift)

    def _level(self, highest: float) -> Level:
        """Return the lowest resolution that holds the frequencies."""
        return [level for level in self.levels if level is self.levels[0] or highest * level.bin <= 0.3][-1]

    def _problem(self, believed: Geometry, moved: Floats, information: Floats) -> Problem:
        """Return the positions that the displacements mean, with their weights, as a problem to solve."""
        jacobians = believed.point_jacobians()
        plane = jacobians[..., :2]
        predicted = np.einsum("vap,jp->jva", jacobians, believed.points) + believed.views[:, [SHIFT_X, SHIFT_Y]]
        xy = predicted + np.einsum("vap,jvp->jva", plane, moved)
        back = np.linalg.inv(plane)
        joint = np.einsum("vpa,vpwq,wqb->vawb", back, information, back)
        own = np.einsum("vavb->vab", joint)
        weights = np.stack([own[:, 0, 0], own[:, 0, 1], own[:, 1, 1]], axis=-1)
        tracks = len(xy)
        return Problem(
            observations=Observations(
                xy, np.broadcast_to(weights, (tracks, *weights.shape)).copy(), np.broadcast_to(joint, (tracks, *joint.shape))
            ),
            tilt_deg=self.tilt_deg,
            axis_angle_deg=float(np.mean(geometry.axis_angles(self.start[self.view]))),
            image_shape=self.shape,
            start=self.start,
            tracks=tracks,
            track=np.arange(tracks),
            view=self.view,
            notes=(),
        )

    def result(self, state: _State) -> PatchResult:
        """Return what was followed over all views."""
        if state.problem is None or state.fit is None or state.agreement is None or state.coherence is None:
            raise StageError("no pass over the patches was made")
        solution = assemble(state.problem, state.fit, SolveParams(), ())
        observations, views = state.problem.observations, len(self.tilt_deg)
        tracks = len(observations.xy)
        xy = np.full((tracks, views, 2), np.nan)
        xy[:, self.view] = observations.xy + np.array(self.shape[::-1]) / 2
        correlation = np.full((tracks, views), np.nan)
        correlation[:, self.view] = state.agreement
        weight = np.zeros((tracks, views, 2, views, 2))
        if observations.joint is not None:
            index = np.ix_(np.arange(tracks), self.view, np.arange(2), self.view, np.arange(2))
            weight[index] = observations.joint
        return PatchResult(
            tracks=Tracks(xy=xy, kind="patch", weight=weight),
            correlation=correlation,
            transforms=solution.transforms,
            tilt_deg=solution.aligned_tilt_deg,
            depth_px=state.coherence.depth_px,
            evidence=solution.evidence,
            notes=self.layout.notes,
        )


def _distance(before: Geometry, after: Geometry) -> float:
    """Return by how much the patches' positions moved, root mean square over views and patches."""
    moves = [
        np.einsum("vap,jp->jva", each.point_jacobians(), each.points) + each.views[:, [SHIFT_X, SHIFT_Y]]
        for each in (before, after)
    ]
    return float(np.sqrt(((moves[1] - moves[0]) ** 2).sum(axis=-1).mean()))
