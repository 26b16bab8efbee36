"""Tests of filtering for a volume sharp in depth, and of the levels of its texture."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.position.texture import LEVELS, columns, coverage, sharp_in_depth
from tiltflow.reconstruct.stretched_lines import SliceGrid
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct, volume_shape

TILT = np.linspace(-60, 60, 41)


def back_projected(views: np.ndarray, nz: int) -> np.ndarray:
    params = ReconstructParams(thickness=nz, scale_factor=100.0, mode=2)
    volume = np.empty(volume_shape(views.shape, params), np.float32)

    def keep(y0: int, slab: np.ndarray) -> None:
        volume[y0 : y0 + len(slab)] = slab

    reconstruct(views, TILT, params, sink=keep)
    return volume


def test_a_point_stays_at_its_height() -> None:
    """The energy in z is a Gaussian, and nothing lies beyond it, where plain back-projection leaves streaks."""
    height, ny, nx = 12.0, 32, 192
    u = np.arange(nx) + 0.5 - nx / 2
    v = np.arange(ny) + 0.5 - ny / 2
    views = np.stack(
        [np.exp(-((u - height * np.sin(np.deg2rad(t))) ** 2 + v[:, None] ** 2) / 2 / 1.5**2) for t in TILT], dtype=np.float32
    )
    sharp = np.stack([sharp_in_depth(view, t) for view, t in zip(views, TILT, strict=True)])
    energy = (back_projected(sharp, 120)[:, ::-1] ** 2).sum(axis=(0, 2))
    z = np.arange(120) + 0.5 - 60
    assert (energy * z).sum() / energy.sum() == pytest.approx(height, abs=0.5)
    far = np.abs(z - height) > 12
    assert energy[far].max() < 0.01 * energy.max()
    plain = (back_projected(views, 120)[:, ::-1] ** 2).sum(axis=(0, 2))
    assert energy[far].mean() / energy.max() < 0.2 * plain[far].mean() / plain.max()


def test_noise_is_as_strong_everywhere_once_coverage_is_allowed_for(rng: np.random.Generator) -> None:
    views = rng.normal(size=(len(TILT), 48, 160)).astype(np.float32)
    sharp = np.stack([sharp_in_depth(view, t) for view, t in zip(views, TILT, strict=True)])
    seen = coverage(SliceGrid(160, 100), 160, 80.0, TILT)
    assert seen[50, 80] == 1
    assert seen[0, 0] < 0.7
    energy = columns(back_projected(sharp, 100), seen).energy.mean(axis=0)
    assert energy[[0, -1], 5:15].mean() == pytest.approx(energy[8:12, 45:55].mean(), rel=0.25)
    bare = columns(back_projected(sharp, 100)).energy.mean(axis=0)
    assert bare[[0, -1], 5:15].mean() < 0.75 * bare[8:12, 45:55].mean()


def test_levels_rise_with_the_texture_and_heights_run_upwards(rng: np.random.Generator) -> None:
    """The first row of a volume is its top: structure in the first rows is found at the greatest heights."""
    volume = 0.1 * rng.normal(size=(40, 60, 48)).astype(np.float32)
    volume[:, :15] *= 4
    volume[:, :5] *= 2
    found = columns(volume)
    assert (found.level.shape, found.lowest) == ((5, 6, 60), -29.5)
    assert (found.y[[0, -1]].tolist(), found.x[[0, -1]].tolist()) == ([-16, 16], [-20, 20])
    assert np.median(found.level[..., 55:]) >= LEVELS - 2
    assert 0 < np.median(found.level[..., 45:55]) < LEVELS - 2
    assert np.median(found.level[..., :45]) == 0


def test_a_volume_of_zeros_has_no_texture() -> None:
    assert not columns(np.zeros((16, 30, 16), np.float32)).level.any()
