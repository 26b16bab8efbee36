"""How much of each piece is seen at a place of a stitched view, and what moves when a piece is moved."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.piece_weights import StitchedPieces, piece_weights
from tiltflow.errors import ParameterError
from tiltflow.model import PieceShifts
from tiltflow.piece_grid import PieceGrid

SIDE, STEP = 100, 80
"""Pieces of 100 pixels, 20 of which they share; the frame is 180 x 180."""


def two_by_two(views: int = 1, *, without: tuple[tuple[int, int], ...] = ()) -> PieceGrid:
    """Return a grid, of which pieces (view, piece) are missing."""
    places = [(x, y, z) for z in range(views) for y in (0, STEP) for x in (0, STEP)]
    kept = [place for number, place in enumerate(places) if (number // 4, number % 4) not in without]
    return PieceGrid.of_sections(kept, (SIDE, SIDE))


def stitched(grid: PieceGrid, *, sd: float = 0.1, offset=0.0) -> StitchedPieces:
    shape = grid.section.shape
    return StitchedPieces(grid, np.broadcast_to(offset, (*shape, 2)).astype(float), np.full(shape, sd))


def shifts(found, *, used: bool = True) -> PieceShifts:
    found = np.asarray(found, float)
    shape = found.shape[:2]
    return PieceShifts(found, np.zeros(shape), used, np.zeros(shape, bool), (1.0, 0.5), 0.0)


@pytest.mark.parametrize(
    ("place", "weights"),
    [
        pytest.param((40, 40), [1, 0, 0, 0], id="on one piece alone"),
        pytest.param((90, 40), [0.5, 0.5, 0, 0], id="in the middle of an overlap"),
        pytest.param((86, 40), [0.75, 0.25, 0, 0], id="nearer to the left one's middle: 14 and 6 px from the edges, less 2"),
        pytest.param((81, 40), [1, 0, 0, 0], id="on the rim of the right one, which is never used"),
        pytest.param((40, 94), [0.25, 0, 0.75, 0], id="in an overlap along y"),
        pytest.param((90, 90), [0.25, 0.25, 0.25, 0.25], id="where four meet"),
        pytest.param((-5, 40), [1, 0, 0, 0], id="beyond the frame: of the nearest"),
        pytest.param((np.nan, np.nan), [0, 0, 0, 0], id="unseen"),
    ],
)
def test_the_weights_of_pieces_grow_with_the_distance_to_their_edge(place, weights):
    found = stitched(two_by_two()).weights(np.array([place], float))
    np.testing.assert_allclose(found, [weights], atol=1e-5)


def test_a_missing_piece_has_no_weight_and_the_nearest_one_takes_its_place():
    pieces = stitched(two_by_two(without=((0, 1),)))
    np.testing.assert_allclose(pieces.weights([[90.0, 40.0]]), [[1, 0, 0, 0]])
    np.testing.assert_allclose(pieces.weights([[130.0, 40.0]]), [[1, 0, 0, 0]])
    np.testing.assert_allclose(pieces.weights([[170.0, 70.0]]), [[0, 0, 0, 1]])


def test_an_overlap_lies_where_the_offsets_put_it():
    moved = np.zeros((1, 4, 2))
    moved[0, :, 0] = -4, 4, -4, 4
    found = stitched(two_by_two(), offset=moved).weights([[90.0, 40.0]])
    np.testing.assert_allclose(found, [[0.5, 0.5, 0, 0]])
    alone = stitched(two_by_two(), offset=moved).weights([[96.5, 40.0]])
    np.testing.assert_allclose(alone, [[0, 1, 0, 0]])


def test_views_and_points_are_kept_apart():
    grid = two_by_two(3)
    xy = np.random.default_rng(1).uniform(0, 180, (5, 3, 2))
    pieces = stitched(grid, offset=np.random.default_rng(2).normal(0, 3, (3, 4, 2)))
    together = pieces.weights(xy)
    assert together.shape == (5, 3, 4)
    np.testing.assert_allclose(together.sum(axis=-1), 1)
    np.testing.assert_allclose(pieces.weights(xy[:, [2]], view=np.array([2])), together[:, [2]])


def test_a_patch_is_seen_on_all_pieces_that_it_reaches():
    pieces = stitched(two_by_two())
    xy = np.array([[[90.0, 40.0]], [[40.0, 40.0]], [[90.0, 90.0]]])
    found = pieces.weights(xy, np.array([[[60.0, 20.0]], [[60.0, 20.0]], [[180.0, 180.0]]]))
    np.testing.assert_allclose(found[0], [[0.5, 0.5, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(found[1], [[1, 0, 0, 0]])
    np.testing.assert_allclose(found[2], [[0.25] * 4], atol=1e-6)
    near = pieces.weights([[75.0, 40.0]], np.array([[60.0, 20.0]]))
    assert 0.1 < near[0, 1] < 0.4


def test_a_bead_is_where_it_truly_was_once_the_shifts_are_taken_from_the_offsets():
    """The sign: a piece that was placed 3 px too far right shows its bead 3 px too far right, and has the shift +3."""
    grid, rng = two_by_two(2), np.random.default_rng(3)
    true_offset = rng.normal(0, 2, (2, 4, 2))
    true_offset -= true_offset.mean(axis=1, keepdims=True)
    error = np.array([[3.0, 0], [-1, 0], [-1, 1], [-1, -1]])
    pieces = StitchedPieces(grid, true_offset + error, np.full((2, 4), 3.0))
    in_piece = np.array([45.0, 45.0])  # where the bead is in its piece: this is what no stitching changes
    seen = grid.corner_px + np.array(grid.margin_px) + pieces.offset_px + in_piece
    truth = grid.corner_px + np.array(grid.margin_px) + true_offset + in_piece
    found = shifts(np.broadcast_to(error, (2, 4, 2)))
    again = grid.corner_px + np.array(grid.margin_px) + pieces.corrected_offsets(found) + in_piece
    np.testing.assert_allclose(again, truth)
    xy = np.swapaxes(seen, 0, 1)
    np.testing.assert_allclose(pieces.corrected_positions(xy, found), np.swapaxes(truth, 0, 1))


def test_shifts_that_are_not_used_move_nothing():
    pieces = stitched(two_by_two())
    found = shifts(np.ones((1, 4, 2)), used=False)
    np.testing.assert_array_equal(pieces.corrected_offsets(found), pieces.offset_px)
    np.testing.assert_array_equal(pieces.corrected_positions(np.array([[40.0, 40.0]]), found), [[40, 40]])


@pytest.mark.parametrize(
    ("error", "sd", "without", "used", "claimed"),
    [
        pytest.param(0.0, 0.1, (), None, 0.1 * np.sqrt(2), id="both coordinates of the pieces"),
        pytest.param(0.3, 0.1, (), None, np.sqrt(0.09 + 0.02), id="and of the alignment"),
        pytest.param(0.3, 0.0, (), None, 0.3, id="pieces that lie right"),
        pytest.param(0.0, 0.1, ((0, 1), (0, 2), (0, 3)), None, 0.1, id="a view of one piece has no error of stitching"),
        pytest.param(0.0, 0.1, ((0, 1), (0, 2), (0, 3)), (True, False), 0.0, id="views that take no part do not count"),
    ],
)
def test_the_claimed_error_holds_that_of_the_stitching(error, sd, without, used, claimed):
    pieces = stitched(two_by_two(2, without=without), sd=sd)
    assert pieces.claimed_error(error, used) == pytest.approx(claimed)


def test_the_standard_error_of_a_missing_piece_may_be_anything():
    grid = two_by_two(without=((0, 1),))
    sd, offset = np.full((1, 4), 0.1), np.zeros((1, 4, 2))
    sd[0, 1], offset[0, 1] = np.nan, np.nan
    pieces = StitchedPieces(grid, offset, sd)
    assert pieces.claimed_error(0.0) == pytest.approx(0.1 * np.sqrt(2))
    np.testing.assert_allclose(pieces.weights([[90.0, 40.0]]), [[1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("offset", "sd", "said"),
    [
        (np.zeros((1, 3, 2)), np.ones((1, 4)), r"offsets \(1, 4, 2\) and standard errors \(1, 4\); those given are \(1, 3, 2\)"),
        (np.zeros((1, 4, 2)), np.ones(4), r"those given are \(1, 4, 2\) and \(4,\)"),
        (np.zeros((1, 4, 2)), np.array([[1, 1, -0.1, 1]]), "Piece 3 of view 1 has the offset .* and the standard error -0.1"),
        (np.zeros((1, 4, 2)), np.array([[1, np.nan, 1, 1]]), "Piece 2 of view 1"),
        (np.full((1, 4, 2), np.inf), np.ones((1, 4)), "Piece 1 of view 1"),
    ],
)
def test_offsets_and_standard_errors_must_fit_the_grid(offset, sd, said):
    with pytest.raises(ParameterError, match=said):
        StitchedPieces(two_by_two(), offset, sd)


def test_weights_of_a_single_piece_are_1():
    grid = PieceGrid.of_sections([[0, 0, 0]], (SIDE, SIDE))
    np.testing.assert_allclose(piece_weights(grid, np.zeros((1, 1, 2)), np.ones((1, 1), bool), [[5.0, 99.0]]), 1)
