"""The fit of a small series, and what its steps and searches find of a geometry that was spoilt on purpose."""

from dataclasses import replace

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import ProjectionFit, moved, sloped, turned
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.preprocess.binned_views import read_binned

SLOPE = np.tan(np.deg2rad(2.0))


@pytest.fixture(scope="module")
def views(textured):
    return read_binned(textured.images, np.arange(25), 64, threads=2)


@pytest.fixture(scope="module")
def true(textured):
    truth = textured.truth
    return replace(ViewGeometry.from_transforms(truth.transforms(), truth.true_deg), slope=SLOPE)


def test_steps_bring_displaced_views_back(views, true, rng):
    shake = rng.normal(0, 2.0, (25, 2))
    fit = ProjectionFit(views, true.displaced(shake), 70.0, threads=2)
    for _ in range(4):
        fit.step(FreeParameters(), em_iterations=3)
    apart = geometry.apply(fit.where.transforms, true.shifts)
    # What is left may be a shift of the whole specimen: along y the same in all views, along x that of a point in space.
    tilts = true.tilts
    design = np.stack([np.cos(tilts), np.sin(tilts)], axis=1)
    along_x = apart[:, 0] - design @ np.linalg.lstsq(design, apart[:, 0], rcond=None)[0]
    assert np.std(along_x) < 0.6
    assert np.std(apart[:, 1]) < 0.6
    assert fit.last_move < 0.1


def test_axis_and_slope_are_searched_for_together(views, true):
    spoilt = sloped(turned(true, np.deg2rad(1.5)), 0.03)
    fit = ProjectionFit(views, spoilt, 70.0, threads=2)
    fit.step(FreeParameters(), em_iterations=3)
    searches = [fit.search(np.deg2rad(width), 0.035) for width in (2.0, 1.0)]
    assert np.rad2deg(sum(search.turn for search in searches)) == pytest.approx(-1.5, abs=0.6)
    assert fit.where.slope == pytest.approx(SLOPE, abs=0.015)
    assert 0 < searches[1].spread < np.deg2rad(0.5)
    assert searches[1].settled


def test_the_truth_is_more_likely_and_better_recognised_than_a_wrong_axis(views, true):
    fit = ProjectionFit(views, true, 70.0, threads=2)
    sound, wrong = fit.assess(true), fit.assess(turned(true, np.deg2rad(6)))
    assert sound.likelihood > wrong.likelihood
    assert sound.correlation.mean() > wrong.correlation.mean()
    assert np.median(sound.heights) > np.median(wrong.heights)


def test_views_of_noise_are_not_recognised(empty):
    views = read_binned(empty.images, np.arange(25), 64, threads=2)
    where = ViewGeometry.from_transforms(empty.truth.transforms(), empty.truth.true_deg)
    fit = ProjectionFit(views, where, 70.0, threads=2)
    assert np.median(fit.assess(where).heights) < 4


def test_the_middle_of_the_specimen_is_brought_onto_the_axis(views, true):
    lifted = true.displaced(np.stack([15 * np.sin(true.tilts), np.zeros(25)], axis=1))
    fit, again = (ProjectionFit(views, where, 90.0, threads=2) for where in (true, lifted))
    for one in (fit, again):
        one.step(FreeParameters(), em_iterations=4)
    lift = (again.model.middle - fit.model.middle) * fit.frame.pixel
    assert abs(lift) == pytest.approx(15, abs=6)
    apart = again.centred().shifts - fit.centred().shifts
    assert np.abs(apart).max() < 8


def test_a_change_of_the_geometry_and_its_opposite_undo_each_other(true, rng):
    change = rng.normal(0, 1e-3, (25, 6))
    there = moved(true, change, 2.0)
    back = moved(there, -change, 2.0)
    np.testing.assert_allclose(back.shifts, true.shifts, atol=1e-4)
    np.testing.assert_allclose(back.tilts, true.tilts, atol=1e-12)
    np.testing.assert_allclose(back.matrices, true.matrices, atol=1e-5)


def test_a_common_magnification_is_not_taken_up(true):
    change = np.zeros((25, 6))
    change[:, 3] = 0.02
    np.testing.assert_allclose(moved(true, change, 2.0).matrices, true.matrices, atol=1e-9)


def test_turning_the_axis_turns_every_view_about_its_middle(true):
    found = turned(true, np.deg2rad(3.0))
    assert found.axis_deg == pytest.approx(true.axis_deg + 3)
    np.testing.assert_array_equal(found.shifts, true.shifts)
