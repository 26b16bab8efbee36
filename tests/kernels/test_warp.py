"""The resampling kernels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.kernels.warp import bin_mean, warp

FAR_BELOW = np.float32(np.finfo(np.float32).min)


def keys(d: np.ndarray, a: float = -1.0) -> np.ndarray:
    """The cubic convolution kernel of Keys."""
    d = np.abs(d)
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


@pytest.mark.parametrize("linear", [False, True])
def test_warp_is_the_sum_of_neighbours_weighted_by_the_kernel(rng: np.random.Generator, linear: bool) -> None:
    pad = 3
    image = rng.normal(size=(18, 20)).astype(np.float32)
    padded = np.pad(image, pad, mode="edge")
    matrix = np.array([[0.9, 0.2], [-0.3, 1.1]])
    origin = np.array([pad + 2.3, pad + 2.4])
    out = np.empty((9, 11), np.float32)
    warp(padded, pad, origin, matrix, linear, np.float32(0), FAR_BELOW, np.float32(0), False, out)
    rows, columns = np.arange(padded.shape[0]), np.arange(padded.shape[1])
    inside = 0
    for j, i in np.ndindex(out.shape):
        x, y = origin + matrix @ (i, j)
        if not (pad - 0.5 <= x <= pad + 19.5 and pad - 0.5 <= y <= pad + 17.5):
            assert out[j, i] == 0
            continue
        weigh = (lambda d: np.maximum(1 - np.abs(d), 0)) if linear else keys
        expected = weigh(rows - y) @ padded.astype(float) @ weigh(columns - x)
        assert out[j, i] == pytest.approx(expected, abs=2e-5)
        inside += 1
    assert 50 < inside < out.size


def test_warp_reaches_all_columns_when_rows_run_along_the_other_axis() -> None:
    image = np.arange(49, dtype=np.float32).reshape(7, 7)
    padded = np.pad(image, 3, mode="edge")
    out = np.empty((7, 7), np.float32)
    warp(
        padded,
        3,
        np.array([3.0, 3.0]),
        np.array([[0.0, 1.0], [1.0, 0.0]]),
        False,
        np.float32(-1),
        FAR_BELOW,
        np.float32(0),
        False,
        out,
    )
    np.testing.assert_allclose(out, image.T, atol=1e-5)


def test_bin_mean_is_the_mean_of_blocks_and_leaves_the_rest(rng: np.random.Generator) -> None:
    image = rng.normal(size=(10, 11)).astype(np.float32)
    out = np.empty((3, 3), np.float32)
    bin_mean(image, 3, out)
    np.testing.assert_allclose(out, image[:9, :9].reshape(3, 3, 3, 3).mean(axis=(1, 3)), atol=1e-6)
