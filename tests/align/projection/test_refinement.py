"""Alignment without tracks, against the known geometry of a simulated section."""

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.projection.refinement import RefineParams, refine_by_projection
from tiltflow.align.projection.uncertainty import trust_warnings
from tiltflow.errors import ParameterError, StageError
from tiltflow.simulate.scoring import score

QUICK = RefineParams(max_size_px=128)
COARSEST = RefineParams(max_size_px=64)


def error_px(series, transforms, tilt_deg):
    return score(series.truth, transforms, tilt_deg).rms_px


@pytest.fixture(scope="module")
def refined(textured, coarse):
    return refine_by_projection(
        textured.images, coarse.transforms, textured.nominal_deg, coarse.axis_angle_deg, params=QUICK, threads=2
    )


def test_the_result_is_near_the_truth_and_far_better_than_the_start(textured, coarse, refined):
    before = error_px(textured, coarse.transforms, textured.nominal_deg)
    after = error_px(textured, refined.transforms, refined.tilt_deg)
    assert refined.improved
    assert after < 0.1
    assert after < 0.7 * before


def test_its_own_error_is_the_true_one_within_a_factor_of_2(textured, refined):
    true = error_px(textured, refined.transforms, refined.tilt_deg)
    assert true / 2 < refined.error_px < 2 * true


def test_axis_thickness_and_pitch_are_those_of_the_specimen(textured, refined):
    assert refined.axis_angle_deg == pytest.approx(textured.truth.axis_deg.mean(), abs=0.3)
    assert 0 < refined.thickness_px < 65  # the gold on its surface counts for more than the section
    assert abs(refined.x_axis_tilt_deg) == pytest.approx(2.0, abs=0.5)


def test_views_agree_better_with_their_predictions_than_before(refined):
    assert refined.correlation.mean() > refined.correlation_start.mean() + 0.002
    assert np.all(refined.correlation > refined.correlation_start - 0.01)
    assert refined.recognised.min() > 15


def test_the_truth_is_not_made_worse(textured):
    truth = textured.truth
    start = truth.transforms()
    result = refine_by_projection(textured.images, start, truth.true_deg, truth.axis_deg.mean(), params=QUICK, threads=2)
    assert error_px(textured, result.transforms, result.tilt_deg) < 0.25
    assert not result.error_px > 0.3


def test_noise_is_not_claimed_to_be_aligned(empty):
    result = refine_by_projection(empty.images, empty.truth.transforms(), empty.nominal_deg, -8.0, params=COARSEST, threads=2)
    found = trust_warnings(result.recognised, result.error_px, result.tilt_deg - empty.nominal_deg, 1.0)
    assert any("correlate weakly" in warning for warning in found)


def test_views_that_are_left_out_follow_their_neighbours(textured, coarse):
    included = np.ones(25, bool)
    included[[6, 24]] = False
    result = refine_by_projection(
        textured.images, coarse.transforms, textured.nominal_deg, coarse.axis_angle_deg, included, COARSEST, threads=2
    )
    assert np.isnan(result.correlation[[6, 24]]).all()
    moved = geometry.compose(geometry.invert(coarse.transforms), result.transforms)
    np.testing.assert_allclose(moved[6], moved[[5, 7]].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(moved[24], moved[23], atol=1e-6)


def test_too_few_views_or_a_start_of_another_series_are_refused(textured, coarse):
    with pytest.raises(StageError, match="4 are too few"):
        refine_by_projection(textured.images[:4], coarse.transforms[:4], textured.nominal_deg[:4], -8.0)
    with pytest.raises(ParameterError, match="one transform"):
        refine_by_projection(textured.images, coarse.transforms[:3], textured.nominal_deg, -8.0)


def test_shifts_alone_can_be_refined(textured):
    truth = textured.truth
    moved = truth.shift_px + np.random.default_rng(1).normal(0, 0.5, truth.shift_px.shape)
    start = geometry.from_axis_and_shifts(truth.axis_deg.mean(), moved)
    only = RefineParams(max_size_px=128, refine_axis=False, refine_rotation=False, refine_magnification=False, refine_tilt=False)
    result = refine_by_projection(textured.images, start, textured.nominal_deg, truth.axis_deg.mean(), params=only, threads=2)
    np.testing.assert_allclose(result.tilt_deg, textured.nominal_deg, atol=1e-6)
    np.testing.assert_allclose(result.transforms[:, :, :2], start[:, :, :2], atol=1e-6)
    before, after = (error_px(textured, transforms, textured.nominal_deg) for transforms in (start, result.transforms))
    assert after < 0.5 * before
