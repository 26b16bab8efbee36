"""Tests of the kernels of back-projection by cells."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.kernels.cells import cut_line


@pytest.mark.parametrize(
    ("column", "row", "column_step", "row_step"),
    [(3.2, 4.0, 0.45, 0.0), (-4.7, 2.3, 0.3, 0.02), (1.0, 6.9, 0.5, -0.06), (10.3, -2.0, 0.4, 0.1), (2.0, 0.2, 0.5, 0.0)],
)
def test_a_line_is_cut_bilinearly_and_filled_beyond_the_image(
    rng: np.random.Generator, column: float, row: float, column_step: float, row_step: float
) -> None:
    ny, nx, n = 9, 40, 120
    # A plane has no cross term, so that the order of the two interpolations does not matter.
    image = (rng.normal() * np.arange(ny)[:, None] + rng.normal() * np.arange(nx) + 3).astype(np.float32)
    lines = np.full(n, np.nan, np.float32)
    even, odd = lines[: n // 2], lines[n // 2 :]
    scratch = np.empty(nx, np.float32), np.empty(len(even), np.uint32), np.empty(len(even), np.float32)
    cut_line(image, column, row, column_step, row_step, np.float32(-77), *scratch, even, odd)
    found = np.stack([even, odd], axis=1).ravel()
    k = np.arange(n)
    x, y = column + k * column_step, row + k * row_step
    inside = (x >= 0) & (x <= nx - 1) & (y >= -1) & (y <= ny)
    a, b = np.polyfit(np.arange(nx), image[0], 1), np.polyfit(np.arange(ny), image[:, 0], 1)
    expected = image[0, 0] + a[0] * x + b[0] * np.clip(y, 0, ny - 1)
    margin = abs(row_step / column_step) + 1e-6
    apart = inside & (y > margin) & (y < ny - 1 - margin)
    np.testing.assert_allclose(found[apart], expected[apart], atol=2e-4)
    np.testing.assert_array_equal(found[~inside], -77)
    assert np.all(found[inside] != -77)


def test_a_single_row_is_interpolated_along_itself(rng: np.random.Generator) -> None:
    image = rng.normal(size=(1, 30)).astype(np.float32)
    even, odd = np.empty(20, np.float32), np.empty(20, np.float32)
    scratch = np.empty(30, np.float32), np.empty(len(even), np.uint32), np.empty(len(even), np.float32)
    cut_line(image, 2.25, 0.3, 0.5, 0.0, np.float32(0), *scratch, even, odd)
    at = 2.25 + 0.5 * np.arange(40)
    np.testing.assert_allclose(np.stack([even, odd], axis=1).ravel(), np.interp(at, np.arange(30), image[0]), atol=1e-5)
