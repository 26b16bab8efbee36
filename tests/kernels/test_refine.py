"""The loops of projection matching against NumPy and SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.kernels.refine import (
    put_band,
    put_transforms,
    sample_filled,
    sample_view,
    sensitivities,
    take_band,
    take_changes,
    weigh_views,
)

TAPER = 6.0


@pytest.fixture
def image(rng):
    return ndimage.gaussian_filter(rng.normal(size=(48, 60)), 1.0).astype(np.float32)


def sampled(image, origin, step_x, step_y, shape=(40, 44)):
    coefficients = ndimage.spline_filter(image, 3, np.float32, "mirror")
    out, weight = np.empty((2, *shape), np.float32)
    sample_view(coefficients, np.array([origin, step_x, step_y], float), TAPER, 1.0, out, weight)
    j, i = np.mgrid[: shape[0], : shape[1]]
    x = origin[0] + i * step_x[0] + j * step_y[0]
    y = origin[1] + i * step_x[1] + j * step_y[1]
    return out, weight, x, y


def test_a_view_is_sampled_by_its_cubic_spline(image):
    out, weight, x, y = sampled(image, (4.2, -3.7), (1.1, 0.15), (-0.15, 1.2))
    expected = ndimage.map_coordinates(image, [y - 0.5, x - 0.5], order=3, mode="mirror")
    inside = weight > 0.03  # the outermost half pixel continues the polynomial of its neighbour
    assert 0.5 < inside.mean() < 1
    np.testing.assert_allclose(out[inside], expected[inside], atol=2e-5)
    assert not out[weight == 0].any()


def test_the_weight_rises_smoothly_over_the_border_of_the_image(image):
    _, weight, x, y = sampled(image, (-5.0, 2.0), (1.5, 0.0), (0.0, 1.2))
    height, width = image.shape
    inside = np.clip((np.min([x, width - x, y, height - y], axis=0) - 1) / TAPER, 0, 1)
    np.testing.assert_allclose(weight, inside**2 * (3 - 2 * inside), atol=1e-5)


def test_views_are_filled_where_they_show_nothing_and_weighed_alike_on_fewer_samples(image, rng):
    """Two views of lines that differ, against what sampling each gives; the weights at every second sample of each."""
    lines = np.array([[(4.2, -3.7), (1.1, 0.15), (-0.15, 1.2)], [(-5.0, 2.0), (1.5, 0.0), (0.1, 1.2)]])
    coefficients = np.stack([ndimage.spline_filter(each, 3, np.float32, "mirror") for each in (image, image[::-1])])
    factors, filling = np.array([0.5, 2.0]), rng.normal(size=(2, 40, 44)).astype(np.float32)
    out, window = np.empty_like(filling), rng.uniform(size=(40, 44)).astype(np.float32)
    sample_filled(coefficients, lines, TAPER, factors, filling, out)
    weights = np.empty((2, 20, 22), np.float32)
    weigh_views(image.shape, lines * np.array([1, 2, 2])[:, None], TAPER, np.ascontiguousarray(window[::2, ::2]), weights)
    for view in range(2):
        alone, weight = np.empty((2, 40, 44), np.float32)
        sample_view(coefficients[view], lines[view], TAPER, factors[view], alone, weight)
        np.testing.assert_allclose(out[view], alone * weight + (1 - weight) * filling[view], atol=1e-5)
        np.testing.assert_allclose(weights[view], (weight * window)[::2, ::2], atol=1e-5)


def test_bands_are_put_into_transforms_and_taken_out_again(rng):
    """Three views of four, in the middle rows of which nothing lies; the derivatives against NumPy."""
    rows, q, p = np.array([0, 1, 2, 7]), np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.1, 0.2, -0.1])
    predicted, by_tilt, weighted, spectra = (
        (rng.normal(size=(3, 4, 4)) + 1j * rng.normal(size=(3, 4, 4))).astype(np.complex64) for _ in range(4)
    )
    transforms, back = np.zeros((3, 8, 5), np.complex64), np.zeros((3, 4, 4), np.complex64)
    put_band(spectra, 1, rows, transforms)
    np.testing.assert_array_equal(transforms[:, rows, 1:4], spectra[:, 1:].transpose(1, 2, 0))
    assert not transforms[:, 3:7].any()
    assert not transforms[:, :, [0, 4]].any()
    take_band(transforms, rows, 1, back)
    np.testing.assert_array_equal(back[:, 1:], spectra[:, 1:])
    assert not back[:, 0].any()
    compared, taken = np.zeros((3, 6, 8, 5), np.complex64), np.zeros((2, 4, 6, 2), np.complex64)
    put_transforms(predicted, by_tilt, weighted, spectra, 1, q, p, rows, compared)
    expected = [2j * np.pi * q[:, None, None] * predicted, 2j * np.pi * p * predicted, by_tilt, weighted, spectra, predicted]
    for kind, each in enumerate(expected):
        np.testing.assert_allclose(compared[:, kind][:, rows, 1:4], each[:, 1:].transpose(1, 2, 0), rtol=1e-5, atol=1e-6)
    take_changes(compared, rows, 2, 1, taken)
    np.testing.assert_array_equal(taken[:, 1:], compared[:, :, rows[::2], 1:4:2].transpose(3, 0, 1, 2))


def test_sensitivities_and_their_sums_are_those_of_numpy(rng):
    """Two views on samples that lie 1.25 pixels apart."""
    images, weight = rng.normal(size=(2, 6, 30, 34)).astype(np.float32), rng.uniform(size=(2, 30, 34)).astype(np.float32)
    by_x, by_y, by_tilt, residual, seen, expected_view = images.copy().swapaxes(0, 1)
    blocks = rng.integers(0, 4, (30, 34)).astype(np.int32)
    tilts, y, x = np.deg2rad([-37.0, 20.0]), np.float32(1.25) * np.arange(-15, 15), np.float32(1.25) * np.arange(-17, 17)
    sums, powers = np.zeros((2, 4, 6)), np.zeros((2, 3))
    sensitivities(images, weight, tilts, y.astype(np.float32), x.astype(np.float32), blocks, sums, powers)
    y, x, (c, t) = y[:, None], x[None, :], (f(tilts)[:, None, None] for f in (np.cos, np.tan))
    expected = weight[:, None] * np.stack(
        [
            -by_x,
            -by_y,
            y / c * by_x - x * c * by_y,
            -(x * by_x + y * by_y),
            by_tilt + t * x * by_x,
            -y * t * by_x,
        ],
        axis=1,
    )
    np.testing.assert_allclose(images, expected, rtol=1e-4, atol=1e-4)
    products = expected * residual[:, None]
    for block in range(4):
        np.testing.assert_allclose(sums[:, block], np.sum(products[:, :, blocks == block], axis=2), rtol=1e-4, atol=1e-3)
    pairs = (seen, seen), (expected_view, expected_view), (seen, expected_view)
    np.testing.assert_allclose(
        powers, np.stack([np.sum(weight * a * b, axis=(1, 2)) for a, b in pairs], axis=1), rtol=1e-4, atol=1e-3
    )
