"""Defocus, astigmatism and handedness of a tilt series, from one model of all its views.

The geometry is known from the alignment: the defocus of a place in a view is that on the tilt axis and what the tilt adds
(:mod:`tiltflow.ctf.model`).  Spectra of tiles (:mod:`tiltflow.ctf.spectra`) are fitted by one smooth noise and one strength of the
specimen for the whole series, a defocus for every view and one astigmatism, if it pays (:mod:`tiltflow.ctf.ring_model`).  The mean
defocus is searched over all that is possible (:mod:`tiltflow.ctf.search`), the sign of the gradient is decided by likelihood
(:mod:`tiltflow.ctf.handedness`), and each view leans on its neighbours as far as the series says that they agree
(:mod:`tiltflow.ctf.defocus_prior`).

Corresponds to IMOD's ctfplotter, which fits the rotationally averaged spectra of a few neighbouring views, one group after the other,
from an expected defocus and a noise spectrum of images without specimen.  Here neither is needed: the background cannot follow the rings,
because it is the same in all columns and views while the rings move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.ctf.defocus_prior import COMMON_STEP_NM, Posterior, posterior, walk_precision
from tiltflow.ctf.handedness import decide_hand
from tiltflow.ctf.model import Astigmatism, Microscope
from tiltflow.ctf.result import CtfEstimate, CtfParams
from tiltflow.ctf.ring_fit import Fit, Flags, fit_rings
from tiltflow.ctf.ring_model import RingData, recentred, ring_data
from tiltflow.ctf.rings import Rings, rings_of
from tiltflow.ctf.search import Found, search
from tiltflow.ctf.spectra import SeriesSpectra, series_spectra
from tiltflow.errors import ParameterError
from tiltflow.geometry import edge_on
from tiltflow.model import Stack

Floats = NDArray[np.float64]

_HIGHEST = 0.68
"""Highest frequency that is fitted, cycles per pixel: the corners of the square, without the last shells."""
_FEWEST_SHELLS = 20
"""Shells of a fit: fewer do not tell rings from the eight numbers of the smooth parts."""
_SCALE = 0.82
"""Variance of the noise over that of independent cells, to begin with: what overlapping windows and neighbouring shells make of white
noise."""
_FIRST_STEP_NM = 30.0
"""Step of the walk of the defocus to begin with: the scatter of the views of a real series."""
_ROUNDS = 3
"""Fits with what was learnt of the step; the third changes the defocus by less than a nanometre."""
_LAGS = 3
"""Shells over which residuals are correlated: the Hann window reaches over two."""
_LEAST_GAIN = 40.0
"""Twice the logarithm of the likelihood ratio to a model without rings from which rings are believed: noise and plastic sections,
simulated, reach 29."""
_LEAST_ALIAS_GAIN = 6.0
"""... to any other defocus, from which this one is believed: odds of 1 to 20."""
_ASTIGMATISM_GAIN = 11.8
"""... to a model without astigmatism, from which it pays: three standard deviations of two numbers."""
_OTHER_RANGES = (1.2, 1.0), (1.0, 0.9)
"""Factors on the lowest and the highest frequency of two more fits: what they change in the mean defocus is what the smooth parts do not
describe.  It makes the z scores of the means of 58 simulated series 1.09, which are 1.20 without."""
_LEAST_PHASE_DEG = -45.0
"""Phase shifts are given from here up to half a turn more: spectra do not tell half turns, and phase plates shift by 30 to 120
degrees."""
_WORST_ERROR = 0.15
"""Standard error of the mean defocus over itself beyond which it is not used: then an alias at the next ring is near."""


def estimate_ctf(
    stack: Stack,
    transforms: ArrayLike,
    tilt_deg: ArrayLike,
    pixel_nm: float,
    params: CtfParams,
    *,
    included: ArrayLike | None = None,
    order: ArrayLike | None = None,
    threads: int = 1,
) -> CtfEstimate:
    """Return the CTF of a tilt series.

    Parameters
    ----------
    stack
        Raw views `(view, y, x)`, or aligned ones; they are read one by one.
    transforms
        `(views, 2, 3)`: these views to aligned ones, pixels (:mod:`tiltflow.geometry`).
    tilt_deg
        Solved tilts, `(views,)`.
    pixel_nm
        Size of a pixel of `stack`.
    params
        Microscope and ranges.
    included
        `(views,)`: views that take part; the defocus of the others follows from their neighbours.  None for all.
    order
        `(views,)`: the views in the order of acquisition, counted from 0, along which the defocus may change less than along the
        tilts.  None where it is not known.
    threads
        Views worked on at the same time.

    Raises
    ------
    ParameterError
        If images are too small, pixels too coarse, or numbers of views differ.
    """
    tilt = np.asarray(tilt_deg, float)
    if tilt.shape != (stack.shape[0],):
        raise ParameterError(f"{tilt.size} tilts for {stack.shape[0]} views; give one for each")
    spectra = series_spectra(stack, transforms, pixel_nm, highest=params.highest, threads=threads)
    return estimate_from_spectra(spectra, tilt, pixel_nm, params, included=included, order=order)


def estimate_from_spectra(
    spectra: SeriesSpectra,
    tilt_deg: Floats,
    pixel_nm: float,
    params: CtfParams,
    *,
    included: ArrayLike | None = None,
    order: ArrayLike | None = None,
) -> CtfEstimate:
    """Return the CTF from the spectra of a tilt series; parameters as for :func:`estimate_ctf`.

    Raises
    ------
    ParameterError
        If the pixels are too coarse for the range of frequencies, or no views are left.
    """
    used = np.ones(len(tilt_deg), bool) if included is None else np.asarray(included, bool)
    used = used & ~edge_on(tilt_deg)
    tilt, highest = np.where(used, tilt_deg, 0.0), min(params.highest, _HIGHEST / pixel_nm)
    spectra = replace(spectra, weight=spectra.weight * used[:, None, None, None])
    shells = int(np.count_nonzero((spectra.s2 >= params.lowest**2) & (spectra.s2 <= highest**2)))
    if shells < _FEWEST_SHELLS or not used.any():
        raise ParameterError(
            f"{shells} shells of frequencies from {params.lowest:g} to {highest:.2g} per nm in {int(used.sum())} views: pixels of "
            f"{pixel_nm:g} nm are too coarse for the CTF, or no views are left"
        )
    data = ring_data(spectra.isotropic(), tilt, params.lowest, highest)
    walks = [np.argsort(tilt_deg, kind="stable"), *([] if order is None else [np.asarray(order, np.int64)])]
    series = _Series(params.microscope, tilt, walks, np.array([False, False, False, params.phase_shift]))
    found = search(data, tilt, params.microscope, params.defocus_span_nm, _SCALE, phase=params.phase_shift)
    data = recentred(data, found.fit.model.shared)
    prior = walk_precision(tilt, walks[0], _FIRST_STEP_NM)
    fit = fit_rings(data, found.fit.model, params.microscope, prior, scale=_SCALE, free=series.free)
    scale = noise_scale(data, fit)
    hand, fit = decide_hand(data, fit, params.microscope, prior, scale)
    fit, known = series.learnt(data, fit, scale)
    rings = rings_of(data, fit.model, fit.at, params.microscope)
    error = 0.0
    if params.astigmatism:
        sectors = recentred(ring_data(spectra, tilt, params.lowest, highest), found.fit.model.shared)
        fit, known, error = series.astigmatic(sectors, fit, known, scale)
    ranges = [(params.lowest * low, highest * high) for low, high in _OTHER_RANGES]
    known = series.with_model_error(known, [ring_data(spectra.isotropic(), tilt, *each) for each in ranges], data, fit, scale)
    confident, reason = _judged(found, known, rings, params)
    return CtfEstimate(
        microscope=params.microscope,
        defocus_nm=known.defocus_nm,
        error_nm=known.error_nm,
        covariance=known.covariance,
        step_nm=known.step_nm,
        astigmatism=Astigmatism.from_components(*fit.model.astigmatism.tolist()),
        astigmatism_error_nm=error,
        phase_shift_deg=(fit.model.phase_deg - _LEAST_PHASE_DEG) % 180 + _LEAST_PHASE_DEG,
        hand=hand,
        score=np.where(used, rings.score, 0.0),
        spacing_angstrom=np.where(used, rings.spacing_angstrom, np.inf),
        rings=rings,
        confident=confident,
        reason=reason,
        gain=found.gain,
        alias_gain=found.alias_gain,
    )


def noise_scale(data: RingData, fit: Fit) -> float:
    """Return the variance with which residuals move a defocus, over that of independent cells.

    Residuals of neighbouring shells are correlated, and so are the derivatives by the defocus, which weigh them.
    """
    root = np.sqrt(data.weight)
    residual, slope = root * (data.power / fit.at.power - 1), root * fit.at.to_defocus
    count = max(int(np.count_nonzero(data.weight)), 1)
    square = max(float((slope**2).sum()), 1e-30)
    scale = 0.0
    for lag in range(_LAGS + 1):
        end = residual.shape[-1] - lag
        together = float((residual[..., :end] * residual[..., lag:]).sum()) / count
        scale += (1 + (lag > 0)) * together * float((slope[..., :end] * slope[..., lag:]).sum()) / square
    return max(scale, _SCALE / 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """Fits of a series with what is learnt of the walk of its defocus.

    Attributes
    ----------
    scope
        The microscope.
    tilt_deg
        `(views,)`.
    walks
        Orders along which the defocus may walk.
    free
        What is fitted besides the defocus, as for :func:`tiltflow.ctf.ring_fit.fit_rings`.
    """

    scope: Microscope
    tilt_deg: Floats
    walks: list[NDArray[np.int64]]
    free: Flags

    def learnt(self, data: RingData, fit: Fit, scale: float) -> tuple[Fit, Posterior]:
        """Return the fit with the most likely walk, and what follows for the views."""
        for _ in range(_ROUNDS):
            fit = fit_rings(data, fit.model, self.scope, self._precision(fit), scale=scale, free=self.free)
        return fit, self._posterior(fit)[0]

    def astigmatic(self, data: RingData, fit: Fit, known: Posterior, scale: float) -> tuple[Fit, Posterior, float]:
        """Return the fit to sectors with an astigmatism, if that pays, else what was given; and the standard error of its components."""
        precision = self._precision(fit)
        without = fit_rings(data, fit.model, self.scope, precision, scale=scale, free=self.free)
        free = self.free | np.array([False, True, True, False])
        bent = fit_rings(data, without.model, self.scope, precision, scale=scale, free=free)
        variances = np.diag(bent.covariance(precision))
        place = len(variances) - 2 - int(self.free[-1])  # the phase shift comes after it
        error = float(np.sqrt(max(variances[place : place + 2].mean(), 0.0)))
        if without.cost - bent.cost < _ASTIGMATISM_GAIN:
            return fit, known, error
        return bent, self._posterior(bent)[0], error

    def with_model_error(self, known: Posterior, others: list[RingData], data: RingData, fit: Fit, scale: float) -> Posterior:
        """Return what is known with the differences of the mean defocus in other ranges of frequency as an error that all views share."""
        precision = walk_precision(self.tilt_deg, self.walks[0], COMMON_STEP_NM)
        start = replace(fit.model, astigmatism=np.zeros(2))
        means = []
        for each in (data, *others):
            found = fit_rings(recentred(each, start.shared), start, self.scope, precision, scale=scale, free=self.free)
            means.append(float(found.model.defocus_nm.mean()))
        shared = float(np.mean(np.square(np.array(means[1:]) - means[0])))
        return replace(known, covariance=known.covariance + shared)

    def _precision(self, fit: Fit) -> Floats:
        known, order = self._posterior(fit)
        return walk_precision(self.tilt_deg, order, known.step_nm)

    def _posterior(self, fit: Fit) -> tuple[Posterior, NDArray[np.int64]]:
        """Return what is known of the defocus with the walk that is most likely, and the order of that walk."""
        views = len(self.tilt_deg)
        information, score = fit.equations.information, fit.equations.score
        shared, cross = information[views:, views:], information[:views, views:]
        solved = np.linalg.lstsq(shared, np.column_stack([cross.T, score[views:]]), rcond=None)[0]
        alone = information[:views, :views] - cross @ solved[:, :-1]
        told = score[:views] - cross @ solved[:, -1]
        found = [posterior(fit.model.defocus_nm, told, (alone + alone.T) / 2, self.tilt_deg, walk) for walk in self.walks]
        best = int(np.argmax([each.evidence for each in found]))
        return found[best], self.walks[best]


def _judged(found: Found, known: Posterior, rings: Rings, params: CtfParams) -> tuple[bool, str]:
    """Return whether the estimate may be used, and why, in a sentence."""
    mean, error = float(known.defocus_nm.mean()), float(np.sqrt(known.covariance.mean()))
    low, high = params.defocus_span_nm
    if found.gain < _LEAST_GAIN:
        return False, "no rings are seen: a model without them explains the spectra as well"
    if found.alias_gain < _LEAST_ALIAS_GAIN:
        return False, f"a defocus of {mean:.0f} nm is hardly more likely than another one: too few rings are seen"
    if not low <= mean <= high:
        return False, f"the defocus found, {mean:.0f} nm, is outside the range from {low:g} to {high:g} nm"
    if error > _WORST_ERROR * mean:
        return False, f"the defocus, {mean:.0f} nm, has a standard error of {error:.0f} nm"
    seen = rings.spacing_angstrom[np.isfinite(rings.spacing_angstrom)]
    to = f", rings seen to a spacing of {np.median(seen):.0f} Å" if seen.size else ""
    return True, f"mean defocus {mean:.0f} ± {error:.0f} nm (single views ± {np.median(known.error_nm):.0f} nm){to}"
