"""Bad positions and bad tracks lose their weight; what is known of each position beforehand counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.align.bundle import SolveParams
from tiltflow.align.bundle.robust_weights import PointGroups, track_weights
from tiltflow.errors import ParameterError

PLAIN = SolveParams(robust=False)
ROBUST = SolveParams()


def _with_outliers(case, share, size_px, rng):
    """Return the case with a share of the positions displaced, and which."""
    xy = case.tracks.xy.copy()
    bad = case.tracks.seen & (rng.random(xy.shape[:2]) < share)
    xy[bad] += rng.normal(0, size_px, (int(bad.sum()), 2))
    return case.with_xy(xy), bad


def test_displaced_positions_are_rejected_and_cost_little(point_case, rng):
    clean = point_case()
    case, bad = _with_outliers(clean, 0.05, 3.0, rng)
    solution = case.solve(ROBUST)
    assert case.error(solution) < 1.25 * clean.error(clean.solve(ROBUST))
    assert case.error(solution) < 0.3 * case.error(case.solve(PLAIN))
    far = bad & (np.hypot(*np.moveaxis(case.tracks.xy - clean.exact_xy, -1, 0)) > 1.0)
    assert solution.weights[far].max() < 0.01
    assert np.mean(solution.weights[case.tracks.seen & ~bad] > 0.5) > 0.95


def test_residuals_are_those_of_the_positions_that_carry_weight(point_case, rng):
    clean = point_case()
    case, _ = _with_outliers(clean, 0.05, 3.0, rng)
    solution, of_clean = case.solve(ROBUST), clean.solve(ROBUST).evidence
    evidence = solution.evidence
    length = np.hypot(*np.moveaxis(solution.residuals, -1, 0))
    used = solution.weights > 0
    assert evidence.residual_mean_px == pytest.approx(length[used].mean())
    assert evidence.residual_mean_px == pytest.approx(of_clean.residual_mean_px, rel=0.1)
    assert evidence.residual_weighted_mean_px == pytest.approx(of_clean.residual_weighted_mean_px, rel=0.1)
    assert max(evidence.residual_per_view_px) < 1.6 * evidence.residual_mean_px
    assert evidence.positions_used == used.sum() == sum(evidence.positions_per_view)
    assert evidence.positions_used + evidence.positions_rejected == case.tracks.seen.sum()
    assert evidence.positions_rejected > 20
    assert max(np.hypot(dx, dy) for _, _, dx, dy in evidence.residual_vectors_px) < 4 * evidence.residual_mean_px


def test_a_track_that_goes_its_own_way_is_rejected_as_a_whole(point_case):
    case = point_case()
    xy = case.tracks.xy.copy()
    xy[4] += 1.5 * np.sin(np.linspace(0, 6, 41))[:, None]
    params = replace(ROBUST, weight_whole_tracks=True)
    solution = case.with_xy(xy).solve(params)
    assert not solution.used[4]
    assert solution.evidence.tracks_rejected == 1
    assert (
        solution.evidence.positions_rejected >= case.tracks.seen[4].sum() == (solution.weights[4][case.tracks.seen[4]] == 0).sum()
    )
    assert case.error(solution) < 1.15 * case.error(case.solve(params))


def test_residuals_are_judged_by_what_is_usual_in_their_views():
    """Views whose points all fit three times worse are noisy, not wrong."""
    rng = np.random.default_rng(4)
    length = np.abs(rng.rayleigh(0.1, (40, 30)))
    length[:, 20:] *= 3
    weights = PointGroups.of(np.ones_like(length), np.arange(30)).weights(length, 4.685)
    assert weights[:, 23:].mean() == pytest.approx(weights[:, :17].mean(), abs=0.05)


def test_a_view_is_never_left_without_weight():
    length = np.full((3, 12), 0.1)
    length[:, 7] = 50.0
    weights = PointGroups.of(np.ones_like(length), np.arange(12)).weights(length, 4.685)
    assert (weights[:, 7] >= 0.1).all()


def test_tracks_no_worse_than_usual_keep_their_weight():
    length = np.tile([[0.1], [0.11], [0.09], [0.1], [0.8]], (1, 10))
    weights = track_weights(length, 4.685)
    assert weights[:4].min() > 0.9
    assert weights[4] == 0


def test_a_track_a_fifth_worse_keeps_its_weight_however_alike_the_others_are():
    """Tracks that agree to a thousandth say nothing of how far an honest one may be off."""
    length = np.tile(0.1 * np.array([[1.0], [1.001], [0.999], [1.002], [0.998], [1.2]]), (1, 10))
    weights = track_weights(length, 4.685)
    assert weights[5] > 0.9
    length[5] = 0.3
    assert track_weights(length, 4.685)[5] == 0


def _noisy_half(point_case):
    """Return a case whose every other position has five times the noise, and the noise of each position."""
    clean = point_case(noise=0.0, missing=0.0)
    rng = np.random.default_rng(8)
    noise = np.where(np.arange(25 * 41).reshape(25, 41) % 2, 0.1, 0.5)
    return clean.with_xy(clean.exact_xy + rng.normal(size=(25, 41, 2)) * noise[..., None]), noise


def test_positions_known_to_be_better_count_more(point_case):
    case, noise = _noisy_half(point_case)
    weighed = case.with_xy(case.tracks.xy, 1 / noise**2)
    assert case.error(weighed.solve(PLAIN)) < 0.6 * case.error(case.solve(PLAIN))


def test_errors_that_differ_in_direction_are_weighed_by_it(point_case):
    clean = point_case(noise=0.0, missing=0.0)
    rng = np.random.default_rng(8)
    angle = rng.uniform(0, np.pi, (25, 41))
    along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    xy = clean.exact_xy + 0.5 * along * rng.normal(size=(25, 41, 1)) + 0.1 * across * rng.normal(size=(25, 41, 1))
    precision = np.einsum("jva,jvb->jvab", along, along) / 0.25 + np.einsum("jva,jvb->jvab", across, across) / 0.01
    assert clean.error(clean.with_xy(xy, precision).solve(PLAIN)) < 0.6 * clean.error(clean.with_xy(xy).solve(PLAIN))


@pytest.mark.parametrize("adapt", [True, False])
def test_all_forms_of_weights_say_the_same(point_case, adapt):
    """Weights by track, by position, by direction, and jointly: the same numbers in another form."""
    case = point_case(tracks=6, views=21, missing=0.0)
    by_track = np.linspace(0.5, 2, 6)
    by_position = np.repeat(by_track[:, None], 21, axis=1)
    by_direction = by_position[..., None, None] * np.eye(2)
    jointly = np.einsum("jvab,vw->jvawb", by_direction, np.eye(21))
    params = replace(PLAIN, adapt=adapt, restrict=False, leave_out=False)
    reference = case.with_xy(case.tracks.xy, by_track).solve(params)
    for weight in (by_position, by_direction, 100 * by_position):
        solution = case.with_xy(case.tracks.xy, weight).solve(params)
        np.testing.assert_allclose(solution.transforms, reference.transforms, atol=1e-6)
    if not adapt:  # how long errors last is part of joint weights, and of nothing else
        solution = case.with_xy(case.tracks.xy, jointly).solve(params)
        np.testing.assert_allclose(solution.transforms, reference.transforms, atol=2e-4)


def test_drifting_tracks_are_weighed_by_what_their_steps_tell(point_case):
    """Each track drifts by a random walk: its steps are known, its place is not."""
    clean = point_case(noise=0.0, missing=0.0, tracks=30)
    rng = np.random.default_rng(2)
    walk = np.cumsum(rng.normal(0, 0.15, (30, 41, 2)), axis=1)
    rank = np.arange(41)
    covariance = 0.15**2 * (1 + np.minimum(rank[:, None], rank[None])) + 1e-4 * np.eye(41)
    weight = np.einsum("vw,ab->vawb", np.linalg.inv(covariance), np.eye(2))
    joint = clean.with_xy(clean.exact_xy + walk, np.tile(weight, (30, 1, 1, 1, 1)))
    alone = clean.with_xy(clean.exact_xy + walk)
    assert clean.error(joint.solve(PLAIN)) < 0.8 * clean.error(alone.solve(PLAIN))


def test_a_joint_weight_leaves_out_what_was_not_seen(point_case):
    """Positions of an excluded view are integrated out of the joint weight, not taken as zeros."""
    clean = point_case(noise=0.05, missing=0.0, tracks=12, views=21)
    rank = np.arange(21)
    covariance = 0.01 * (1 + np.minimum(rank[:, None], rank[None])) + 0.0025 * np.eye(21)
    keep = rank != 10

    def weight(cov):
        return np.tile(np.einsum("vw,ab->vawb", np.linalg.inv(cov), np.eye(2)), (12, 1, 1, 1, 1))

    params = replace(PLAIN, leave_out=False)
    whole = clean.with_xy(clean.tracks.xy, weight(covariance)).solve(params, included=keep)
    from tiltflow.align.bundle import solve
    from tiltflow.model import Tracks

    small = Tracks(clean.tracks.xy[:, keep], "patch", weight(covariance[np.ix_(keep, keep)]))
    part = solve(small, clean.truth.nominal_deg[keep], -8.0, params, image_shape=(512, 512))
    np.testing.assert_allclose(whole.rotation_deg[keep], part.rotation_deg, atol=1e-3)
    np.testing.assert_allclose(whole.tilt_deg[keep], part.tilt_deg, atol=1e-3)


def test_weights_of_another_shape_are_refused(point_case):
    case = point_case(tracks=4, views=9)
    with pytest.raises(ParameterError, match=r"Weights of tracks \(4, 9\) have shape \(9, 4\)"):
        case.with_xy(case.tracks.xy, np.ones((9, 4))).solve()
