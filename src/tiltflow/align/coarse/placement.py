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
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from tiltflow import geometry
from tiltflow.align.coarse.axis_search import Axis, find_axis
from tiltflow.align.coarse.correlation import band_pass, find_peak
from tiltflow.align.coarse.lattice import Lattice, LatticePlacement, place_on_lattice
from tiltflow.align.coarse.starts import STEP_DEG, checked_by_starts, from_starts, refuted_by_starts
from tiltflow.align.projection.covariance_model import CovarianceModel, Spectra, predict_unseen
from tiltflow.align.projection.frequency_band import FrequencyBand
from tiltflow.align.projection.included_views import included_views, spread_over_tilt
from tiltflow.align.projection.lost_views import poor_views, reasons_to_leave_out
from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import HIGHEST, INITIAL_THICKNESS, ProjectionFit
from tiltflow.align.projection.stretched_views import Frame, StretchedViews, ViewGeometry
from tiltflow.model import Progress, Stack
from tiltflow.observer import part_of, tell
from tiltflow.preprocess.binned_views import BinnedViews, read_binned

Floats = NDArray[np.float64]

_MARGIN = (1.5, 2.0)
"""Frame over field along y and x: room for shifts of half the field along y and, as views are stretched, of the field along x."""
_TAPER = 0.1
"""Width of the tapered edge of each view, as a fraction of its size."""
_NEIGHBOURS = 5
"""Views that predict the next one."""
_CLEAR_PEAK = 10.0
"""Peak height, standard deviations, from which on a view counts fully as a neighbour."""
_LEAST_RELIABILITY = 0.2
"""Lower bound of a peak height over `_CLEAR_PEAK`: a view without a peak still has a place in the order of tilt."""
_GROUPS = 6
"""Rings of frequencies that have a power of their own."""
_SIZE_PX, _SMALL_SIZE_PX = 128, 64
"""Sizes of the images that views are placed on, and of those that all views are first refined together on: with 32 pixels for the
latter the error is four times as large, with 128 it is 1.4 times."""
_TAIL = 2.0
"""Standard deviations of the fall of the low-pass filter after which frequencies are left out: the gain is 0.14 there."""
_SAMPLED = 4
"""Every fourth view is read for the first estimate of the power."""
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
_READ, _PLACED = 0.4, 0.7
"""Progress after reading and after placement: about their shares of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarseParams:
    """How views are correlated.  Defaults are those of IMOD's tiltxcorr command file where it has the parameter.

    Attributes
    ----------
    filter_sigma1
        High-pass filter: sigma of the Gaussian subtracted at low frequencies, cycles per pixel of the binned image (FilterSigma1).
    filter_radius2, filter_sigma2
        Low-pass filter: where it begins to fall, and the sigma of its fall, cycles per pixel of the binned image (FilterRadius2,
        FilterSigma2).
    max_size_px
        Views are binned until their larger side is at most this: a coarse alignment is to be good to about a raw pixel.  With half
        of it the axis angle of simulated series of 192 pixels was even 28 % better.
    exclude_central_peak
        Whether to look for a pattern fixed to the camera, and to subtract it (:mod:`tiltflow.preprocess.fixed_pattern`).
    find_axis
        Whether to estimate the tilt axis angle from the images and use it when it clearly disagrees with the header's.
    """

    filter_sigma1: float = 0.03
    filter_radius2: float = 0.25
    filter_sigma2: float = 0.05
    max_size_px: int = 256
    exclude_central_peak: bool = True
    find_axis: bool = True


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
        return _place(part, tilts[chosen][some], angle_deg, params, threads, on_lattices=False).where

    searched = params.find_axis and len(chosen) >= _FEWEST_FOR_AXIS
    if searched and not axis_told:
        axis = from_starts(least, under, axis_angle_deg, threads=threads)
    elif searched and (refuted := refuted_by_starts(least, under, axis_angle_deg, threads=threads)):
        axis, searched = refuted, False
    placed = _place(views, tilts[chosen], axis.used_deg, params, threads)
    tell(progress, _PLACED)
    if searched and axis_told:
        for _ in range(2):  # the views were placed with the nominal angle: if that is far off, so are they
            used_before = axis.used_deg
            axis = find_axis(least, placed.where, axis_angle_deg, threads=threads)
            far = abs(axis.used_deg - axis_angle_deg) > STEP_DEG
            if far:
                axis = checked_by_starts(least, under, axis, threads=threads)
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

    `correlation` `(views,)` is that of each view with its prediction; `lost` are those that may be anywhere.
    """

    where: ViewGeometry
    correlation: Floats
    lost: NDArray[np.intp]
    lattice: LatticePlacement | None = None


