"""Coarse alignment of simulated series whose geometry is known, sound ones and spoilt ones."""

import numpy as np
import pytest
from scipy import ndimage, optimize

from tiltflow import geometry
from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.coarse.placement import _Placed, align_coarse
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.errors import ParameterError
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import simulate

FIXED_AXIS = CoarseParams(max_size_px=128, find_axis=False)


def error_px(series, result):
    return score(series.truth, result.transforms, series.nominal_deg).rms_px


def misplaced_px(series, result):
    """How far each view is from where the truth has it, whatever place of the specimen was put on the axis."""
    tilt, axis = np.deg2rad(series.nominal_deg), geometry.rotation(-series.truth.axis_deg.mean())
    u, v = axis @ (result.shifts_px - series.truth.shift_px).T
    design = np.stack([np.cos(tilt), np.sin(tilt)], axis=1)
    place, *_ = optimize.leastsq(lambda p: np.tanh((u - design @ p) / 5), [0.0, 0.0])
    return np.hypot(u - design @ place, v - np.median(v))


def test_views_are_placed_to_about_a_pixel(textured, coarse):
    assert error_px(textured, coarse) < 1.0
    assert np.all(coarse.correlation > 0.3)


def test_an_axis_that_the_header_has_4_degrees_off_is_found_and_reported(textured, coarse):
    assert coarse.axis_angle_from_data_deg == pytest.approx(textured.truth.axis_deg.mean(), abs=0.5)
    assert coarse.axis_angle_deg == coarse.axis_angle_from_data_deg
    assert coarse.axis_angle_nominal_deg == textured.header_axis_deg + 4
    assert any("tilt axis" in note and "header" in note for note in coarse.notes)


def test_views_that_are_moved_by_a_fifth_of_the_field_are_found(textured):
    """Most of the field is still shared; what comes in at the other side is not."""
    images, moved = textured.images.copy(), {4: (51, 0), 11: (0, -51), 20: (-36, 36)}
    for view, (x, y) in moved.items():
        images[view] = np.roll(images[view], (y, x), axis=(0, 1))
    result = align_coarse(images, textured.nominal_deg, textured.header_axis_deg, params=FIXED_AXIS, threads=2)
    for view, move in moved.items():
        result.shifts_px[view] -= move
    assert misplaced_px(textured, result).max() < 2.0


def test_views_of_something_else_do_not_misplace_their_neighbours(textured):
    images = textured.images.copy()
    images[9] = np.rot90(images[9], 2).T
    images[16] = np.random.default_rng(1).normal(2000, 100, images[16].shape)
    result = align_coarse(images, textured.nominal_deg, textured.header_axis_deg, params=FIXED_AXIS, threads=2)
    assert np.delete(misplaced_px(textured, result), [9, 16]).max() < 2.0
    assert any("view 17 is recognised nowhere" in note for note in result.notes)
    assert result.correlation[16] == np.nanmin(result.correlation)
    assert 16 in result.lost


def test_a_lost_view_gets_the_place_between_its_neighbours_and_one_that_jumped_is_found(textured):
    images = textured.images.copy()
    images[4] = np.roll(images[4], 60, axis=1)
    images[16] = np.random.default_rng(1).permutation(images[16].ravel()).reshape(images[16].shape)
    result = align_coarse(images, textured.nominal_deg, textured.header_axis_deg, params=FIXED_AXIS, threads=2)
    assert list(result.lost) == [16]
    np.testing.assert_allclose(result.shifts_px[16], result.shifts_px[[15, 17]].mean(axis=0), atol=1e-6)
    result.shifts_px[4] -= [60, 0]
    assert np.delete(misplaced_px(textured, result), 16).max() < 2.0


def test_views_beyond_90_degrees_are_placed_among_those_that_show_the_same_mirrored(textured):
    """The whole series seen as if it had been turned on by half a turn from the tenth view."""
    rotation = geometry.rotation(textured.truth.axis_deg.mean())
    tilts, images = textured.nominal_deg.copy(), textured.images
    tilts[:10] += 180
    mirror = rotation @ np.diag([-1.0, 1.0]) @ rotation.T
    centre = np.full(2, textured.truth.size / 2 - 0.5)
    swap = np.array([[0, 1], [1, 0]])
    matrix = swap @ mirror @ swap
    images = np.stack(
        [
            ndimage.affine_transform(image.astype(float), matrix, centre - matrix @ centre, order=3, mode="mirror")
            if v < 10
            else image
            for v, image in enumerate(images)
        ]
    )
    result = align_coarse(images, tilts, textured.header_axis_deg, params=FIXED_AXIS, threads=2)
    result.shifts_px[:10] = result.shifts_px[:10] @ mirror.T
    assert misplaced_px(textured, result).max() < 2.5


