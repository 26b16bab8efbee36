"""The tilt axis angle estimated from the images, and none where they hold no information on it."""

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.coarse.axis_search import Axis, find_axis
from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.coarse.placement import align_coarse
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.preprocess.binned_views import read_binned

SMALL = CoarseParams(max_size_px=64)


@pytest.fixture(scope="module")
def views(textured):
    return read_binned(textured.images, np.arange(25), 64, threads=2)


def placed(series, axis_deg):
    """The truth but for the axis, which is turned about the middle of each view."""
    turns = np.array([geometry.rotation(axis_deg)] * 25)
    return ViewGeometry(turns, series.truth.shift_px.copy(), np.deg2rad(series.nominal_deg))


@pytest.mark.parametrize("off_deg", [-5.0, 4.5, 16.0])
def test_the_axis_is_found_within_a_degree(textured, views, off_deg):
    true = textured.truth.axis_deg.mean()
    found = find_axis(views, placed(textured, true + off_deg), true + off_deg, threads=2)
    assert abs(found.found_deg - true) < min(1.0, 2.5 * found.error_deg)
    assert found.used_deg == found.found_deg
    assert f"{true + off_deg:.1f}" in found.notes[0]


@pytest.mark.parametrize("off_deg", [-3.0, 2.0, 3.0])
def test_a_given_axis_is_overruled_only_by_more_than_the_search_can_be_wrong(textured, views, off_deg):
    given = float(textured.truth.axis_deg.mean()) + off_deg
    found = find_axis(views, placed(textured, given), given, threads=2)
    assert (found.used_deg, found.notes) == (given, ())
    assert abs(found.found_deg - given) > 1
    assert found.error_deg >= 1.2, "on sections without gold it is off by as much"


def test_an_axis_that_is_right_is_kept_as_it_was_given(textured, views):
    given = round(float(textured.truth.axis_deg.mean()), 1)
    found = find_axis(views, placed(textured, given), given, threads=2)
    assert (found.used_deg, found.notes) == (given, ())
    assert abs(found.found_deg - given) < min(1.0, 2.5 * found.error_deg)


@pytest.mark.whole
def test_a_quarter_turn_is_found_by_the_whole_coarse_alignment(textured):
    true = textured.truth.axis_deg.mean()
    result = align_coarse(textured.images, textured.nominal_deg, 84.0, params=SMALL, threads=2)
    apart = (result.axis_angle_deg - true + 90) % 180 - 90
    assert apart == pytest.approx(0, abs=0.5)


def test_half_a_turn_cannot_be_distinguished_from_none(textured, views):
    """It is the same series seen from behind; nothing may be claimed of it."""
    true = round(float(textured.truth.axis_deg.mean()), 1)
    where = placed(textured, true + 180)
    found = find_axis(views, where, true + 180, threads=2)
    assert found.used_deg == true + 180


def test_noise_gives_no_axis(empty):
    result = align_coarse(empty.images, empty.nominal_deg, -4.0, params=SMALL, threads=2)
    assert result.axis_angle_deg == -4.0
    assert not any("tilt axis" in note for note in result.notes)


def test_an_unknown_axis_is_the_given_one():
    axis = Axis.unknown(12.0)
    assert axis.used_deg == 12.0
    assert np.isnan([axis.found_deg, axis.error_deg]).all()
