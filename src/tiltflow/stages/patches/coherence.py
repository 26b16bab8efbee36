"""What one view says of another: the coherence of two views, from how contrast is spread over the depth of the specimen.

In the plane of the specimen a detail at height z moves by z tan(tilt).  Two views i and k, at the x frequency X, therefore agree to

    c = r_i r_k integral of p(z) exp(-2 pi i X (tan t_k - tan t_i) z) dz

with r^2 the fraction of a view's power that is specimen and not noise, and p(z) the profile of contrast in depth: a slab, a layer of
gold on one surface, or both.  p is read off the data: the coherence of all pairs of views as a function of X (tan t_k - tan t_i) is
its Fourier transform, and p is nowhere negative (non-negative least squares), so that the covariance of the views is always a valid one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from tiltflow.stages.patches.spectra import Cells

Floats = NDArray[np.float64]

_BANDS = 5
_STEPS = 48
_MOST_COHERENT = 0.95
_LEAST_COHERENT = 0.003
_ROUGHNESS = 0.02
_LOPSIDED = 0.5


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
        `(views,)` factor on r: how well a view agrees with the others, for what its frequency promises; 0 for views left out.
    """

    edges: Floats
    heights: Floats
    profile: Floats
    signal: Floats
    quality: Floats

    @property
    def depth_px(self) -> float:
        """Thickness of a slab with the spread of the profile at the lower frequencies, raw pixels."""
        profile = self.profile[: _BANDS // 2 + 1].mean(axis=0)
        mean = float(profile @ self.heights)
        return float(np.sqrt(12 * (profile @ (self.heights - mean) ** 2)))


def cross_spectra(spectra: NDArray[np.complex64], cells: Cells) -> NDArray[np.complex128]:
    """Return `(bins, views, views)`: the mean over cells and patches of conj(a_i) a_k."""
    views = len(spectra)
    out = np.empty((cells.bins, views, views), np.complex128)
    for b in range(cells.bins):
        a = spectra[:, cells.start[b] : cells.start[b + 1]].reshape(views, -1)
        out[b] = (a.conj() @ a.T) / a.shape[1]
    return out


def fit_coherence(cross: NDArray[np.complex128], cells: Cells, tilt: Floats, highest: float, deepest_px: float) -> Coherence:
    """Return the coherence model that cross spectra `(bins, views, views)` speak for; `tilt` in radians."""
    tangent, cosine = np.tan(tilt), np.cos(tilt)
    power = np.maximum(np.einsum("bii->bi", cross).real, 1e-12)
    alive = power.mean(axis=0) > 1e-6
    edges = highest * np.array([0.0, 0.1, 0.2, 0.35, 0.6, 1.3])
    heights = np.linspace(-deepest_px, deepest_px, 81)
    furthest = 0.25 / (heights[1] - heights[0]) if deepest_px > 0 else 1.0
    furthest = min(furthest, 3.0 / deepest_px)
    first, second = np.nonzero((tangent[None] > tangent[:, None]) & alive[:, None] & alive[None])
    apart = cells.bin_x[:, None] * (tangent[second] - tangent[first])
    radius = np.hypot(cells.bin_x[:, None] / np.minimum(cosine[first], cosine[second]), cells.bin_y[:, None])
    value = cross[:, first, second] / np.sqrt(power[:, first] * power[:, second])
    weight = np.broadcast_to(np.diff(cells.start)[:, None], value.shape)
    band = np.searchsorted(edges, radius, side="right") - 1
    step = (apart / furthest * _STEPS).astype(int)
    near = (band < _BANDS) & (step < _STEPS)
    key = band[near] * _STEPS + step[near]
    total = np.bincount(key, weight[near], _BANDS * _STEPS).reshape(_BANDS, _STEPS)
    real, imaginary, place = (
        np.bincount(key, weight[near] * part[near], _BANDS * _STEPS).reshape(_BANDS, _STEPS) / np.maximum(total, 1e-12)
        for part in (value.real, value.imag, apart)
    )
    profile, signal = np.empty((_BANDS, len(heights))), np.empty(_BANDS)
    for n in range(_BANDS):
        profile[n], signal[n] = _fit_profile(real[n] + 1j * imaginary[n], place[n], total[n], heights)
    # The mean height of what is seen is what a patch's own height means.
    mean = float((signal * (profile @ heights)).sum() / signal.sum())
    return Coherence(edges, heights - mean, profile, signal, alive.astype(float))


def _fit_profile(coherence: NDArray[np.complex128], apart: Floats, weight: Floats, heights: Floats) -> tuple[Floats, float]:
    """Return the non-negative profile, summing to 1, and its sum: the coherence of a view with itself but for noise."""
    flat = np.full(len(heights), 1 / len(heights))
    known = weight > 1e-4 * weight.max()
    if weight.max() <= 0 or known.sum() < 4:
        return flat, _LEAST_COHERENT
    w = np.maximum(np.sqrt(weight[known] / weight.max()), 0.15)[:, None]
    wave = np.exp(-2j * np.pi * apart[known, None] * heights[None]) * w
    rough = _ROUGHNESS * np.sqrt(len(heights)) * (np.eye(len(heights)) - np.eye(len(heights), k=1))
    target = coherence[known] * w[:, 0]
    system = np.vstack([wave.real, wave.imag, rough])
    right = np.concatenate([target.real, target.imag, np.zeros(len(heights))])
    answer = optimize.nnls(system, right)[0]
    if answer.sum() > 0:
        mirror = np.eye(len(heights))[:, ::-1]
        middle = round(float(answer @ np.arange(len(heights)) / answer.sum()) * 2) - (len(heights) - 1)
        lopsided = _LOPSIDED * (np.eye(len(heights)) - np.roll(mirror, middle, axis=1))
        answer = optimize.nnls(np.vstack([system, lopsided]), np.concatenate([right, np.zeros(len(heights))]))[0]
    total = float(answer.sum())
    return (answer / total, min(max(total, _LEAST_COHERENT), 1.0)) if total > 0 else (flat, _LEAST_COHERENT)


def covariance(model: Coherence, cells: Cells, tilt: Floats, unsettled_px: float) -> NDArray[np.complex128]:
    """Return `(twins, views, views)`: the covariance of a_i and a_k that the model expects, 1 on the diagonal.

    Views that may still be displaced by `unsettled_px` (standard deviation of a coordinate) agree the less, the higher the frequency.
    """
    tangent, cosine = np.tan(tilt), np.cos(tilt)
    first = np.unique(cells.twin, return_index=True)[1]
    bin_x, bin_y = cells.bin_x[first, None], cells.bin_y[first, None]
    centres = 0.5 * (model.edges[1:] + model.edges[:-1])
    radius = np.hypot(bin_x / cosine, bin_y)
    strength = np.interp(radius, centres, model.signal, right=_LEAST_COHERENT) * model.quality**2
    r = np.sqrt(np.minimum(strength, _MOST_COHERENT) * np.exp(-((2 * np.pi * radius * unsettled_px) ** 2)))
    band = np.clip(np.searchsorted(model.edges, np.hypot(bin_x, bin_y)[:, 0], side="right") - 1, 0, _BANDS - 1)
    apart = tangent[:, None] - tangent[None]
    grid, table = _transform(model, float(np.abs(apart).max() * bin_x.max()))
    out = np.empty((len(first), len(tilt), len(tilt)), np.complex128)
    for n, x in enumerate(bin_x[:, 0]):
        place = np.abs(x * apart)
        out[n].real = np.interp(place, grid, table[band[n]].real)
        out[n].imag = np.interp(place, grid, table[band[n]].imag) * np.sign(apart)
    out *= r[:, :, None] * r[:, None, :]
    views = np.arange(len(tilt))
    out[:, views, views] = 1.0
    return out


def _transform(model: Coherence, furthest: float) -> tuple[Floats, NDArray[np.complex128]]:
    """Return distances from 0 to `furthest`, cycles per pixel, and the transform of each band's profile there."""
    step = model.heights[1] - model.heights[0]
    grid = np.linspace(0, furthest, max(int(furthest * 16 * model.heights[-1]), 64))
    wave = np.exp(-2j * np.pi * grid[:, None] * model.heights) * np.sinc(grid * step)[:, None] ** 2
    return grid, model.profile @ wave.T


def rate_views(model: Coherence, expected: NDArray[np.complex128], cross: NDArray[np.complex128], cells: Cells) -> Coherence:
    """Return the model with the quality of each view: least squares of its coherence with its neighbours in tilt.

    `expected` is the covariance of the model as it stands.
    """
    power = np.maximum(np.einsum("bii->bi", cross).real, 1e-12)
    found = cross.conj() / np.sqrt(power[:, :, None] * power[:, None, :])
    weight = np.diff(cells.start)[:, None, None]
    wanted = expected[cells.twin] / np.maximum(model.quality[:, None] * model.quality[None], 1e-6)
    agreement = (weight * (wanted.conj() * found).real).sum(axis=0)
    norm = (weight * np.abs(wanted) ** 2).sum(axis=0)
    np.fill_diagonal(agreement, 0.0)
    np.fill_diagonal(norm, 0.0)
    quality = model.quality.copy()
    for _ in range(4):
        quality = np.clip((agreement @ quality) / np.maximum(norm @ quality**2, 1e-12), 0.0, 1.3)
    return replace(model, quality=np.where(model.quality > 0, quality, 0.0))
