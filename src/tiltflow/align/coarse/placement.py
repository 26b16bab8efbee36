"""Coarse alignment: each view is aligned with its prediction from its neighbours in tilt, from the zero-tilt view outward.

All views are stretched to zero tilt with the tilt axis along y (:mod:`tiltflow.align.projection.stretched_views`).  The view
nearest to zero tilt stays; each next one outward is cross-correlated with its prediction from the five nearest views placed so far
(:mod:`tiltflow.align.projection.covariance_model`).  The prediction weights each frequency by how well the neighbours determine it
for a specimen of that thickness, so that parallax between the surfaces does no harm, and each neighbour by the height of its own
correlation peak, so that a misplaced neighbour has little influence.  All views are then refined together, those that correlate
poorly are searched for again over the whole field, and the tilt axis angle is estimated
(:mod:`tiltflow.align.coarse.axis_search`).  Views that are recognised nowhere are named (:mod:`tiltflow.align.coarse.lost_views`); those
of a specimen that repeats itself are placed all at once (:mod:`tiltflow.align.coarse.lattice`).

IMOD's counterparts are tiltxcorr and xftoxg.

Halved or doubled, the constants here change the error on simulated series by less than 8 % (benchmarks/sensitivity.py), with three
exceptions that are stated beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.align.coarse.axis_search import Axis, find_axis
from tiltflow.align.coarse.lattice import Lattice, LatticePlacement, place_on_lattice
from tiltflow.align.coarse.outward import GROUPS, OutwardPlacement
from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.coarse.starts import STEP_DEG, checked_by_starts, from_starts, refuted_by_starts
from tiltflow.align.projection.included_views import included_views, spread_over_tilt
from tiltflow.align.projection.lost_views import poor_views, reasons_to_leave_out
from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import INITIAL_THICKNESS, ProjectionFit
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.model import Progress, Stack
from tiltflow.observer import part_of, tell
from tiltflow.preprocess.binned_views import BinnedViews, read_binned

Floats = NDArray[np.float64]

_SIZE_PX, _SMALL_SIZE_PX = 128, 64
"""Sizes of the images that views are placed on, and of those that all views are first refined together on: with 32 pixels for the
latter the error is four times as large, with 128 it is 1.4 times."""
_EM_ITERATIONS = 3
"""EM iterations of the model before each joint step."""
_STEPS = 2
"""Joint steps at each resolution: one gives 28 % more error, four 6 % less."""
_ROOM = 1.3
"""Factor from the thickness found on the small images to the one the next resolution starts from."""
_FEWEST_FOR_AXIS = 5
"""Views needed to estimate the tilt axis angle: with fewer the profile over depth can explain any."""
_LARGE_DIFFERENCE_DEG = 6.0
"""Difference of the axis angle from which on it is estimated again after the views were placed with the new one."""
_MISFIT = 0.6
"""A view is searched for again when its correlation is below this fraction of the median of the views around it."""
_AROUND = 4
"""Views to either side over which that median is taken."""
_PLAIN, _HARDLY = 15.0, 10.0
"""Median height of the peaks, standard deviations, below which several hypotheses are followed, and below which it is doubted
that all views are in place.  At doses with medians of 16 and more, the highest peaks place simulated series to 1 or 2 pixels; with
6 to 13 they lose most by 17 to 65.  Hypotheses then find most series, but of ten with medians of 8 two were broken, and another had
a single view elsewhere."""
_READ, _PLACED = 0.4, 0.7
"""Progress after reading and after placement: about their shares of the time."""


@dataclass(frozen=True, slots=True, eq=False)
class CoarseResult:
    """The coarse alignment, good to about a pixel, and the evidence for it.

    Attributes
    ----------
    transforms
        `(views, 2, 3)`, global: raw to aligned coordinates, unbinned pixels.
    shifts_px
        Shift of each raw view that the transforms undo, `(views, 2)`.
    axis_angle_deg
        The tilt axis angle used.
    axis_angle_nominal_deg
        The nominal one.
    axis_angle_from_data_deg, axis_angle_error_deg
        The one estimated from the images and its standard deviation; NaN where there is no estimate.
    correlation
        Of each view with its prediction from the others, `(views,)`; NaN for excluded views.
    axis_doubt
        Why the angle used may be another one; empty where it is known.
    place_doubt
        Why views may be elsewhere, so that no error of a method that begins here is known; empty where they stand out.
    notes
        Remarks for the user.
    lost
        Views that are recognised nowhere, counted from 0, with the reason to leave them out.
    lattice
        How the views lie by their correlation, where the specimen repeats itself.
    """

    transforms: NDArray[np.float64]
    shifts_px: NDArray[np.float64]
    axis_angle_deg: float
    axis_angle_nominal_deg: float
    axis_angle_from_data_deg: float
    axis_angle_error_deg: float
    correlation: NDArray[np.float64]
    axis_doubt: str = ""
    place_doubt: str = ""
    notes: tuple[str, ...] = ()
    lost: Mapping[int, str] = field(default_factory=dict)
    lattice: Lattice | None = None


def align_coarse(
    stack: Stack,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    included: ArrayLike | None = None,
    params: CoarseParams | None = None,
    *,
    axis_told: bool = True,
    threads: int = 1,
    progress: Progress | None = None,
) -> CoarseResult:
    """Align every view with its prediction from its neighbours in tilt, after cosine stretching to zero tilt.

    Parameters
    ----------
    stack
        Raw views, `(views, ny, nx)`.
    tilt_deg
        Nominal tilts, `(views,)`.
    axis_angle_deg
        Nominal angle of the tilt axis from y, counter-clockwise: the header's.
    included
        Views that take part, `(views,)`; None for all.  The shifts of the others are interpolated over tilt.
    params
        Filters and options; None for the defaults.
    axis_told
        Whether a source gives the angle of the axis; where none does it is looked for all over half a turn, and where one does only
        if the images clearly disagree.
    threads
        Views worked on at the same time.
    progress
        Called with the fraction done.

    Returns
    -------
    CoarseResult
        Transforms in unbinned pixels, x before y, and the axis angle in degrees.

    Raises
    ------
    ParameterError
        If angles or inclusions do not match the stack, no view is included, or an included view is within 5 degrees of 90.
    """
    params = params or CoarseParams()
    tilts = np.asarray(tilt_deg, float)
    chosen = included_views(stack, tilts, included)
    views = read_binned(
        stack,
        chosen,
        params.max_size_px,
        take_out_pattern=params.exclude_central_peak,
        threads=threads,
        progress=part_of(progress, 0.0, _READ),
    )
    least, axis = views.binned(_factor(views, _SMALL_SIZE_PX)), Axis.unknown(axis_angle_deg)

    def under(part: BinnedViews, some: NDArray[np.intp], angle_deg: float) -> ViewGeometry:
        return _place(part, tilts[chosen][some], angle_deg, params, 1, thoroughly=False).where

    searched = params.find_axis and len(chosen) >= _FEWEST_FOR_AXIS
    if searched and not axis_told:
        axis = from_starts(least, under, axis_angle_deg)
    elif searched and (refuted := refuted_by_starts(least, under, axis_angle_deg)):
        axis, searched = refuted, False
    placed = _place(views, tilts[chosen], axis.used_deg, params, threads)
    tell(progress, _PLACED)
    if searched and axis_told:
        for _ in range(2):  # the views were placed with the nominal angle: if that is far off, so are they
            used_before = axis.used_deg
            axis = find_axis(least, placed.where, axis_angle_deg, threads=threads)
            far = abs(axis.used_deg - axis_angle_deg) > STEP_DEG
            if far:
                axis = checked_by_starts(least, under, axis)
            if axis.used_deg == used_before:
                break
            placed = _place(views, tilts[chosen], axis.used_deg, params, threads)
            if far or abs(axis.used_deg - used_before) < _LARGE_DIFFERENCE_DEG:
                break
    tell(progress, 1.0)
    lost = reasons_to_leave_out(placed.lost, placed.correlation)
    kept = np.setdiff1d(np.arange(len(chosen)), list(lost))
    shifts = np.stack([spread_over_tilt(tilts, chosen[kept], placed.where.shifts[kept, k]) for k in (0, 1)], axis=1)
    correlations = np.full(len(tilts), np.nan)
    correlations[chosen] = placed.correlation
    reasons = {int(chosen[view]): reason for view, reason in lost.items()}
    return CoarseResult(
        transforms=geometry.from_axis_and_shifts(axis.used_deg, shifts),
        shifts_px=shifts,
        axis_angle_deg=axis.used_deg,
        axis_angle_nominal_deg=axis_angle_deg,
        axis_angle_from_data_deg=axis.found_deg,
        axis_angle_error_deg=axis.error_deg,
        correlation=correlations,
        notes=(*_pattern(views), *axis.notes, *_misfits(correlations, reasons)),
        lost=reasons,
        lattice=None if placed.lattice is None else Lattice.of(placed.lattice, chosen),
        axis_doubt=axis.doubt,
        place_doubt=placed.doubt,
    )


def _pattern(views: BinnedViews) -> tuple[str, ...]:
    if not views.pattern:
        return ()
    return (f"a pattern fixed to the camera, {views.pattern:.0%} of the contrast, was subtracted before views were compared",)


def _factor(views: BinnedViews, size: int) -> int:
    """Return the factor to bin by for images of about `size` pixels."""
    return max(int(max(views.images.shape[1:])) // size, 1)


def _misfits(correlation: Floats, lost: Mapping[int, str]) -> tuple[str, ...]:
    if np.isnan(correlation).all():
        return ()
    median = float(np.nanmedian(correlation))
    return tuple(
        f"view {view + 1} {lost[view]}; it is left out, unless gold places it"
        if view in lost
        else f"view {view + 1} correlates poorly with the others: {correlation[view]:.2f}, where the median of all views is {median:.2f}"
        for view in map(int, poor_views(correlation))
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Where the views lie under one angle of the tilt axis.

    `correlation` `(views,)` is that of each view with its prediction; `lost` are those that may be anywhere; `height` is the median
    height of the peaks that views were first placed by, standard deviations; `suspicion` is why they may be a lattice spacing away.
    """

    where: ViewGeometry
    correlation: Floats
    lost: NDArray[np.intp]
    lattice: LatticePlacement | None = None
    height: float = np.inf
    suspicion: str = ""

    @property
    def doubt(self) -> str:
        """Why some views may be elsewhere; empty where that is not likely."""
        if self.height >= _HARDLY:
            return self.suspicion
        return (
            f"views hardly stand out of the noise: their peaks are {self.height:.1f} standard deviations high in the median, less than "
            f"{_HARDLY:g}, and some may be elsewhere"
        )