def _place(
    views: BinnedViews, tilts: Floats, axis_angle_deg: float, params: CoarseParams, threads: int, *, on_lattices: bool = True
) -> _Placed:
    """Return the geometry that aligns the views under one angle of the tilt axis, on the points of a lattice if they show one."""
    turn = np.broadcast_to(geometry.rotation(axis_angle_deg), (len(tilts), 2, 2))
    start = ViewGeometry(np.array(turn), np.zeros((len(tilts), 2)), np.deg2rad(tilts))
    if len(tilts) == 1:
        return _Placed(start, np.full(1, np.nan), np.zeros(0, np.intp))
    small, thickness_px = views.binned(_factor(views, _SIZE_PX)), INITIAL_THICKNESS * max(views.raw_shape)
    lattice = place_on_lattice(small, start) if on_lattices else None
    if lattice is not None:
        # The smallest images may not resolve the lattice, and a search over the field would find another of its points.
        fit = ProjectionFit(small, lattice.where, thickness_px, threads=threads)
    else:
        where, thickness_px = _searched(views, small, start, params, threads)
        fit = ProjectionFit(small, where, _ROOM * thickness_px, threads=threads)
    for _ in range(_STEPS):
        correlation = fit.step(FreeParameters(), em_iterations=_EM_ITERATIONS).correlation
    # On a lattice every peak is one of many, and its height over all of them tells nothing; there the chain doubts a view.
    lost = poor_views(correlation) if lattice is None else np.zeros(0, np.intp)
    if lost.size:
        lost = np.intersect1d(lost, fit.assess(fit.where).lost)
    return _Placed(fit.where, correlation, lost, lattice)


def _searched(
    views: BinnedViews, small: BinnedViews, start: ViewGeometry, params: CoarseParams, threads: int
) -> tuple[ViewGeometry, float]:
    """Return where views are found by searching the whole field, to a pixel of the smallest images, and the thickness, raw pixels."""
    placement = _Placement(small, start.axis_deg, start.tilts, params)
    where, least = placement.outward(start), views.binned(_factor(views, _SMALL_SIZE_PX))
    fit = ProjectionFit(least, where, INITIAL_THICKNESS * max(views.raw_shape), groups=_GROUPS, threads=threads)
    for _ in range(_STEPS):
        correlation = fit.step(FreeParameters(), em_iterations=_EM_ITERATIONS).correlation
    lost = np.flatnonzero(correlation < _MISFIT * _median_around(correlation, start.tilts))
    if lost.size:
        fit.where = placement.search_again(fit.where, lost)
        fit.step(FreeParameters(), em_iterations=_EM_ITERATIONS)
    return fit.where, fit.thickness_px


def _median_around(correlation: Floats, tilts: Floats) -> Floats:
    """Return the median correlation of each view and its neighbours in tilt, `(views,)`."""
    order = np.argsort(geometry.folded_tilts(np.rad2deg(tilts)), kind="stable")
    median = np.empty_like(correlation)
    for place, view in enumerate(order):
        median[view] = np.median(correlation[order[max(place - _AROUND, 0) : place + _AROUND + 1]])
    return median


