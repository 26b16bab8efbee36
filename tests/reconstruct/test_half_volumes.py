"""Tests of half volumes and the Fourier shell correlation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.errors import ParameterError, StageError
from tiltflow.reconstruct.half_volumes import half_views, shell_correlation


def test_halves_alternate_in_tilt_whatever_the_order_of_the_file() -> None:
    rng = np.random.default_rng(2)
    tilt = rng.permutation(np.linspace(-60, 60, 41))
    included = np.ones(41, bool)
    included[[3, 17, 30]] = False
    first, second = half_views(tilt, included)
    np.testing.assert_array_equal(first | second, included)
    assert not np.any(first & second)
    assert abs(int(first.sum()) - int(second.sum())) <= 1
    kept = np.sort(tilt[included])
    np.testing.assert_array_equal(np.sort(tilt[first]), kept[::2])


def test_three_views_are_too_few() -> None:
    with pytest.raises(StageError, match="3 views"):
        half_views([-1, 0, 1, 2], [True, True, True, False])


def test_the_same_volume_correlates_and_pure_noise_does_not(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 40, 96, 96)).astype(np.float32)
    same = shell_correlation(a, a, tile=32)
    np.testing.assert_allclose(same.correlation[same.voxels > 0], 1, atol=1e-6)
    assert same.resolution() is None
    apart = shell_correlation(a, b, tile=32)
    assert np.abs(apart.correlation[4:]).max() < 0.1
    assert apart.tiles == 4
    assert apart.resolution() < 0.2


def test_the_correlation_is_the_share_of_the_signal_at_each_frequency(rng: np.random.Generator) -> None:
    signal = rng.normal(size=(48, 128, 128))
    signal = np.fft.irfftn(np.fft.rfftn(signal) * radial_fall(signal.shape, 0.2), signal.shape, axes=(0, 1, 2))
    a, b = (signal + rng.normal(size=signal.shape) for _ in range(2))
    found = shell_correlation(a.astype(np.float32), b.astype(np.float32), tile=64, threads=2)
    power = np.exp(-((found.frequency / 0.2) ** 2)) ** 2
    np.testing.assert_allclose(found.correlation[3:], (power / (1 + power))[3:], atol=0.12)
    assert np.abs(found.correlation - power / (1 + power))[3:].mean() < 0.03
    # 0.143 is reached where the power of the signal is a sixth of that of the noise.
    assert found.resolution() == pytest.approx(0.2 * np.sqrt(np.log(6) / 2), rel=0.1)


def radial_fall(shape: tuple[int, ...], width: float) -> np.ndarray:
    z, y, x = np.fft.fftfreq(shape[0])[:, None, None], np.fft.fftfreq(shape[1])[:, None], np.fft.rfftfreq(shape[2])
    return np.exp(-(z**2 + y**2 + x**2) / width**2)


def test_more_noise_means_a_lower_resolution(rng: np.random.Generator) -> None:
    signal = ndimage.gaussian_filter(rng.normal(size=(32, 80, 80)), 1.5)
    signal /= signal.std()
    found = []
    for sd in (0.5, 2.0, 8.0):
        a, b = (signal + rng.normal(0, sd, signal.shape) for _ in range(2))
        found.append(shell_correlation(a, b, tile=64).resolution() or 0.5)
    assert found == sorted(found, reverse=True)
    assert found[0] > 1.5 * found[-1]


def test_volumes_that_differ_or_are_too_small_are_refused() -> None:
    with pytest.raises(ParameterError, match="must be the same"):
        shell_correlation(np.zeros((9, 9, 9)), np.zeros((9, 9, 8)))
    with pytest.raises(ParameterError, match="too small"):
        shell_correlation(np.zeros((4, 64, 64)), np.zeros((4, 64, 64)))
