"""Planes through the points: the pitch and the tilt offset that would lay the specimen flat."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tiltflow.align.bundle import SolveParams, solve
from tiltflow.align.bundle.bead_surfaces import fit_surfaces


def _points(rng, count, slope_x=0.0, slope_y=0.0, thickness=0.0, scatter=1.0, share=0.5):
    xy = rng.uniform(-230, 230, (count, 2))
    side = np.where(np.arange(count) < share * count, 0.5, -0.5)
    z = xy @ [slope_x, slope_y] + side * thickness + rng.normal(0, scatter, count)
    return np.column_stack([xy, z])


def test_one_plane_gives_offset_and_pitch(rng):
    fit = fit_surfaces(_points(rng, 25, slope_x=np.tan(np.deg2rad(2.0)), slope_y=np.tan(np.deg2rad(-1.5))), 1)
    assert fit.tilt_offset_deg == pytest.approx(-2.0, abs=0.3)
    assert fit.pitch_deg == pytest.approx(-1.5, abs=0.3)
    assert len(fit.heights) == 1


@pytest.mark.parametrize(
    ("slope_deg", "scatter", "slanted"),
    [(12.0, 3.0, True), (-12.0, 3.0, True), (3.0, 1.0, False), (12.0, 300.0, False)],
)
def test_a_specimen_is_said_to_be_slanted_where_its_slope_is_large_and_certain(rng, slope_deg, scatter, slanted):
    fit = fit_surfaces(_points(rng, 9, slope_x=np.tan(np.deg2rad(slope_deg)), scatter=scatter), 1)
    assert fit.slanted() is slanted
    assert not fit.slanted(crowding=1000.0)


def test_the_error_of_the_slope_is_that_of_the_scatter(rng):
    errors = []
    for _ in range(200):
        fit = fit_surfaces(_points(rng, 9, slope_x=np.tan(np.deg2rad(6.0)), scatter=10.0), 1)
        errors.append((fit.tilt_offset_deg + 6.0) / fit.tilt_error_deg)
    assert np.median(np.abs(errors)) == pytest.approx(0.72, abs=0.15)


def test_what_levels_a_slanted_specimen_is_told(point_case):
    case = point_case(thickness=20)
    tilts = case.truth.nominal_deg - 12
    solution = solve(case.tracks, tilts, round(float(case.truth.axis_deg.mean())), SolveParams(), image_shape=(512, 512))
    told = re.search(r"OFFSET = (\S+) levels it", solution.slope)
    assert told is not None
    assert float(told[1]) == pytest.approx(12.0, abs=1.5)
    assert case.solve().slope == ""


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_two_planes_give_the_same_pitch_and_both_heights(rng, share):
    points = _points(rng, 24, slope_y=np.tan(np.deg2rad(3.0)), thickness=80, share=share)
    fit = fit_surfaces(points, 2)
    assert fit.pitch_deg == pytest.approx(3.0, abs=0.4)
    assert abs(fit.heights[0] - fit.heights[1]) == pytest.approx(80, abs=2)
    upper = fit.member == np.argmax(fit.heights)
    np.testing.assert_array_equal(upper, np.arange(24) < share * 24)


def test_the_offset_lays_the_points_flat(point_case):
    """What the solution calls the offset is what takes the slope along x away when it is added to the tilts."""
    case = point_case(two_surfaces=True, thickness=80, pitch_deg=2.0)
    params = SolveParams(surfaces=2, tilt="fixed")
    first = case.solve(params)
    second = case.solve(replace(params, tilt_angle_offset_deg=first.tilt_offset_deg))
    assert abs(second.tilt_offset_deg) < 0.05 * max(abs(first.tilt_offset_deg), 1.0)
    assert second.pitch_deg == pytest.approx(2.0, abs=0.6)
    assert second.alignment("gold").x_axis_tilt_deg == -second.pitch_deg
    assert 0 < second.evidence.x_axis_tilt_error_deg < 1.5


def test_beads_of_two_surfaces_are_separated_also_where_one_is_asked_for(rng):
    """The trap: one plane through beads that lie left on one surface and right on the other slopes by tens of degrees."""
    points = _points(rng, 24, slope_y=np.tan(np.deg2rad(1.0)), thickness=80)
    points[:12, 0] = np.abs(points[:12, 0])
    points[12:, 0] = -np.abs(points[12:, 0])
    fit = fit_surfaces(points, 1)
    assert abs(fit.tilt_offset_deg) < 1.5
    assert fit.pitch_deg == pytest.approx(1.0, abs=0.4)
    assert len(fit.heights) == 2


def test_points_through_the_depth_of_ice_are_no_two_surfaces():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        points = rng.uniform(-1, 1, (15, 3)) * [230, 230, 75]
        assert len(fit_surfaces(points, 1).heights) == 1, seed


@pytest.mark.parametrize("count", [7, 8, 9])
def test_few_points_through_the_depth_of_ice_are_seldom_two_surfaces(count):
    found = [fit_surfaces(np.random.default_rng(seed).uniform(-1, 1, (count, 3)) * [230, 230, 75], 1) for seed in range(100)]
    assert sum(len(each.heights) == 2 for each in found) <= 2


def test_a_handful_of_points_is_one_plane(rng):
    points = _points(rng, 4, thickness=80)
    assert len(fit_surfaces(points, 2).heights) == 1


def beads_on(heights, pitch_deg, rng, scatter=1.0, extent=200.0):
    """Return points whose heights over an inclined plane are given, spread over the field."""
    x, y = rng.uniform(-extent, extent, (2, len(heights)))
    return np.stack([x, y, np.asarray(heights) + np.tan(np.deg2rad(pitch_deg)) * y + rng.normal(0, scatter, len(heights))], axis=1)


@pytest.mark.parametrize(
    ("heights", "asked", "levels"),
    [
        pytest.param([0.0] * 8, 1, True, id="eight on one surface"),
        pytest.param([30.0, -30.0] * 4, 1, True, id="eight on two surfaces, one asked for"),
        pytest.param([30.0, -30.0, 30.0, -30.0, 30.0, -30.0], 1, False, id="six on two surfaces, one asked for"),
        pytest.param([30.0, -30.0] * 4, 2, True, id="two asked for"),
        pytest.param([30.0, -30.0] * 8, 1, True, id="sixteen on two surfaces are recognised"),
        pytest.param([0.0] * 3, 1, False, id="three determine a plane and check nothing"),
    ],
)
def test_the_specimen_is_levelled_by_points_that_know_its_tilt(heights, asked, levels):
    for seed in range(5):
        found = fit_surfaces(beads_on(heights, 1.5, np.random.default_rng(seed)), asked)
        assert found.levels is levels
        if levels:
            assert found.pitch_deg == pytest.approx(1.5, abs=3 * found.pitch_error_deg + 0.2)


def test_the_standard_error_of_the_tilt_is_right(rng):
    errors, stated = [], []
    for seed in range(300):
        found = fit_surfaces(beads_on([0.0] * 9, 2.0, np.random.default_rng(seed), scatter=4.0), 1)
        errors.append((found.pitch_deg - 2.0) / found.pitch_error_deg)
        stated.append(found.pitch_error_deg)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(1.22, abs=0.25), "Student's t with six degrees of freedom"


def test_points_in_a_line_across_the_axis_know_no_tilt_about_it():
    x = np.linspace(-200, 200, 9)
    points = np.stack([x, np.zeros(9), np.random.default_rng(0).normal(0, 1, 9)], axis=1)
    assert not fit_surfaces(points, 1).levels


def test_the_tilt_about_x_is_not_known_from_points_spread_through_a_thick_specimen_and_0_is_taken(point_case):
    found = point_case(tracks=5, thickness=150.0, pitch_deg=3.0).solve(SolveParams())
    assert (found.pitch_deg, found.evidence.x_axis_tilt_error_deg) == (0.0, None)
    assert any("whose standard error is" in note and "0 is taken" in note for note in found.evidence.notes)
