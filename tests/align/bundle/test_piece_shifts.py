"""Shifts of pieces against placements that are known: what they gain, when they are used, and whether the error is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.align.bundle.stitched_points import StitchedCase, stitched_case

from tiltflow.align.bundle import LocalParams, SolveParams
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.errors import ParameterError
from tiltflow.model import Tracks


@pytest.mark.parametrize(
    ("case", "placement_px", "error_px"),
    [
        # Medians of eight seeds without shifts and with them, px: 0.138 and 0.086, 0.140 and 0.071, 0.117 and 0.036, 0.119 and 0.062,
        # 0.127 and 0.067.  A piece of 2 x 2 has six beads, each measured to 0.1 px, so that its place has a standard error of
        # 0.1 / sqrt(6) = 0.04 px, and more as points and views are not known either.
        pytest.param({}, 0.075, 0.1, id="2 x 2, 25 beads"),
        pytest.param({"noise": 0.05}, 0.07, 0.1, id="half the noise"),
        pytest.param({"tracks": 100}, 0.045, 0.042, id="100 beads"),
        pytest.param({"rows": 1}, 0.06, 0.105, id="2 x 1, which has no loop of edges"),
        pytest.param({"columns": 3, "rows": 3, "tracks": 60}, 0.065, 0.08, id="3 x 3"),
    ],
)
def test_tracks_place_the_pieces_better_than_overlaps_did(case, placement_px, error_px):
    made = stitched_case(**case)
    without, found = made.solve(told=False), made.solve()
    assert made.error(without) > 0.1
    assert found.pieces.used
    assert made.placement(found) < placement_px
    assert made.error(found) < error_px
    assert found.evidence.leave_out_px < 0.9 * without.evidence.leave_out_px
    assert found.evidence.residual_mean_px < without.evidence.residual_mean_px


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"noise": 0.05},
        {"tracks": 8},
        {"tracks": 100},
        {"rows": 1},
        {"sd": 0.05, "tracks": 12},
        {"sd": 0.0, "said": 0.1},
        {"sd": 0.15, "said": 0.1},
        {"jumps": {(20, 1): (10.0, 8.0)}},
    ],
    ids=str,
)
def test_the_estimated_error_holds_that_of_the_pieces_and_is_the_true_one(case):
    """Within a factor of 2."""
    ratios = []
    for seed in (1, 2, 3):
        made = stitched_case(seed=seed, **case)
        found = made.solve()
        ratios.append(made.error(found) / found.evidence.error_px)
        assert found.pieces.error_px < 1.6 * found.evidence.error_px
    assert 0.5 < np.median(ratios) < 1.6, ratios
    assert max(ratios) < 2


def test_an_adjustment_that_is_not_told_of_the_pieces_claims_too_small_an_error():
    made = stitched_case()
    assert made.error(made.solve(told=False)) > 2 * made.solve(told=False).evidence.error_px


def test_the_standard_errors_of_the_shifts_are_right():
    ratios = []
    for seed in (1, 2, 3):
        made = stitched_case(seed=seed)
        found = made.solve()
        ratios.append(made.left_px(found) / found.pieces.sd_px[..., None])
    assert 0.8 < np.sqrt(np.mean(np.square(ratios))) < 1.3


USED, KEPT = True, False


@pytest.mark.parametrize(
    ("case", "used"),
    [
        pytest.param({}, USED, id="pieces that lie off"),
        pytest.param({"said": 0.3}, USED, id="less than was said"),
        pytest.param({"sd": 0.2, "said": 0.1}, USED, id="more than was said"),
        pytest.param({"sd": 0.0, "said": 0.1}, KEPT, id="pieces that lie right: shifts would follow the noise"),
        pytest.param({"sd": 0.0, "said": 0.0}, KEPT, id="pieces that are known to lie right"),
        pytest.param({"sd": 0.01, "noise": 0.3}, KEPT, id="noise that hides the errors of the pieces"),
        pytest.param({"jumps": {(20, 1): (10.0, 8.0)}}, USED, id="a piece that jumped"),
    ],
)
def test_shifts_are_used_if_they_reduce_the_leave_out_error(case, used):
    for seed in (1, 2):
        made = stitched_case(seed=seed, **case)
        pieces = made.solve().pieces
        before, after = pieces.leave_out_px
        assert pieces.used is used
        assert (after < 0.99 * before) is used
        assert bool(pieces.shift_px.any()) is used
        beginning = (
            "the pieces of the montage are shifted by" if used else "the pieces of the montage stay where they were stitched"
        )
        assert pieces.notes[0].startswith(beginning)
        assert f"{before:.3g} px" in pieces.notes[0]
        assert f"{after:.3g} px" in pieces.notes[0]


def test_the_sum_of_the_shifts_of_a_view_is_0():
    found = stitched_case().solve().pieces
    np.testing.assert_allclose(found.shift_px.sum(axis=1), 0, atol=1e-10)


@pytest.mark.parametrize(("told", "least", "most"), [(0.05, 1.5, 3.0), (0.1, 0.8, 1.2), (0.3, 0.3, 0.75)])
def test_the_standard_errors_of_the_stitching_are_scaled_by_what_the_tracks_say(told, least, most):
    note = stitched_case(said=told, tracks=40).solve().pieces.notes[1]
    assert least <= float(note.removeprefix("the pieces scatter by ").split()[0]) <= most, note


def without_tracks_on(case: StitchedCase, view: int, piece: int) -> StitchedCase:
    xy = case.tracks.xy.copy()
    xy[case.pieces.weights(xy)[:, view, piece] > 0, view] = np.nan
    return replace(case, tracks=Tracks(xy, "bead"))


def test_a_piece_without_beads_keeps_its_prior():
    """It follows the others of its view only in so far as the sum of the shifts is 0: a third of the sum of what these were moved by."""
    made = without_tracks_on(stitched_case(tracks=60), 20, 3)
    found = made.solve().pieces
    assert found.used
    assert 0.8 < found.sd_px[20, 3] / 0.1 < 1.2
    assert found.sd_px[20, :3].max() < 0.07
    assert np.abs(found.shift_px[20, 3]).max() < 0.2


def without(tracks_lost: int, view: int = 9, piece: int = 2, *, everywhere: float = 0.0) -> StitchedCase:
    """Return a case whose first tracks on a piece are lost, and a share of all positions."""
    made = stitched_case(tracks=40, missing=everywhere, seed=3)
    xy = made.tracks.xy.copy()
    on_it = np.flatnonzero(made.pieces.weights(xy)[:, view, piece] > 0.8)
    xy[on_it[:tracks_lost], view] = np.nan
    return replace(made, tracks=Tracks(xy, "bead"))


@pytest.mark.parametrize(
    ("lost", "everywhere", "doubted"),
    [
        pytest.param(100, 0.02, [(9, 2)], id="all of a piece"),
        pytest.param(4, 0.02, [], id="some"),
        pytest.param(100, 0.5, [], id="all, where every second position is missing"),
    ],
)
def test_a_piece_is_doubted_on_which_no_track_is_seen_that_belongs_there(lost, everywhere, doubted):
    found = without(lost, everywhere=everywhere).solve().pieces
    assert [tuple(place) for place in np.argwhere(found.doubted).tolist()] == doubted
    assert len(found.warnings) == len(doubted)
    assert all("is seen on piece 3 of view 10: it may lie far from where it was stitched" in text for text in found.warnings)


def test_a_view_without_tracks_keeps_what_the_stitching_says():
    made = stitched_case()
    made.tracks.xy[:, 7] = np.nan
    found = made.solve().pieces
    np.testing.assert_array_equal(found.found_px[7], 0)
    np.testing.assert_allclose(found.sd_px[7], found.sd_px[7, 0])
    assert 0.08 < found.sd_px[7, 0] < 0.12


def test_missing_pieces_have_no_shift_and_the_sum_is_that_of_the_others():
    missing = ((5, 2), (20, 0), (20, 1), (20, 3))
    made = stitched_case(missing_pieces=missing)
    found = made.solve().pieces
    assert found.used
    for place in (*missing, (20, 2)):
        np.testing.assert_array_equal(found.shift_px[place], 0)
        assert found.sd_px[place] == 0
    np.testing.assert_allclose(found.shift_px.sum(axis=1), 0, atol=1e-10)
    assert (np.hypot(*np.moveaxis(found.shift_px[5, [0, 1, 3]], -1, 0)) > 0).all()
    assert np.hypot(*made.left_px(made.solve()).reshape(-1, 2).T).max() < 0.35


def test_views_of_one_piece_are_solved_as_if_there_were_none():
    made = stitched_case(columns=1, rows=1, sd=0.0, said=0.1)
    plain, found = made.solve(told=False), made.solve()
    assert found.pieces is None
    for name in ("transforms", "tilt_deg", "points", "residuals", "weights"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    assert found.evidence == plain.evidence


def test_shifts_that_are_not_used_leave_the_geometry_as_it_is():
    made = stitched_case(sd=0.0, said=0.1)
    plain, found = made.solve(told=False), made.solve()
    for name in ("transforms", "tilt_deg", "points", "residuals", "weights"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    assert found.evidence.leave_out_px == plain.evidence.leave_out_px
    assert found.evidence.error_px > plain.evidence.error_px


@pytest.mark.parametrize(
    ("case", "doubted"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"jumps": {(20, 1): (10.0, 8.0)}}, [(20, 1)], id="one of four"),
        pytest.param({"jumps": {(20, 1): (10.0, 8.0), (3, 2): (0.0, -6.0)}}, [(3, 2), (20, 1)], id="in two views"),
        pytest.param(
            {"rows": 1, "jumps": {(20, 1): (10.0, 8.0)}}, [(20, 0), (20, 1)], id="of two neither can be told from the other"
        ),
        pytest.param({"sd": 0.01, "jumps": {(20, 1): (0.3, 0.0)}, "noise": 0.03}, [], id="0.3 px, which the shift takes up"),
    ],
)
def test_a_piece_that_jumped_is_named_and_put_right(case, doubted):
    for seed in (1, 2):
        made = stitched_case(seed=seed, **case)
        solution = made.solve()
        found = solution.pieces
        assert [tuple(place) for place in np.argwhere(found.doubted).tolist()] == doubted
        assert len(found.warnings) == len(doubted)
        for (view, piece), text in zip(doubted, found.warnings, strict=True):
            assert f"piece {piece + 1} of view {view + 1}" in text
            assert "an edge of it was matched wrongly" in text
        assert np.abs(made.left_px(solution)).max() < 0.45
        assert made.error(solution) < 0.12


def test_only_the_first_of_many_doubted_pieces_are_named():
    jumps = {(view, view % 4): (9.0, 0.0) for view in range(1, 20, 3)}
    found = stitched_case(jumps=jumps, tracks=40).solve().pieces
    assert found.doubted.sum() == 7
    assert len(found.warnings) == 6
    assert found.warnings[-1] == "so they do 2 more pieces, in 2 views"


def test_beads_that_were_lost_do_not_make_a_piece_jump():
    """One bead that is tracked on its neighbour's place in a view is an outlier, as ever."""
    made = stitched_case(seed=2)
    made.tracks.xy[4, 20] += 9.0
    found = made.solve()
    assert not found.pieces.doubted.any()
    assert found.weights[4, 20] == 0
    assert made.error(found) < 0.1


