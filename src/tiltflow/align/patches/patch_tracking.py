"""Passes over the patches: cut out, compare, solve, until the views stay in place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.align.bundle.adjustment import BundleFit, fit_bundle
from tiltflow.align.bundle.assembly import assemble_solution
from tiltflow.align.bundle.joint_weights import JointWeights
from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.observations import Observations
from tiltflow.align.bundle.params import SolveParams
from tiltflow.align.bundle.problem import BundleProblem
from tiltflow.align.bundle.variables import MAGNIFICATION, PER_VIEW, ROTATION, SHIFT_X, SHIFT_Y, TILT
from tiltflow.align.patches.coherence import (
    Coherence,
    collect_pairs,
    cross_spectra,
    fit_coherence,
    pair_views,
    summed_cross_spectra,
)
from tiltflow.align.patches.common_motion import CommonDisplacement, common_displacement
from tiltflow.align.patches.jackknife import LeftOutFits, jackknife_error
from tiltflow.align.patches.likelihood import (
    Comparison,
    compare,
    drift_shapes,
    expected_curvature,
    measure_drift,
    own_place,
    settle,
)
from tiltflow.align.patches.params import HIGH_PASS_SIGMAS, PatchParams, PatchResult
from tiltflow.align.patches.patch_layout import PatchLayout, lay_out_patches
from tiltflow.align.patches.patch_spectra import (
    FrequencyCells,
    PatchSpectra,
    Spectra,
    choose_cells,
    independent_fraction,
    patch_spectra,
    window_shape,
)
from tiltflow.align.patches.patch_views import Level
from tiltflow.align.patches.view_covariances import Covariance, ViewCovariances, rate_views
from tiltflow.align.patches.views_ahead import PatchViews, read_patch_views
from tiltflow.errors import StageError
from tiltflow.model import Progress, Stack, Tracks
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

_FEWEST_VIEWS = 3
"""With two views depth and displacement along x cannot be separated."""
_COARSE_PASSES = (0.2, 0.2, 0.45, 0.45)
"""Fractions of the highest frequency that the first passes go up to: a displacement must stay below half of the shortest period."""
_FIRST_OWN_PASS = 0.5
"""And the first pass that gives each patch a model of its own."""
_COARSE_ERROR_PX = 2.5
"""Standard deviation of a coordinate of the coarse alignment, raw pixels."""
_STEP_PX = 1.0
"""Least prior standard deviation of a view's displacement in one pass, raw pixels."""
_CAUTION = 0.1
"""Weight of the expected curvature once views are nearly aligned, before which it counts alone; see
:func:`tiltflow.align.patches.likelihood.settle`."""
_DRIFT_PX = 1.0
"""Standard deviation of the patches' drifts before it is estimated, raw pixels."""
_DEEPEST = 0.35
"""Range of heights to either side, as a fraction of the image's larger side: thicker sections let no electrons through."""
_SHARED = 0.01
"""Weight of the pairs of views of all patches in the profile of one patch."""
_MOST_PER_PIXEL, _MOST_PER_PIXEL_LOWER = 0.4, 0.3
"""Highest frequency compared, cycles per pixel of the images at full and at lower resolution: what cubic convolution
(:mod:`tiltflow.kernels.patches`) does not blur."""
_LOWEST_PERIODS = 1.5
"""Periods of the lowest frequency in a window."""
_MOVES_LEFT = 0.5
_LEAST_DISPLACEMENT_PX = 0.1
"""Standard deviation of the displacements left after a pass: this part of the pass's own, and at least, raw pixels."""
_READ, _PLACED = 0.2, 0.4
"""Progress after reading and after the passes at low resolution: about their shares of the time."""