def _place(
    views: BinnedViews, tilts: Floats, axis_angle_deg: float, params: CoarseParams, threads: int, *, thoroughly: bool = True
) -> _Placed:
    """Return the geometry that aligns the views under one angle of the tilt axis.

    `thoroughly` says whether the points of a lattice are looked for, several hypotheses followed where peaks are weak, and views refined
    on larger images than they were found on.
    """
    turn = np.broadcast_to(geometry.rotation(axis_angle_deg), (len(tilts), 2, 2))
    start = ViewGeometry(np.array(turn), np.zeros((len(tilts), 2)), np.deg2rad(tilts))
    if len(tilts) == 1:
        return _Placed(start, np.full(1, np.nan), np.zeros(0, np.intp))
    small, thickness_px = views.binned(_factor(views, _SIZE_PX)), INITIAL_THICKNESS * max(views.raw_shape)
    (lattice, suspicion), height = place_on_lattice(small, start) if thoroughly else (None, ""), np.inf
    if lattice is not None:
        # The smallest images may not resolve the lattice, and a search over the field would find another of its points.
        fit = ProjectionFit(small, lattice.where, thickness_px, threads=threads)
    else:
        where, thickness_px, height, correlation = _searched(views, small, start, params, threads, thoroughly=thoroughly)
        if not thoroughly:
            return _Placed(where, correlation, np.zeros(0, np.intp), height=height)
        fit = ProjectionFit(small, where, _ROOM * thickness_px, threads=threads)
    for _ in range(_STEPS):
        correlation = fit.step(FreeParameters(), em_iterations=_EM_ITERATIONS).correlation
    # On a lattice every peak is one of many, and its height over all of them tells nothing; there the chain doubts a view.
    lost = poor_views(correlation) if lattice is None else np.zeros(0, np.intp)
    if lost.size:
        lost = np.intersect1d(lost, fit.assess(fit.where).lost)
    return _Placed(fit.where, correlation, lost, lattice, height, suspicion)


