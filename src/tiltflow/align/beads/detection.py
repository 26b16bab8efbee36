"""Bead-like spots in a view, by the matched filter.

A bead of known shape T, in noise of known spectrum N (of the specimen and of the electrons), is detected and located with the least
error at the maxima of

    R = F^-1 [ T* F(image) / N ],      amplitude  a = R / E,     E = sum T^2 / N,      signal to noise  z = R / sqrt(E)

(the matched filter of North 1943, doi:10.1109/PROC.1963.2383).  N falls steeply with frequency where a specimen is crowded, so
that the filter weights the bead's edge, as the Sobel filter that IMOD's beadtrack can apply does; at low dose N is flat, and
the whole bead counts.  Both T and N are radially symmetric, so that the filter is a function of the radial frequency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.beads.noise_spectrum import Grid, ViewSpectrum, counting_power
from tiltflow.align.robust_scale import SD_OF_MEDIAN
from tiltflow.kernels import beads as kernel
from tiltflow.model import Image

Floats = NDArray[np.float64]

LEAST_Z = 4.5
"""Least signal to noise of a spot: noise exceeds it at one of 300,000 independent places."""

_MOST_SPOTS = 4000
"""Spots of a view, which bounds time and memory where a specimen is full of dots."""
_MEAN_OF_ABSOLUTE_NORMAL = 0.7979
"""Mean of the absolute value of a normal variable of unit variance, sqrt(2 / pi)."""
_STRONG, _CLEAREST = 0.3, 5
"""Spots are blanked or subtracted as beads whose signal to noise exceeds this share of the mean over so many of the clearest."""
_SPARSE = 5
"""Every fifth row and column of a response suffices for a median: samples next to each other are alike."""
_APART = 0.55
"""Distance within which only the higher of two maxima counts, diameters: touching beads are one diameter apart."""
_RING = 1.2, 3.5
"""Radii of the ring around a spot that its background's fluctuations are measured in, diameters."""
_CEILING = 3.0
"""Standard deviations at which these fluctuations are clipped, so that neighbouring beads do not count."""
_LEAST_SCALE = 0.7
"""Least fluctuations around a spot, relative to those of the view: a quiet patch by chance makes no spot."""
_LEAST_NOISE = 0.5
"""Least noise of a frequency, of that of counting.  In a view of few beads and 256 pixels the latter is estimated up to 1.5 times too
high when the beads are still in it, and a floor at that level blurs the filter until the fringes of beads look like smaller beads, light
for dark; what smoothing leaves of the noise is a tenth and less."""
_FARTHEST_VERTEX = 0.7
"""The peak of the paraboloid lies within this distance along x and y: half a pixel, and a margin for noise."""


@dataclass(frozen=True, slots=True, eq=False)
class Spots:
    """Bead-like spots of one view: `xy` `(spots, 2)` in working pixels, signal to noise `z` and `amplitude`, strongest first."""

    xy: Floats
    z: Floats
    amplitude: Floats

    def __len__(self) -> int:
        return len(self.z)


NO_SPOTS = Spots(np.empty((0, 2)), np.empty(0), np.empty(0))


def strong(spots: Spots, share: float = _STRONG, of: int = _CLEAREST) -> Floats:
    """Return the positions, `(n, 2)`, of the spots with more than a `share` of the mean signal to noise of the `of` clearest."""
    return spots.xy[spots.z > share * np.mean(spots.z[:of])] if len(spots) else spots.xy


@dataclass(frozen=True, slots=True, eq=False)
class MatchedFilter:
    """The matched filter of a profile in a noise spectrum: gain by radial bin, and `energy` E."""

    gain: Floats
    energy: float


def matched_filter(transform: Floats, noise: Floats, grid: Grid) -> MatchedFilter:
    """Return the filter whose response to a bead of amplitude 1 is E at its centre, with noise of variance E.

    `transform` is the Fourier transform of the profile of a bead by radial bin (:meth:`Grid.transform`), `noise` that of the view.

    Noise far below that of counting electrons counts as half of it: where a view was smoothed, the finest frequencies would decide alone,
    and of these the profile of a bead is known least.
    """
    gain = transform / np.maximum(noise, _LEAST_NOISE * counting_power(noise, grid))
    gain[0] = 0.0
    # The inverse transform divides by the number of samples; the noise is the power of the whole padded view.
    energy = float(np.sum(grid.low_counts * gain * transform))
    ny, nx = grid.sampled
    return MatchedFilter(gain * ny * nx, energy)


def respond(spectrum: ViewSpectrum, filter_: MatchedFilter, grid: Grid) -> Image:
    """Return R at the samples of a view that lie in it."""
    low = np.empty_like(spectrum.low)
    kernel.apply_gain(spectrum.low, grid.low_bins, filter_.gain.astype(np.float32), low)
    full = scipy.fft.irfft2(low, grid.sampled, overwrite_x=True)
    (y, x), (ny, nx) = grid.first, ((grid.pad + np.array(grid.shape) - 1) // grid.step).astype(int)
    return np.ascontiguousarray(full[y : ny + 1, x : nx + 1], np.float32)


def find_spots(response: Image, filter_: MatchedFilter, grid: Grid, diameter_px: float, least_z: float, margin_px: float) -> Spots:
    """Return the maxima of a response, with their signal to noise relative to the fluctuations around each.

    Where the specimen has more structure than elsewhere, as at the edge of a hole, the signal to noise of a spot is lower.
    """
    step, energy = grid.step[::-1], filter_.energy
    diameter, margin = diameter_px / step.max(), margin_px / step.min()
    found = np.empty((_MOST_SPOTS, 2), np.int32)
    scale = max(float(np.sqrt(energy)), SD_OF_MEDIAN * float(np.median(np.abs(response[::_SPARSE, ::_SPARSE]))))
    count = kernel.local_maxima(response, least_z * scale, _APART * diameter, int(np.ceil(margin)), found)
    inner, outer = (radius * diameter for radius in _RING)
    peaks = np.empty((count, 4))
    kernel.describe_maxima(response, found[:count], inner, outer, _CEILING * scale, _FARTHEST_VERTEX, peaks)
    xy = (peaks[:, :2] - 0.5 + grid.first[::-1]) * step - grid.pad + 0.5
    height, around = peaks[:, 2], peaks[:, 3] / _MEAN_OF_ABSOLUTE_NORMAL
    z, amplitude = height / np.maximum(around, _LEAST_SCALE * scale), height / energy
    order = np.argsort(-z)
    order = order[z[order] >= least_z]
    return Spots(xy[order], z[order], amplitude[order])
