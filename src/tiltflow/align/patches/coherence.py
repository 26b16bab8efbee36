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

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.patches.patch_spectra import FrequencyCells, Spectra
from tiltflow.kernels.least_squares import nonnegative
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

_BAND_EDGES = np.array([0.0, 0.1, 0.2, 0.35, 0.6, 1.3])
"""Bands of frequency in the image with a profile of their own, as fractions of the highest; in high tilts the cosine stretch takes
frequencies beyond it."""
BANDS = len(_BAND_EDGES) - 1
_DEPTH_BANDS = slice(1, 4)
"""Bands whose profiles give the depth: the lowest has hardly any resolution in depth, the highest little signal."""
_HEIGHTS = 81
"""Heights of the profile."""
_STEPS = 48
"""Classes of X (tan t_k - tan t_i) in which pairs are collected: 16 a cycle at the greatest height."""
_FURTHEST = 3.0
"""Pairs are compared until a detail at the greatest height has turned by this many cycles."""
LEAST_COHERENT = 0.003
"""Lower bound of r^2, so that frequencies without signal count for little but leave the covariance defined."""
_ROUGHNESS = 0.02
"""Weight of the differences of neighbouring heights in the fit of a profile."""
_DIFFERENCES = _ROUGHNESS * np.sqrt(_HEIGHTS) * (np.eye(_HEIGHTS) - np.eye(_HEIGHTS, k=1))
_ROUGH = _DIFFERENCES.T @ _DIFFERENCES
_LOPSIDED = 0.5
"""Weight of the profile's asymmetry in its fit: an asymmetric profile and a drift along the series have nearly the same effect."""
_FEWEST_STEPS = 4
"""Classes of pairs with data that a profile needs; with fewer it is even."""
_LEAST_WEIGHT = 1e-4
"""Classes of pairs with a smaller share of the largest weight are ignored."""
_LEAST_ROOT_WEIGHT = 0.15
"""Lower bound of the square root of a class's weight over the largest: pairs far apart are few, but determine the depth."""
_BINS_AT_ONCE = 16
"""Bins whose cross spectra a thread adds up: with 61 views half a megabyte, which stays in its cache."""
_BLANK = 1e-6
"""Power of a view, relative to the strongest, below which it is blank."""


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

    @property
    def heights(self) -> Floats:
        """Heights of the profile, `(heights,)` raw pixels."""
        return np.linspace(-self.deepest_px, self.deepest_px, _HEIGHTS)


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


def summed_cross_spectra(patches: Sequence[Spectra], threads: int) -> NDArray[np.complex64]:
    """Return the sum of the cross spectra of patches, `(bins, views, views)`."""
    bins, views = patches[0].shape[:2]
    out = np.empty((bins, views, views), np.complex64)

    def work(some: slice) -> None:
        out[some] = cross_spectra(patches[0][some])
        for each in patches[1:]:
            out[some] += cross_spectra(each[some])

    for _ in map_threads(work, (slice(first, first + _BINS_AT_ONCE) for first in range(0, bins, _BINS_AT_ONCE)), threads):
        pass
    return out


def pair_views(cells: FrequencyCells, tilt: Floats, highest: float, deepest_px: float) -> Pairing:
    """Return the pairs of views at `tilt` `(views,)`, radians, and the frequencies at which they determine the profile."""
    tangent, cosine = np.tan(tilt), np.abs(np.cos(tilt))
    first, second = np.nonzero(tangent[None] > tangent[:, None])
    apart = cells.bin_x[:, None] * (tangent[second] - tangent[first])
    radius = np.hypot(cells.bin_x[:, None] / np.minimum(cosine[first], cosine[second]), cells.bin_y[:, None])
    band = np.searchsorted(highest * _BAND_EDGES, radius, side="right") - 1
    step = (apart * (_STEPS * deepest_px / _FURTHEST)).astype(int)
    index, pair = np.nonzero((band < BANDS) & (step < _STEPS))
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
        np.bincount(pairing.key, counted * part, BANDS * _STEPS).astype(float).reshape(BANDS, _STEPS)
        for part in (1.0, value.real, value.imag, pairing.apart)
    )
    known = np.maximum(weight, 1e-12)
    return Pairs(weight, np.asarray((real + 1j * imaginary) / known, np.complex128), place / known, pairing, alive)


def fit_coherence(pairs: Pairs) -> Coherence:
    """Return the model fitted to the coherence of pairs of views."""
    heights = pairs.pairing.heights
    profile, signal = np.empty((BANDS, _HEIGHTS)), np.empty(BANDS)
    for n in range(BANDS):
        profile[n], signal[n] = _fit_profile(pairs.coherence[n], pairs.apart[n], pairs.weight[n], heights)
    # Heights count from the mean height of the contrast, which the height of a patch refers to.
    mean = float((signal * (profile @ heights)).sum() / signal.sum())
    return Coherence(pairs.pairing.highest * _BAND_EDGES, heights - mean, profile, signal, pairs.alive.astype(float))


def _fit_profile(coherence: NDArray[np.complex128], apart: Floats, weight: Floats, heights: Floats) -> tuple[Floats, float]:
    """Return the non-negative profile, summing to 1, and its sum: the coherence of a view with itself but for noise."""
    known = weight > _LEAST_WEIGHT * weight.max()
    if weight.max() < 1 or known.sum() < _FEWEST_STEPS:
        return np.full(_HEIGHTS, 1 / _HEIGHTS), LEAST_COHERENT
    w = np.maximum(np.sqrt(weight[known] / weight.max()), _LEAST_ROOT_WEIGHT)[:, None]
    wave = np.exp(-2j * np.pi * apart[known, None] * heights[None]) * w
    target = coherence[known] * w[:, 0]
    waves = np.vstack([wave.real, wave.imag])
    gram, right = waves.T @ waves + _ROUGH, waves.T @ np.concatenate([target.real, target.imag])
    solution = np.zeros(_HEIGHTS)
    room = np.empty((_HEIGHTS, _HEIGHTS)), np.empty((2, _HEIGHTS)), np.empty(_HEIGHTS, np.int64)
    nonnegative(gram, right, solution, *room)
    if solution.sum() > 0:
        middle = round(float(solution @ np.arange(_HEIGHTS) / solution.sum()) * 2) - (_HEIGHTS - 1)
        lopsided = _LOPSIDED * (np.eye(_HEIGHTS) - np.roll(np.eye(_HEIGHTS)[:, ::-1], middle, axis=1))
        nonnegative(gram + lopsided.T @ lopsided, right, solution, *room)
    total = float(solution.sum())
    if total <= 0:
        return np.full(_HEIGHTS, 1 / _HEIGHTS), LEAST_COHERENT
    return solution / total, min(max(total, LEAST_COHERENT), 1.0)
