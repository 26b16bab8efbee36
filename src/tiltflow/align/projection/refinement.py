"""Alignment without tracks: each view is matched with its prediction from all others.

The model of :mod:`tiltflow.align.projection.covariance_model` predicts each view from all others, as a projection of the best
reconstruction without it would, but without a volume.  From coarse to fine, the axis angle and the slope of the specimen are
found by the likelihood; then shift, rotation, magnification and tilt of all views are refined together
(:mod:`tiltflow.align.projection.matching`).  The result is kept only when it is more likely than the start.

IMOD has no counterpart: with `fiducialless 1` it keeps the coarse alignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.align.projection.included_views import included_views, spread_over_tilt
from tiltflow.align.projection.lost_views import reasons_to_leave_out
from tiltflow.align.projection.matching import MatchStep
from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import HIGHEST, INITIAL_THICKNESS, ProjectionFit
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.align.projection.uncertainty import expected_error_px
from tiltflow.errors import ParameterError, StageError
from tiltflow.model import Progress, Stack
from tiltflow.observer import part_of, tell
from tiltflow.preprocess.binned_views import BinnedViews, read_binned

Floats = NDArray[np.float64]

_FEWEST_VIEWS = 5
"""With fewer views a prediction rests on one or two others on either side."""
_LEVELS = (64, 128, 256)
"""Sizes of the images at the steps from coarse to fine."""
_HIGHEST_FINEST = 0.25
"""Highest frequency compared in the finest images, cycles per pixel: higher ones are mostly noise.  A compromise over doses: on five
simulated series half of it gives 7 to 55 % more error and, at the lowest dose, 33 % less; twice of it 23 to 100 % more on all."""
_ROOM = 1.3
"""Factor from the thickness found on coarser images to the initial one on finer images."""
_AXIS_WIDTH_DEG = 3.0
"""First half width of the search for the axis: the coarse alignment is good to about 1 degree."""
_AXIS_ROUNDS = 4
"""Most rounds of that search."""
_NARROWER, _SLOPE_NARROWER = 3.0, 2.0
"""Factors by which the half widths of axis and slope are narrowed after a round whose maximum lay inside."""
_CLOSE_DEG = 0.7
"""The search for the axis on the smallest images ends with smaller moves."""
_CLOSER = 4.0
"""By what the search on the next images is finer."""
_SLOPE_WIDTH_DEG = 2.0
"""First half width of the search for the slope of the specimen."""
_FIRST_STEPS = 2
"""Steps on the smallest images, shifts alone, before the axis is searched for."""
_FIRST_EM_ITERATIONS, _EM_ITERATIONS = 3, 2
"""EM iterations of the model before the first step at a resolution, and before later ones."""
_RENEWED = 2
"""Steps at a resolution that compute a matrix anew; later ones are so small that the last matrix serves."""
_SETTLED_PX = 0.02
"""Pixels of the frame; a level is done when the views move less."""
_READ, _REFINED = 0.2, 0.95
"""Progress after reading and after the refinement: about their shares of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineParams:
    """Extent of the refinement.

    Attributes
    ----------
    max_size_px
        Views are binned until their larger side is at most this: time and memory grow with its square.
    max_iterations
        Most steps at each resolution; fewer where the views stay in place.
    thickness_px
        Initial thickness of the specimen, raw pixels; None for 0.3 of the field.
    exclude_central_peak
        Whether to look for a pattern fixed to the camera, and to subtract it.
    refine_axis
        Whether the tilt axis angle is searched for.
    refine_rotation, refine_magnification, refine_tilt
        Which parameters of each view are refined beside its shift.
    """

    max_size_px: int = 256
    max_iterations: int = 4
    thickness_px: float | None = None
    exclude_central_peak: bool = True
    refine_axis: bool = True
    refine_rotation: bool = True
    refine_magnification: bool = True
    refine_tilt: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class RefineResult:
    """A refined alignment and the evidence for it.

    Attributes
    ----------
    transforms
        `(views, 2, 3)`: raw to aligned coordinates, unbinned pixels.
    tilt_deg
        Refined tilts, `(views,)`, with the common offset that levels the specimen.
    axis_angle_deg
        Mean angle of the tilt axis.
    correlation
        Of each view with its prediction from the others, `(views,)`; NaN for excluded views.
    correlation_start
        The same for the alignment that was given.
    recognised
        Height of the correlation peak of each view with its prediction, standard deviations, `(views,)`; NaN for excluded views.
    error_px
        Estimated root mean square error of the alignment, raw pixels, from the disagreement of independent parts of the field; NaN
        when the start is returned.
    thickness_px, x_axis_tilt_deg
        Most likely thickness and X-axis tilt of the specimen.
    iterations
        In all.
    improved
        Whether the result is more likely than the start; if not, the start is returned.
    notes
        Remarks for the user.
    lost
        Views that may be anywhere, counted from 0, with the reason to leave them out.
    """

    transforms: NDArray[np.float64]
    tilt_deg: NDArray[np.float64]
    axis_angle_deg: float
    correlation: NDArray[np.float64]
    correlation_start: NDArray[np.float64]
    recognised: NDArray[np.float64]
    error_px: float
    thickness_px: float
    x_axis_tilt_deg: float
    iterations: int
    improved: bool
    notes: tuple[str, ...] = ()
    lost: Mapping[int, str] = field(default_factory=dict)


