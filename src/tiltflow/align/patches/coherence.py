"""The coherence of two views, from how contrast is distributed over the depth of the specimen.

In the plane of the specimen a detail at height z moves by z tan(tilt).  Two views i and k, at the x frequency X, therefore have the
coherence

    c = r_i r_k integral of p(z) exp(-2 pi i X (tan t_k - tan t_i) z) dz

with r^2 the fraction of a view's power that is specimen and not noise, and p(z) the profile of contrast in depth: an even section, a
layer of gold on one surface, or both.  p is estimated from the data: the coherence of all pairs of views as a function of
X (tan t_k - tan t_i) is its Fourier transform, and p is nowhere negative (non-negative least squares), so that the covariance of the
views is always positive semidefinite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.patches.patch_spectra import FrequencyCells, Spectra
from tiltflow.kernels.patches import fill_covariance

Floats = NDArray[np.float64]
Covariance = NDArray[np.complex64]

_BAND_EDGES = np.array([0.0, 0.1, 0.2, 0.35, 0.6, 1.3])
"""Bands of frequency in the image with a profile of their own, as fractions of the highest; in high tilts the cosine stretch takes
frequencies beyond it."""
_BANDS = len(_BAND_EDGES) - 1
_DEPTH_BANDS = slice(1, 4)
"""Bands whose profiles give the depth: the lowest has hardly any resolution in depth, the highest little signal."""
_HEIGHTS = 81
"""Heights of the profile."""
_STEPS = 48
"""Classes of X (tan t_k - tan t_i) in which pairs are collected: 16 a cycle at the greatest height."""
_FURTHEST = 3.0
"""Pairs are compared until a detail at the greatest height has turned by this many cycles."""
_MOST_COHERENT = 0.95
"""Upper bound of r^2: near 1 the covariance becomes singular in single precision."""
_LEAST_COHERENT = 0.003
"""Lower bound of r^2, so that frequencies without signal count for little but leave the covariance defined."""
_ROUGHNESS = 0.02
"""Weight of the differences of neighbouring heights in the fit of a profile."""
_LOPSIDED = 0.5
"""Weight of the profile's asymmetry in its fit: an asymmetric profile and a drift along the series have nearly the same effect."""
_FEWEST_STEPS = 4
"""Classes of pairs with data that a profile needs; with fewer it is even."""
_LEAST_WEIGHT = 1e-4
"""Classes of pairs with a smaller share of the largest weight are ignored."""
_LEAST_ROOT_WEIGHT = 0.15
"""Lower bound of the square root of a class's weight over the largest: pairs far apart are few, but determine the depth."""
_BLANK = 1e-6
"""Power of a view, relative to the strongest, below which it is blank."""
_PLACES_PER_CYCLE, _FEWEST_PLACES = 16, 64
"""Samples of the transform of a profile, which is interpolated linearly: per cycle at the greatest height, and at least."""
_EVERY_BIN = 5
"""Views are rated by every fifth bin, which suffices for one number."""
_MOST_QUALITY = 1.3
"""Upper bound of a view's quality: r^2 of the sharpest view is at most 1.7 times the typical one."""
_QUALITY_CYCLES = 4
"""Fixed-point iterations of the views' qualities."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Which pairs of views are compared at which frequencies: the same for all patches.

    Attributes
    ----------
    bin, first, second
        `(n,)` of the frequency and of the two views, the first at the smaller tilt.
    key
        `(n,)` where they are collected, over bands and steps.
    weight
        `(n,)` how many frequencies.
    apart
        `(n,)` X (tan t_k - tan t_i), cycles per raw pixel.
    highest
        Upper frequency that is compared.
    deepest_px
        The heights of the profile reach from minus to plus this.
    """

    bin: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    key: NDArray[np.int64]
    weight: Floats
    apart: Floats
    highest: float
    deepest_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Coherence of pairs of views, collected by frequency in the image and by X (tan t_k - tan t_i).

    Attributes
    ----------
    weight
        `(bands, steps)` number of frequencies and pairs.
    coherence
        `(bands, steps)` their mean.
    apart
        `(bands, steps)` their mean X (tan t_k - tan t_i), cycles per raw pixel.
    pairing
        The pairs.
    alive
        `(views,)` False for blank views.
    """

    weight: Floats
    coherence: NDArray[np.complex128]
    apart: Floats
    pairing: Pairing
    alive: NDArray[np.bool_]

    def joined(self, others: Pairs, share: float) -> Pairs:
        """Return these pairs with `share` of the weight of others."""
        weight = np.maximum(self.weight + share * others.weight, 1e-12)
        coherence = (self.weight * self.coherence + share * others.weight * others.coherence) / weight
        apart = (self.weight * self.apart + share * others.weight * others.apart) / weight
        return replace(self, weight=weight, coherence=coherence, apart=apart)


@dataclass(frozen=True, slots=True, eq=False)
class Coherence:
    """A model of the coherence between views.

    Attributes
    ----------
    edges
        `(bands + 1,)` of bands of frequency in the image, cycles per raw pixel.
    heights
        `(heights,)` raw pixels from the mean height.
    profile
        `(bands, heights)`, each summing to 1.
    signal
        `(bands,)` fraction of the power that is specimen.
    quality
        `(views,)` factor on r: the coherence of a view with the others relative to the model's; 0 for blank views.
    """

    edges: Floats
    heights: Floats
    profile: Floats
    signal: Floats
    quality: Floats

    @property
    def depth_px(self) -> float:
        """Thickness of an even section with the variance of the profile at the middle frequencies, raw pixels."""
        profile = self.profile[_DEPTH_BANDS].mean(axis=0)
        mean = float(profile @ self.heights)
        return float(np.sqrt(12 * (profile @ (self.heights - mean) ** 2)))


def cross_spectra(spectra: Spectra) -> NDArray[np.complex64]:
    """Return `(bins, views, views)`: the sum over cells of conj(a_i) a_k."""
    return np.asarray(spectra.conj() @ np.swapaxes(spectra, 1, 2))


def pair_views(cells: FrequencyCells, tilt: Floats, highest: float, deepest_px: float) -> Pairing:
    """Return the pairs of views at `tilt` `(views,)`, radians, and the frequencies at which they determine the profile."""
    tangent, cosine = np.tan(tilt), np.abs(np.cos(tilt))
    first, second = np.nonzero(tangent[None] > tangent[:, None])
    apart = cells.bin_x[:, None] * (tangent[second] - tangent[first])
    radius = np.hypot(cells.bin_x[:, None] / np.minimum(cosine[first], cosine[second]), cells.bin_y[:, None])
    band = np.searchsorted(highest * _BAND_EDGES, radius, side="right") - 1
    step = (apart * (_STEPS * deepest_px / _FURTHEST)).astype(int)
    index, pair = np.nonzero((band < _BANDS) & (step < _STEPS))
    key = band[index, pair] * _STEPS + step[index, pair]
    weight = cells.count[index].astype(float)
    return Pairing(index, first[pair], second[pair], key, weight, apart[index, pair], highest, deepest_px)


def collect_pairs(cross: NDArray[np.complex64], pairing: Pairing) -> Pairs:
    """Return the coherence of all pairs of views; `cross` `(bins, views, views)`."""
    power = np.maximum(np.einsum("bii->bi", cross).real, 0.0)
    total = power.sum(axis=0)
    alive = total > _BLANK * total.max()
    rate = np.where(alive, 1 / np.sqrt(np.maximum(power, 1e-12)), 0.0).astype(np.float32)
    index, first, second = pairing.bin, pairing.first, pairing.second
    value = cross[index, first, second] * (rate[index, first] * rate[index, second])
    counted = pairing.weight * (alive[first] & alive[second])
    weight, real, imaginary, place = (
        np.bincount(pairing.key, counted * part, _BANDS * _STEPS).astype(float).reshape(_BANDS, _STEPS)
        for part in (1.0, value.real, value.imag, pairing.apart)
    )
    known = np.maximum(weight, 1e-12)
    return Pairs(weight, np.asarray((real + 1j * imaginary) / known, np.complex128), place / known, pairing, alive)


def fit_coherence(pairs: Pairs) -> Coherence:
    """Return the model fitted to the coherence of pairs of views."""
    deepest = pairs.pairing.deepest_px
    heights = np.linspace(-deepest, deepest, _HEIGHTS)
    profile, signal = np.empty((_BANDS, _HEIGHTS)), np.empty(_BANDS)
    for n in range(_BANDS):
        profile[n], signal[n] = _fit_profile(pairs.coherence[n], pairs.apart[n], pairs.weight[n], heights)
    # Heights count from the mean height of the contrast, which the height of a patch refers to.
    mean = float((signal * (profile @ heights)).sum() / signal.sum())
    return Coherence(pairs.pairing.highest * _BAND_EDGES, heights - mean, profile, signal, pairs.alive.astype(float))


def _fit_profile(coherence: NDArray[np.complex128], apart: Floats, weight: Floats, heights: Floats) -> tuple[Floats, float]:
    """Return the non-negative profile, summing to 1, and its sum: the coherence of a view with itself but for noise."""
    known = weight > _LEAST_WEIGHT * weight.max()
    if weight.max() < 1 or known.sum() < _FEWEST_STEPS:
        return np.full(_HEIGHTS, 1 / _HEIGHTS), _LEAST_COHERENT
    w = np.maximum(np.sqrt(weight[known] / weight.max()), _LEAST_ROOT_WEIGHT)[:, None]
    wave = np.exp(-2j * np.pi * apart[known, None] * heights[None]) * w
    target = coherence[known] * w[:, 0]
    rough = _ROUGHNESS * np.sqrt(_HEIGHTS) * (np.eye(_HEIGHTS) - np.eye(_HEIGHTS, k=1))
    system = np.vstack([wave.real, wave.imag, rough])
    right = np.concatenate([target.real, target.imag, np.zeros(_HEIGHTS)])
    solution = scipy.optimize.nnls(system, right)[0]
    if solution.sum() > 0:
        mirror = np.eye(_HEIGHTS)[:, ::-1]
        middle = round(float(solution @ np.arange(_HEIGHTS) / solution.sum()) * 2) - (_HEIGHTS - 1)
        lopsided = _LOPSIDED * (np.eye(_HEIGHTS) - np.roll(mirror, middle, axis=1))
        solution = scipy.optimize.nnls(np.vstack([system, lopsided]), np.concatenate([right, np.zeros(_HEIGHTS)]))[0]
    total = float(solution.sum())
    if total <= 0:
        return np.full(_HEIGHTS, 1 / _HEIGHTS), _LEAST_COHERENT
    return solution / total, min(max(total, _LEAST_COHERENT), 1.0)


def covariance(model: Coherence, cells: FrequencyCells, tilt: Floats) -> Covariance:
    """Return `(bins, views, views)`: the model's covariance of a_i and a_k for aligned views, 1 on the diagonal."""
    bin_x, bin_y = cells.bin_x, cells.bin_y
    radius = _frequency_seen(cells, tilt)
    centres = 0.5 * (model.edges[1:] + model.edges[:-1])
    strength = np.interp(radius, centres, model.signal, right=_LEAST_COHERENT) * model.quality**2
    r = np.sqrt(np.minimum(strength, _MOST_COHERENT))
    band = np.clip(np.searchsorted(model.edges, np.hypot(bin_x, bin_y), side="right") - 1, 0, _BANDS - 1)
    tangent = np.tan(tilt)
    furthest = max(float(np.ptp(tangent) * bin_x.max()), 1e-9)
    places = max(int(furthest * _PLACES_PER_CYCLE * np.abs(model.heights).max()), _FEWEST_PLACES)
    grid = np.linspace(0, furthest, places)
    # Between the heights the profile is linear: without the sinc its transform would repeat itself.
    wave = np.exp(-2j * np.pi * grid[:, None] * model.heights) * np.sinc(grid * (model.heights[1] - model.heights[0]))[:, None] ** 2
    out = np.empty((len(bin_x), len(tilt), len(tilt)), np.complex64)
    fill_covariance((model.profile @ wave.T).astype(np.complex64), grid[1], band, bin_x, tangent, r, out)
    return out


