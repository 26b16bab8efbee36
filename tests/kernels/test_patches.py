"""The kernels of patch tracking against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.kernels.patches import (
    add_couplings,
    add_products,
    cut_window,
    fill_covariance,
    invert_unsettled,
    take_cells,
    turn_cells,
)


def keys(d: np.ndarray, a: float = -0.5) -> np.ndarray:
    """The cubic convolution kernel of Keys."""
    d = np.abs(d)
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def test_a_window_is_the_sum_of_neighbours_weighted_by_the_kernel(rng: np.random.Generator) -> None:
    image = rng.normal(size=(14, 16)).astype(np.float32)
    matrix, origin = np.array([[0.8, 0.3], [-0.2, 1.1]]), np.array([1.37, 3.21])
    out = np.full((9, 11), np.nan, np.float32)
    cut_window(image, origin, matrix, out)
    inside = 0
    for j, i in np.ndindex(out.shape):
        x, y = origin + matrix @ (i, j)
        if not (1 <= x <= 14 and 1 <= y <= 12):
            assert out[j, i] == 0
            continue
        value = keys(np.arange(14) - y) @ image.astype(float) @ keys(np.arange(16) - x)
        assert out[j, i] == pytest.approx(value, abs=1e-5)
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


@pytest.mark.parametrize("shift", [0.0, 2e-7, -2e-7])
def test_a_window_to_the_very_edge_reads_nothing_beyond_it(shift: float) -> None:
    """Where single precision rounds a coordinate to the next pixel."""
    around = np.full((14, 14), np.nan, np.float32)
    whole = around[1:-1]
    whole[:] = 3.0
    out = np.empty((9, 11), np.float32)
    cut_window(whole, np.array([1.0 + shift, 1.0 + shift]), np.eye(2) * (1 - shift), out)
    value = np.round(out, 4)
    assert np.isin(value, [0, 3]).all()
    assert (value[1:-1, 1:-1] == 3).all()


def test_cells_are_those_of_the_spectra_by_their_factor(rng: np.random.Generator) -> None:
    spectra = (rng.normal(size=(3, 6, 4)) + 1j * rng.normal(size=(3, 6, 4))).astype(np.complex64)
    row, column = rng.integers(0, 6, (5, 2)), rng.integers(0, 4, (5, 2))
    factor = rng.random((5, 2)).astype(np.float32)
    out = np.zeros((3, 5, 7, 2), np.complex64)
    by_row, by_column = (np.exp(1j * rng.normal(size=(3, n))).astype(np.complex64) for n in (6, 4))
    take_cells(spectra, row, column, factor, by_row, by_column, 4, out)
    np.testing.assert_allclose(out[:, :, 4], spectra[:, row, column] * by_row[:, row] * by_column[:, column] * factor, rtol=1e-5)
    assert not np.delete(out, 4, axis=2).any()


def test_cells_of_a_view_are_turned_in_place(rng: np.random.Generator) -> None:
    row, column = rng.integers(0, 6, (5, 2)), rng.integers(0, 4, (5, 2))
    out = (rng.normal(size=(3, 5, 7, 2)) + 1j * rng.normal(size=(3, 5, 7, 2))).astype(np.complex64)
    by_row, by_column = (np.exp(1j * rng.normal(size=(3, n))).astype(np.complex64) for n in (6, 4))
    wanted = out.copy()
    wanted[:, :, 4] *= by_row[:, row] * by_column[:, column]
    turn_cells(row, column, by_row, by_column, 4, out)
    np.testing.assert_allclose(out, wanted, rtol=1e-5)


def hermitian(rng: np.random.Generator, bins: int, views: int) -> np.ndarray:
    factor = rng.normal(size=(bins, views, 3 * views)) + 1j * rng.normal(size=(bins, views, 3 * views))
    matrix = factor @ np.swapaxes(factor.conj(), 1, 2)
    scale = 1 / np.sqrt(np.einsum("bii->bi", matrix).real)
    return np.asarray(matrix * scale[:, :, None] * scale[:, None, :], np.complex64)


def test_covariances_of_unsettled_views_are_inverted(rng: np.random.Generator) -> None:
    settled, decay = hermitian(rng, 4, 9), rng.uniform(0.5, 1, (4, 9)).astype(np.float32)
    out, matrices, vectors = np.empty_like(settled), np.empty((2, 9, 9), np.float32), np.empty((2, 9), np.float32)
    each, none = np.array([[0, 0], [1, 1], [2, 2], [3, 3]]), np.zeros(4, np.float32)
    assert invert_unsettled(settled, decay, each, none, out, matrices, vectors)
    loose = settled * decay[:, :, None] * decay[:, None, :]
    loose[:, np.arange(9), np.arange(9)] = 1
    wanted = np.linalg.inv(loose.astype(complex))
    np.testing.assert_allclose(out, wanted, atol=1e-5)
    assert not invert_unsettled(3 * settled, np.ones_like(decay), each, none, out, matrices, vectors)


def test_an_inverse_between_two_others_is_interpolated(rng: np.random.Generator) -> None:
    """Its own covariance does not count, and would be none."""
    settled, decay = hermitian(rng, 4, 9), np.ones((4, 9), np.float32)
    wanted = np.linalg.inv(settled.astype(complex))
    settled[1] *= 3
    out, matrices, vectors = np.empty_like(settled), np.empty((2, 9, 9), np.float32), np.empty((2, 9), np.float32)
    between, share = np.array([[0, 0], [0, 3], [2, 2], [3, 3]]), np.array([0, 0.25, 0, 0], np.float32)
    assert invert_unsettled(settled, decay, between, share, out, matrices, vectors)
    wanted[1] = 0.75 * wanted[0] + 0.25 * wanted[3]
    np.testing.assert_allclose(out, wanted, atol=1e-5)


@pytest.mark.parametrize("conjugate", [False, True])
def test_couplings_are_sums_over_bins_of_real_products(rng: np.random.Generator, conjugate: bool) -> None:
    one, two, moments = hermitian(rng, 5, 7), hermitian(rng, 5, 7), rng.random((3, 5))
    out = np.full((3, 7, 7), 2.0)
    add_couplings(one, two, conjugate, moments, out)
    wanted = 2 + np.einsum("mb,bik->mik", moments, (one * (two.conj() if conjugate else two)).real)
    below = np.tril_indices(7)
    np.testing.assert_allclose(out[:, *below], wanted[:, *below], rtol=1e-5)
    assert (out[:, *np.triu_indices(7, 1)] == 2).all()


def test_products_with_the_whitened_spectra_give_slope_and_agreement(rng: np.random.Generator) -> None:
    bins, views, cells = 5, 4, 7
    spectra, whitened = ((rng.normal(size=(2, bins, views, cells))).astype(np.float32) for _ in range(2))
    spectra, whitened = ((each[0] + 1j * each[1]).astype(np.complex64) for each in (spectra, whitened))
    precision = (rng.uniform(1.5, 3, (bins, views, 1)) * np.eye(views)).astype(np.complex64)
    cross = spectra.conj() @ np.swapaxes(spectra, 1, 2)
    x, y = rng.normal(size=bins), rng.normal(size=(bins, cells)).astype(np.float32)
    slope, sums = np.ones((views, 2)), np.ones((3, views))
    add_products(spectra, whitened, precision, cross, x, y, slope, sums)
    turn = (spectra.conj() * whitened).imag
    np.testing.assert_allclose(slope - 1, np.stack([np.einsum("bic,b->i", turn, x), np.einsum("bic,bc->i", turn, y)], 1), atol=1e-5)
    own = np.einsum("bii->bi", precision).real[..., None]
    predicted = spectra - whitened / own
    parts = (spectra.conj() * predicted).real, np.abs(spectra) ** 2, np.abs(predicted) ** 2
    np.testing.assert_allclose(sums - 1, [((1 - 1 / own) * part).sum(axis=(0, 2)) for part in parts], atol=1e-4)
