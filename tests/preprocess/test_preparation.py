"""What was repaired in the views is counted, and told in words."""

from __future__ import annotations

import time
from contextlib import contextmanager

import numpy as np
import pytest

from tiltflow.errors import StageError
from tiltflow.parallel import map_threads
from tiltflow.preprocess.bad_views import ViewParams
from tiltflow.preprocess.camera_faults import CameraFaults
from tiltflow.preprocess.preparation import RepairingStack, leave_out_bad_views, repair_alike, repair_views
from tiltflow.preprocess.xrays import XrayParams
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate


class _Listener:
    """An observer that keeps what it hears."""

    def __init__(self):
        self.numbers, self.warnings = {}, []

    @contextmanager
    def stage(self, name):
        yield self

    def number(self, name, value, unit=""):
        self.numbers[name] = value

    def warn(self, text):
        self.warnings.append(text)

    def progress(self, fraction):
        pass


@pytest.fixture(scope="module")
def images():
    return simulate(SimulationParams(size=128, views=9, hot_pixels=0, beads=10, seed=3)).images.astype(np.float32)


def _repaired(images):
    heard = _Listener()
    repair_views(images, XrayParams(), observer=heard)
    return heard


def test_a_sound_series_says_nothing(images):
    heard = _repaired(images)
    assert heard.warnings == []
    assert heard.numbers == {"hits": 0, "pixels_replaced": 0}


def test_faults_of_the_camera_are_counted_and_named(images):
    spoiled = images.copy()
    spoiled[:, :, 40], spoiled[:, 100] = 0, 32_000
    heard = _repaired(spoiled)
    assert heard.numbers["camera_pixels_replaced"] == 9 * 255
    assert heard.warnings == ["the camera is at fault in every view: column 41, row 101; replaced from the pixels beside them"]


@pytest.mark.parametrize(
    ("place", "count", "words"),
    [
        ((4, 3, 3), 1, "1 pixel is not a number (NaN or infinity), in view 5 (0.0061 % of it)"),
        (
            (slice(2, 4), slice(0, 2)),
            512,
            "512 pixels are not numbers (NaN or infinity), in 2 views, most of them in view 3 (1.6 % of it)",
        ),
    ],
)
def test_pixels_that_are_not_numbers_are_counted_and_placed(images, place, count, words):
    spoiled = images.copy()
    spoiled[place] = np.nan
    heard = _repaired(spoiled)
    assert heard.numbers["pixels_not_numbers"] == count
    assert heard.warnings == [f"{words}: replaced from the pixels beside them"]


def test_faults_of_the_camera_are_searched_once_however_many_threads_read(images, monkeypatch):
    searched = []

    def search(stack):
        searched.append(stack)
        time.sleep(0.05)
        return CameraFaults()

    monkeypatch.setattr("tiltflow.preprocess.preparation.find_camera_faults", search)
    stack = RepairingStack(images)
    assert len(list(map_threads(stack.__getitem__, range(len(images)), 4))) == len(images)
    assert len(searched) == 1


def test_three_views_that_can_be_used_are_enough_and_two_are_not(rng):
    spoiled = rng.normal(1000, 50, (7, 64, 64)).astype(np.float32)
    spoiled[0] = 0

    def left(count):
        asked = dict.fromkeys(range(count, 7), "is left out by the request")
        return leave_out_bad_views(spoiled, np.linspace(-20, 20, 7), ViewParams(), left_out=asked, name="B.st")

    assert len(left(4)) == 4
    with pytest.raises(StageError, match=r"^B\.st: 2 of its 7 views can be used, and a tomogram needs at least 3; view 1: "):
        left(3)


def test_a_series_of_two_views_is_refused_without_a_reason_of_a_view(images):
    with pytest.raises(StageError, match=r"^B\.st: 2 of its 2 views can be used, and a tomogram needs at least 3$"):
        leave_out_bad_views(images[:2], (-20, 20), ViewParams(), left_out={}, name="B.st")


def test_a_half_is_repaired_where_the_whole_is_from_its_own_surroundings(images):
    """A hit of the whole is in one half; a camera's fault is in both; what is no number may be in one alone."""
    even, odd = 0.3 * images, 0.7 * images
    even[2, 60:62, 60] += 30_000
    even[:, :, 40] = odd[:, :, 40] = 0
    whole = repair_views(even + odd, XrayParams())
    odd[5, 10, 10] = np.nan
    halves = [repair_alike(half, whole, XrayParams()) for half in (even, odd)]
    assert halves[0].shape == images.shape
    for view in range(len(images)):
        added = halves[0][view] + halves[1][view]
        apart = np.abs(added - whole[view]) > 0.01 * images.mean()
        apart[10, 10] &= view != 5
        assert not apart.any()
    for half, share in zip(halves, (0.3, 0.7), strict=True):
        np.testing.assert_allclose(half[2][60:62, 60], share * images[2][60:62, 60], rtol=0.5)
    assert np.isfinite(halves[1][5]).all()


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_without_a_repair_of_x_rays_only_pixels_that_are_no_numbers_are_replaced_in_a_half(images, dtype):
    off = XrayParams(enabled=False)
    whole = repair_views(images.astype(dtype), off)
    half = images.copy()
    half[1, 5, 5], half[1, 60, 60] = np.nan, 30_000
    repaired = repair_alike(half, whole, off)[1]
    assert repaired[60, 60] == 30_000
    assert np.isfinite(repaired).all()
