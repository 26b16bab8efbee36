"""The tilt axis angle of series whose header tells it, tells it wrongly, or does not: right, or said to be unknown."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.coarse.axis_search import Axis
from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.coarse.placement import align_coarse
from tiltflow.align.coarse.starts import STEP_DEG, Starts, checked_by_starts
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.preprocess.binned_views import read_binned
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

SMALL = CoarseParams(max_size_px=96)
VIEWS = 25
ANGLES = np.arange(0.0, 180.0, STEP_DEG)


@cache
def section(axis_deg: float, crowding: float = 1.0):
    """A section without gold; without crowding there is nothing in it."""
    params = SimulationParams(
        size=192, views=VIEWS, beads=0, thickness_px=40, dose=2000, hot_pixels=0, axis_deg=axis_deg, crowding=crowding
    )
    return simulate(params, threads=2)


def aligned(series, axis_deg: float, *, told: bool):
    return align_coarse(series.images, series.nominal_deg, axis_deg, params=SMALL, axis_told=told, threads=2)


def off_deg(found_deg: float, true_deg: float) -> float:
    """Half a turn is the same axis."""
    return abs((found_deg - true_deg + 90) % 180 - 90)


@pytest.mark.parametrize(
    "true_deg", [pytest.param(axis, marks=[] if axis == 84 else pytest.mark.whole) for axis in (-8.0, 45.0, 84.0, 90.0, 135.0)]
)
def test_an_axis_that_is_not_told_is_found(true_deg):
    result = aligned(section(true_deg), 0.0, told=False)
    assert off_deg(result.axis_angle_deg, section(true_deg).truth.axis_deg.mean()) < 1.5 * result.axis_angle_error_deg < 12
    assert not result.axis_doubt
    assert any("no source tells the tilt axis angle" in note for note in result.notes)


@pytest.mark.whole
@pytest.mark.parametrize("true_deg", [-8.0, 45.0, 84.0, 90.0, 135.0])
def test_an_axis_that_is_told_rightly_is_kept_as_it_was_given(true_deg):
    result = aligned(section(true_deg), true_deg, told=True)
    assert result.axis_angle_deg == true_deg
    assert not result.axis_doubt


@pytest.mark.parametrize(
    ("true_deg", "told_deg"),
    [
        (84.0, 0.0),
        (-8.0, 8.0),
        pytest.param(84.0, 66.0, marks=pytest.mark.whole),
        pytest.param(45.0, 58.0, marks=pytest.mark.whole),
        pytest.param(-8.0, 17.0, marks=pytest.mark.whole),
        pytest.param(45.0, -45.0, marks=pytest.mark.whole),
        pytest.param(-8.0, 82.0, marks=pytest.mark.whole),
        pytest.param(135.0, 90.0, marks=pytest.mark.whole),
    ],
)
def test_an_axis_that_is_told_wrongly_is_overruled_and_the_user_hears_of_it(true_deg, told_deg):
    result = aligned(section(true_deg), told_deg, told=True)
    assert off_deg(result.axis_angle_deg, section(true_deg).truth.axis_deg.mean()) < 1.5 * result.axis_angle_error_deg < 12
    assert any(f"{told_deg:.1f} degrees" in note and "the estimate is used" in note for note in result.notes)


@pytest.mark.whole
@pytest.mark.parametrize(("off", "doubted"), [(0.0, False), (90.0, True)])
def test_a_wrong_axis_of_faint_ice_is_doubted_though_the_images_do_not_decide(off, doubted):
    series = simulate(SimulationParams(size=384, views=41, beads=0, regime="cryo"), threads=2)
    told = float(series.truth.axis_deg.mean()) + off
    result = align_coarse(series.images, series.nominal_deg, told, axis_told=True, threads=2)
    assert result.axis_angle_deg == told
    assert bool(result.axis_doubt) == doubted
    assert not doubted or "views agree better under one of about" in result.axis_doubt


def test_of_an_empty_section_the_axis_is_unknown():
    result = aligned(section(45.0, 0.0), 0.0, told=False)
    assert result.axis_angle_deg == 0
    assert np.isnan(result.axis_angle_from_data_deg)
    assert "the tilt axis angle is unknown" in result.axis_doubt
    assert result.axis_doubt in result.notes


def doubted(series, given_deg: float, found_deg: float):
    """Return the axis after a search from the told angle ended elsewhere."""
    views = read_binned(series.images, np.arange(VIEWS), 64, threads=2)
    turns, tilts = geometry.rotation(0.0), np.deg2rad(series.nominal_deg)

    def place(_, some, angle_deg):
        """The truth but for the axis."""
        return ViewGeometry(np.array([turns @ geometry.rotation(angle_deg)] * len(some)), series.truth.shift_px[some], tilts[some])

    return checked_by_starts(views, place, Axis(given_deg, found_deg, 0.8, found_deg))


def test_a_right_axis_that_a_search_would_overrule_is_kept():
    found = doubted(section(84.0), 84.0, 48.8)
    assert (found.used_deg, found.notes, found.doubt) == (84.0, (), "")


def test_an_axis_that_starts_all_over_and_a_search_both_find_is_used_however_near_the_told_one():
    found = doubted(section(84.0), 78.0, 94.5)
    assert off_deg(found.used_deg, 84.0) < 4
    assert "78.0 degrees of the header: the estimate is used" in found.notes[0]


def test_a_told_axis_is_kept_with_a_doubt_where_the_images_do_not_decide(rng):
    noise = rng.normal(2000, 100, (VIEWS, 192, 192)).astype(np.float32)
    found = doubted(replace(section(45.0), images=noise), 20.0, 75.0)
    assert found.used_deg == 20.0
    assert "20.0 degrees, may be wrong: a search ended at 75.0" in found.doubt
    assert found.notes == (found.doubt,)


def bell(centre_deg: float, width_deg: float = 30.0):
    """Return a smooth curve over half a turn with one maximum."""
    away = (ANGLES - centre_deg + 90) % 180 - 90
    return 1000 * np.exp(-0.5 * (away / width_deg) ** 2)


@pytest.mark.parametrize("centre_deg", [0.0, 37.0, 83.6, 178.0])
def test_a_smooth_curve_is_decided_at_its_top(centre_deg):
    starts = Starts(ANGLES, bell(centre_deg))
    assert starts.decided
    assert off_deg(starts.best_deg, centre_deg) < 1


def test_curves_of_chance_are_not_decided(rng):
    decided = [Starts(ANGLES, rng.normal(0, 100, len(ANGLES))).decided for _ in range(400)]
    assert np.mean(decided) < 0.03


def test_a_smooth_curve_under_chance_is_not_decided(rng):
    decided = [Starts(ANGLES, bell(37.0) + rng.normal(0, 1000, len(ANGLES))).decided for _ in range(400)]
    assert np.mean(decided) < 0.1