def unsettled(settled: Covariance, cells: FrequencyCells, tilt: Floats, px: float) -> Covariance:
    """Return the covariance of views that may be displaced by `px` (standard deviation of a coordinate, raw pixels).

    Their coherence falls with the frequency.  `settled` is the covariance of aligned views.
    """
    decay = np.exp(-0.5 * (2 * np.pi * _frequency_seen(cells, tilt) * px) ** 2).astype(np.float32)
    out = settled * decay[:, :, None]
    out *= decay[:, None, :]
    diagonal = np.arange(len(tilt))
    out[:, diagonal, diagonal] = 1.0
    return np.asarray(out)


def inverse(covariance: Covariance) -> Covariance:
    """Return the inverse of each Hermitian covariance, by Cholesky factors.

    Raises
    ------
    LinAlgError
        If one is not positive definite.
    """
    upper = np.empty_like(covariance)
    for bin_, matrix in enumerate(covariance):
        root, failed = scipy.linalg.lapack.cpotrf(matrix)
        if failed:
            raise np.linalg.LinAlgError("the covariance of the views is not positive")
        upper[bin_], _ = scipy.linalg.lapack.cpotri(root, overwrite_c=1)
    upper = np.triu(upper)
    diagonal = np.arange(covariance.shape[1])
    out = upper + np.swapaxes(upper, 1, 2).conj()
    out[:, diagonal, diagonal] = upper[:, diagonal, diagonal].real
    return np.asarray(out)