def refine_by_projection(
    stack: Stack,
    start: ArrayLike,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    included: ArrayLike | None = None,
    params: RefineParams | None = None,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> RefineResult:
    """Refine an alignment by matching each view with its prediction from the others.

    Parameters
    ----------
    stack
        Raw views, `(views, ny, nx)`.
    start
        Transforms `(views, 2, 3)`, raw to aligned, unbinned pixels.
    tilt_deg
        Nominal tilts, `(views,)`.
    axis_angle_deg
        Tilt axis angle of the start.
    included
        Views that take part, `(views,)`; None for all.  The others are corrected as their neighbours in tilt.
    params
        Extent of the refinement; None for the defaults.
    threads
        Views worked on at the same time.
    progress
        Called with the fraction done.

    Returns
    -------
    RefineResult
        Transforms and tilts of all views, and the evidence.

    Raises
    ------
    ParameterError
        If `start`, angles or inclusions do not match the stack, or an included view is within 5 degrees of 90.
    StageError
        If there are fewer than five views.
    """
    params = params or RefineParams()
    tilts, given = np.asarray(tilt_deg, float), np.asarray(start, float)
    chosen = included_views(stack, tilts, included)
    if given.shape != (len(tilts), 2, 3):
        raise ParameterError(f"The start has the shape {given.shape}; give one transform (2, 3) for each of {len(tilts)} views")
    if len(chosen) < _FEWEST_VIEWS:
        raise StageError(
            f"Matching views with their predictions needs {_FEWEST_VIEWS} views: {len(chosen)} are too few; align by gold"
        )
    views = read_binned(
        stack,
        chosen,
        params.max_size_px,
        take_out_pattern=params.exclude_central_peak,
        threads=threads,
        progress=part_of(progress, 0.0, _READ),
    )
    begin = ViewGeometry.from_transforms(given[chosen], tilts[chosen])
    refinement = _Refinement(views, begin, params, threads, part_of(progress, _READ, _REFINED))
    fit, step = refinement.run()
    before = fit.assess(begin)
    after = fit.assess(fit.where)
    tell(progress, 1.0)
    improved = after.likelihood > before.likelihood
    where, best = (fit.where, after) if improved else (begin, before)
    error_px, _ = expected_error_px(fit, step, refinement.free)
    transforms, refined = _for_all_views(given, tilts, chosen, where)
    return RefineResult(
        transforms=transforms,
        tilt_deg=refined,
        axis_angle_deg=where.axis_deg,
        correlation=_scattered(len(tilts), chosen, best.correlation),
        correlation_start=_scattered(len(tilts), chosen, before.correlation),
        recognised=_scattered(len(tilts), chosen, best.heights),
        error_px=error_px if improved else np.nan,
        thickness_px=fit.thickness_px,
        x_axis_tilt_deg=float(np.rad2deg(np.arctan(fit.where.slope))),
        iterations=refinement.iterations,
        improved=improved,
        notes=_notes(improved, where.axis_deg, axis_angle_deg, chosen[best.lost]),
        lost=reasons_to_leave_out(chosen[best.lost], _scattered(len(tilts), chosen, best.correlation)),
    )


def _notes(improved: bool, axis_deg: float, start_deg: float, lost: NDArray[np.intp]) -> tuple[str, ...]:
    notes = [f"view {view + 1} does not correlate with its prediction from the others" for view in lost]
    if not improved:
        notes.append("no alignment more likely than the start was found: the start is kept")
    elif abs(axis_deg - start_deg) > _CLOSE_DEG:
        notes.append(f"the tilt axis angle was refined from {start_deg:.1f} to {axis_deg:.1f} degrees")
    return tuple(notes)


class _Refinement:
    """The refinement from coarse to fine images."""

    def __init__(
        self, views: BinnedViews, where: ViewGeometry, params: RefineParams, threads: int, progress: Progress | None
    ) -> None:
        self.free = FreeParameters(
            axis=params.refine_axis,
            slope=True,
            rotation=params.refine_rotation,
            magnification=params.refine_magnification,
            tilt=params.refine_tilt,
        )
        self.iterations = 0
        self._views = views
        self._where = where
        self._nominal = where.tilts
        self._params = params
        self._threads = threads
        self._progress = progress

    def run(self) -> tuple[ProjectionFit, MatchStep]:
        """Return the fit to the finest images and its last step."""
        size = int(max(self._views.images.shape[1:]))
        factors = sorted({max(size // level, 1) for level in _LEVELS} | {1}, reverse=True)
        fit = self._fit(factors[0], self._params.thickness_px or INITIAL_THICKNESS * max(self._views.raw_shape))
        self._begin(fit)
        for number, factor in enumerate(factors[1:] or factors):
            fit = self._fit(factor, _ROOM * fit.thickness_px)
            if number == 0:
                self._level(fit)
            step = self._settle(fit)
            tell(self._progress, (number + 1) / len(factors))
        return fit, step

    def _fit(self, factor: int, thickness_px: float) -> ProjectionFit:
        views = self._views.binned(factor)
        highest = _HIGHEST_FINEST if factor == 1 else HIGHEST
        return ProjectionFit(views, self._where, thickness_px, nominal=self._nominal, highest=highest, threads=self._threads)

    def _step(self, fit: ProjectionFit, free: FreeParameters, em_iterations: int, *, renew: bool = True) -> MatchStep:
        step = fit.step(free, em_iterations=em_iterations, renew=renew)
        self._where = fit.where
        self.iterations += 1
        return step

    def _begin(self, fit: ProjectionFit) -> None:
        """Settle the shifts, and find the axis, on the smallest images."""
        for _ in range(_FIRST_STEPS):
            self._step(fit, FreeParameters(), _FIRST_EM_ITERATIONS)
        if self._params.refine_axis:
            self._search(fit, np.deg2rad(_AXIS_WIDTH_DEG), np.deg2rad(_CLOSE_DEG))
        self._where = fit.centred()

    def _search(self, fit: ProjectionFit, width: float, close: float) -> None:
        """Find axis and slope together, the shifts following, until the axis stays."""
        slope_width = np.deg2rad(_SLOPE_WIDTH_DEG)
        for _ in range(_AXIS_ROUNDS):
            search = fit.search(width, slope_width)
            self._step(fit, FreeParameters(), _EM_ITERATIONS)
            if abs(search.turn) < width:
                width = max(width / _NARROWER, close)
            if search.settled:
                slope_width /= _SLOPE_NARROWER
            if abs(search.turn) < close and search.settled:
                break

    def _level(self, fit: ProjectionFit) -> None:
        """Find the inclination of the specimen along the axis, and the axis once more."""
        self._step(fit, FreeParameters(), _FIRST_EM_ITERATIONS)
        if self._params.refine_axis:
            self._search(fit, np.deg2rad(_CLOSE_DEG), np.deg2rad(_CLOSE_DEG) / _CLOSER)

    def _settle(self, fit: ProjectionFit) -> MatchStep:
        """Step all free parameters until the views stay in place."""
        for number in range(self._params.max_iterations):
            em_iterations = _EM_ITERATIONS if number else _FIRST_EM_ITERATIONS
            step = self._step(fit, self.free, em_iterations, renew=number < _RENEWED)
            if fit.last_move < _SETTLED_PX:
                break
        self._where = fit.centred()
        return step


def _for_all_views(start: Floats, tilts: Floats, chosen: NDArray[np.intp], where: ViewGeometry) -> tuple[Floats, Floats]:
    """Return transforms and tilts of all views; excluded ones are corrected as their neighbours in tilt are."""
    transforms, refined = start.copy(), tilts.copy()
    found = where.transforms
    correction = geometry.compose(geometry.invert(start[chosen]), found).reshape(len(chosen), 6)
    spread = np.stack([spread_over_tilt(tilts, chosen, correction[:, k]) for k in range(6)], axis=1)
    refined += spread_over_tilt(tilts, chosen, np.rad2deg(where.tilts) - tilts[chosen])
    transforms = geometry.compose(start, spread.reshape(len(tilts), 2, 3))
    transforms[chosen], refined[chosen] = found, np.rad2deg(where.tilts)
    return transforms, refined


def _scattered(views: int, chosen: NDArray[np.intp], values: Floats) -> Floats:
    """Return values for all views, NaN for excluded ones."""
    scattered = np.full(views, np.nan)
    scattered[chosen] = values
    return scattered
