"""Placing views one after the other, from the one nearest to zero tilt outward, by correlation with their predictions.

Where peaks stand out of the noise, each view is put at the highest one.  Where they do not, one wrong peak misleads all views after it;
then several hypotheses are followed at once (:mod:`tiltflow.align.coarse.hypotheses`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.coarse.correlation import band_pass, find_peak
from tiltflow.align.coarse.hypotheses import best_hypothesis
from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.projection.covariance_model import CovarianceModel, Spectra, predict_unseen
from tiltflow.align.projection.frequency_band import FrequencyBand
from tiltflow.align.projection.projection_fit import HIGHEST, INITIAL_THICKNESS
from tiltflow.align.projection.stretched_views import Frame, StretchedViews, ViewGeometry
from tiltflow.preprocess.binned_views import BinnedViews

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

GROUPS = 6
"""Rings of frequencies that have a power of their own."""
_MARGIN = (1.5, 2.0)
"""Frame over field along y and x: room for shifts of half the field along y and, as views are stretched, of the field along x."""
_TAPER = 0.1
"""Width of the tapered edge of each view, as a fraction of its size."""
_NEIGHBOURS = 5
"""Views that predict the next one."""
_COMPARED, _THICKNESS = 5, 0.15
"""Under a hypothesis: views that each next one is compared with, and the thickness of the specimen as a fraction of the field.
Of six series of ice at a dose of 40, four are found with 5, 8 or 12 views and 0.1, 0.15 or 0.2, but only two with 0.3: pairs of views
share too little then."""
_CLEAR_PEAK = 10.0
"""Peak height, standard deviations, from which on a view counts fully as a neighbour."""
_LEAST_RELIABILITY = 0.2
"""Lower bound of a peak height over `_CLEAR_PEAK`: a view without a peak still has a place in the order of tilt."""
_TAIL = 2.0
"""Standard deviations of the fall of the low-pass filter after which frequencies are left out: the gain is 0.14 there."""
_SAMPLED = 4
"""Every fourth view is read for the first estimate of the power."""


class OutwardPlacement:
    """Views placed one after the other by correlation with their predictions."""

    def __init__(self, views: BinnedViews, axis_angle_deg: float, tilts: Floats, params: CoarseParams) -> None:
        self._frame = Frame.around(views, axis_angle_deg, _MARGIN)
        self._stretched = StretchedViews(views, self._frame, _TAPER * min(views.images.shape[1:]))
        highest = min(params.filter_radius2 + _TAIL * params.filter_sigma2, HIGHEST)
        self._band = FrequencyBand.up_to(self._frame.shape, highest, GROUPS)
        gain = band_pass(self._frame.shape, params.filter_sigma1, params.filter_radius2, params.filter_sigma2)
        self._gain = self._band.crop(np.asarray(gain, np.complex64)).real
        self._tilts = tilts
        self._folded = geometry.folded_tilts(np.rad2deg(tilts))

    def outward(self, where: ViewGeometry) -> tuple[ViewGeometry, Floats]:
        """Place the views from the one nearest to zero tilt to either side.

        Returns the geometry, and the height of each view's peak but the first one's, standard deviations.
        """
        order, middle = self._order()
        first = int(order[middle])
        placed, reliability, heights = {first: self._spectrum(first, where)}, {first: 1.0}, []
        model = self._initial_model(where)
        for view in map(int, [*order[middle + 1 :], *order[:middle][::-1]]):
            near = sorted(placed, key=lambda other: abs(self._folded[other] - self._folded[view]))[:_NEIGHBOURS]
            shifts = where.shifts.copy()
            shifts[view] = shifts[max(near[:2], key=reliability.__getitem__)]
            where, height = self._correlated(view, replace(where, shifts=shifts), model, {v: placed[v] for v in near}, reliability)
            placed[view], reliability[view] = self._spectrum(view, where), _reliability(height)
            heights.append(height)
        return where, np.array(heights)

    def by_hypotheses(self, where: ViewGeometry) -> ViewGeometry:
        """Place the views to a pixel, following several hypotheses (:mod:`tiltflow.align.coarse.hypotheses`)."""
        order, middle = self._order()
        sequence: list[tuple[int, list[int]]] = [(int(order[middle]), [])]
        for side in (order[middle:], order[middle::-1]):
            views = [int(view) for view in side]
            sequence += [(view, views[max(k - _COMPARED, 0) : k][::-1]) for k, view in enumerate(views) if k]
        model, spectra = self._initial_model(where, _THICKNESS), [self._spectrum(view, where) for view in range(len(self._tilts))]
        tangents, band = np.tan(self._tilts), self._band

        def pair_map(one: int, other: int) -> Images:
            alone = spectra[one][:, None]
            predicted, variance = predict_unseen(model, band, alone, tangents[[one]], np.ones(1), float(tangents[other]))
            spectrum = np.conj(predicted) * self._gain / variance * spectra[other]
            return np.asarray(scipy.fft.irfft2(band.embed(spectrum), band.shape), np.float32)

        places = best_hypothesis(sequence, pair_map, band.shape)
        moved = np.array([places[view] for view in range(len(self._tilts))], float) * self._frame.pixel
        return where.displaced(np.stack([moved[:, 1] * np.cos(self._tilts), moved[:, 0]], axis=1))

    def _order(self) -> tuple[NDArray[np.intp], int]:
        """Return the views in the order of tilt, and the place of the one nearest to zero."""
        order = np.argsort(self._folded, kind="stable")
        return order, int(np.argmin(np.abs(self._folded[order])))

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

    def _initial_model(self, where: ViewGeometry, thickness: float = INITIAL_THICKNESS) -> CovarianceModel:
        """Return a model of a specimen that thick, as a fraction of the field, with as much noise as signal at all frequencies."""
        spectra = [self._spectrum(view, where) for view in range(0, len(self._tilts), _SAMPLED)]
        power = np.mean([np.abs(spectrum) ** 2 for spectrum in spectra], axis=0)
        groups = np.array([power[self._band.group == group].mean() for group in range(GROUPS)])
        model = CovarianceModel.initial(thickness * max(self._frame.field), GROUPS, len(self._tilts))
        return replace(model, signal=groups / 2, noise=np.ones(GROUPS))

    def _spectrum(self, view: int, where: ViewGeometry) -> NDArray[np.complex64]:
        image, weight = self._stretched.sample(view, where)
        return self._band.crop(scipy.fft.rfft2(image * weight))

    def _correlated(
        self,
        view: int,
        where: ViewGeometry,
        model: CovarianceModel,
        known: dict[int, NDArray[np.complex64]],
        reliability: dict[int, float],
    ) -> tuple[ViewGeometry, float]:
        """Return the geometry with a view at its best correlation with its prediction, and the height of that, standard deviations."""
        tangents, band = np.tan(self._tilts), self._band
        spectra: Spectra = np.stack(list(known.values()), axis=1)
        weights = np.array([reliability[other] for other in known])
        predicted, variance = predict_unseen(model, band, spectra, tangents[list(known)], weights, float(tangents[view]))
        template = np.conj(predicted) * self._gain / variance
        # Twice: at the place found first more of the field is shared.
        for _ in range(2):
            spectrum = template * self._spectrum(view, where)
            peak = find_peak(np.asarray(scipy.fft.irfft2(band.embed(spectrum), band.shape), np.float32))
            displacement = np.zeros_like(where.shifts)
            displacement[view] = peak.x * np.cos(self._tilts[view]) * self._frame.pixel, peak.y * self._frame.pixel
            where = where.displaced(displacement)
        return where, peak.height


def _reliability(height: float) -> float:
    """Return the weight of a view as a neighbour."""
    return float(np.clip(height / _CLEAR_PEAK, _LEAST_RELIABILITY, 1.0) ** 2)
