"""The noise that beads lie in, without the beads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.align.beads.centring import around
from tiltflow.align.beads.noise_spectrum import counting_power, make_grid, middle_of, noise_spectrum, read_view, transform_view

DIAMETER = 10.0


def test_views_are_averaged_over_the_binning(rng):
    stack = rng.integers(0, 100, (2, 21, 30)).astype(np.int16)
    np.testing.assert_allclose(read_view(stack, 1, 2), stack[1, :20].reshape(10, 2, 15, 2).mean(axis=(1, 3)), rtol=1e-6)
    assert read_view(stack, 0, 1).dtype == stack.dtype


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "f4", ">i2", ">f4", "f2", "i4", "f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_views_of_every_type_and_order_of_their_bytes_are_looked_at(rng, kind, order):
    stack = np.asarray(rng.integers(0, 2 if kind == "?" else 100, (2, 60, 70)), np.dtype(kind), order=order)
    grid, image = make_grid((60, 70), DIAMETER), read_view(stack, 1, 1)
    assert image.dtype == (stack.dtype if kind in {"i1", "u1", "i2", "u2", "f4"} else np.float32)
    real = np.ascontiguousarray(stack[1], np.float32)
    np.testing.assert_allclose(transform_view(image, grid).low, transform_view(real, grid).low, atol=1e-2)
    np.testing.assert_array_equal(around(image, np.array([[30.0, 20.0]]), 4.0)[17:23, 27:33], real[17:23, 27:33])


def test_the_noise_spectrum_of_white_noise_is_its_variance_at_every_frequency(rng):
    grid = make_grid((200, 240), DIAMETER)
    image = rng.normal(0, 3.0, (200, 240)).astype(np.float32)
    power = noise_spectrum(image, grid, np.empty((0, 2)), 8.0) / (grid.padded[0] * grid.padded[1])
    used = (grid.frequency > 0.03) & (grid.frequency < 0.5)
    assert np.abs(power[used] / 9.0 - 1).mean() < 0.08
    assert transform_view(image, grid).fine_power / (grid.padded[0] * grid.padded[1]) == pytest.approx(9.0, rel=0.05)


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint8])
def test_a_view_of_integers_has_the_spectrum_of_the_same_real_numbers(rng, kind):
    grid = make_grid((150, 170), DIAMETER)
    image = rng.integers(0, 200, (150, 170)).astype(kind)
    whole, real = transform_view(image, grid), transform_view(image.astype(np.float32), grid)
    np.testing.assert_allclose(whole.low, real.low, atol=1e-6 * np.abs(real.low).max())
    assert whole.fine_power == pytest.approx(real.fine_power, rel=1e-5)
    assert middle_of(image, grid).dtype == np.float32


def test_beads_are_no_part_of_the_noise(rng, draw):
    grid = make_grid((256, 256), DIAMETER)
    xy = rng.uniform(20, 236, (20, 2))
    noise = rng.normal(0, 0.1, (256, 256))
    clean = noise_spectrum(noise.astype(np.float32), grid, np.empty((0, 2)), 8.0)
    beaded = (noise + draw((256, 256), xy)).astype(np.float32)
    with_beads, without = noise_spectrum(beaded, grid, np.empty((0, 2)), 8.0), noise_spectrum(beaded, grid, xy, 8.0)
    band = (grid.frequency > 0.03) & (grid.frequency < 0.1)
    assert (with_beads[band] / clean[band]).mean() > 20
    assert (without[band] / clean[band]).mean() == pytest.approx(1.0, abs=0.25)
    assert (noise_spectrum(beaded, grid, None, 8.0)[band] / clean[band]).mean() < 0.3 * (with_beads[band] / clean[band]).mean()


@pytest.mark.parametrize("blur_px", [0.0, 0.7, 1.0])
def test_the_noise_of_counting_is_known_in_views_that_were_smoothed(rng, coloured_noise, blur_px):
    grid = make_grid((256, 256), DIAMETER)
    view = ndimage.gaussian_filter(coloured_noise((256, 256), 2.0) + rng.normal(0, 1.0, (256, 256)), blur_px)
    rounded = np.round(3 * view).astype(np.float32) / 3
    power = noise_spectrum(rounded, grid, np.empty((0, 2)), 8.0)
    pixels = grid.padded[0] * grid.padded[1]
    assert counting_power(power, grid) / pixels == pytest.approx(1.0, rel=0.5)


def test_the_rings_of_a_microscope_are_no_noise_of_counting(rng):
    grid = make_grid((256, 256), DIAMETER)
    f = grid.frequency
    rings = 1.0 + 20.0 * np.sin(250.0 * f**2) ** 2 * np.exp(-((f / 0.25) ** 2))
    assert counting_power(rings, grid) == pytest.approx(1.0, rel=0.15)


def test_the_noise_of_a_large_view_is_that_of_its_middle(rng, draw):
    """Which is the power of the whole, at all frequencies, where the noise is the same all over the view."""
    image = ndimage.gaussian_filter(rng.normal(0, 30, (2600, 2300)), 0.8).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    assert grid.noise.shape == (2048, 2048)
    xy = np.array([[300.0, 400.0], [1150.0, 1300.0], [2290.0, 2590.0]])
    beaded = (image + 4000.0 * draw(image.shape, xy)).astype(np.float32)
    found = noise_spectrum(middle_of(beaded, grid), grid, xy, 12.0) / np.prod(grid.padded)
    wanted = 900 * np.exp(-((2 * np.pi * 0.8 * grid.frequency) ** 2))
    band = (grid.frequency > 0.01) & (grid.frequency < 0.35)
    assert np.sqrt(np.mean((found / wanted - 1)[band] ** 2)) < 0.03
