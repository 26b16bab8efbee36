"""Which edges are believed: a table of cases."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage.offsets import about_those_seen
from tiltflow.preprocess.montage.solution import incidence, solve

VIEWS = 9
SLOPE = np.sin(np.deg2rad(np.linspace(-60, 60, VIEWS)))


def grid_of(columns, rows):
    corners = [(x * 100, y * 100) for y in range(rows) for x in range(columns)]
    return PieceGrid.of_sections([(*corner, view) for view in range(VIEWS) for corner in corners], (120, 120))


def truth_of(grid, rng, deviation=0.5):
    e = rng.normal(0, 3, (grid.pieces, 2)) + SLOPE[:, None, None] * rng.normal(0, 1, (grid.pieces, 2))
    e = e + rng.normal(0, deviation, (VIEWS, grid.pieces, 2))
    return e - e.mean(axis=1, keepdims=True)


def solved(grid, true, rng, noise=0.05, wrong=(), sure=None, lost=()):
    d = np.einsum("ek,vka->vea", incidence(grid), true) + rng.normal(0, noise, (VIEWS, len(grid.edges), 2))
    clear = np.ones(d.shape[:2], bool)
    for view, edge, shift in wrong:
        d[view, edge] += shift
    for view, edge in sure or ():
        clear[view, edge] = False
    for view, edge in lost:
        d[view, edge] = np.nan
    return solve(grid, d, np.full(d.shape, noise**2), clear, SLOPE)


def error(result, true):
    return np.linalg.norm(result.offset_px - true, axis=2)


def test_offsets_come_with_errors_that_are_right(rng):
    grid = grid_of(2, 2)
    true = truth_of(grid, rng)
    result = solved(grid, true, rng)
    spread = np.sqrt(np.einsum("vakk->vk", result.covariance))
    assert 0.75 < np.sqrt((error(result, true) ** 2 / spread**2).mean()) < 1.3
    assert result.deviation_px == pytest.approx(0.5, rel=0.4)


@pytest.mark.parametrize("edge", range(4))
def test_one_wrong_edge_of_a_loop_is_doubted_and_no_other(rng, edge):
    grid = grid_of(2, 2)
    true = truth_of(grid, rng)
    result = solved(grid, true, rng, wrong=[(4, edge, (8.0, -6.0))])
    assert [tuple(place) for place in np.argwhere(result.weight < 0.25)] == [(4, edge)]
    assert error(result, true)[4].max() < 0.4


def test_a_piece_that_jumped_is_believed_because_its_edges_agree(rng):
    grid = grid_of(2, 2)
    true = truth_of(grid, rng)
    true[4, 1] += 12, 9
    true -= true.mean(axis=1, keepdims=True)
    result = solved(grid, true, rng)
    assert (result.weight > 0.5).all()
    assert error(result, true)[4].max() < 0.3
    assert result.away_px[4].max() > 8
    assert result.deviation_px < 0.9


@pytest.mark.parametrize(("clear", "believed"), [(True, True), (False, False)])
def test_without_a_loop_an_edge_far_from_the_other_views_is_believed_if_it_matches_clearly(rng, clear, believed):
    grid = grid_of(2, 1)
    true = truth_of(grid, rng)
    shift = np.array([12.0, 9.0])
    result = solved(grid, true, rng, wrong=[(4, 0, shift)], sure=() if clear else [(4, 0)])
    moved = (result.offset_px[4, 1] - result.offset_px[4, 0]) - (true[4, 1] - true[4, 0])
    assert (np.linalg.norm(moved - shift) < 1) == believed
    assert (result.weight[4, 0] > 0.5) == believed
    assert error(result, true)[[0, 1, 2, 3, 5, 6, 7, 8]].max() < 0.3


def test_an_unclear_edge_counts_when_the_others_agree_with_it(rng):
    grid = grid_of(2, 2)
    result = solved(grid, truth_of(grid, rng), rng, sure=[(4, 2)])
    assert result.weight[4, 2] > 0.9


def test_a_view_without_edges_lies_where_the_others_expect_it(rng):
    grid = grid_of(2, 2)
    true = truth_of(grid, rng)
    result = solved(grid, true, rng, lost=[(4, edge) for edge in range(4)])
    assert error(result, true)[4].max() < 2
    assert np.sqrt(np.einsum("akk->ak", result.covariance[4])).mean() == pytest.approx(result.deviation_px, rel=0.5)


def test_variances_grow_where_loops_do_not_close(rng):
    grid = grid_of(2, 2)
    true = truth_of(grid, rng)
    d = np.einsum("ek,vka->vea", incidence(grid), true) + rng.normal(0, 0.3, (VIEWS, 4, 2))
    result = solve(grid, d, np.full(d.shape, 0.1**2), np.ones((VIEWS, 4), bool), SLOPE)
    assert 4 < result.inflation < 20


def test_a_piece_that_was_never_taken_makes_the_places_of_the_others_no_less_sure():
    known = np.diag([0.01, 0.02, 0.03])
    covariance = np.zeros((1, 2, 4, 4))
    covariance[:, :, :3, :3], covariance[:, :, 3, 3] = known, 100.0
    about = about_those_seen(covariance, np.array([[True, True, True, False]]))
    centre = np.eye(3) - 1 / 3
    assert np.allclose(about[0, 0, :3, :3], centre @ known @ centre.T)
    assert about[0, 1, 3, 3] > 99
    assert np.isfinite(about_those_seen(covariance, np.zeros((1, 4), bool))).all(), "a view that shows nothing"
