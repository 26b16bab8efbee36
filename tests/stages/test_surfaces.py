"""Tests of finding a slab by its texture and by gold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.stages.surfaces import columns, find_gold, find_surfaces, fit_gold, fit_slab

SHAPE = (128, 90, 144)


def slab(
    rng: np.random.Generator, tilt_deg: float, pitch_deg: float, centre: float, thickness: float, strength: float
) -> np.ndarray:
    """A volume `(y, z, x)`, top row first, of noise and of a slab with texture."""
    y, z, x = (np.arange(n) + 0.5 - n / 2 for n in SHAPE)
    height = -z[None, :, None] - x[None, None, :] * np.tan(np.deg2rad(tilt_deg)) - y[:, None, None] * np.tan(np.deg2rad(pitch_deg))
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)
    noise = rng.normal(size=SHAPE)
    return (noise + strength / texture.std() * texture * (np.abs(height - centre) < thickness / 2)).astype(np.float32)


@pytest.mark.parametrize(("tilt", "pitch", "centre", "thickness"), [(0, 0, 0, 40), (4, -6, 8, 30), (-7, 3, -12, 24)])
def test_slopes_and_surfaces_of_textured_slabs_are_found(
    rng: np.random.Generator, tilt: float, pitch: float, centre: float, thickness: float
) -> None:
    volume = slab(rng, tilt, pitch, centre, thickness, 1.5)
    found = fit_slab(columns(volume, 1.5))
    assert (found.tilt_deg, found.pitch_deg) == pytest.approx((tilt, pitch), abs=0.4)
    assert found.centre == pytest.approx(centre, abs=1.5)
    surfaces = find_surfaces(columns(volume, 1.0, block=16, widest=2.0, kept=1.0), (tilt, pitch))
    assert (surfaces.top + surfaces.bottom) / 2 == pytest.approx(centre, abs=1.5)
    assert surfaces.top - surfaces.bottom == pytest.approx(thickness, abs=5)
    assert surfaces.contrast > 100


def test_noise_alone_has_no_contrast(rng: np.random.Generator) -> None:
    cells = columns(rng.normal(size=SHAPE).astype(np.float32), 1.0, block=16, widest=2.0, kept=1.0)
    assert find_surfaces(cells, (0.0, 0.0)).contrast < 60


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
