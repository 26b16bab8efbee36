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

from tiltflow.align.beads.noise_spectrum import Grid, Spectrum
from tiltflow.kernels import beads as kernel
from tiltflow.model import Image

Floats = NDArray[np.float64]

LEAST_Z = 4.5
"""Signal to noise below which a spot could be chance."""

_MOST_SPOTS = 4000
_MEAN_OF_ABSOLUTE_NORMAL = 0.7979
_SPARSE = 3


@dataclass(frozen=True, slots=True, eq=False)
class Spots:
    """Bead-like spots of one view: `xy` `(spots, 2)` in working pixels, signal to noise `z` and `amplitude`, strongest first."""

    xy: Floats
    z: Floats
    amplitude: Floats

    def __len__(self) -> int:
        return len(self.z)


NO_SPOTS = Spots(np.empty((0, 2)), np.empty(0), np.empty(0))


def strong(spots: Spots, share: float = 0.3, of: int = 5) -> Floats:
    """Return where the spots are, `(n, 2)`, that are at least a `share` as clear as the mean of the clearest."""
    return spots.xy[spots.z > share * np.mean(spots.z[:of])] if len(spots) else spots.xy


@dataclass(frozen=True, slots=True, eq=False)
class MatchedFilter:
    """The matched filter of a profile in a noise spectrum: gain by radial bin, and `energy` E."""

    gain: Floats
    energy: float


def matched_filter(profile: Floats, noise: Floats, grid: Grid) -> MatchedFilter:
    """Return the filter whose response to a bead of amplitude 1 is E at its centre, with noise of variance E."""
    transform = grid.transform(profile)
    gain = transform / noise
    gain[0] = 0.0
    # The inverse transform divides by the number of pixels; the noise is the power of the whole padded view.
    energy = float(np.sum(grid.counts * gain * transform))
    pixels = grid.padded[0] * grid.padded[1]
    return MatchedFilter(gain * pixels, energy)


def respond(spectrum: Spectrum, filter_: MatchedFilter, grid: Grid) -> Image:
    """Return R, `(ny, nx)`."""
    full = fft.irfft2(spectrum * filter_.gain.astype(np.float32).take(grid.bins), grid.padded)
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