def track_patches(
    stack: Stack,
    transforms: ArrayLike,
    tilt_deg: ArrayLike,
    params: PatchParams,
    *,
    included: ArrayLike | None = None,
    in_place: bool = False,
    views: PatchViews | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> PatchResult:
    """Track patches through the views.

    Parameters
    ----------
    stack
        Raw views with x-rays removed, `(views, ny, nx)`.
    transforms
        The coarse alignment, `(views, 2, 3)`, raw to aligned, raw pixels.
    tilt_deg
        Nominal tilts, `(views,)`.
    params
        Layout of the patches, and range of frequencies.
    included
        Views that take part, `(views,)`; None for all.
    in_place
        Whether the views lie in place to a fraction of the shortest period already.  There are no passes at lower frequencies, which undo
        greater errors, then: on a specimen that repeats itself they can lead to another of its lattice points.
    views
        What :func:`~tiltflow.align.patches.views_ahead.read_patch_views` has read already; not used unless the same views take part.
    threads
        Views and patches worked on at the same time.
    progress
        Called with the fraction done.

    Returns
    -------
    PatchResult
        Tracks with joint weights, the alignment they give, and its estimated error in raw pixels.

    Raises
    ------
    StageError
        If fewer than three views are included.
    LinAlgError
        If the covariance of the views is singular, as that of identical views is.
    """
    start, tilt = np.asarray(transforms, float), np.asarray(tilt_deg, float)
    use = np.ones(len(tilt), bool) if included is None else np.asarray(included, bool)
    view = np.nonzero(use)[0]
    if len(view) < _FEWEST_VIEWS:
        raise StageError(f"{len(view)} views are left to follow patches through; at least {_FEWEST_VIEWS} are needed")
    shape = (int(stack.shape[1]), int(stack.shape[2]))
    layout = lay_out_patches(params, shape)
    if views is None or not np.array_equal(views.included, use):
        views = read_patch_views(stack, use, params, threads)
    levels = views.levels
    if progress:
        progress(_READ)
    tracker = _Tracker(levels, layout, params, tilt, view, start, shape, threads)
    state = tracker.begin()
    highest = min(params.low_pass + params.low_pass_sigma, _MOST_PER_PIXEL / levels[0].bin)
    for fraction in () if in_place else _COARSE_PASSES:
        state = tracker.advance(state, fraction * highest)
    state = tracker.advance(state, highest if in_place else _FIRST_OWN_PASS * highest, own=True)
    for number in range(params.passes):
        state = tracker.advance(state, highest, own=True)
        if progress:
            progress(_PLACED + (1 - _PLACED) * (number + 1) / params.passes)
        if state.moved_px < params.settled_px:
            break
    return tracker.result(state)


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """A pass: the problem of the patches and, last, the field, and its solution."""

    problem: BundleProblem
    fit: BundleFit
    agreement: Floats
    coherence: Coherence
    left_out: LeftOutFits


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """The present geometry of views and patches, and its uncertainty.

    `moved_px` is by how much the last pass moved the views; `unsettled_px` the standard deviation of the displacements left; `drift`
    that of each slow drift of a patch; `noise` the variance of the residuals over that expected from the weights.
    """

    geometry: Geometry
    moved_px: float = np.inf
    unsettled_px: float = _COARSE_ERROR_PX
    drift: Floats | None = None
    noise: float = 1.0
    weights: Floats | None = None
    last: _Pass | None = None
    spectra: PatchSpectra | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Tracker:
    levels: list[Level]
    layout: PatchLayout
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

    def advance(self, state: _State, highest: float, *, own: bool = False) -> _State:
        """Return the state after one pass with frequencies up to `highest`, cycles per raw pixel.

        `own` gives each patch a model of coherence of its own, and counts its observed curvature, for when the views are nearly in place.
        """
        level = self._level(highest)
        window = window_shape(self.layout.size_px, level.bin)
        lowest = max(self.params.high_pass_sigma / HIGH_PASS_SIGMAS, _LOWEST_PERIODS / (max(window) * level.bin))
        cells = choose_cells(window, level.bin, lowest, highest)
        tilt = state.geometry.views[:, TILT]
        spectra = patch_spectra(level, state.geometry, cells, window, self.threads, state.spectra)
        comparisons, model = self._compare(spectra.each, cells, tilt, window, state.unsettled_px, own=own)
        settled = settle(comparisons, _CAUTION if own else 1.0, max(state.unsettled_px, _STEP_PX))
        shapes = drift_shapes(tilt)
        drift = np.full(shapes.shape[1], _DRIFT_PX) if state.drift is None else state.drift
        information, gradients = settled.tempered(drift, shapes)
        coarse_error = self._coarse_error(state, information, gradients)
        field = coarse_error.information(tilt) * state.noise
        problem = self._problem(state.geometry, settled.moved, information, field)
        start = Geometry(state.geometry.views, np.vstack([state.geometry.points, np.zeros(3)]))
        fit = fit_bundle(problem, SolveParams(leave_out=False, tilt_drift=False, weight_whole_tracks=True), start)
        after = Geometry(fit.geometry.views, fit.geometry.points[:-1])
        residual = fit.geometry.residual(problem.observations)[:-1]
        moved = _displaced(state.geometry, after)
        rms_px = float(np.sqrt(2 * (moved**2).mean()))
        place = np.linalg.qr(own_place(tilt))[0]
        # What makes a patch drift makes the field drift, in proportion to their areas.
        share = float(np.prod(self.layout.size_px)) / float(np.prod(self.shape))
        field_error = coarse_error.covariance(tilt) + share * (shapes * drift**2) @ shapes.T
        left_out = LeftOutFits(gradients - moved @ information, information, field, field_error, self.layout.crowding)
        agreement = np.stack([each.agreement for each in comparisons])
        return _State(
            geometry=after,
            moved_px=float(np.sqrt(2 * ((moved - moved @ place @ place.T) ** 2).mean())),
            unsettled_px=min(max(_MOVES_LEFT * rms_px, _LEAST_DISPLACEMENT_PX), state.unsettled_px),
            drift=measure_drift(self._in_plane(state.geometry, residual), shapes),
            noise=fit.sigma**2,
            weights=fit.weights[:-1].mean(axis=1),
            last=_Pass(problem, fit, agreement, model, left_out),
            spectra=spectra,
        )

    def _coarse_error(self, state: _State, information: Floats, gradients: Floats) -> CommonDisplacement:
        """Return the standard deviations of the coarse alignment's error, from the patches' common displacement from it."""
        views = state.geometry.views
        weights = np.ones(len(gradients)) if state.weights is None else state.weights
        joint, gradient = common_displacement(information, gradients, weights, views[:, TILT])
        away = self._in_plane(state.geometry, views[None, :, [SHIFT_X, SHIFT_Y]] - self._coarse_shifts())[0].ravel()
        return CommonDisplacement().estimated(joint / state.noise, (gradient + joint @ away) / state.noise, views[:, TILT])

    def _in_plane(self, current: Geometry, raw: Floats) -> Floats:
        """Return displacements `(n, views, 2)` in the images as displacements in the plane of the specimen."""
        return np.asarray(np.einsum("vpa,jva->jvp", np.linalg.inv(current.point_jacobians()[..., :2]), raw))

    def _coarse_shifts(self) -> Floats:
        return np.asarray(geometry.invert(self.start[self.view])[..., 2])

    def _compare(
        self,
        spectra: list[Spectra],
        cells: FrequencyCells,
        tilt: Floats,
        window: tuple[int, int],
        unsettled_px: float,
        *,
        own: bool,
    ) -> tuple[list[Comparison], Coherence]:
        """Return the likelihood of each patch, and the model of coherence of all patches together."""
        together = summed_cross_spectra(spectra, self.threads)
        pairing = pair_views(cells, tilt, float(np.hypot(cells.x, cells.y).max()), _DEEPEST * max(self.shape))
        pairs = collect_pairs(together, pairing)
        model = fit_coherence(pairs)
        shared = ViewCovariances.of(cells, tilt, pairing.heights, model.depth_px)
        model = rate_views(model, shared, together)
        fraction = independent_fraction(window)

        def expectation(model: Coherence) -> tuple[Covariance, Floats]:
            settled = shared.settled(model)
            precision = shared.precision(settled, unsettled_px)
            return precision, expected_curvature(precision, settled, cells, fraction)

        of_all = None if own else expectation(model)

        def work(patch: int) -> Comparison:
            cross = cross_spectra(spectra[patch])
            expected = of_all
            if expected is None:
                own_model = fit_coherence(collect_pairs(cross, pairing).joined(pairs, _SHARED))
                expected = expectation(replace(own_model, quality=model.quality))
            return compare(spectra[patch], cross, *expected, cells, fraction, observed=own)

        return list(map_threads(work, range(len(spectra)), self.threads)), model

    def _level(self, highest: float) -> Level:
        """Return the lowest resolution that holds the frequencies."""
        return [level for level in self.levels if level is self.levels[0] or highest * level.bin <= _MOST_PER_PIXEL_LOWER][-1]

    def _problem(self, current: Geometry, moved: Floats, information: Floats, field_information: Floats) -> BundleProblem:
        """Return the displaced positions and their weights as a problem to solve; the field comes last."""
        jacobians = current.point_jacobians()
        plane = jacobians[..., :2]
        predicted = np.einsum("vap,jp->jva", jacobians, current.points) + current.views[:, [SHIFT_X, SHIFT_Y]]
        xy = np.concatenate([predicted + np.einsum("vap,jvp->jva", plane, moved), self._coarse_shifts()[None]])
        back, views, tracks = np.linalg.inv(plane), len(plane), len(xy)
        whole, field = (
            np.einsum("vpa,vpwq,wqb->vawb", back, each.reshape(views, 2, views, 2), back)
            for each in (information, field_information)
        )
        kind = np.where(np.arange(tracks) < tracks - 1, 0, 1)
        joint = JointWeights(np.stack([each.reshape(2 * views, -1) for each in (whole, field)]), kind, np.ones(tracks))
        own = np.stack([np.einsum("vavb->vab", each) for each in (whole, field)])[kind]
        weights = np.stack([own[..., 0, 0], own[..., 0, 1], own[..., 1, 1]], axis=-1)
        return BundleProblem(
            observations=Observations(xy, weights, joint),
            tilt_deg=self.tilt_deg,
            axis_angle_deg=float(np.mean(geometry.axis_angles(self.start[self.view]))),
            image_shape=self.shape,
            start=self.start,
            tracks=tracks,
            track=np.arange(tracks),
            view=self.view,
            notes=(),
            crowding=self.layout.crowding,
        )

    def _sizes(self, tracks: int) -> Floats:
        """Return width and height of all patches, and last of the field, `(tracks, 2)`."""
        sizes = np.tile(np.array(self.layout.size_px, float), (tracks, 1))
        sizes[-1] = self.shape[::-1]
        return sizes

    def result(self, state: _State) -> PatchResult:
        """Return the tracks over all views and the alignment they give."""
        last = state.last
        if last is None:
            raise StageError("no pass over the patches was made")
        solution = assemble_solution(last.problem, last.fit, SolveParams(), ())
        observations, views = last.problem.observations, len(self.tilt_deg)
        tracks = len(observations.xy)
        xy = np.full((tracks, views, 2), np.nan)
        xy[:, self.view] = observations.xy + np.array(self.shape[::-1]) / 2
        correlation = np.full((tracks, views), np.nan)
        correlation[:-1, self.view] = last.agreement
        weight = np.zeros((tracks, views, 2, views, 2))
        if observations.joint is not None:
            index, used = np.ix_(self.view, np.arange(2), self.view, np.arange(2)), len(self.view)
            for track in range(tracks):
                weight[track][index] = observations.joint.of_track(track).reshape(used, 2, used, 2)
        error = jackknife_error(last.fit, last.left_out, (self.shape[1] / 2, self.shape[0] / 2))
        return PatchResult(
            tracks=Tracks(xy=xy, kind="patch", weight=weight, crowding=self.layout.crowding, size_px=self._sizes(tracks)),
            correlation=correlation,
            transforms=solution.transforms,
            tilt_deg=solution.aligned_tilt_deg,
            depth_px=last.coherence.depth_px,
            error_px=error.error_px,
            error_limit_px=error.limit_px,
            notes=self.layout.notes,
        )


def _displaced(before: Geometry, after: Geometry) -> Floats:
    """Return how patches move from one geometry to another in the plane of the specimen, `(patches, 2 views)`."""
    first, last = (
        np.einsum("vap,jp->jva", each.point_jacobians(), each.points) + each.views[:, [SHIFT_X, SHIFT_Y]]
        for each in (before, after)
    )
    plane = np.linalg.inv(before.point_jacobians()[..., :2])
    return np.asarray(np.einsum("vpa,jva->jvp", plane, last - first).reshape(len(first), -1))
