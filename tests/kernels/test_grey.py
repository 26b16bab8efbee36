"""The grey value kernels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.kernels.grey import round_into, statistics


def test_statistics_are_those_of_numpy(rng: np.random.Generator) -> None:
    image = rng.normal(3, 50, (17, 33)).astype(np.float32)
    low, high, total = statistics(image)
    assert (low, high) == (image.min(), image.max())
    assert total == pytest.approx(image.sum(dtype=float), rel=1e-5)


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.int16, -32768, 32767), (np.uint8, 0, 255)])
def test_rounding_is_half_up_within_the_limits(rng: np.random.Generator, dtype: type, low: int, high: int) -> None:
    image = rng.normal(0, 30000, (8, 21)).astype(np.float32)
    image[0, :4] = [-0.5, 0.5, 1.5, 254.5]
    out = np.empty(image.shape, dtype)
    least, most, total = round_into(image, low, high, out)
    assert (least, most) == (image.min(), image.max())
    assert total == pytest.approx(image.sum(dtype=float), rel=1e-4)
    np.testing.assert_array_equal(out, np.clip(np.floor(image + np.float32(0.5)), low, high).astype(dtype))
