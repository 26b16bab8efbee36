"""Small flat views from counts and from signed images."""

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.observer import part_of, tell
from tiltflow.preprocess.binned_views import read_binned


def counts_of(thickness):
    """Counts behind a section of some optical thickness, under a beam that is brighter on one side."""
    ny, nx = thickness.shape
    beam = 2000 * (1 + 0.2 * np.linspace(-1, 1, nx))[None, :] * np.ones((ny, 1))
    return np.asarray(np.rint(beam * np.exp(-thickness)), np.int16)


@pytest.fixture
def thickness(rng):
    fine = ndimage.gaussian_filter(rng.normal(size=(120, 160)), 3.0)
    return 0.5 + 0.1 * fine / fine.std()


def test_counts_become_optical_thickness_without_the_beam(thickness):
    stack = np.stack([counts_of(thickness), counts_of(1.5 * thickness)])
    views = read_binned(stack, np.array([0, 1]), 80)
    assert (views.binning, views.images.shape, views.raw_shape) == (2, (2, 60, 80), (120, 160))
    small = thickness.reshape(60, 2, 80, 2).mean(axis=(1, 3))
    sharp = small - ndimage.gaussian_filter(small, 0.04 * 80, mode="nearest")
    for image, times in zip(views.images, (1.0, 1.5), strict=True):
        assert np.corrcoef(image.ravel(), sharp.ravel())[0, 1] > 0.97
        slope = np.sum(image * sharp) / np.sum(sharp**2)
        assert slope == pytest.approx(times, rel=0.1)
        assert abs(image.mean()) < 1e-6


def test_signed_images_keep_their_contrast_and_have_one_scale(rng):
    image = ndimage.gaussian_filter(rng.normal(size=(64, 64)), 1.0).astype(np.float32)
    views = read_binned(np.stack([image, 100 * image]), np.array([0, 1]), 64)
    np.testing.assert_allclose(views.images[0], views.images[1], atol=1e-4)
    assert np.corrcoef(views.images[0].ravel(), image.ravel())[0, 1] > 0.9


def test_only_the_chosen_views_are_read_in_their_order(rng):
    stack = rng.integers(900, 1100, (4, 32, 32)).astype(np.int16)
    both, one = read_binned(stack, np.array([3, 1]), 32), read_binned(stack, np.array([1]), 32)
    np.testing.assert_array_equal(both.images[1], one.images[0])


def test_views_are_binned_further_by_means(rng):
    stack = rng.integers(900, 1100, (1, 30, 43)).astype(np.int16)
    views = read_binned(stack, np.array([0]), 64)
    less = views.binned(3)
    assert (less.binning, less.images.shape) == (3, (1, 10, 14))
    assert less.images[0, 2, 5] == pytest.approx(views.images[0, 6:9, 15:18].mean(), abs=1e-6)
    assert views.binned(1) is views


def test_a_part_of_the_progress_fills_its_share():
    heard = []
    part = part_of(heard.append, 0.2, 0.6)
    tell(part, 0.0)
    tell(part, 0.5)
    tell(part_of(None, 0.0, 1.0), 0.5)
    assert heard == pytest.approx([0.2, 0.4])
