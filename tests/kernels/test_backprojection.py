"""The back-projection kernels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.kernels.backprojection import TILE_X, TILE_Z, backproject, stretch_lines, turn_about_x
from tiltflow.reconstruct.stretched_lines import SliceGrid, stretched_lines


def stretched(filtered: np.ndarray, samples, fill: np.ndarray) -> np.ndarray:
    s, lines = samples, np.full(samples.length, np.nan, np.float32)
    stretch_lines(filtered, s.even, s.odd, s.count, s.inside, s.pixel, s.fraction, fill, lines)
    return lines


def unfolded(lines: np.ndarray, samples, v: int) -> np.ndarray:
    """The samples of a view in their order."""
    out = np.empty(samples.count[v])
    out[::2] = lines[samples.even[v] :][: len(out[::2])]
    out[1::2] = lines[samples.odd[v] :][: len(out[1::2])]
    return out


def test_stretched_lines_interpolate_the_view_and_hold_the_fill_beyond_it(rng: np.random.Generator) -> None:
    tilt = np.array([-62.0, -3.0, 0.0, 41.0])
    filtered = rng.normal(size=(4, 40)).astype(np.float32)
    fill = np.array([7, 8, 9, 10], np.float32)
    samples = stretched_lines(tilt, 40, SliceGrid(50, 12, 1.3, -2.0))
    lines = stretched(filtered, samples, fill)
    for v in range(4):
        at = samples.start[v] + samples.step[v] * np.arange(samples.count[v])
        found = unfolded(lines, samples, v)
        inside = (at > 1e-3) & (at < 39 - 1e-3)
        np.testing.assert_allclose(found[inside], np.interp(at[inside], np.arange(40), filtered[v]), atol=1e-5)
        np.testing.assert_array_equal(found[(at < -1e-3) | (at > 39 + 1e-3)], fill[v])
        assert samples.step[v] == pytest.approx(np.cos(np.deg2rad(tilt[v])) / 2)


@pytest.mark.parametrize("views", [1, 3, 4, 9])
@pytest.mark.parametrize(("nz", "nx"), [(5, 30), (2 * TILE_Z + 3, TILE_X + 45)])
def test_back_projection_sums_the_lines_at_x_plus_z_tan_t(rng: np.random.Generator, views: int, nz: int, nx: int) -> None:
    tilt = rng.uniform(-65, 65, views)
    xz = SliceGrid(nx, nz, 0.4, 3.0)
    filtered = rng.normal(size=(views, nx + 6)).astype(np.float32)
    samples = stretched_lines(tilt, nx + 6, xz)
    lines = stretched(filtered, samples, np.zeros(views, np.float32))
    out = np.full((nz, nx), np.nan, np.float32)
    backproject(lines, samples.even, samples.odd, samples.shift, samples.slope, np.float32(0.25), out)
    expected = np.full((nz, nx), 0.25)
    x, z = xz.x_first + np.arange(nx), xz.z_first - np.arange(nz)
    for v in range(views):
        line = unfolded(lines, samples, v)
        cosine = np.cos(np.deg2rad(tilt[v]))
        first = (samples.start[v] + 0.5 - (nx + 6) / 2) / cosine
        at = (x + z[:, None] * np.tan(np.deg2rad(tilt[v])) - first) * 2
        assert at.min() > -1e-6
        assert at.max() < len(line) - 1 + 1e-6
        expected += np.interp(at, np.arange(len(line)), line)
    np.testing.assert_allclose(out, expected, atol=2e-4)


def test_turning_is_bilinear_between_two_sections(rng: np.random.Generator) -> None:
    here, there = rng.normal(size=(2, 6, 9)).astype(np.float32)
    row_here, row_there = np.array([0.0, 0.4, 3.7, 5.0, 7.0]), np.array([1.0, 1.5, 4.7, 4.99, -2.0])
    share = np.array([0, 0.25, 0.5, 1, 0.3], np.float32)
    out = np.empty((5, 9), np.float32)
    turn_about_x(here, there, row_here, row_there, share, out)
    for x in range(9):
        a, b = np.interp(row_here, np.arange(6), here[:, x]), np.interp(row_there, np.arange(6), there[:, x])
        np.testing.assert_allclose(out[:, x], a * (1 - share) + b * share, atol=1e-5)
