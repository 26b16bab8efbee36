"""Coarse alignment: every view placed by what its neighbours in tilt let expect of it, from the zero-tilt view outward.

All views are stretched to zero tilt with the tilt axis along y (:mod:`tiltflow.align.projection.stretched_views`).  The view
nearest to zero tilt stays; each next one outward is cross-correlated with its prediction from the five nearest ones placed so far
(:mod:`tiltflow.align.projection.covariance_model`).  The prediction weighs each frequency by how much of it they can know of a
specimen of that thickness, so that parallax between the surfaces does not matter, and each neighbour by how clearly it was placed
itself, so that one bad neighbour leads nobody astray.  Then all views are moved together to where they agree best, those that fit
badly are searched for once more over the whole field, and the angle of the tilt axis is looked after
(:mod:`tiltflow.align.coarse.axis_search`).

Answers to IMOD's tiltxcorr and xftoxg.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from tiltflow import geometry
from tiltflow.align.coarse.axis_search import Axis, find_axis
from tiltflow.align.coarse.correlation import band_pass, find_peak
from tiltflow.align.projection.covariance_model import CovarianceModel, Spectra, predict_unseen
from tiltflow.align.projection.frequency_band import FrequencyBand
from tiltflow.align.projection.included_views import included_views, spread_over_tilt
from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import ProjectionFit
from tiltflow.align.projection.stretched_views import Frame, StretchedViews, ViewGeometry
from tiltflow.model import Progress, Stack
from tiltflow.observer import part_of, tell
from tiltflow.preprocess.binned_views import BinnedViews, read_binned

Floats = NDArray[np.float64]

_MARGIN = (1.5, 2.0)
"""Frame over field along y and x: room for large shifts."""
_TAPER = 0.1
"""Width of the edge of each view that fades, as a fraction of its size."""
_NEIGHBOURS = 5
"""How many of the views placed before tell of the next one."""
_CLEAR_PEAK = 10.0
"""Height of a peak, standard deviations, that makes a view a reliable neighbour."""
_THICKNESS = 0.3
"""Thickness that is allowed for before it is known, as a fraction of the field."""
_GROUPS = 6
_FEWEST_FOR_AXIS = 5
_LARGE_DIFFERENCE_DEG = 6.0
_MISFIT = 0.6
"""A view is searched for again when its correlation is less than this fraction of what is usual around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarseParams:
    """How views are correlated.  Defaults are those of IMOD's tiltxcorr command file where it has the parameter.

    Attributes
    ----------
    filter_sigma1
        High-pass filter: sigma of the Gaussian taken away at low frequencies, cycles per pixel of the binned image.
    filter_radius2, filter_sigma2
        Low-pass filter: where it begins to fall, and the sigma of its fall, cycles per pixel of the binned image.
    max_size_px
        Views are binned until their larger side is at most this.
    exclude_central_peak
        Whether to look for a pattern that stays with the camera, and to take it out (:mod:`tiltflow.preprocess.fixed_pattern`).
    find_axis
        Whether to estimate the angle of the tilt axis from the data and use it when it clearly disagrees with the header's.
    """

    filter_sigma1: float = 0.03
    filter_radius2: float = 0.25
    filter_sigma2: float = 0.05
    max_size_px: int = 256
    exclude_central_peak: bool = True
    find_axis: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class CoarseResult:
    """Where each view belongs, to about a pixel, and the evidence for it.

    Attributes
    ----------
    transforms
        `(views, 2, 3)`, global: raw to aligned coordinates, unbinned pixels.
    shifts_px
        Shift of each raw view that the transforms undo, `(views, 2)`.
    axis_angle_deg
        The angle of the tilt axis that was used.
    axis_angle_nominal_deg
        The one that was given.
    axis_angle_from_data_deg, axis_angle_error_deg
        The one that the data tell and its uncertainty; NaN when they do not tell.
    correlation
        Of each view with the neighbours it was placed by, `(views,)`; NaN for views left out.
    notes
        Sentences that a user should read.
    """

    transforms: NDArray[np.float64]
    shifts_px: NDArray[np.float64]
    axis_angle_deg: float
    axis_angle_nominal_deg: float
    axis_angle_from_data_deg: float
    axis_angle_error_deg: float
    correlation: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def align_coarse(
    stack: Stack,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    included: ArrayLike | None = None,
    params: CoarseParams | None = None,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> CoarseResult:
    """Place every view by correlation with what its neighbours let expect, cosine-stretched to zero tilt.

    Parameters
    ----------
    stack
        `(views, ny, nx)`.
    tilt_deg
        Nominal tilts, `(views,)`.
    axis_angle_deg
        Angle of the tilt axis from y, counter-clockwise: the header's.
    included
        Views that take part, `(views,)`; None for all.  The others get the place that lies between their neighbours'.
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
        progress=part_of(progress, 0.0, 0.4),
    )
    where, correlation = _place(views, tilts[chosen], axis_angle_deg, params, threads)
    tell(progress, 0.7)
    axis = Axis.unknown(axis_angle_deg)
    if params.find_axis and len(chosen) >= _FEWEST_FOR_AXIS:
        least = views.binned(_factor(views, 64))
        for _ in range(2):  # a large difference spoils the places that the first answer rests on
            used_before = axis.used_deg
            axis = find_axis(least, where, axis_angle_deg, threads=threads)
            if axis.used_deg == used_before:
                break
            where, correlation = _place(views, tilts[chosen], axis.used_deg, params, threads)
            if abs(axis.used_deg - used_before) < _LARGE_DIFFERENCE_DEG:
                break
    tell(progress, 1.0)
    shifts = np.stack([spread_over_tilt(tilts, chosen, where.shifts[:, k]) for k in (0, 1)], axis=1)
    correlations = np.full(len(tilts), np.nan)
    correlations[chosen] = correlation
    return CoarseResult(
        transforms=geometry.from_axis_and_shifts(axis.used_deg, shifts),
        shifts_px=shifts,
        axis_angle_deg=axis.used_deg,
        axis_angle_nominal_deg=axis_angle_deg,
        axis_angle_from_data_deg=axis.found_deg,
        axis_angle_error_deg=axis.error_deg,
        correlation=correlations,
        notes=(*_pattern(views), *axis.notes, *_misfits(correlations)),
    )


def _pattern(views: BinnedViews) -> tuple[str, ...]:
    if not views.pattern:
        return ()
    return (f"a pattern that stays with the camera, {views.pattern:.0%} of the contrast, was taken out before views were compared",)


def _factor(views: BinnedViews, size: int) -> int:
    """Return by how much to bin further for images of about a size."""
    return max(int(max(views.images.shape[1:])) // size, 1)


def _misfits(correlation: Floats) -> tuple[str, ...]:
    if np.isnan(correlation).all():
        return ()
    usual = float(np.nanmedian(correlation))
    return tuple(
        f"view {view + 1} does not fit the others: its correlation is {correlation[view]:.2f}, that of most {usual:.2f}"
        for view in np.flatnonzero(correlation < 0.5 * usual)
    )


def _place(
    views: BinnedViews, tilts: Floats, axis_angle_deg: float, params: CoarseParams, threads: int
) -> tuple[ViewGeometry, Floats]:
    """Return the geometry that aligns the views under one angle of the tilt axis, and their correlations."""
    turn = np.broadcast_to(geometry.rotation(axis_angle_deg), (len(tilts), 2, 2))
    start = ViewGeometry(np.array(turn), np.zeros((len(tilts), 2)), np.deg2rad(tilts))
    small, least = views.binned(_factor(views, 128)), views.binned(_factor(views, 64))
    if len(tilts) == 1:
        return start, np.full(1, np.nan)
    walk = _Placement(small, axis_angle_deg, np.deg2rad(tilts), params)
    where = walk.outward(start)
    fit = ProjectionFit(least, where, _THICKNESS * max(views.raw_shape), groups=_GROUPS, threads=threads)
    for _ in range(2):
        correlation = fit.step(FreeParameters(), lessons=3).correlation
    lost = np.flatnonzero(correlation < _MISFIT * _usual(correlation, tilts))
    if lost.size:
        fit.where = walk.search_again(fit.where, lost)
        fit.step(FreeParameters(), lessons=3)
    fit = ProjectionFit(small, fit.where, 1.3 * fit.thickness_px, threads=threads)
    for _ in range(2):
        correlation = fit.step(FreeParameters(), lessons=3).correlation
    return fit.where, correlation


def _usual(correlation: Floats, tilts: Floats) -> Floats:
    """Return the median correlation of the nine views around each in tilt."""
    order = np.argsort(tilts, kind="stable")
    usual = np.empty_like(correlation)
    for place, view in enumerate(order):
        usual[view] = np.median(correlation[order[max(place - 4, 0) : place + 5]])
    return usual


class _Placement:
    """Views placed one after the other by correlation with their predictions."""

    def __init__(self, views: BinnedViews, axis_angle_deg: float, tilts: Floats, params: CoarseParams) -> None:
        self._frame = Frame.around(views, axis_angle_deg, _MARGIN)
        self._stretched = StretchedViews(views, self._frame, _TAPER * min(views.images.shape[1:]))
        highest = min(params.filter_radius2 + 2 * params.filter_sigma2, 0.4)
        self._band = FrequencyBand.up_to(self._frame.shape, highest, _GROUPS)
        gain = band_pass(self._frame.shape, params.filter_sigma1, params.filter_radius2, params.filter_sigma2)
        self._gain = self._band.crop(np.asarray(gain, np.complex64)).real
        self._tilts = tilts

    def outward(self, where: ViewGeometry) -> ViewGeometry:
        """Place the views from the one nearest to zero tilt to either side."""
        order = np.argsort(self._tilts, kind="stable")
        middle = int(np.argmin(np.abs(self._tilts[order])))
        first = int(order[middle])
        placed, reliability = {first: self._spectrum(first, where)}, {first: 1.0}
        slab = self._guess(where)
        for view in map(int, [*order[middle + 1 :], *order[:middle][::-1]]):
            near = sorted(placed, key=lambda other: abs(self._tilts[other] - self._tilts[view]))[:_NEIGHBOURS]
            shifts = where.shifts.copy()
            shifts[view] = shifts[max(near[:2], key=reliability.__getitem__)]
            where, clear = self._correlated(view, replace(where, shifts=shifts), slab, {v: placed[v] for v in near}, reliability)
            placed[view], reliability[view] = self._spectrum(view, where), clear
        return where

    def search_again(self, where: ViewGeometry, lost: NDArray[np.intp]) -> ViewGeometry:
        """Search for some views over the whole field, by what their neighbours that are not lost tell."""
        slab = self._guess(where)
        sure = [view for view in range(len(self._tilts)) if view not in set(lost.tolist())]
        for view in map(int, lost):
            near = sorted(sure, key=lambda other: abs(self._tilts[other] - self._tilts[view]))[:_NEIGHBOURS]
            known = {other: self._spectrum(other, where) for other in near}
            shifts = where.shifts.copy()
            shifts[view] = shifts[near[0]]
            where, _ = self._correlated(view, replace(where, shifts=shifts), slab, known, dict.fromkeys(near, 1.0))
        return where

    def _guess(self, where: ViewGeometry) -> CovarianceModel:
        """Return a model for the beginning: as much noise as signal at all frequencies."""
        spectra = [self._spectrum(view, where) for view in range(0, len(self._tilts), 4)]
        power = np.mean([np.abs(spectrum) ** 2 for spectrum in spectra], axis=0)
        groups = np.array([power[self._band.group == group].mean() for group in range(_GROUPS)])
        slab = CovarianceModel.vague(_THICKNESS * max(self._frame.field), _GROUPS, len(self._tilts))
        return replace(slab, signal=groups / 2, noise=np.ones(_GROUPS))

    def _spectrum(self, view: int, where: ViewGeometry) -> NDArray[np.complex64]:
        image, weight = self._stretched.sample(view, where)
        return self._band.crop(fft.rfft2(image * weight))

    def _correlated(
        self,
        view: int,
        where: ViewGeometry,
        slab: CovarianceModel,
        known: dict[int, NDArray[np.complex64]],
        reliability: dict[int, float],
    ) -> tuple[ViewGeometry, float]:
        """Return the geometry with a view where it correlates best with its prediction, and how reliable that makes it."""
        tangents, band = np.tan(self._tilts), self._band
        spectra: Spectra = np.stack(list(known.values()), axis=1)
        trust = np.array([reliability[other] for other in known])
        predicted, variance = predict_unseen(slab, band, spectra, tangents[list(known)], trust, float(tangents[view]))
        template = np.conj(predicted) * self._gain / variance
        # Once more from where it was found: more of the field is shared then.
        for _ in range(2):
            spectrum = template * self._spectrum(view, where)
            peak = find_peak(np.asarray(fft.irfft2(band.embed(spectrum), band.shape), np.float32))
            displacement = np.zeros_like(where.shifts)
            displacement[view] = peak.x * np.cos(self._tilts[view]) * self._frame.pixel, peak.y * self._frame.pixel
            where = where.displaced(displacement)
        return where, float(np.clip(peak.height / _CLEAR_PEAK, 0.2, 1.0) ** 2)
