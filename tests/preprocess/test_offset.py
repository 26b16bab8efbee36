"""A large offset is taken off before single precision is used; counts stay counts."""

import numpy as np
import pytest

import tiltflow
from tiltflow.preprocess.offset import without_offset
from tiltflow.preprocess.xrays import find_xrays


@pytest.fixture(scope="module")
def simulated():
    return tiltflow.simulate(size=160, views=21, beads=12, thickness_px=40, pixel_nm=1, bead_nm=8, seed=3)


@pytest.mark.parametrize(
    ("level", "sd", "taken_off"),
    [
        (1e5, 7.0, True),
        (-1e5, 7.0, True),
        (1e9, 50.0, True),
        (5000.0, 70.0, False),
        (1e5, 316.0, False),
        (0.0, 1.0, False),
        (7.0, 0.0, False),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_an_offset(level, sd, taken_off, dtype, rng):
    noise = rng.normal(size=(3, 64, 64))
    stack = (level + sd * noise).astype(dtype)
    levelled = without_offset(stack)
    assert (levelled is not stack) == taken_off
    if taken_off:
        assert levelled.shape == stack.shape
        assert levelled[1].dtype == np.float32
        assert levelled[1].mean() == pytest.approx(sd * noise[1].mean(), abs=0.1 * sd)
        if dtype is np.float64:
            difference = (levelled[1] - levelled[1].mean()) - sd * (noise[1] - noise[1].mean())
            assert np.abs(difference).max() < 1e-4 * sd


def test_whole_numbers_of_four_bytes_keep_their_last_digits(rng):
    counts = (2_000_000_000 + 50 * rng.normal(size=(3, 64, 64))).astype(np.int32)
    levelled = without_offset(counts)[1].astype(float)
    assert np.array_equal(np.diff(levelled), np.diff(counts[1].astype(float)))


@pytest.mark.parametrize(("offset", "dtype"), [(1e5, np.float32), (1e9, np.float64)])
def test_an_alignment_by_gold_does_not_depend_on_an_offset(simulated, offset, dtype):
    views = simulated.images.astype(np.float64)
    images = (offset + 6.7 * (views - views.mean()) / views.std()).astype(dtype)
    told = {"tilt_deg": simulated.nominal_deg, "axis_angle_deg": -8, "pixel_size_angstrom": 10, "gold_nm": 8, "fallback": False}
    assert simulated.error_of(tiltflow.align(images, "gold", **told)).rms_px < 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hits_on_a_large_offset_are_found_and_replaced_as_without_it(rng, dtype):
    stack = (7 * rng.normal(size=(1, 128, 128))).astype(np.float32)
    stack[0, 20::30, 20::30] += 250
    plain, offset = find_xrays(stack), find_xrays((stack + np.float64(1e5)).astype(dtype))
    assert np.array_equal(plain.indices[0], offset.indices[0])
    assert plain.hits_per_view[0] == 16
    assert offset.values[0] - 1e5 == pytest.approx(plain.values[0], abs=0.1)
