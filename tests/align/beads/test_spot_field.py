"""Spots searched by distance, against every distance worked out."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.beads.centring import _nearest
from tiltflow.align.beads.spot_field import make_spot_field


@pytest.mark.parametrize("reach", [0.0, 5.0, 40.0, 1000.0])
def test_pairs_are_all_that_are_near_enough_in_order(rng, reach):
    spots = [rng.uniform(0, 100, (count, 2)) for count in (30, 0, 50)]
    field = make_spot_field(spots, np.zeros(3), np.ones(3, bool), (100, 100), 10.0)
    points = np.concatenate([rng.uniform(-60, 60, (20, 2)), spots[2][:3] - 50])
    for view, count in enumerate((30, 0, 50)):
        distance = np.linalg.norm(points[:, None] - (spots[view] - 50), axis=-1)
        point, spot, apart = field.pairs(points, view, reach)
        np.testing.assert_array_equal((point, spot), np.nonzero(distance <= reach))
        np.testing.assert_allclose(apart, distance[point, spot])
        assert field.trees[view].n == count
    assert field.pairs(points[:0], 2, reach)[0].shape == (0,)


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_the_nearest_other_point_is_not_the_point_itself(rng, count):
    xy = rng.uniform(0, 100, (count, 2))
    distance = np.linalg.norm(xy[:, None] - xy, axis=-1)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_allclose(_nearest(xy), distance.min(axis=1, initial=np.inf))


def test_points_in_the_same_place_are_no_distance_apart():
    np.testing.assert_array_equal(_nearest(np.array([[3.0, 4.0], [3.0, 4.0], [3.0, 5.0]])), [0, 0, 1])
