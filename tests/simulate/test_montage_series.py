"""A simulated montage is what its truth says."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.simulate.montage import PieceFaults, simulate_montage
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score

SMALL = SimulationParams(seed=4, size=96, views=3, beads=8, hot_pixels=0)


def test_the_same_seed_gives_the_same_series_with_any_number_of_threads():
    one, two = (simulate_montage(SMALL, overlap_px=24, threads=threads) for threads in (1, 2))
    assert np.array_equal(one.images, two.images)


def test_a_piece_shows_what_the_view_in_one_piece_does_where_its_offset_puts_it():
    faults = PieceFaults(gain=0, vignette=0, gradient=0, jumps=((1, 0, 6.0, -4.0),))
    montage = simulate_montage(SMALL, overlap_px=24, faults=faults, whole=True)
    assert montage.whole is not None
    for piece in range(4):
        offset = montage.offset_px[1, piece]
        x, y = np.rint(montage.grid.corner_px[piece] + offset).astype(int)
        ny, nx = montage.whole[1].shape
        a, b, c, d = max(y, 0), min(y + 96, ny), max(x, 0), min(x + 96, nx)
        whole, image = montage.whole[1][a:b, c:d], montage.images[montage.grid.section[1, piece]][a - y : b - y, c - x : d - x]
        assert np.corrcoef(whole.ravel(), image.ravel())[0, 1] > 0.4
        assert montage.placement_error(montage.offset_px).max() < 1e-9


def test_missing_pieces_have_no_section_and_blank_ones_hardly_any_light():
    montage = simulate_montage(SMALL, overlap_px=24, faults=PieceFaults(missing=((0, 1),), blank=((2, 0),)))
    assert len(montage.images) == montage.grid.sections == 11
    assert montage.images[montage.grid.section[2, 0]].mean() < 0.05 * np.median(montage.images)
    assert np.isnan(montage.placement_error(montage.offset_px)).sum() == 1


def test_an_alignment_of_views_put_together_as_they_truly_are_is_perfect():
    montage = simulate_montage(SMALL, overlap_px=24, faults=PieceFaults(rotation_deg=0.2, magnification=0.002))
    turn = np.deg2rad(montage.rotation_deg)
    c, s = (1 + montage.magnification) * np.cos(turn), (1 + montage.magnification) * np.sin(turn)
    linear = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    perfect = montage.truth_as_stitched(montage.offset_px, linear)
    assert score(perfect, perfect.transforms(), perfect.true_deg).rms_px < 1e-9


def test_pieces_that_are_left_where_they_are_written_cost_an_alignment():
    montage = simulate_montage(SMALL, overlap_px=24)
    left = montage.truth_as_stitched(np.zeros_like(montage.offset_px))
    assert score(left, left.transforms(), left.true_deg).rms_px > 0.5


@pytest.mark.parametrize("regime", ["plastic", "cryo"])
def test_both_regimes_are_drawn(regime):
    montage = simulate_montage(SimulationParams(seed=4, size=64, views=3, beads=3, regime=regime), overlap_px=16, columns=3, rows=1)
    assert montage.images.shape == (9, 64, 64)
    assert montage.images.mean() > 1000
