"""The bundle adjustment against geometries that are known: what is free, what is held, and whether its error estimates are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.align.bundle import SolveParams, project_solution, solve, triangulate
from tiltflow.errors import ParameterError, StageError
from tiltflow.model import Tracks

FREE = SolveParams(adapt=False, robust=False, restrict=False)
LOOSE = replace(FREE, rotation_sd_deg=20.0, tilt_sd_deg=20.0, magnification_sd=1.0, stretch_sd=1.0, skew_sd_deg=20.0)
"""Priors so wide that the tracks alone decide."""


def _away_from_mean(values):
    return values - values.mean()


def test_without_noise_the_geometry_comes_back_exactly(point_case):
    case = point_case(noise=0.0)
    solution = case.solve(LOOSE)
    assert solution.evidence.residual_mean_px < 1e-4
    assert case.error(solution) < 1e-4
    np.testing.assert_allclose(solution.rotation_deg, case.truth.axis_deg, atol=2e-4)
    np.testing.assert_allclose(_away_from_mean(solution.tilt_deg), _away_from_mean(case.truth.true_deg), atol=2e-3)
    relative = case.truth.magnification / case.truth.magnification.mean()
    np.testing.assert_allclose(solution.magnification / solution.magnification.mean(), relative, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_with_noise_the_error_is_a_fraction_of_it(point_case, seed):
    case = point_case(seed=seed, noise=0.1)
    assert case.error(case.solve()) < 0.06


def test_estimating_the_priors_helps_few_tracks_most(point_case):
    def median(adapt):
        cases = [point_case(seed=seed, tracks=5, noise=0.15, axis_walk_deg=0.0, magnification_sd=0.0) for seed in range(3)]
        return np.median([case.error(case.solve(SolveParams(adapt=adapt, restrict=False))) for case in cases])

    assert median(adapt=True) < 0.85 * median(adapt=False)


def test_estimated_priors_are_noted(point_case):
    notes = point_case(axis_walk_deg=0.0).solve().evidence.notes
    assert any(note.startswith("rotation: standard deviation") and note.endswith("estimated from the tracks") for note in notes)
    assert any(note.startswith("tilt: standard deviation 0.1") for note in notes), notes


def test_a_fixed_variable_keeps_its_nominal_value(point_case):
    case = point_case()
    solution = case.solve(replace(FREE, rotation="fixed", tilt="fixed", magnification="fixed"))
    np.testing.assert_allclose(solution.rotation_deg, -8)
    np.testing.assert_allclose(solution.tilt_deg, case.truth.nominal_deg)
    np.testing.assert_allclose(solution.magnification, 1)
    assert solution.evidence.unknowns == 3 * 24 + 2 * 40


def test_one_rotation_is_the_same_in_all_views_and_near_the_mean(point_case):
    case = point_case()
    solution = case.solve(replace(FREE, rotation="one"))
    np.testing.assert_allclose(solution.rotation_deg, solution.rotation_deg[0])
    assert abs(solution.rotation_deg[0] - case.truth.axis_deg.mean()) < 0.03


def test_a_grouped_variable_changes_linearly_between_its_nodes(point_case):
    case = point_case()
    grouped = replace(
        FREE,
        rotation="grouped",
        tilt="grouped",
        magnification="grouped",
        rotation_group=10,
        tilt_group=8,
        magnification_group=20,
    )
    solution = case.solve(grouped)
    for values, group in ((solution.rotation_deg, 10), (solution.tilt_deg - case.truth.nominal_deg, 8)):
        bends = np.abs(np.diff(values, 2)) > 1e-9
        assert set(np.flatnonzero(bends) + 1) <= set(range(group, 40, group))
    bends = np.abs(np.diff(np.log(solution.magnification), 2)) > 1e-9
    assert set(np.flatnonzero(bends) + 1) <= {20}
    # 5 rotations, 6 tilts less one, 3 magnifications less one
    assert solution.evidence.unknowns == 5 + 5 + 2 + 3 * 24 + 2 * 40


def test_groups_follow_the_tilt_whatever_the_order_of_the_file(point_case, rng):
    case = point_case()
    params = replace(FREE, rotation="grouped", tilt="grouped", magnification="grouped")
    order = rng.permutation(41)
    shuffled = solve(Tracks(case.tracks.xy[:, order], "bead"), case.truth.nominal_deg[order], -8.0, params, image_shape=(512, 512))
    straight = case.solve(params)
    np.testing.assert_allclose(shuffled.rotation_deg, straight.rotation_deg[order], atol=1e-6)
    np.testing.assert_allclose(shuffled.tilt_deg, straight.tilt_deg[order], atol=1e-6)


def test_unknowns_are_counted_as_tiltalign_counts_them(point_case):
    """A log of IMOD: 40 views, 16 beads, one rotation: 1 + 3 * 15 + 2 * 39 = 124."""
    case = point_case(tracks=16, views=40, missing=0.0)
    evidence = case.solve(replace(FREE, rotation="one", tilt="fixed", magnification="fixed")).evidence
    assert (evidence.measurements, evidence.unknowns) == (2 * 16 * 40, 124)


def test_stretch_and_skew_come_back(point_case):
    case = point_case(stretch=0.006, skew_deg=0.4, noise=0.05, tilt_sd_deg=0.0, magnification_sd=0.0)
    solution = case.solve(replace(LOOSE, stretch=True, skew=True, stretch_group=4, tilt="fixed"))
    # A specimen that is stretched or leans in every view alike has a stretch of the form a + b tan(tilt).
    common = np.stack([np.ones(41), np.tan(np.deg2rad(case.truth.nominal_deg))], axis=1)

    def changing(stretch):
        return stretch - common @ np.linalg.lstsq(common, stretch, rcond=None)[0]

    np.testing.assert_allclose(changing(solution.stretch), changing(case.stretch), atol=1e-3)
    np.testing.assert_allclose(_away_from_mean(solution.skew_deg), case.skew_deg, atol=0.03)
    without = case.solve(FREE)
    assert solution.evidence.residual_mean_px < 0.07 < 0.1 < without.evidence.residual_mean_px


def test_transforms_and_tilts_say_the_same_as_the_parameters(point_case):
    """Also with stretch and skew, which the transforms, the tilts and `y_per_z` undo between them."""
    case = point_case(stretch=0.006, skew_deg=0.4)
    solution = case.solve(replace(FREE, stretch=True, skew=True))
    predicted = project_solution(solution, solution.points)
    seen = case.tracks.seen
    np.testing.assert_allclose(predicted[seen], (case.tracks.xy - solution.residuals)[seen], atol=1e-6)
    turn = np.deg2rad(solution.rotation_deg)
    c, s = np.cos(np.deg2rad(solution.tilt_deg)), np.sin(np.deg2rad(solution.tilt_deg))
    x, y, z = solution.points.T[:, :, None]
    u, v = (1 + solution.stretch) * c * x + s * z, y + np.deg2rad(solution.skew_deg) * x
    by_formula = np.stack([np.cos(turn) * u - np.sin(turn) * v, np.sin(turn) * u + np.cos(turn) * v], axis=-1)
    by_formula = 256 + solution.shift_px + solution.magnification[:, None] * by_formula
    np.testing.assert_allclose(predicted, by_formula, atol=1e-6)


def test_points_are_found_from_where_they_are_seen(point_case):
    case = point_case(noise=0.0)
    solution = case.solve(LOOSE)
    np.testing.assert_allclose(triangulate(solution, case.exact_xy), solution.points, atol=1e-3)
    once = np.full_like(case.exact_xy[0], np.nan)
    once[20] = case.exact_xy[0, 20]
    assert np.isnan(triangulate(solution, once)).all()


def test_views_left_out_are_interpolated_and_keep_their_place(point_case):
    case = point_case()
    included = np.ones(41, bool)
    included[[0, 7, 8]] = False
    solution = case.solve(included=included)
    np.testing.assert_array_equal(solution.included, included)
    assert solution.transforms.shape == (41, 2, 3)
    assert np.isnan(solution.residuals[:, ~included]).all()
    assert (solution.weights[:, ~included] == 0).all()
    np.testing.assert_allclose(solution.tilt_deg[[7, 8]], case.truth.nominal_deg[[7, 8]], atol=0.6)
    np.testing.assert_allclose(
        solution.shift_px[7],
        np.interp([1], [0, 3], [0, 1]) * (solution.shift_px[9] - solution.shift_px[6]) + solution.shift_px[6],
        atol=1e-6,
    )


def test_a_view_without_points_is_named(point_case):
    case = point_case()
    case.tracks.xy[:, 5] = np.nan
    notes = case.solve().evidence.notes
    assert "views 6 have no point: their geometry is interpolated" in notes


def test_the_start_decides_where_the_origin_is(point_case):
    case = point_case(noise=0.0)
    start = case.truth.transforms()
    solution = case.solve(LOOSE, start=start)
    np.testing.assert_allclose(solution.points, case.points * 1.0, atol=0.5)
    np.testing.assert_allclose(solution.transforms[..., 2], start[..., 2], atol=0.2)


def test_without_a_start_the_view_nearest_zero_stays_and_heights_are_centred(point_case):
    """A specimen that leans by seven degrees comes to lie level and centred, whatever part of the field its beads are in."""
    case = point_case(pitch_deg=7.0, two_surfaces=True, noise=0.02)
    solution = case.solve(SolveParams(surfaces=2))
    np.testing.assert_allclose(solution.transforms[20, :, 2], 0, atol=1e-6)
    pitch = np.deg2rad(solution.pitch_deg)
    height = solution.points[:, 2] * np.cos(pitch) - solution.points[:, 1] * np.sin(pitch)
    assert solution.z_range_px == pytest.approx((height.min(), height.max()))
    assert height.min() + height.max() == pytest.approx(0, abs=0.05)
    assert height.max() - height.min() < 100


def test_the_tilt_offset_and_the_z_shift_that_are_asked_for_are_added(point_case):
    case = point_case()
    plain = case.solve(replace(FREE, tilt="fixed"))
    moved = case.solve(replace(FREE, tilt="fixed", tilt_angle_offset_deg=-2.5, z_shift_px=12.0))
    np.testing.assert_allclose(moved.tilt_deg, plain.tilt_deg - 2.5)
    low, high = moved.z_range_px
    assert (low + high) / 2 == pytest.approx(12.0, abs=0.02)
    # The offset turns the specimen about the tilt axis, and fits as well: no track determines it.
    assert moved.evidence.residual_mean_px == pytest.approx(plain.evidence.residual_mean_px, rel=1e-3)


def test_leave_out_residuals_are_those_of_fits_that_have_not_seen_the_point(point_case):
    case = point_case(tracks=8, missing=0.0)
    params = replace(FREE, tilt="grouped")
    whole = case.solve(params)
    lengths = []
    for track, view in [(0, 3), (2, 20), (5, 40), (7, 11)]:
        xy = case.tracks.xy.copy()
        xy[track, view] = np.nan
        solution = case.with_xy(xy).solve(params)
        seen = project_solution(solution, solution.points[track])[view]
        lengths.append(np.hypot(*(case.tracks.xy[track, view] - seen)))
    from tiltflow.align.bundle.adjustment import fit_bundle
    from tiltflow.align.bundle.problem import build_problem

    fit = fit_bundle(build_problem(case.tracks, case.truth.nominal_deg, -8.0, (512, 512), None, None), params)
    left_out = np.hypot(*np.moveaxis(fit.left_out.residual, -1, 0))
    np.testing.assert_allclose([left_out[t, v] for t, v in [(0, 3), (2, 20), (5, 40), (7, 11)]], lengths, rtol=0.02, atol=2e-3)
    assert whole.evidence.leave_out_px == pytest.approx(left_out.mean())


def test_with_few_tracks_the_residual_flatters_and_the_leave_out_error_does_not(point_case):
    """With as many unknowns as that, the fit follows the noise: 0.15 px a coordinate is a mean distance of 0.19 px."""
    case = point_case(tracks=4, noise=0.15, missing=0.0)
    evidence = case.solve(FREE).evidence
    assert evidence.residual_mean_px < 0.13
    assert evidence.leave_out_px > 0.19


@pytest.mark.parametrize(("tracks", "noise"), [(6, 0.1), (12, 0.3), (40, 0.1)])
def test_the_expected_error_is_the_true_one(point_case, tracks, noise):
    ratios = []
    for seed in range(6):
        case = point_case(seed=seed, tracks=tracks, noise=noise)
        solution = case.solve()
        ratios.append(case.error(solution) / solution.evidence.error_px)
    assert 0.6 < np.median(ratios) < 1.3, ratios


@pytest.mark.parametrize(
    "held",
    [
        {"rotation": "one", "tilt": "fixed", "magnification": "fixed"},
        {"rotation": "grouped", "tilt": "grouped", "magnification": "grouped"},
        {"rotation": "fixed"},
    ],
    ids=["all", "grouped", "rotation"],
)
def test_what_variables_that_are_not_free_leave_wrong_is_expected_too(point_case, held):
    """No number of tracks averages it out: half a tenth of a pixel is what these would come to with free variables."""
    case = point_case(tracks=25)
    solution = case.solve(SolveParams(**held))
    assert case.error(solution) > 0.1
    assert 0.6 < solution.evidence.error_px / case.error(solution) < 1.3


def test_a_single_track_or_tracks_of_two_views_are_refused(point_case):
    case = point_case(tracks=1)
    with pytest.raises(StageError, match="Of 1 tracks 1 are seen in 3 views or more; an alignment needs at least two"):
        case.solve()
    case = point_case(tracks=5)
    case.tracks.xy[1:, 2:] = np.nan
    with pytest.raises(StageError, match="Of 5 tracks 1 are seen"):
        case.solve()


def test_tracks_seen_too_rarely_are_left_out_and_noted(point_case):
    case = point_case(missing=0.0)
    case.tracks.xy[3, 2:] = np.nan
    solution = case.solve()
    assert "1 of 25 tracks are seen in fewer than 3 views and were not used" in solution.evidence.notes
    assert np.isnan(solution.points[3]).all()
    assert (solution.evidence.tracks_used, solution.evidence.tracks_rejected) == (24, 1)


def test_angles_must_match_the_views(point_case):
    case = point_case()
    with pytest.raises(ParameterError, match="41 views, the tilt angles 3"):
        solve(case.tracks, [1, 2, 3], -8.0, SolveParams(), image_shape=(512, 512))


@pytest.mark.parametrize(
    "changes", [{"rotation_group": 0}, {"tilt_sd_deg": 0.0}, {"k_factor": 0.0}, {"surfaces": 3}], ids=lambda c: next(iter(c))
)
def test_parameters_that_make_no_sense_are_refused(changes):
    with pytest.raises(ParameterError):
        SolveParams(**changes)


@pytest.mark.slow
def test_120_views_and_2000_tracks_are_solved(point_case):
    case = point_case(tracks=2000, views=120, noise=0.3)
    solution = case.solve(SolveParams(stretch=True, skew=True))
    assert case.error(solution) < 0.02
    assert solution.evidence.tracks_used == 2000
