"""Which tracks are gold, which surface they lie on, and which of many are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.align.beads.rejection import dense_tracks, faint_tracks, position_weights
from tiltflow.align.beads.selection import split_surfaces, spread_out


def test_beads_of_one_kind_are_not_cut_in_two_by_the_least_contrast():
    contrast = np.array([19.0, 18.5, 18.2, 17.0, 15.0, 14.0, 9.0])
    amplitude = np.outer(contrast, [1.0, 0.4, 3.0, 1.0, 2.0])
    assert dense_tracks(contrast[:, None] + np.zeros(5), amplitude, 3).tolist() == [True] * 6 + [False]
    # Two tracks are no population that others could be compared with.
    assert dense_tracks(contrast[1:, None] + np.zeros(5), amplitude[1:], 3).tolist() == [True, True] + [False] * 4


def _section(rng, upper, lower, gap, tip=(0.06, -0.03), spread=2.0):
    flat = rng.uniform(-400, 400, (upper + lower, 2))
    side = np.repeat([1, -1], [upper, lower])
    z = flat @ np.array(tip) + side * gap / 2 + rng.normal(0, spread, upper + lower)
    return np.column_stack([flat, z]), side


@pytest.mark.parametrize(("upper", "lower"), [(15, 15), (20, 4), (3, 12)])
def test_beads_are_told_apart_by_surface_in_a_tipped_section(rng, upper, lower):
    points, side = _section(rng, upper, lower, 120.0)
    np.testing.assert_array_equal(split_surfaces(points, 20.0), side)


def test_beads_on_one_surface_have_none_to_tell(rng):
    points, _ = _section(rng, 25, 0, 0.0)
    assert not split_surfaces(points, 20.0).any()


def test_beads_all_through_the_section_have_no_surfaces(rng):
    points = np.column_stack([rng.uniform(-400, 400, (40, 2)), rng.uniform(-60, 60, 40)])
    assert not split_surfaces(points, 20.0).any()


def test_three_beads_are_too_few_to_tell(rng):
    assert not split_surfaces(rng.uniform(-99, 99, (3, 3)), 1.0).any()


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_the_kept_are_as_many_as_wanted_and_all_different(count, seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-500, 500, (40, 3))
    kept = spread_out(points, np.zeros(40, np.int8), rng.uniform(1, 2, 40), count)
    assert len(kept) == len(set(kept.tolist())) == min(count, 40)


def test_the_kept_are_spread_over_a_field_that_is_crowded_in_a_corner(rng):
    crowd, others = rng.uniform(-500, -350, (90, 3)), rng.uniform(-500, 500, (30, 3))
    kept = spread_out(np.concatenate([crowd, others]), np.zeros(120, np.int8), np.ones(120), 30)
    assert (kept >= 90).sum() >= 20


def test_the_kept_are_shared_between_the_surfaces(rng):
    surface = np.repeat([1, -1], [80, 20]).astype(np.int8)
    kept = spread_out(rng.uniform(-500, 500, (100, 3)), surface, np.ones(100), 30)
    assert abs(int((surface[kept] == 1).sum()) - 15) <= 1


def test_of_two_neighbours_the_better_is_kept(rng):
    points = np.array([[0, 0, 0], [1, 0, 0], [400, 0, 0], [0, 400, 0], [400, 400, 0]], float)
    kept = spread_out(points, np.zeros(5, np.int8), np.array([1.0, 2.0, 1, 1, 1]), 4)
    assert kept.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("gold", "others"), [(20, 5), (6, 20), (12, 0)])
def test_what_is_fainter_than_gold_is_found_in_few_or_many(rng, gold, others):
    strength = np.concatenate([rng.normal(100, 8, gold), rng.normal(20, 5, others)])
    absorption = np.exp(-np.abs(np.linspace(-1, 1, 41)))
    amplitude = strength[:, None] * absorption * rng.normal(1, 0.1, (gold + others, 41))
    amplitude[:, 5] = np.nan
    np.testing.assert_array_equal(faint_tracks(amplitude), np.arange(gold + others) >= gold)


def test_no_tracks_are_no_faint_tracks():
    assert faint_tracks(np.empty((0, 9))).shape == (0,)


def test_weights_follow_the_noise_where_it_makes_the_residuals(rng):
    sigma = np.where(np.arange(30)[:, None] < 15, 0.1, 0.2) * np.ones((30, 40))
    residual = sigma * np.hypot(*rng.normal(size=(2, 30, 40)))
    weight = position_weights(sigma, residual)
    assert weight[:15].mean() / weight[15:].mean() == pytest.approx(4.0, rel=0.4)


def test_weights_are_alike_where_something_else_makes_the_residuals(rng):
    sigma = np.where(np.arange(30)[:, None] < 15, 0.02, 0.04) * np.ones((30, 40))
    residual = 0.4 * np.hypot(*rng.normal(size=(2, 30, 40)))
    weight = position_weights(sigma, residual)
    assert weight[:15].mean() / weight[15:].mean() == pytest.approx(1.0, abs=0.05)


def test_unmeasured_positions_weigh_nothing():
    sigma = np.array([[0.1, np.nan], [0.1, 0.1]])
    np.testing.assert_array_equal(position_weights(sigma, np.full((2, 2), np.nan)), [[1.0, 0.0], [1.0, 1.0]])
