"""Images of beads, and of what lies behind them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tiltflow.align.beads.radial_profile import STEP, sphere_profile

DIAMETER = 10.0
PROFILE = sphere_profile(DIAMETER, 2 * DIAMETER)


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    """Return a function that draws spheres of 10 px at points, each pixel the mean over its area."""
    return _draw


def _draw(shape, xy, amplitude=1.0):
    image = np.zeros(shape)
    for px, py in xy:
        i, j = int(px) - 8, int(py) - 8
        y, x = (np.mgrid[:51, :51] + 0.5) / 3 + np.array([j, i])[:, None, None]
        fine = np.interp(np.hypot(x - px, y - py), np.arange(len(PROFILE)) * STEP, PROFILE)
        image[j : j + 17, i : i + 17] += amplitude * fine.reshape(17, 3, 17, 3).mean(axis=(1, 3))
    return image


@pytest.fixture
def coloured_noise(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """Return a function that makes noise of unit spread whose amplitude falls as a power of the frequency."""

    def make(shape, exponent=1.0):
        f = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
        spectrum = np.fft.rfft2(rng.normal(size=shape)) / np.maximum(f, 0.02) ** exponent
        noise = np.fft.irfft2(spectrum, shape)
        return noise / noise.std()

    return make
