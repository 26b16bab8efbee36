"""What is told of odd pieces: tables of cases."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage.blank_pieces import blank_pieces, levels_of
from tiltflow.preprocess.montage.remarks import remarks

VIEWS = 3
EVERY = [(x * 100, y * 100, view) for view in range(VIEWS) for y in range(2) for x in range(2)]


def told(left_out=(), **changed):
    grid = PieceGrid.of_sections([c for n, c in enumerate(EVERY) if n not in left_out], (120, 120))
    known = {
        "blank": np.zeros((VIEWS, 4), bool),
        "expected_only": np.zeros((VIEWS, 4), bool),
        "doubted": np.zeros((VIEWS, 4), bool),
        "misplaced_px": np.full((VIEWS, 4), 0.1),
        "away_px": np.full((VIEWS, 4), 0.7),
        "deviation_px": 0.5,
        "error_px": np.full((VIEWS, 4), 0.07),
        "correlation": np.full((VIEWS, 4), 0.8),
        "faint": [],
    }
    return remarks(grid, **{**known, **changed})


def at(view, place, value=True):
    array = np.zeros((VIEWS, 4), type(value))
    array[view, place] = value
    return array


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({}, None),
        ({"left_out": (6,)}, "not taken: piece 3 of view 2; the hole is filled with the mean of the view"),
        (
            {"blank": at(1, 2), "expected_only": at(1, 2)},
            "blank, as behind a bar of the grid: piece 3 of view 2; placed where the other views expect it, within 0.07 px",
        ),
        (
            {"expected_only": at(0, 3)},
            "no overlap could be matched: piece 4 of view 1; placed where the other views expect it, within 0.07 px",
        ),
        ({"away_px": at(2, 0, 2.9)}, None),
        ({"away_px": at(2, 0, 12.3)}, "far from where the other views expect it, and believed: piece 1 of view 3 (12.3 px)"),
        ({"away_px": at(2, 0, 12.3), "deviation_px": 2.1}, None),
        (
            {"doubted": at(0, 1), "misplaced_px": at(0, 1, 9.0)},
            "overlaps not believed, as the others contradict them: pieces 3 and 4 of view 1 (by up to 9 px)",
        ),
        ({"correlation": np.full((VIEWS, 4), 0.26)}, None),
        ({"correlation": np.full((VIEWS, 4), 0.12)}, "the overlaps are faint (correlation 0.12): pieces are placed within 0.07 px"),
        (
            {"faint": [2]},
            (
                "the overlaps of pieces 1 and 3 show too little, in all views together, to tell how these lie from one another: "
                "they are left as written, which may be 0.07 px off"
            ),
        ),
    ],
)
def test_what_is_unusual_is_told_and_nothing_else(changed, sentence):
    assert told(**changed) == (() if sentence is None else (sentence,))


def test_of_many_places_some_are_named():
    assert told(doubted=np.ones((VIEWS, 4), bool))[0].startswith(
        "overlaps not believed, as the others contradict them: pieces 1 and 2 of view 1, pieces 3 and 4 of view 1, "
        "pieces 1 and 3 of view 1, pieces 2 and 4 of view 1 and 8 more"
    )


@pytest.mark.parametrize(
    ("median", "blank"),
    [
        pytest.param([[400, 420, 380, 390], [400, 410, 390, 400]], [], id="usual"),
        pytest.param([[400, 420, 8, 390], [400, 410, 390, 400]], [(0, 2)], id="a bar of the grid"),
        pytest.param([[400, 420, 150, 390], [400, 410, 390, 400]], [], id="a thick part"),
        pytest.param([[60, 55, 50, 58], [400, 410, 390, 400]], [], id="a view at high tilt"),
        pytest.param([[3, 2, 4, 3], [400, 410, 390, 400]], [(0, 0), (0, 1), (0, 2), (0, 3)], id="a view without a beam"),
        pytest.param([[400, np.nan, 8, 390], [400, 410, 390, 400]], [(0, 2)], id="one missing besides"),
    ],
)
def test_pieces_are_blank_that_are_dark_among_those_of_their_view(median, blank):
    levels = np.array(median, float)
    assert [tuple(place) for place in np.argwhere(blank_pieces(levels, 0.05 * np.abs(levels)))] == blank


def test_where_counts_do_not_begin_at_zero_it_is_the_contrast_that_tells():
    spread = np.array([[1.0, 1.1, 0.02, 0.9]])
    assert blank_pieces(np.array([[0.1, -0.2, 0.05, 0.0]]), spread).tolist() == [[False, False, True, False]]


def test_levels_of_a_piece_are_its_median_and_spread(rng):
    median, spread = levels_of(rng.normal(100, 7, (200, 200)).astype(np.float32))
    assert median == pytest.approx(100, abs=1)
    assert spread == pytest.approx(7, rel=0.1)
