"""Dark, blocked, blank and saturated views are found; views that darken by nature are kept."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.errors import ParameterError
from tiltflow.preprocess.bad_views import ViewParams, find_bad_views
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate


@pytest.fixture(scope="module")
def series():
    return simulate(SimulationParams(size=128, views=41, max_tilt_deg=66, thickness_px=40, beads=10, seed=5))


def _check(images, series, **changes):
    return find_bad_views(images, series.nominal_deg, ViewParams(**changes))


def test_a_good_series_keeps_all_its_views(series):
    check = _check(series.images, series)
    assert check.included.all()
    assert not check.reasons


def test_a_section_that_loses_nine_tenths_of_the_beam_at_high_tilt_keeps_all_its_views(series):
    path = 1 / np.cos(np.deg2rad(series.nominal_deg)) - 1
    images = series.images * np.exp(-1.6 * path)[:, None, None]
    assert images[0].mean() < 0.1 * images[20].mean()
    assert _check(images, series).included.all()


@pytest.mark.parametrize("end", [-1, 1])
@pytest.mark.parametrize("dark", [None, 3, 20, 37])
def test_a_beam_that_fades_tenfold_over_the_series_costs_no_view_and_hides_none(series, end, dark):
    images = series.images * np.exp(np.linspace(-1.2, 1.2, 41) * end)[:, None, None]
    if dark is not None:
        images[dark] *= 0.15
    assert set(_check(images, series).reasons) == ({dark} - {None})


@pytest.mark.parametrize("dark", [(0,), (40,), (20,), (0, 1, 2), (12, 13, 30)])
def test_dark_views_are_left_out_with_the_reason(series, dark):
    images = series.images.astype(np.float32)
    images[list(dark)] *= 0.02
    check = _check(images, series)
    assert set(check.reasons) == set(dark)
    assert all("is dark" in reason or "is blank" in reason for reason in check.reasons.values())
    assert not check.included[list(dark)].any()


def test_dark_views_are_found_in_a_stack_stored_with_an_offset(series):
    images = series.images.astype(np.int32) - 32768
    images[7] = (images[7] + 32768) // 50 - 32768
    assert set(_check(images.astype(np.int16), series).reasons) == {7}


def test_a_grid_bar_over_half_the_field_blocks_a_view_and_over_a_tenth_does_not(series):
    images = series.images.astype(np.float32)
    images[5, :, :60] *= 0.05
    images[9, :, :12] *= 0.05
    check = _check(images, series)
    assert set(check.reasons) == {5}
    assert "is blocked: 4" in check.reasons[5]


def test_an_object_that_is_dark_in_all_views_harms_none(series):
    images = series.images.astype(np.float32)
    images[:, :, :60] *= 0.05
    assert _check(images, series).included.all()


def test_a_constant_view_is_blank_and_a_clipped_one_saturated(series):
    images = series.images.astype(np.float32)
    images[3] = images[3].mean()
    images[8] = np.minimum(images[8], np.percentile(images[8], 60))
    check = _check(images, series)
    assert set(check.reasons) == {3, 8}
    assert "blank" in check.reasons[3]
    assert "saturated" in check.reasons[8]


def test_views_normalised_to_mean_zero_are_all_kept(series):
    images = series.images.astype(np.float32)
    images -= images.mean((1, 2), keepdims=True)
    images /= images.std((1, 2), keepdims=True)
    assert _check(images, series).included.all()


@pytest.mark.parametrize("electrons", [0.2, 0.5, 2.0, 5.0])
def test_counts_of_few_electrons_a_pixel_are_not_blank_and_a_dark_or_empty_view_among_them_is(series, electrons):
    # Fewer reach the camera at high tilt, so that more pixels are at the minimum of 0 there.
    path = 1 / np.cos(np.deg2rad(series.nominal_deg)) - 1
    expected = series.images / np.median(series.images) * np.exp(-path)[:, None, None]
    counts = np.random.default_rng(1).poisson(electrons * expected).astype(np.int16)
    assert _check(counts, series).included.all()
    counts[7] = 0
    counts[20] = np.random.default_rng(2).poisson(0.1 * electrons * expected[20])
    reasons = _check(counts, series).reasons
    assert set(reasons) == {7, 20}
    assert "blank" in reasons[7]


def test_a_view_of_missing_numbers_is_left_out(series):
    images = series.images.astype(np.float32)
    images[4] = np.nan
    assert set(_check(images, series).reasons) == {4}


def test_switched_off_it_keeps_every_view_and_still_tells_the_numbers(series):
    images = series.images.astype(np.float32)
    images[6] *= 0.01
    check = _check(images, series, enabled=False)
    assert check.included.all()
    assert check.statistics.level[6] < 0.05 * check.statistics.expected_level[6]


def test_a_single_view_is_enough_to_run(series):
    assert find_bad_views(series.images[:1], [0.0]).included.all()


def test_angles_must_match_the_views(series):
    with pytest.raises(ParameterError, match="3 tilt angles for 41 views"):
        find_bad_views(series.images, [1, 2, 3])
