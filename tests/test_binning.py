"""Images binned by bands of rows."""

import tracemalloc

import numpy as np
import pytest

from tiltflow.binning import bin_image


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int16, np.float32, np.float64, ">i2"])
@pytest.mark.parametrize(("shape", "factor"), [((21, 30), 2), ((7, 9), 3), ((5, 5), 5), ((700, 2000), 4), ((3, 4), 1)])
def test_pixels_are_means_of_blocks_and_what_is_left_over_is_dropped(rng, dtype, shape, factor):
    image = (100 * rng.random(shape)).astype(dtype)
    ny, nx = shape[0] // factor, shape[1] // factor
    wanted = image[: ny * factor, : nx * factor].astype(float).reshape(ny, factor, nx, factor).mean(axis=(1, 3))
    found = bin_image(image, factor)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_parts_of_images_are_binned_as_they_are(rng):
    image = rng.integers(0, 100, (60, 80)).astype(np.int16)
    np.testing.assert_array_equal(bin_image(image[3:51, ::2], 4), bin_image(image[3:51, ::2].copy(), 4))


def test_there_is_never_a_copy_of_the_whole_as_real_numbers():
    image = np.ones((4096, 2048), np.int16)
    bin_image(image[:8], 4)
    tracemalloc.start()
    bin_image(image, 4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < image.size * 4 / 8