class _Placement:
    """Views placed one after the other by correlation with their predictions."""

    def __init__(self, views: BinnedViews, axis_angle_deg: float, tilts: Floats, params: CoarseParams) -> None:
        self._frame = Frame.around(views, axis_angle_deg, _MARGIN)
        self._stretched = StretchedViews(views, self._frame, _TAPER * min(views.images.shape[1:]))
        highest = min(params.filter_radius2 + _TAIL * params.filter_sigma2, HIGHEST)
        self._band = FrequencyBand.up_to(self._frame.shape, highest, _GROUPS)
        gain = band_pass(self._frame.shape, params.filter_sigma1, params.filter_radius2, params.filter_sigma2)
        self._gain = self._band.crop(np.asarray(gain, np.complex64)).real
        self._tilts = tilts
        self._folded = geometry.folded_tilts(np.rad2deg(tilts))

    def outward(self, where: ViewGeometry) -> ViewGeometry:
        """Place the views from the one nearest to zero tilt to either side."""
        order = np.argsort(self._folded, kind="stable")
        middle = int(np.argmin(np.abs(self._folded[order])))
        first = int(order[middle])
        placed, reliability = {first: self._spectrum(first, where)}, {first: 1.0}
        model = self._initial_model(where)
        for view in map(int, [*order[middle + 1 :], *order[:middle][::-1]]):
            near = sorted(placed, key=lambda other: abs(self._folded[other] - self._folded[view]))[:_NEIGHBOURS]
            shifts = where.shifts.copy()
            shifts[view] = shifts[max(near[:2], key=reliability.__getitem__)]
            where, weight = self._correlated(view, replace(where, shifts=shifts), model, {v: placed[v] for v in near}, reliability)
            placed[view], reliability[view] = self._spectrum(view, where), weight
        return where

    def search_again(self, where: ViewGeometry, lost: NDArray[np.intp]) -> ViewGeometry:
        """Search for the `lost` views over the whole field, predicted from their nearest neighbours that are not lost."""
        model = self._initial_model(where)
        reliable = [view for view in range(len(self._tilts)) if view not in set(lost.tolist())]
        for view in map(int, lost):
            near = sorted(reliable, key=lambda other: abs(self._folded[other] - self._folded[view]))[:_NEIGHBOURS]
            known = {other: self._spectrum(other, where) for other in near}
            shifts = where.shifts.copy()
            shifts[view] = shifts[near[0]]
            where, _ = self._correlated(view, replace(where, shifts=shifts), model, known, dict.fromkeys(near, 1.0))
        return where

    def _initial_model(self, where: ViewGeometry) -> CovarianceModel:
        """Return a model with as much noise as signal at all frequencies."""
        spectra = [self._spectrum(view, where) for view in range(0, len(self._tilts), _SAMPLED)]
        power = np.mean([np.abs(spectrum) ** 2 for spectrum in spectra], axis=0)
        groups = np.array([power[self._band.group == group].mean() for group in range(_GROUPS)])
        model = CovarianceModel.initial(INITIAL_THICKNESS * max(self._frame.field), _GROUPS, len(self._tilts))
        return replace(model, signal=groups / 2, noise=np.ones(_GROUPS))

    def _spectrum(self, view: int, where: ViewGeometry) -> NDArray[np.complex64]:
        image, weight = self._stretched.sample(view, where)
        return self._band.crop(fft.rfft2(image * weight))

    def _correlated(
        self,
        view: int,
        where: ViewGeometry,
        model: CovarianceModel,
        known: dict[int, NDArray[np.complex64]],
        reliability: dict[int, float],
    ) -> tuple[ViewGeometry, float]:
        """Return the geometry with a view at its best correlation with its prediction, and its weight as a neighbour."""
        tangents, band = np.tan(self._tilts), self._band
        spectra: Spectra = np.stack(list(known.values()), axis=1)
        weights = np.array([reliability[other] for other in known])
        predicted, variance = predict_unseen(model, band, spectra, tangents[list(known)], weights, float(tangents[view]))
        template = np.conj(predicted) * self._gain / variance
        # Twice: at the place found first more of the field is shared.
        for _ in range(2):
            spectrum = template * self._spectrum(view, where)
            peak = find_peak(np.asarray(fft.irfft2(band.embed(spectrum), band.shape), np.float32))
            displacement = np.zeros_like(where.shifts)
            displacement[view] = peak.x * np.cos(self._tilts[view]) * self._frame.pixel, peak.y * self._frame.pixel
            where = where.displaced(displacement)
        return where, float(np.clip(peak.height / _CLEAR_PEAK, _LEAST_RELIABILITY, 1.0) ** 2)