def _frequency_seen(cells: FrequencyCells, tilt: Floats) -> Floats:
    """Return the frequencies of the bins in each view, `(bins, views)`, cycles per raw pixel."""
    return np.hypot(cells.bin_x[:, None] / np.cos(tilt), cells.bin_y[:, None])


def rate_views(model: Coherence, expected: Covariance, cross: NDArray[np.complex64], cells: FrequencyCells) -> Coherence:
    """Return the model with the quality of each view: least squares of its coherence with the others.

    `expected` is the present covariance of the model, `cross` `(bins, views, views)` the sums over patches.
    """
    some = np.arange(0, len(cross), _EVERY_BIN)
    found = cross[some].conj()
    power = np.maximum(np.einsum("bii->bi", found).real, 1e-12)
    found = found / np.sqrt(power[:, :, None] * power[:, None, :])
    weight = cells.count[some, None, None]
    wanted = expected[some] / np.maximum(model.quality[:, None] * model.quality[None], 1e-6)
    agreement = (weight * (wanted.conj() * found).real).sum(axis=0)
    norm = (weight * np.abs(wanted) ** 2).sum(axis=0)
    np.fill_diagonal(agreement, 0.0)
    np.fill_diagonal(norm, 0.0)
    quality = model.quality.copy()
    for _ in range(_QUALITY_CYCLES):
        quality = np.clip((agreement @ quality) / np.maximum(norm @ quality**2, 1e-12), 0.0, _MOST_QUALITY)
    return replace(model, quality=np.where(model.quality > 0, quality, 0.0))