def test_three_views_of_noise_in_a_row_do_not_set_off_the_next_ones(textured):
    """The nearest of a view's neighbours are bad ones then; those that were placed clearly must count for more."""
    images, bad = textured.images.copy(), [16, 17, 18]
    images[bad] = np.random.default_rng(0).normal(2000, 300, images[bad].shape)
    result = align_coarse(images, textured.nominal_deg, textured.header_axis_deg, params=FIXED_AXIS, threads=2)
    assert np.delete(misplaced_px(textured, result), bad).max() < 2.0


@pytest.mark.parametrize(("noise", "seed"), [(1800, 6), (2000, 1)])
def test_views_too_noisy_to_be_placed_from_one_side_are_found_from_both(textured, noise, seed):
    """Noise of eight times the contrast of a view and more, and moves of a fifth of the field."""
    rng, images, moved = np.random.default_rng(seed), textured.images.astype(np.float32), {}
    for view in (3, 7, 11, 15, 19, 22):
        x, y = moved[view] = rng.integers(-50, 50, 2)
        images[view] = np.roll(images[view], (y, x), axis=(0, 1)) + rng.normal(0, noise, images[view].shape)
    result = align_coarse(images, textured.nominal_deg, textured.header_axis_deg, params=FIXED_AXIS, threads=2)
    for view, move in moved.items():
        result.shifts_px[view] -= move
    assert misplaced_px(textured, result).max() < 2.0


def test_a_view_that_is_left_out_gets_the_place_between_its_neighbours(textured):
    included = np.arange(25) != 7
    result = align_coarse(textured.images, textured.nominal_deg, textured.header_axis_deg, included, FIXED_AXIS, threads=2)
    np.testing.assert_allclose(result.shifts_px[7], result.shifts_px[[6, 8]].mean(axis=0), atol=1e-6)
    assert np.isnan(result.correlation[7])
    assert np.isfinite(np.delete(result.correlation, 7)).all()


@pytest.mark.whole
def test_views_that_hardly_stand_out_of_the_noise_are_found_together_and_doubted():
    """By the highest peak of each view this series of ice ends 54 px off."""
    series = simulate(SimulationParams(seed=2, size=256, views=31, beads=0, regime="cryo", dose=120))
    result = align_coarse(
        series.images, series.nominal_deg, series.header_axis_deg, params=CoarseParams(find_axis=False), threads=2
    )
    assert error_px(series, result) < 3.0
    assert "hardly stand out of the noise" in result.place_doubt


@pytest.mark.parametrize(
    ("height", "suspicion", "doubt"),
    [
        (10.0, "", ""),
        (9.9, "", "views hardly stand out of the noise: their peaks are 9.9 standard deviations high in the median"),
        (10.0, "it may repeat itself", "it may repeat itself"),
        (9.9, "it may repeat itself", "views hardly stand out"),
        (np.inf, "", ""),
    ],
)
def test_what_makes_the_places_of_views_doubtful(height, suspicion, doubt):
    where = ViewGeometry(np.zeros((2, 2, 2)), np.zeros((2, 2)), np.zeros(2))
    found = _Placed(where, np.zeros(2), np.zeros(0, int), None, height, suspicion).doubt
    assert found.startswith(doubt)
    assert bool(found) is bool(doubt)


def test_views_of_a_sound_series_are_not_doubted(coarse):
    assert coarse.place_doubt == ""


def test_one_view_stays_where_it_is(textured):
    result = align_coarse(textured.images[12:13], [0.0], -8.0)
    assert not result.shifts_px.any()
    assert np.isnan(result.axis_angle_from_data_deg)


def test_progress_ends_at_1(textured):
    heard = []
    align_coarse(textured.images[10:15], textured.nominal_deg[10:15], -8.0, params=FIXED_AXIS, progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tilt_deg": [0.0, 3.0]}, "2 tilt angles for 25 views"),
        ({"included": np.zeros(25, bool)}, "include at least one"),
        ({"included": np.ones(3, bool)}, "of a stack of 25"),
        ({"tilt_deg": np.linspace(-60, 87, 25)}, "View 25, tilted by 87 degrees"),
    ],
)
def test_what_cannot_be_aligned_is_refused(textured, change, message):
    asked = {"tilt_deg": textured.nominal_deg, "included": None} | change
    with pytest.raises(ParameterError, match=message):
        align_coarse(textured.images, asked["tilt_deg"], -8.0, asked["included"])
