"""The projection kernels: adjoint to back-projection, and right on their own."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.kernels.backprojection import TILE_X, backproject, stretch_lines
from tiltflow.kernels.projection import project, relax_lines
from tiltflow.reconstruct.stretched_lines import SliceGrid, StretchedLines, stretched_lines


def forward(xz: np.ndarray, s: StretchedLines, width: int) -> np.ndarray:
    lines = np.full(s.length, np.nan, np.float32)
    project(xz, s.even, s.odd, s.shift, s.slope, lines)
    out = np.full((len(s.start), width), np.nan, np.float32)
    relax_lines(lines, s.even, s.odd, s.inside, s.pixel, s.fraction, out)
    return out


def backward(views: np.ndarray, s: StretchedLines, nz: int, nx: int) -> np.ndarray:
    lines = np.empty(s.length, np.float32)
    stretch_lines(views, s.even, s.odd, s.count, s.inside, s.pixel, s.fraction, np.zeros(len(views), np.float32), lines)
    out = np.full((nz, nx), np.nan, np.float32)
    backproject(lines, s.even, s.odd, s.shift, s.slope, np.float32(0), out)
    return out


@pytest.mark.parametrize(("nz", "nx", "width"), [(7, 33, 33), (20, 60, 41), (12, 30, 64), (9, TILE_X + 70, TILE_X + 70)])
@pytest.mark.parametrize("views", [1, 6, 13])
def test_projection_is_the_adjoint_of_back_projection_to_rounding(
    rng: np.random.Generator, nz: int, nx: int, width: int, views: int
) -> None:
    samples = stretched_lines(rng.uniform(-80, 80, views), width, SliceGrid(nx, nz, 1.7, -2.2), width / 2 + 0.6)
    xz = rng.normal(size=(nz, nx)).astype(np.float32)
    lines = rng.normal(size=(views, width)).astype(np.float32)
    projected = forward(xz, samples, width).astype(float)
    smeared = backward(lines, samples, nz, nx).astype(float)
    left, right = (projected * lines).sum(), (xz * smeared).sum()
    scale = np.sqrt((projected**2).sum() * (lines.astype(float) ** 2).sum())
    assert abs(left - right) < 1e-6 * scale


def test_an_untilted_view_sees_the_sum_over_the_thickness(rng: np.random.Generator) -> None:
    xz = rng.normal(size=(9, 24)).astype(np.float32)
    seen = forward(xz, stretched_lines(np.array([0.0]), 24, SliceGrid(24, 9)), 24)
    np.testing.assert_allclose(seen[0], xz.sum(axis=0), atol=1e-5)


def test_a_tilted_slab_is_seen_thicker_by_the_cosine() -> None:
    tilt = np.array([-50.0, 30.0, 60.0])
    xz = np.zeros((10, 200), np.float32)
    xz[2:8] = 1
    seen = forward(xz, stretched_lines(tilt, 60, SliceGrid(200, 10)), 60)
    np.testing.assert_allclose(seen[:, 10:50].mean(axis=1), 6 / np.cos(np.deg2rad(tilt)), rtol=0.01)
    np.testing.assert_allclose(seen[:, 10:50].std(axis=1) / seen[:, 10:50].mean(axis=1), 0, atol=0.05)