def test_local_areas_are_solved_on_the_corrected_positions():
    made = stitched_case(tracks=80)
    local = made.solve(SolveParams(local=LocalParams(target_size_px=(300.0, 300.0))))
    assert local.pieces.used
    assert made.error(local) < 0.06


def test_residuals_are_those_of_the_corrected_positions():
    from tiltflow.align.bundle import project_solution

    made = stitched_case()
    found = made.solve()
    moved = made.pieces.corrected_positions(made.tracks.xy, found.pieces)
    seen = made.tracks.seen
    np.testing.assert_allclose((moved - project_solution(found, found.points))[seen], found.residuals[seen], atol=1e-6)


def test_positions_of_equal_joint_weights_are_solved_as_those_without():
    """Also with errors that are joint over the views, as those of patches are."""
    made = stitched_case(views=13, tracks=30, missing=0.0)
    eye = np.einsum("vw,ab->vawb", np.eye(13), np.eye(2))
    joint = replace(made, tracks=Tracks(made.tracks.xy, "bead", np.broadcast_to(eye, (30, 13, 2, 13, 2)).copy()))
    plain, found = (case.solve(SolveParams(robust=False)) for case in (made, joint))
    np.testing.assert_allclose(found.pieces.found_px, plain.pieces.found_px, atol=0.01)
    assert found.pieces.used
    assert joint.error(found) < 0.13


def test_pieces_must_fit_the_tracks_and_need_the_leave_out_error():
    made, other = stitched_case(views=13), stitched_case(views=11)
    with pytest.raises(ParameterError, match="The tracks have 13 views, the pieces 11"):
        replace(made, pieces=other.pieces).solve()
    with pytest.raises(ParameterError, match="The leave-out error decides whether pieces are shifted"):
        made.solve(SolveParams(leave_out=False))


def test_offsets_corrected_by_the_shifts_put_the_pieces_where_they_were():
    made = stitched_case(tracks=100)
    found = made.solve()
    true_offset = made.pieces.offset_px - made.error_px
    again = StitchedPieces(made.pieces.grid, made.pieces.corrected_offsets(found.pieces), found.pieces.sd_px)
    before, after = (np.sqrt(np.mean((each.offset_px - true_offset) ** 2)) for each in (made.pieces, again))
    assert after < 0.4 * before
