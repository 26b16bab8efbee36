"""Which pixels are erased: ccderaser's own, and those of growth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tiltflow.erase.patches import discs, grown, patches_of, reached
from tiltflow.errors import ParameterError

SHAPE = 192, 192


@pytest.mark.parametrize("view", range(3))
def test_discs_are_the_pixels_that_ccderaser_changes(golden, view):
    np.testing.assert_array_equal(discs(golden.points[view], SHAPE, 5.0), golden.imod[0][view] != 0)


def test_discs_of_the_golden_case_have_as_many_pixels_as_its_log_tells(golden):
    assert sum(np.count_nonzero(discs(points, SHAPE, 5.0)) for points in golden.points) == 2348


@pytest.mark.parametrize("radius", [4.9, 5.1])
def test_another_radius_gives_other_pixels(golden, radius):
    assert (discs(golden.points[0], SHAPE, radius) != (golden.imod[0][0] != 0)).any()


def in_three_views(golden, iterations):
    return np.stack([grown(golden.raw[v], discs(golden.points[v], SHAPE, 5.0), iterations) for v in range(3)])


@pytest.mark.parametrize("iterations", [2, 3])
def test_growth_adds_as_many_pixels_as_ccderaser_within_five_per_cent_of_all(golden, iterations):
    ours, imod = in_three_views(golden, iterations), golden.imod[iterations] != 0
    assert np.count_nonzero(ours) == pytest.approx(np.count_nonzero(imod), rel=0.05)
    added = np.count_nonzero(ours & imod) - 2348
    assert added > 0.45 * (np.count_nonzero(imod) - 2348), "half of what ccderaser adds is added, however it chooses"


def test_growth_keeps_the_discs_and_adds_with_every_iteration(golden):
    counts = [in_three_views(golden, n) for n in range(4)]
    for fewer, more in pairwise(counts):
        assert (more >= fewer).all()
        assert np.count_nonzero(more) > np.count_nonzero(fewer)


@pytest.mark.parametrize("sign", [-1, 1])
def test_growth_takes_a_bead_that_is_larger_than_its_disc(rng, sign):
    bead = discs([[30.0, 30.0]], (60, 60), 7.0)
    view = rng.normal(0, 1, (60, 60)) + 20.0 * sign * bead
    assert (grown(view, discs([[30.0, 30.0]], (60, 60), 5.0), 3) >= bead).all()


def test_without_surroundings_a_patch_does_not_grow():
    mask = np.ones((12, 12), bool)
    mask[0, 0] = False
    np.testing.assert_array_equal(grown(np.zeros((12, 12)), mask, 3), mask)


@pytest.mark.parametrize(
    ("points", "patches"),
    [
        ([[10, 10], [30, 30]], 2),
        ([[10, 10], [16, 10]], 1),
        ([[10, 10], [10, 10]], 1),
        ([[10.5, 10.5], [15.5, 15.5]], 1),
        ([[-20, 10], [np.nan, 3], [3, np.inf]], 0),
    ],
    ids=["apart", "overlapping", "twice", "touching at a corner", "outside"],
)
def test_discs_that_touch_are_one_patch(points, patches):
    found = patches_of(discs(points, (40, 40), 3.6))
    assert len(found) == patches


@pytest.mark.parametrize(
    ("point", "inside"),
    [
        ((-5.0, 20), False),
        ((-4.49, 20.5), True),
        ((44.9, 20.5), False),
        ((44.3, 20.5), True),
        ((20.5, -4.6), False),
        ((20.5, 34.4), True),
    ],
)
def test_a_point_outside_counts_where_its_disc_reaches_the_view(point, inside):
    assert reached([point], (30, 40), 5.0)[0] == inside == discs([point], (30, 40), 5.0).any()


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(ParameterError, match="above 0"):
        discs([[1, 1]], (5, 5), radius)
