"""A fixed pattern of the camera is distinguished from a specimen that moves, and from one that does not."""

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.preprocess.binned_views import read_binned
from tiltflow.preprocess.fixed_pattern import find_pattern

VIEWS, SIZE = 31, 128


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(2).normal(size=(VIEWS, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def dust():
    image = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(SIZE, SIZE)), 1.2)
    return np.asarray(0.4 * image / image.std(), np.float32)


def test_a_pattern_is_found_as_it_is(noise, dust):
    found = find_pattern(noise + dust)
    assert np.corrcoef(found.image.ravel(), dust.ravel())[0, 1] > 0.9
    assert found.fraction == pytest.approx(0.16 / 1.16, rel=0.3)


def test_without_it_little_of_it_is_left(noise, dust):
    images = noise + dust
    left = images - find_pattern(images).image
    before, after = (np.abs(np.mean([np.vdot(image, dust) for image in part])) for part in (images, left))
    assert after < 0.15 * before


def test_noise_has_no_pattern(noise):
    assert find_pattern(noise) is None


def test_a_specimen_that_moves_is_no_pattern(noise, dust):
    rng = np.random.default_rng(3)
    moved = np.stack([np.roll(2 * dust, rng.integers(-20, 20, 2), axis=(0, 1)) for _ in range(VIEWS)])
    assert find_pattern(noise + moved) is None


@pytest.mark.parametrize("axis", [0, 1, 30])
def test_a_specimen_that_only_tilts_is_no_pattern(noise, axis):
    """A thick one: views far apart share no more than what does not vary across the tilt axis."""
    rng = np.random.default_rng(4)
    angle = np.deg2rad({0: 0, 1: 90}.get(axis, axis))
    across = np.abs(np.cos(angle) * np.fft.rfftfreq(SIZE)[None] + np.sin(angle) * np.fft.fftfreq(SIZE)[:, None])
    common = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIZE, SIZE))) * (across < 0.012), (SIZE, SIZE))
    steady = np.asarray(common / common.std() * 0.5, np.float32)
    assert find_pattern(noise + steady) is None


def test_too_few_views_are_left_alone(noise, dust):
    assert find_pattern((noise + dust)[:8]) is None


def test_views_are_read_without_it_unless_it_is_to_stay(noise, dust):
    stack = 100 * np.exp(0.1 * (noise + dust))
    taken, left = (read_binned(stack, np.arange(VIEWS), SIZE, take_out_pattern=wanted) for wanted in (True, False))
    assert taken.pattern > 0.05
    assert left.pattern == 0
    assert taken.binned(2).pattern == taken.pattern
    correlations = [np.corrcoef(views.images.mean(axis=0).ravel(), dust.ravel())[0, 1] for views in (taken, left)]
    assert abs(correlations[0]) < 0.5 < 0.8 < abs(correlations[1])


def _in_the_middle(noise, diameter, strength, moves):
    """Return the views with a round specimen of fine and coarse shells, the same from all sides, that moves by a few pixels."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    radius = np.hypot(x, y) / (diameter / 2)
    rough = ndimage.gaussian_filter(np.random.default_rng(6).normal(size=(SIZE, SIZE)), 1.0)
    body = (np.cos(radius * 40) + 3 * rough / rough.std()) * np.clip(1 - radius**4, 0, 1)
    rng = np.random.default_rng(7)
    places = [ndimage.shift(body, rng.normal(0, moves, 2), order=1) for _ in range(VIEWS)]
    return np.asarray(noise + strength * np.stack(places), np.float32)


@pytest.mark.parametrize("moves", [0.0, 1.5])
@pytest.mark.parametrize(("diameter", "strength"), [(30, 2.0), (60, 1.0), (100, 0.5), (124, 0.3), (124, 1.0)])
def test_a_round_specimen_in_the_middle_is_no_pattern(noise, diameter, strength, moves):
    assert find_pattern(_in_the_middle(noise, diameter, strength, moves)) is None


@pytest.mark.parametrize("strength", [0.1, 0.2, 1.0, 3.0])
def test_a_pattern_is_found_at_any_strength(noise, dust, strength):
    assert find_pattern(noise + strength / 0.4 * dust) is not None


def test_a_pattern_is_found_behind_a_specimen_that_moves(noise, dust):
    rng = np.random.default_rng(8)
    body = _in_the_middle(np.zeros_like(noise), 60, 1.0, 0.0)[0]
    moved = np.stack([np.roll(body, rng.integers(-20, 20, 2), axis=(0, 1)) for _ in range(VIEWS)])
    assert find_pattern(noise + moved + dust).fraction > 0.02
