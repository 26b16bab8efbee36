"""Tests of finding gold in a volume and the planes it lies on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.position.gold_planes import find_gold, fit_gold


def beads(rng: np.random.Generator, n: int, tilt_deg: float, pitch_deg: float, heights: tuple[float, ...]) -> np.ndarray:
    xy = rng.uniform(-60, 60, (n, 2))
    slope = np.tan(np.deg2rad([tilt_deg, pitch_deg]))
    return np.column_stack([xy, xy @ slope + rng.choice(heights, n) + rng.normal(0, 0.3, n)])


@pytest.mark.parametrize("heights", [(12.0,), (-15.0, 18.0)])
def test_gold_on_planes_gives_the_slopes_though_some_lies_elsewhere(rng: np.random.Generator, heights: tuple[float, ...]) -> None:
    on_planes = beads(rng, 30, -3.0, 5.0, heights)
    stray = np.column_stack([rng.uniform(-60, 60, (5, 2)), rng.uniform(-30, 30, 5)])
    gold = fit_gold(np.vstack([on_planes, stray]))
    assert gold is not None
    assert (gold.tilt_deg, gold.pitch_deg) == pytest.approx((-3.0, 5.0), abs=0.3)
    assert gold.heights == pytest.approx(heights, abs=0.5)
    assert gold.beads >= 30
    assert gold.spread < 1
    assert abs(gold.pitch_deg - 5.0) < 4 * gold.pitch_error_deg < 1.0


def test_gold_in_the_bulk_or_too_little_of_it_gives_no_plane(rng: np.random.Generator) -> None:
    bulk = np.column_stack([rng.uniform(-60, 60, (40, 2)), rng.uniform(-30, 30, 40)])
    assert fit_gold(bulk) is None
    assert fit_gold(beads(rng, 5, 0, 0, (3.0,))) is None
    in_a_row = beads(rng, 20, 0, 0, (3.0,))
    in_a_row[:, 1] = 0.1 * in_a_row[:, 0]
    assert fit_gold(in_a_row) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_bright_or_dark_spots_are_found_where_they_are(rng: np.random.Generator, sign: int) -> None:
    volume = rng.normal(size=(40, 30, 50))
    at = np.array([[5, 6, 7], [30, 20, 40], [12, 25, 20]])
    spots = np.zeros(volume.shape)
    spots[tuple(at.T)] = sign * 800
    found = find_gold((volume + ndimage.gaussian_filter(spots, 1.2)).astype(np.float32))
    expected = [(x + 0.5 - 25, y + 0.5 - 20, 15 - (z + 0.5)) for y, z, x in at]
    assert sorted(map(tuple, found.tolist())) == sorted(expected)


def test_no_spots_in_noise(rng: np.random.Generator) -> None:
    assert find_gold(rng.normal(size=(30, 30, 30)).astype(np.float32)).shape == (0, 3)
