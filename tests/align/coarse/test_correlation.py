"""Peaks of correlations of images whose displacement is known."""

import numpy as np
import pytest
from scipy import fft, ndimage

from tiltflow.align.coarse.correlation import band_pass, find_peak, frequencies


def correlation(image, moved):
    return np.asarray(fft.irfft2(np.conj(fft.rfft2(image)) * fft.rfft2(moved), image.shape), np.float32)


@pytest.mark.parametrize("displacement", [(3.0, -7.0), (-20.3, 15.6), (0.0, 0.0)])
def test_a_peak_says_how_far_an_image_was_moved(rng, displacement):
    image = ndimage.gaussian_filter(rng.normal(size=(80, 96)), 2.0, mode="wrap")
    y, x = frequencies(image.shape)
    moved = fft.irfft2(fft.rfft2(image) * np.exp(-2j * np.pi * (y * displacement[0] + x * displacement[1])), image.shape)
    peak = find_peak(correlation(image, moved))
    assert (peak.y, peak.x) == pytest.approx(displacement, abs=0.05)
    assert peak.height > 5


def test_noise_has_no_clear_peak(rng):
    a, b = rng.normal(size=(2, 80, 96))
    assert find_peak(correlation(a, b)).height < 5.5
    assert find_peak(correlation(a, a + b)).height > 20


def test_the_filter_is_imods():
    gain = band_pass((64, 64), 0.05, 0.25, 0.06)
    y, x = frequencies((64, 64))
    r = np.hypot(y, x)
    assert gain[0, 0] == 0
    at = np.unravel_index(np.argmin(np.abs(r - 0.1)), r.shape)
    assert gain[at] == pytest.approx(1 - np.exp(-(r[at] ** 2) / (2 * 0.05**2)), rel=1e-5)
    at = np.unravel_index(np.argmin(np.abs(r - 0.35)), r.shape)
    assert gain[at] == pytest.approx(np.exp(-((r[at] - 0.25) ** 2) / (2 * 0.06**2)), rel=1e-5)


def test_sigmas_of_0_switch_the_filter_off():
    np.testing.assert_array_equal(band_pass((16, 20), 0.0, 0.25, 0.0), 1.0)
