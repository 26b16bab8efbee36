"""Gains and the beam, from ratios in overlaps."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage import GrayLevels, MontageParams
from tiltflow.preprocess.montage.gray_levels import ratios_of, solve_gray_levels
from tiltflow.preprocess.montage.overlaps import overlaps_of, strip_of

SIDE, STEP, VIEWS = 128, 100, 6


def levels_found(rng, true, noise=0.01):
    grid = PieceGrid.of_sections([(x * STEP, y * STEP, v) for v in range(VIEWS) for y in range(2) for x in range(2)], (SIDE, SIDE))
    overlaps, ratios = overlaps_of(grid, MontageParams()), []
    for view in range(VIEWS):
        beam = 1 / true.beam(view, (SIDE, SIDE))
        pieces = [
            (1000 * beam * np.exp(gain) * (1 + noise * rng.normal(size=(SIDE, SIDE)))).astype(np.float32)
            for gain in true.log_gain[view]
        ]
        of_view = []
        for overlap in overlaps:
            low, high = overlap.strips()
            strips = strip_of(pieces[overlap.edge.lower], low), strip_of(pieces[overlap.edge.upper], high)
            of_view.append(ratios_of(overlap, *strips, np.zeros(2)))
        ratios.append(of_view)
    return solve_gray_levels(ratios, 4)


def test_gains_of_pieces_and_the_fall_of_the_beam_are_found(rng):
    gains = rng.normal(0, 0.03, 4) + np.zeros((VIEWS, 1))
    gains -= gains.mean(axis=1, keepdims=True)
    true = GrayLevels(gains, np.zeros((VIEWS, 2)), np.array([-0.09, -0.07, 0.01]))
    found = levels_found(rng, true)
    assert np.abs(found.log_gain - gains).max() < 0.003
    assert np.abs(found.fall - true.fall).max() < 0.01


def test_what_changes_from_view_to_view_like_a_slope_is_one(rng):
    slope = rng.normal(0, 0.03, (VIEWS, 2))
    found = levels_found(rng, GrayLevels(np.zeros((VIEWS, 4)), slope, np.zeros(3)))
    assert np.corrcoef(found.slope.ravel(), slope.ravel())[0, 1] > 0.95


def test_a_place_without_light_has_no_ratio():
    grid = PieceGrid.of_sections([(x * STEP, 0, 0) for x in range(2)], (SIDE, SIDE))
    (overlap,) = overlaps_of(grid, MontageParams())
    strip = np.zeros((SIDE, overlap.reach), np.float32)
    assert ratios_of(overlap, strip, strip + 100, np.zeros(2)) is None


@pytest.mark.parametrize("levels", [GrayLevels.even(3, 4), GrayLevels(np.full((3, 4), 0.1), np.zeros((3, 2)), np.zeros(3))])
def test_levels_that_change_nothing_say_so(levels):
    assert levels.changes == bool(levels.log_gain.any())
