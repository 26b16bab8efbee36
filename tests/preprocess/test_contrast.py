"""Whether a specimen is light on dark is told from its counts."""

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.align.patches.patch_views import flatten
from tiltflow.preprocess.binned_views import read_binned
from tiltflow.preprocess.contrast import is_light_on_dark
from tiltflow.preprocess.local_mean import LocalMean
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

VIEWS, SIZE = 5, 96


@pytest.fixture
def thickness(rng):
    """A ball full of texture in the middle of the field, with nothing around it, `(size, size)`."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    ball = np.sqrt(np.clip(1 - (x**2 + y**2) / (0.3 * SIZE) ** 2, 0, None))
    texture = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 2)
    return ball * np.clip(1 + 0.3 * texture / texture.std(), 0.1, None)


def dark_field(thickness, rng):
    """Counts scattered by the specimen, few beside it."""
    return np.stack([rng.poisson(2 + 300 * thickness) for _ in range(VIEWS)]).astype(np.int16)


def bright_field(thickness, rng):
    """Counts that the specimen leaves over."""
    return np.stack([rng.poisson(300 * np.exp(-thickness)) for _ in range(VIEWS)]).astype(np.int16)


def test_a_particle_in_a_dark_field_is_light_on_dark(thickness, rng):
    assert is_light_on_dark(dark_field(thickness, rng).astype(np.float32))
    assert not is_light_on_dark(bright_field(thickness, rng).astype(np.float32))


@pytest.mark.parametrize("regime", ["plastic", "cryo"])
def test_sections_in_a_bright_field_are_not(regime):
    series = simulate(SimulationParams(size=96, views=VIEWS, regime=regime))
    assert not is_light_on_dark(series.images.astype(np.float32))


def test_signed_images_are_not_counts(thickness, rng):
    images = dark_field(thickness, rng).astype(np.float32)
    assert not is_light_on_dark(images - images.mean(axis=(1, 2), keepdims=True))


def test_a_hole_in_a_dark_section_is_no_particle(thickness, rng):
    """A third of the beam passes the section, and all of it a hole."""
    images = rng.poisson(300 * np.where(thickness > 0, 1.0, 0.33), (VIEWS, SIZE, SIZE))
    assert not is_light_on_dark(images.astype(np.float32))


def test_the_noise_of_an_empty_field_does_not_outweigh_the_specimen(thickness, rng):
    """The logarithm of two counts is all noise; that of the specimen would be little in comparison."""
    images = dark_field(thickness, rng)
    views = read_binned(images, np.arange(VIEWS), SIZE, take_out_pattern=False)
    assert views.light_on_dark
    local_mean = LocalMean.of(images.shape[1:], 8.0)
    for image in (views.images[0], flatten(images[0].astype(np.float32), local_mean, light_on_dark=True)):
        assert image[thickness == 0].std() < 0.5 * image[thickness > 0].std()
    other = flatten(images[0].astype(np.float32), local_mean)
    assert other[thickness == 0].std() > 0.5 * other[thickness > 0].std()