def _searched(
    views: BinnedViews, small: BinnedViews, start: ViewGeometry, params: CoarseParams, threads: int, *, thoroughly: bool
) -> tuple[ViewGeometry, float, float, Floats]:
    """Return where views are found by searching the whole field, the thickness, raw pixels, the height of peaks, and correlations."""
    placement, thickness_px = OutwardPlacement(small, start.axis_deg, start.tilts, params), INITIAL_THICKNESS * max(views.raw_shape)
    where, heights = placement.outward(start)
    height = float(np.median(heights))
    if height < _PLAIN and thoroughly:
        # What tells weak views apart is fine detail, which the smallest images do not hold.
        where, least = placement.by_hypotheses(start), small
    else:
        least = views.binned(_factor(views, _SMALL_SIZE_PX))
    fit = ProjectionFit(least, where, thickness_px, groups=GROUPS, threads=threads)
    for _ in range(_STEPS):
        correlation = fit.step(FreeParameters(), em_iterations=_EM_ITERATIONS).correlation
    lost = np.flatnonzero(correlation < _MISFIT * _median_around(correlation, start.tilts))
    if lost.size:
        fit.where = placement.search_again(fit.where, lost)
        correlation = fit.step(FreeParameters(), em_iterations=_EM_ITERATIONS).correlation
    return fit.where, fit.thickness_px, height, correlation


def _median_around(correlation: Floats, tilts: Floats) -> Floats:
    """Return the median correlation of each view and its neighbours in tilt, `(views,)`."""
    order = np.argsort(geometry.folded_tilts(np.rad2deg(tilts)), kind="stable")
    median = np.empty_like(correlation)
    for place, view in enumerate(order):
        median[view] = np.median(correlation[order[max(place - _AROUND, 0) : place + _AROUND + 1]])
    return median
