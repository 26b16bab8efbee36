"""The loops of projection matching against NumPy and SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.kernels.refine import sample_view, sensitivities

TAPER = 6.0


@pytest.fixture
def image(rng):
    return ndimage.gaussian_filter(rng.normal(size=(48, 60)), 1.0).astype(np.float32)


def sampled(image, origin, step_x, step_y, shape=(40, 44)):
    coefficients = ndimage.spline_filter(image, 3, np.float32, "mirror")
    out, weight = np.empty((2, *shape), np.float32)
    sample_view(coefficients, np.asarray(origin, float), np.asarray(step_x, float), np.asarray(step_y, float), TAPER, out, weight)
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


def test_sensitivities_and_their_sums_are_those_of_numpy(rng):
    by_x, by_y, by_tilt, residual = rng.normal(size=(4, 30, 34)).astype(np.float32)
    weight = rng.uniform(size=(30, 34)).astype(np.float32)
    blocks = rng.integers(0, 4, (30, 34)).astype(np.int32)
    tilt = np.deg2rad(-37.0)
    out, sums = np.empty((6, 30, 34), np.float32), np.zeros((4, 6))
    sensitivities(by_x, by_y, by_tilt, weight, residual, tilt, blocks, out, sums)
    y, x = np.mgrid[:30, :34] + np.array([0.5 - 15, 0.5 - 17])[:, None, None]
    c = np.cos(tilt)
    expected = weight * np.array(
        [
            -by_x,
            -by_y,
            y / c * by_x - x * c * by_y,
            -(x * by_x + y * by_y),
            by_tilt + np.tan(tilt) * x * by_x,
            -y * np.tan(tilt) * by_x,
        ]
    )
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    for block in range(4):
        np.testing.assert_allclose(sums[block], np.sum((expected * residual)[:, blocks == block], axis=1), rtol=1e-4, atol=1e-3)
