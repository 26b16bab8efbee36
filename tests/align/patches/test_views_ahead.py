"""Views that are read beside other work are those that are read in turn."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage

from tiltflow import beside
from tiltflow.align.patches import PatchParams, track_patches
from tiltflow.align.patches.patch_views import room_for_views
from tiltflow.align.patches.views_ahead import read_patch_views, views_read_beside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems' libraries do not allow copies of a process")


@pytest.fixture
def ours(monkeypatch):
    monkeypatch.setattr(beside, "_ours", True)


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(("side", "most", "levels"), [((200, 230), 512, 3), ((301, 410), 160, 2), ((130, 120), 512, 2)])
def test_views_read_beside_are_those_that_are_read_in_turn(rng, side, most, levels):
    stack, params = rng.integers(0, 900, (5, *side)).astype(np.int16), PatchParams(size_px=(80, 80), max_size_px=most)
    included = np.array([True, True, False, True, True])
    in_turn = read_patch_views(stack, included, params, 2)
    with views_read_beside(stack, included, params, 2) as read:
        besides = read()
    assert besides is not None
    assert len(besides.levels) == len(in_turn.levels) == levels
    np.testing.assert_array_equal(besides.included, included)
    for one, other in zip(besides.levels, in_turn.levels, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.power, other.power)
        np.testing.assert_array_equal(one.frequency, other.frequency)
        assert one.bin == other.bin
    assert [room.shape for room in room_for_views(stack, included, params)] == [level.images.shape for level in in_turn.levels]


@pytest.mark.parametrize(("threads", "is_ours"), [(1, True), (2, False)])
def test_nothing_is_read_ahead_where_nothing_can_be_done_beside(rng, monkeypatch, threads, is_ours):
    monkeypatch.setattr(beside, "_ours", is_ours)
    with views_read_beside(rng.normal(size=(3, 64, 64)), np.ones(3, bool), PatchParams(), threads) as read:
        assert read() is None


def test_views_of_other_members_are_read_again(rng):
    """A view that the coarse alignment has lost takes no part in the pattern of the camera, nor in the patches."""
    specimen, params = ndimage.gaussian_filter(rng.normal(0, 40, (160, 160)), 1.5), PatchParams(size_px=(64, 64), passes=1)
    stack = (100 + specimen + rng.normal(0, 5, (6, 160, 160))).astype(np.float32)
    transforms, tilts = np.tile(np.eye(2, 3), (6, 1, 1)), np.linspace(-20, 20, 6)
    every, fewer = np.ones(6, bool), np.array([True, True, True, False, True, True])
    of_all = read_patch_views(stack, every, params, 1)

    def tracked(views):
        return track_patches(stack, transforms, tilts, params, included=fewer, views=views).transforms

    np.testing.assert_array_equal(tracked(of_all), tracked(None))
