"""A pattern that stays with the camera (a poor gain reference, dust, dead columns), taken out before views are compared.

Whatever does not move with the specimen correlates with itself at no shift, in all pairs of views, and may do so more strongly than
the specimen with a few neighbours.  Views far apart in the series share little else, so that the mean of their cross spectra is the
power p of the pattern; that of the specimen is left only along the tilt axis, and the median over directions does not see it.
From n views the pattern is known to within the power P of everything else over n, and what is taken off each is their mean times
Wiener's p / (p + P / n).

Answers to `ExcludeCentralPeak` of IMOD's tiltxcorr, which ignores the peak that the pattern makes, and with it a specimen at no shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Images = NDArray[np.float32]

_FEWEST = 9
"""Views below which nothing is looked for."""
_APART = 3
"""Views are far apart when at least this part of the series (one over) lies between them."""
_RINGS = np.array([0.04, 0.08, 0.12, 0.17, 0.23, 0.3, 0.4])
"""Radial frequencies between which a pattern is looked for, cycles per pixel."""
_SECTORS = 16
_CLEAR = 5.0
"""Standard errors by which a pattern must stand out in a ring."""
_LEAST = 0.003
"""Fraction of the power below which it does no harm."""


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """What stays in place.

    Attributes
    ----------
    image
        `(ny, nx)`, to be taken off every view.
    fraction
        Its part of the power of a view.
    """

    image: Images
    fraction: float


def find_pattern(images: Images) -> Pattern | None:
    """Return the pattern common to images `(views, ny, nx)` of mean zero, in the order of the series; None if there is none."""
    views, ny, nx = images.shape
    if views < _FEWEST:
        return None
    apart = max(views // _APART, 1)
    shape = ny, nx // 2 + 1
    later, power, shared = np.zeros(shape, np.complex64), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    spectra = [np.asarray(fft.rfft2(image), np.complex64) for image in images]
    for view in range(views - 1, -1, -1):
        if view + apart < views:
            later += spectra[view + apart]
            shared += (spectra[view].conj() * later).real
        power += np.abs(spectra[view]) ** 2
    pairs = (views - apart) * (views - apart + 1) / 2
    gain = _gain(np.asarray(shared / pairs, np.float64), np.asarray(power / views, np.float64), ny, nx, views)
    if not gain.any():
        return None
    mean = np.sum(spectra, axis=0) / np.float32(views)
    image = np.asarray(fft.irfft2(gain * mean, (ny, nx)), np.float32)
    return Pattern(image, float(image.var() / images.var()))


def _gain(shared: NDArray[np.float64], power: NDArray[np.float64], ny: int, nx: int, views: int) -> NDArray[np.float32]:
    """Return Wiener's factor at every frequency `(ny, nx // 2 + 1)`; 0 where there is no pattern."""
    fy, fx = fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None]
    radius, angle = np.hypot(fx, fy), np.arctan2(fy, fx)
    ring = np.searchsorted(_RINGS, radius, side="right") - 1
    sector = np.minimum(((angle / np.pi + 0.5) * _SECTORS).astype(int), _SECTORS - 1)
    inside = (ring >= 0) & (ring < len(_RINGS) - 1)
    key, cells = (ring * _SECTORS + sector)[inside], (len(_RINGS) - 1, _SECTORS)
    total, common = (np.bincount(key, spectrum[inside], cells[0] * cells[1]).reshape(cells) for spectrum in (power, shared))
    fraction = common / np.maximum(total, 1e-30)
    typical = np.median(fraction, axis=1)
    error = 1.4826 * 1.25 * np.median(np.abs(fraction - typical[:, None]), axis=1) / np.sqrt(_SECTORS)
    clear = typical > np.maximum(_CLEAR * error, _LEAST)
    typical = np.where(clear, typical, 0.0)
    factor = typical / (typical + (1 - typical) / views)
    middles = 0.5 * (_RINGS[1:] + _RINGS[:-1])
    return np.asarray(np.interp(radius, middles, factor, left=factor[0], right=factor[-1]), np.float32)
