"""The band of frequencies: rings, and the same band on fewer samples."""

import numpy as np
import pytest
import scipy

from tiltflow.align.projection.frequency_band import FrequencyBand


def random_band(band, rng):
    values = rng.normal(size=(2, len(band.q), len(band.p))) + 1j * rng.normal(size=(2, len(band.q), len(band.p)))
    return np.asarray(np.where(band.group >= 0, values, 0), np.complex64)


def images(band, values):
    return scipy.fft.irfft2(band.embed(values), band.shape)


def test_fewer_samples_hold_the_same_images(rng):
    """Frequencies below 0.1 of 60 by 60 pixels need 12 by 12 samples: every fifth pixel, but for the number of them."""
    band = FrequencyBand.up_to((60, 60), 0.1, 3)
    fewer, values = band.on_fewest_samples(), random_band(band, rng)
    assert fewer.shape == (12, 12)
    np.testing.assert_allclose(images(fewer, values) / 25, images(band, values)[:, ::5, ::5], atol=1e-6)


@pytest.mark.parametrize(("shape", "highest"), [((80, 96), 0.4), ((61, 45), 0.25), ((30, 20), 0.49)])
def test_products_are_summed_alike_over_fewer_samples_and_over_all_pixels(rng, shape, highest):
    band = FrequencyBand.up_to(shape, highest, 4)
    fewer, values = band.on_fewest_samples(), random_band(band, rng)
    assert all(a <= b for a, b in zip(fewer.shape, shape, strict=True))
    (a, b), (c, d) = images(band, values), images(fewer, values)
    assert np.sum(a * b) * a.size == pytest.approx(np.sum(c * d) * c.size, rel=1e-4)
    np.testing.assert_allclose(fewer.crop(scipy.fft.rfft2(images(fewer, values))), values, atol=1e-4)
