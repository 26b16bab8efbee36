"""The grey value kernels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.kernels.grey import round_into, statistics


def _columns(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.full(n, np.inf, np.float32), np.full(n, -np.inf, np.float32), np.zeros(n, np.float32)


def test_statistics_are_those_of_numpy(rng: np.random.Generator) -> None:
    image = rng.normal(3, 50, (17, 33)).astype(np.float32)
    low, high, total = _columns(33)
    statistics(image[:9], low, high, total)
    statistics(image[9:], low, high, total)
    np.testing.assert_array_equal([low, high], [image.min(axis=0), image.max(axis=0)])
    np.testing.assert_allclose(total, image.sum(axis=0, dtype=float), rtol=1e-4)


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.int16, -32768, 32767), (np.uint8, 0, 255)])
def test_rounding_is_half_up_within_the_limits(rng: np.random.Generator, dtype: type, low: int, high: int) -> None:
    image = rng.normal(0, 30000, (8, 21)).astype(np.float32)
    image[0, :4] = [-0.5, 0.5, 1.5, 254.5]
    out = np.zeros((8, 3, 21), dtype)
    least, most, total = _columns(21)
    round_into(image, low, high, least, most, total, 1, out)
    np.testing.assert_array_equal([least, most], [image.min(axis=0), image.max(axis=0)])
    np.testing.assert_allclose(total, image.sum(axis=0, dtype=float), rtol=1e-4)
    np.testing.assert_array_equal(out[:, ::2], 0)
    np.testing.assert_array_equal(out[:, 1], np.clip(np.floor(image + np.float32(0.5)), low, high).astype(dtype))
