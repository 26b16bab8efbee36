"""Peaks of cross-correlations, their height, and the band-pass filter applied before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Peak:
    """Where a correlation is highest.

    Attributes
    ----------
    y, x
        Displacement, pixels.
    height
        Above the mean of the map, in its standard deviations.
    """

    y: float
    x: float
    height: float


def frequencies(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return the frequencies of a real transform, cycles per pixel: y `(ny, 1)` and x `(1, nx // 2 + 1)`."""
    y, x = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    return np.asarray(y[:, None], np.float64), np.asarray(x[None, :], np.float64)


def band_pass(shape: tuple[int, int], sigma1: float, radius2: float, sigma2: float) -> Images:
    """Return IMOD's filter on the half plane of a real transform.

    `1 - exp(-r^2 / (2 sigma1^2))` at low frequencies and `exp(-(r - radius2)^2 / (2 sigma2^2))` above `radius2`, r in cycles per
    pixel; a sigma of 0 switches a part off.
    """
    radius = np.hypot(*frequencies(shape))
    gain = np.ones_like(radius)
    if sigma1 > 0:
        gain *= 1 - np.exp(-(radius**2) / (2 * sigma1**2))
    if sigma2 > 0:
        gain *= np.exp(-(np.maximum(radius - radius2, 0) ** 2) / (2 * sigma2**2))
    return np.asarray(gain, np.float32)


def find_peak(correlation: Images) -> Peak:
    """Return the highest point, to a fraction of a pixel by parabolas through its neighbours."""
    ny, nx = correlation.shape
    j, i = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    dy = vertex(*(float(correlation[(j + k) % ny, i]) for k in (-1, 0, 1)))
    dx = vertex(*(float(correlation[j, (i + k) % nx]) for k in (-1, 0, 1)))
    spread = float(correlation.std()) or 1.0
    height = (float(correlation[j, i]) - float(correlation.mean())) / spread
    return Peak((j + dy + ny / 2) % ny - ny / 2, (i + dx + nx / 2) % nx - nx / 2, height)


def vertex(before: float, at: float, after: float) -> float:
    """Return where a parabola through three equidistant values is highest, within half a step."""
    curvature = before - 2 * at + after
    return 0.0 if curvature >= 0 else min(max(0.5 * (before - after) / curvature, -0.5), 0.5)
