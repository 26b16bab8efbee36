"""Bead-like spots in a view, by the filter that is best at finding and centring them.

A bead of known shape T, in noise of known spectrum N (of the specimen and of the electrons), is found and placed with the least
error by the maxima of

    R = F^-1 [ T* F(image) / N ],      amplitude  a = R / E,     E = sum T^2 / N,      signal to noise  z = R / sqrt(E)

(the matched filter of North 1943, doi:10.1109/PROC.1963.2383).  N falls steeply with frequency where a specimen is crowded, so
that the filter lives from the bead's edge, as the Sobel filter that IMOD's beadtrack can apply does; at low dose N is flat, and
the whole bead counts.  Both T and N are round, so that the filter is one curve over the radial frequency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from tiltflow.kernels import beads as kernel
from tiltflow.kernels.warp import bin_mean
from tiltflow.model import Image, Stack
from tiltflow.stages.beads.template import hankel_matrix

Floats = NDArray[np.float64]

_MOST_SPOTS = 4000
_MEAN_OF_ABSOLUTE_NORMAL = 0.7979
_CLIP_SD = 3.0
_SPARSE = 3
_FINE = 0.35


@dataclass(frozen=True, slots=True, eq=False)
class Spots:
    """Bead-like spots of one view: `xy` `(spots, 2)` in working pixels, signal to noise `z` and `amplitude`, strongest first."""

    xy: Floats
    z: Floats
    amplitude: Floats

    def __len__(self) -> int:
        return len(self.z)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The frequencies of a padded view.

    Attributes
    ----------
    shape, padded
        `(ny, nx)` of a view and of what is transformed.
    pad
        Pixels that mirror the view before its first row and column.
    bins
        Radial bin of each frequency of the half spectrum.
    counts, frequency
        Number of frequencies of the whole spectrum in each bin, and its radius, cycles per pixel.
    hankel
        Makes of a profile its Fourier transform by radial bin.
    """

    shape: tuple[int, int]
    padded: tuple[int, int]
    pad: int
    bins: NDArray[np.int32]
    counts: Floats
    frequency: Floats
    hankel: Floats

    def transform(self, profile: Floats) -> Floats:
        """Return the Fourier transform of a round function by radial bin."""
        samples = min(len(profile), self.hankel.shape[1])
        return np.asarray(self.hankel[:, :samples] @ profile[:samples])


def make_grid(shape: tuple[int, int], diameter: float) -> Grid:
    """Return the grid of views of `shape`, mirrored by at least two diameters on every side; profiles reach four of them."""
    pad = min(int(np.ceil(2 * diameter)), min(shape) - 1)
    ny, nx = (fft.next_fast_len(n + 2 * pad, real=True) for n in shape)
    steps = max(ny, nx)
    radius = np.hypot(fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None])
    bins = np.rint(radius * steps).astype(np.int32)
    doubled = np.full(bins.shape, 2.0)
    doubled[:, 0] = 1.0
    counts = np.bincount(bins.ravel(), doubled.ravel()).astype(np.float64)
    frequency = np.arange(len(counts), dtype=np.float64) / steps
    return Grid(shape, (ny, nx), pad, bins, counts, frequency, hankel_matrix(frequency, 4 * diameter))


