"""A fixed pattern of the camera (a poor gain reference, dust all over it), removed before views are compared.

What does not move with the specimen correlates with itself at zero shift in all pairs of views, and may do so more strongly than
the specimen does between neighbours.  Views far apart in the series share little else, so that the mean of their cross spectra is
the power p of the pattern.  The specimen contributes to it only near the tilt axis direction, to which the median over directions
is insensitive.  The mean of n views is the pattern plus the remaining power P of a view over n, so that Wiener's factor
`p / (p + P / n)` times this mean is subtracted from each view.

A round specimen in the middle of the field looks the same from all sides and need not move either.  It is told from a camera by
where it is: a gain reference is wrong all over the field, whereas a specimen that is seen whole leaves the corners free.  A
candidate is a pattern only if views far apart share its power, at zero shift, in three quarters of the blocks of the field.
Hot and dead columns, rows and blocks are repaired in the raw views (:mod:`tiltflow.preprocess.camera_lines`).

Corresponds to `ExcludeCentralPeak` of IMOD's tiltxcorr, which ignores the peak at zero shift, and with it a specimen that has not
moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

Images = NDArray[np.float32]

_FEWEST = 9
"""Views below which no pattern is estimated: an eighth or more of the power of their mean is that of the specimen and the noise."""
_APART = 3
"""Views are far apart when at least this part of the series (one over) lies between them: 40 degrees in a series of 120, where the
specimen has lost its correlation.  2 to 6 leave as much of a pattern (`benchmarks/sensitivity_volume.py`)."""
_RINGS = np.array([0.04, 0.08, 0.12, 0.17, 0.23, 0.3, 0.4])
"""Edges of the rings in which the pattern is measured, cycles per pixel.  They begin above the background that was removed and end
below the corners of the spectrum, and widen outwards as the spectrum of a pattern flattens.  With half the frequencies as much of a
pattern is left, with double 11 % more."""
_SECTORS = 16
"""Sectors of half the plane whose median is taken, so that the specimen's power along the axis, in one or two, does not count.  8
change nothing, 32 less than a percent."""
_CLEAR = 5.0
"""Standard errors by which the power of a pattern must exceed zero in a ring.  The error is known to 30 % only, from 16 sectors.
Half or double leaves as much of a pattern, to a percent."""
_LEAST = 0.003
"""Fraction of the power below which a pattern is ignored, as it is far below the correlation of neighbouring views; half or double
changes nothing."""
_BLOCKS = 8
"""Blocks along each side of the field in which the power of a candidate is measured.  4 or 16 decide alike."""
_QUARTER = 0.25
"""Quantile of the power over the blocks that is compared with its mean: a disc as wide as the field leaves 21 % of it free."""
_EVEN = 0.6
"""Least power of a pattern in that block, as a fraction of the mean.  Gain references have 0.8 to 0.9, real and simulated
specimens in the middle 0.01 to 0.4."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_MEDIAN_ERROR = 1.25
"""Standard error of a median over that of a mean, `sqrt(pi / 2)`."""


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """The fixed pattern of a camera.

    Attributes
    ----------
    image
        `(ny, nx)`, to be subtracted from every view.
    fraction
        Its variance as a fraction of that of the views.
    """

    image: Images
    fraction: float


def find_pattern(images: Images, threads: int = 1) -> Pattern | None:
    """Return the pattern common to all images, or None if there is none.

    Parameters
    ----------
    images
        `(views, ny, nx)`, of mean zero, in the order of tilt.
    threads
        Views transformed at the same time.
    """
    views, ny, nx = images.shape
    if views < _FEWEST:
        return None
    apart = max(views // _APART, 1)
    shape = ny, nx // 2 + 1
    later, power, shared = np.zeros(shape, np.complex64), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    spectra = scipy.fft.rfft2(np.asarray(images, np.float32), workers=threads)
    for view in range(views - 1, -1, -1):
        if view + apart < views:
            later += spectra[view + apart]
            shared += spectra[view].real * later.real + spectra[view].imag * later.imag
        power += spectra[view].real ** 2 + spectra[view].imag ** 2
    pairs = (views - apart) * (views - apart + 1) / 2
    gain = _gain(np.asarray(shared / pairs, np.float64), np.asarray(power / views, np.float64), ny, nx, views)
    if not gain.any() or _evenness(spectra, gain, ny, nx, apart) < _EVEN:
        return None
    mean = np.sum(spectra, axis=0) / np.float32(views)
    image = np.asarray(scipy.fft.irfft2(gain * mean, (ny, nx)), np.float32)
    return Pattern(image, float(image.var() / images.var()))


def _evenness(spectra: NDArray[np.complex64], gain: NDArray[np.float32], ny: int, nx: int, apart: int) -> float:
    """Return the power that views far apart share in the block of the lower quartile, as a fraction of the mean over blocks."""
    edges = [np.linspace(0, n, min(_BLOCKS, n) + 1).astype(int) for n in (ny, nx)]
    later, shared = np.zeros((ny, nx), np.float32), np.zeros((ny, nx))
    for view in range(len(spectra) - apart - 1, -1, -1):
        later += np.asarray(scipy.fft.irfft2(gain * spectra[view + apart], (ny, nx)), np.float32)
        shared += np.asarray(scipy.fft.irfft2(gain * spectra[view], (ny, nx)), np.float32) * later
    sums = np.add.reduceat(np.add.reduceat(shared, edges[0][:-1], axis=0), edges[1][:-1], axis=1)
    power = sums / np.outer(np.diff(edges[0]), np.diff(edges[1]))
    mean = float(power.mean())
    return float(np.quantile(power, _QUARTER)) / mean if mean > 0 else 0.0


def _gain(shared: NDArray[np.float64], power: NDArray[np.float64], ny: int, nx: int, views: int) -> NDArray[np.float32]:
    """Return Wiener's factor at every frequency `(ny, nx // 2 + 1)`; 0 where there is no pattern."""
    fy, fx = scipy.fft.fftfreq(ny)[:, None], scipy.fft.rfftfreq(nx)[None]
    radius, angle = np.hypot(fx, fy), np.arctan2(fy, fx)
    ring = np.searchsorted(_RINGS, radius, side="right") - 1
    sector = np.minimum(((angle / np.pi + 0.5) * _SECTORS).astype(int), _SECTORS - 1)
    inside = (ring >= 0) & (ring < len(_RINGS) - 1)
    key, cells = (ring * _SECTORS + sector)[inside], (len(_RINGS) - 1, _SECTORS)
    total, common = (np.bincount(key, spectrum[inside], cells[0] * cells[1]).reshape(cells) for spectrum in (power, shared))
    fraction = common / np.maximum(total, 1e-30)
    typical = np.median(fraction, axis=1)
    error = _MAD_TO_SD * _MEDIAN_ERROR * np.median(np.abs(fraction - typical[:, None]), axis=1) / np.sqrt(_SECTORS)
    clear = typical > np.maximum(_CLEAR * error, _LEAST)
    typical = np.where(clear, typical, 0.0)
    factor = typical / (typical + (1 - typical) / views)
    middles = (_RINGS[1:] + _RINGS[:-1]) / 2
    return np.asarray(np.interp(radius, middles, factor, left=factor[0], right=factor[-1]), np.float32)
