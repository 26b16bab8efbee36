"""The phantom: its projections are exact, its truth is consistent with the geometry."""

from dataclasses import replace

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.errors import ParameterError
from tiltflow.kernels.phantom import add_ellipsoid, fill_ellipsoid
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import render_specimen, simulate

SMALL = SimulationParams(size=96, views=5, beads=6, thickness_px=20, crowding=0.3)


def test_an_ellipsoid_projects_to_its_volume():
    image = np.zeros((64, 64))
    axes = np.array([9.0, 6.0, 12.0])
    add_ellipsoid(image, 31.3, 30.8, np.diag(1 / axes**2), 12.0, 2.0)
    assert image.sum() == pytest.approx(2.0 * 4 / 3 * np.pi * axes.prod(), rel=2e-3)


def test_the_thickest_chord_of_a_sphere_is_its_diameter():
    image = np.zeros((33, 33))
    add_ellipsoid(image, 16.5, 16.5, np.eye(3) / 10**2, 10.0, 1.0)
    assert image[16, 16] == pytest.approx(20.0, abs=0.05)
    assert image[0, 0] == 0


def test_voxels_of_an_ellipsoid_add_up_to_its_projection():
    turn, axes = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0], np.array([9.0, 6.0, 12.0])
    shape = turn @ np.diag(1 / axes**2) @ turn.T
    volume, image = np.zeros((40, 48, 44), np.float32), np.zeros((48, 44))
    fill_ellipsoid(volume, 20.3, 24.1, 19.6, shape, 12.0, 2.0)
    add_ellipsoid(image, 20.3, 24.1, shape, 12.0, 2.0)
    assert volume.sum() == pytest.approx(2.0 * 4 / 3 * np.pi * axes.prod(), rel=2e-3)
    assert np.abs(volume.sum(axis=0) - image).max() < 0.15 * image.max()
    assert np.abs(volume.sum(axis=0) - image).mean() < 0.004 * image.max()


def test_the_specimen_in_voxels_is_what_the_views_show():
    steady = replace(
        SMALL,
        views=1,
        max_tilt_deg=0,
        dose=1e6,
        axis_deg=0,
        rotation_jitter_deg=0,
        tilt_error_deg=0,
        magnification_jitter=0,
        hot_pixels=0,
        pitch_deg=8,
    )
    seen = np.log(simulate(steady).images[0].astype(float))
    shadow = render_specimen(steady, 60).sum(axis=0)
    assert np.corrcoef(seen.ravel(), -shadow.ravel())[0, 1] > 0.98


def test_nothing_but_gold_lies_beyond_the_surfaces_of_the_slab():
    filled = replace(SMALL, beads=0, thickness_px=40, pitch_deg=0, z_offset_px=6, crowding=4)
    density = np.abs(render_specimen(filled, 80)).sum(axis=(1, 2))
    heights = np.flatnonzero(density > 1e-3 * density.max()) + 0.5 - 40
    assert heights[0] > 6 - 20 - 2
    assert heights[-1] < 6 + 20 + 2


def test_the_same_seed_gives_the_same_series_on_any_number_of_threads():
    np.testing.assert_array_equal(simulate(SMALL).images, simulate(SMALL, threads=2).images)


def test_the_true_transforms_and_angles_have_no_error():
    truth = simulate(SMALL).truth
    assert score(truth, truth.transforms(), truth.true_deg).rms_px < 1e-9


def test_a_shift_of_one_view_scores_as_an_error_of_that_view():
    truth = simulate(SMALL).truth
    transforms = truth.transforms()
    transforms[1, 1, 2] += 2.0
    found = score(truth, transforms, truth.true_deg)
    assert found.worst_view == 1
    assert found.rms_v_px == pytest.approx(2.0 * np.sqrt(4) / 5, rel=1e-6)


def test_the_score_ignores_origin_scale_and_tilt_offset():
    truth = simulate(SMALL).truth
    origin = geometry.project([3.0, -7.0, 5.0], truth.true_deg)[:, 0]
    moved = geometry.compose(truth.transforms(), geometry.transform(1.01 * np.eye(2), origin))
    assert score(truth, moved, truth.true_deg + 4.0).rms_px < 1e-9


def test_beads_are_dark_where_the_truth_says():
    series = simulate(SMALL)
    view = 2
    x, y = np.floor(series.truth.beads_xy[view]).astype(int).T
    inside = (x >= 0) & (x < 96) & (y >= 0) & (y < 96)
    assert series.images[view][y[inside], x[inside]].mean() < 0.8 * np.median(series.images[view])


def test_a_senseless_size_is_refused_with_the_value():
    with pytest.raises(ParameterError, match="size 8"):
        SimulationParams(size=8)


def test_a_series_without_beads_is_scored_all_the_same():
    truth = simulate(replace(SMALL, beads=0)).truth
    assert truth.beads_px.shape == (0, 3)
    transforms = truth.transforms()
    assert score(truth, transforms, truth.true_deg).rms_px < 1e-9
    transforms[0, 1, 2] += 1.0
    assert score(truth, transforms, truth.true_deg).rms_px > 0.3
