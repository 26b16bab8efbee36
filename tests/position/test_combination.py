"""Tests of combining texture and gold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.position.combination import combine, joint_slopes, joint_surfaces, weighted_mean
from tiltflow.position.gold_planes import Gold
from tiltflow.position.texture import columns
from tiltflow.position.texture_surfaces import SectionFit

SECTION = SectionFit(centre=5.0, thickness=40.0, centre_error=0.3, thickness_error=6.0, contrast=20.0)


def gold(*heights: float, beads: int = 24) -> Gold:
    return Gold(2.0, -3.0, heights, beads, 0.5, 0.2, 0.2)


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 5)), min_size=1, max_size=5))
def test_a_mean_lies_among_its_values_and_is_no_more_certain_than_they_allow(pairs: list[tuple[float, float]]) -> None:
    values, errors = np.array(pairs).T
    mean, error = weighted_mean(values, errors)
    assert values.min() - 1e-9 <= mean <= values.max() + 1e-9
    assert error >= 1 / np.sqrt((1 / errors**2).sum()) - 1e-12


def test_sources_that_agree_have_a_smaller_error_together_and_others_have_not() -> None:
    assert weighted_mean([1.0, 1.2], [0.5, 0.5])[1] < 0.4
    assert weighted_mean([1.0, 5.0], [0.5, 0.5]) == pytest.approx((3.0, 2.0))


def test_slopes_lean_to_the_source_with_the_smaller_error() -> None:
    (tilt, pitch), (tilt_error, _) = joint_slopes((3.0, -3.0), (1.0, 0.2), gold(20.0))
    assert tilt == pytest.approx(2.0, abs=0.1)
    assert pitch == pytest.approx(-3.0)
    assert tilt_error == pytest.approx(0.2, abs=0.01)


def test_gold_on_both_surfaces_is_where_they_are() -> None:
    bottom, top, centre_error, thickness_error = joint_surfaces(SECTION, gold(-13.0, 24.0))
    assert (bottom, top) == (-13.0, 24.0)
    assert centre_error < 0.5
    assert thickness_error < 1


@pytest.mark.parametrize("side", [-1, 1])
def test_gold_on_one_surface_mirrors_it_at_the_centre(side: int) -> None:
    bottom, top, _, error = joint_surfaces(SECTION, gold(5.0 + side * 22.0))
    assert (top if side == 1 else bottom) == 5.0 + side * 22.0
    assert (bottom + top) / 2 == pytest.approx(5.0, abs=1)
    assert 42 < top - bottom < 44.5
    assert error < SECTION.thickness_error / 2


def test_gold_far_from_the_surfaces_is_left_out() -> None:
    assert joint_surfaces(SECTION, gold(6.0)) == joint_surfaces(SECTION, None) == (-15.0, 25.0, 0.5, 6.0)


def test_two_planes_of_gold_suffice_where_texture_is_noise(rng: np.random.Generator) -> None:
    noise = columns(rng.normal(size=(96, 80, 96)).astype(np.float32))
    found = combine(noise, (), gold(-13.0, 24.0))
    assert (found.stands_out, found.slopes, found.bottom, found.top) == (True, (2.0, -3.0), -13.0, 24.0)
    assert "alone" in found.source
    assert not combine(noise, (), gold(24.0)).stands_out
    assert not combine(noise, (), None).stands_out