def read_view(stack: Stack, view: int, binning: int) -> Image:
    """Return a view as float32, averaged over `binning` x `binning` pixels."""
    image = np.asarray(stack[view], np.float32)
    if binning == 1:
        return image
    out = np.empty((image.shape[0] // binning, image.shape[1] // binning), np.float32)
    bin_mean(np.ascontiguousarray(image), binning, out)
    return out


def transform_view(image: Image, grid: Grid) -> NDArray[np.complex64]:
    """Return the spectrum of a view, mirrored at its edges, without its mean."""
    widths = [(grid.pad, padded - size - grid.pad) for padded, size in zip(grid.padded, grid.shape, strict=True)]
    mirrored = np.pad(image - np.float32(image.mean()), widths, mode="symmetric")
    return np.asarray(fft.rfft2(mirrored), np.complex64)


def noise_spectrum(image: Image, grid: Grid, spots_xy: Floats | None, radius_px: float) -> Floats:
    """Return the power of a view by radial bin, `(bins,)`, apart from the beads in it.

    Known beads are blanked; where none are known yet, values far from the mean are clipped.
    """
    flat = image - np.float32(image.mean())
    share = 0.0
    if spots_xy is None:
        sample = flat[::_SPARSE, ::_SPARSE]
        middle = np.median(sample)
        limit = _CLIP_SD * 1.4826 * np.median(np.abs(sample - middle))
        np.clip(flat, middle - limit, middle + limit, out=flat)
    elif len(spots_xy):
        keep = np.ones(image.shape, np.float32)
        share = kernel.blank_discs(keep, spots_xy, radius_px) / keep.size
        flat -= np.float32((flat * keep).sum() / max(keep.sum(), 1))
        flat *= keep
    spectrum = transform_view(flat, grid)
    power = np.zeros(len(grid.counts))
    kernel.radial_power(spectrum, grid.bins, power)
    power /= np.maximum(grid.counts, 1) * (1 - min(share, 0.9))
    return _smooth(power)


def fine_power(spectrum: NDArray[np.complex64], grid: Grid) -> float:
    """Return the mean power of a view at the finest frequencies, where there is little but the noise of counting."""
    columns = grid.bins.shape[1]
    first = int(_FINE * 2 * (columns - 1))
    sample = spectrum[::_SPARSE, first:]
    return float(np.mean(sample.real**2 + sample.imag**2))


def _smooth(power: Floats) -> Floats:
    """Return the spectrum averaged over its neighbours in the logarithm; bins without a frequency take their neighbours' value."""
    filled = np.where(power > 0, power, np.nan)
    good = np.flatnonzero(np.isfinite(filled))
    if good.size == 0:
        return np.ones_like(power)
    logs = np.interp(np.arange(len(power)), good, np.log(filled[good]))
    logs[0] = logs[1] if len(logs) > 1 else logs[0]
    padded = np.pad(logs, 2, mode="edge")
    return np.asarray(np.exp(np.convolve(padded, np.ones(5) / 5, mode="valid")))


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The matched filter of a profile in a noise spectrum: gain by radial bin, and `energy` E."""

    gain: Floats
    energy: float


def matched_filter(profile: Floats, noise: Floats, grid: Grid) -> Matched:
    """Return the filter whose response to a bead of amplitude 1 is E at its centre, with noise of variance E."""
    transform = grid.transform(profile)
    gain = transform / noise
    gain[0] = 0.0
    # The inverse transform divides by the number of pixels; the noise is the power of the whole padded view.
    energy = float(np.sum(grid.counts * gain * transform))
    pixels = grid.padded[0] * grid.padded[1]
    return Matched(gain * pixels, energy)


def respond(spectrum: NDArray[np.complex64], filter_: Matched, grid: Grid) -> Image:
    """Return R, `(ny, nx)`."""
    filtered = np.empty_like(spectrum)
    kernel.scale_by_bin(spectrum, grid.bins, filter_.gain.astype(np.float32), filtered)
    full = fft.irfft2(filtered, grid.padded)
    (ny, nx), pad = grid.shape, grid.pad
    return np.ascontiguousarray(full[pad : pad + ny, pad : pad + nx], np.float32)


def find_spots(response: Image, energy: float, diameter_px: float, least_z: float, margin_px: float) -> Spots:
    """Return the maxima of a response, each measured against the fluctuations around it.

    Where the specimen is busier than elsewhere, the edge of a hole say, the signal to noise of a spot falls accordingly.
    """
    found = np.empty((_MOST_SPOTS, 2), np.int32)
    scale = max(float(np.sqrt(energy)), 1.4826 * float(np.median(np.abs(response[::_SPARSE, ::_SPARSE]))))
    count = kernel.local_maxima(response, least_z * scale, 0.55 * diameter_px, int(np.ceil(margin_px)), found)
    xy, z, amplitude = np.empty((count, 2)), np.empty(count), np.empty(count)
    for n, (j, i) in enumerate(found[:count]):
        dx, dy, height = _vertex(response[j - 1 : j + 2, i - 1 : i + 2])
        around = kernel.ring_scale(response, j, i, 1.2 * diameter_px, 3.5 * diameter_px, 3 * scale) / _MEAN_OF_ABSOLUTE_NORMAL
        xy[n] = i + 0.5 + dx, j + 0.5 + dy
        z[n] = height / max(around, 0.7 * scale)
        amplitude[n] = height / energy
    order = np.argsort(-z)
    order = order[z[order] >= least_z]
    return Spots(xy[order], z[order], amplitude[order])


def _vertex(p: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return offset and height of the top of the paraboloid through 3 x 3 values."""
    gx, gy = (p[1, 2] - p[1, 0]) / 2, (p[2, 1] - p[0, 1]) / 2
    hxx, hyy = p[1, 2] - 2 * p[1, 1] + p[1, 0], p[2, 1] - 2 * p[1, 1] + p[0, 1]
    hxy = (p[2, 2] - p[2, 0] - p[0, 2] + p[0, 0]) / 4
    det = hxx * hyy - hxy * hxy
    if det <= 0 or hxx >= 0:
        return 0.0, 0.0, float(p[1, 1])
    dx, dy = -(hyy * gx - hxy * gy) / det, -(hxx * gy - hxy * gx) / det
    dx, dy = min(max(dx, -0.7), 0.7), min(max(dy, -0.7), 0.7)
    return float(dx), float(dy), float(p[1, 1] + (gx * dx + gy * dy) / 2)
