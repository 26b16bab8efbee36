"""The kernels of patch tracking against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.kernels.patches import cut_window, fill_covariance


def keys(d: np.ndarray, a: float = -0.5) -> np.ndarray:
    """The cubic convolution kernel of Keys."""
    d = np.abs(d)
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def test_a_window_is_the_tapered_sum_of_neighbours_weighted_by_the_kernel(rng: np.random.Generator) -> None:
    image = rng.normal(size=(14, 16)).astype(np.float32)
    matrix, origin = np.array([[0.8, 0.3], [-0.2, 1.1]]), np.array([1.4, 3.2])
    taper_y, taper_x = rng.random(9).astype(np.float32), rng.random(11).astype(np.float32)
    out = np.full((9, 11), np.nan, np.float32)
    cut_window(image, origin, matrix, taper_y, taper_x, out)
    inside = 0
    for j, i in np.ndindex(out.shape):
        x, y = origin + matrix @ (i, j)
        if not (1 <= x < 14 and 1 <= y < 12):
            assert out[j, i] == 0
            continue
        value = keys(np.arange(14) - y) @ image.astype(float) @ keys(np.arange(16) - x)
        assert out[j, i] == pytest.approx(taper_y[j] * taper_x[i] * value, abs=1e-5)
        inside += 1
    assert 30 < inside < out.size


def test_the_covariance_is_looked_up_at_the_parallax_of_two_views(rng: np.random.Generator) -> None:
    step, places = 0.05, 40
    table = (rng.normal(size=(2, places)) + 1j * rng.normal(size=(2, places))).astype(np.complex64)
    band, frequency = np.array([1, 0, 1]), np.array([0.0, 0.21, 0.4])
    tangent, strength = np.array([-1.3, 0.2, 0.0, 1.1]), rng.random((3, 4))
    out = np.empty((3, 4, 4), np.complex64)
    fill_covariance(table, step, band, frequency, tangent, strength, out)
    for b, i, k in np.ndindex(out.shape):
        if i == k:
            assert out[b, i, k] == 1
            continue
        place = frequency[b] * (tangent[i] - tangent[k])
        row = table[band[b]]
        value = np.interp(abs(place), step * np.arange(places), row.real) + 1j * np.interp(
            abs(place), step * np.arange(places), row.imag
        )
        wanted = strength[b, i] * strength[b, k] * (value if place > 0 else np.conj(value))
        if place == 0:
            assert abs(out[b, i, k]) == pytest.approx(abs(wanted), abs=1e-5)
        else:
            assert out[b, i, k] == pytest.approx(wanted, abs=1e-5)
    np.testing.assert_allclose(out, np.swapaxes(out, 1, 2).conj(), atol=1e-7)
