"""Tests of filling groups of pixels from what surrounds them."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.preprocess.pixel_filling import fill_groups

NY, NX = 20, 24


def terms(y: np.ndarray, x: np.ndarray, order: int) -> np.ndarray:
    return np.stack([x ** (n - k) * y**k for n in range(order + 1) for k in range(n + 1)], axis=-1).astype(float)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_each_group_has_the_least_squares_polynomial_of_its_ring(rng: np.random.Generator, order: int) -> None:
    y, x = np.mgrid[:NY, :NX]
    image = (3 + 0.5 * x - 0.2 * y + 0.05 * x * y - 0.03 * y**2 + rng.normal(0, 0.1, x.shape)).astype(np.float32)
    groups = [np.array([9 * NX + 11, 9 * NX + 12, 10 * NX + 11]), np.array([14 * NX + 4]), np.array([9 * NX + 15])]
    indices, starts = np.concatenate(groups), np.array([0, 3, 4, 5])
    marked = np.zeros((NY, NX), bool)
    marked.reshape(-1)[indices] = True
    values, fitted = fill_groups(image, marked, indices, starts, 2.5, order)
    assert fitted.all()
    for group, found in zip(groups, np.split(values, starts[1:-1]), strict=True):
        gy, gx = np.divmod(group, NX)
        near = ((y[..., None] - gy) ** 2 + (x[..., None] - gx) ** 2 <= 2.5**2).any(-1) & ~marked
        coefficients = np.linalg.lstsq(terms(y[near], x[near], order), image[near], rcond=None)[0]
        surface = np.clip(terms(gy, gx, order) @ coefficients, image[near].min(), image[near].max())
        np.testing.assert_allclose(found, surface, atol=1e-3)


def test_a_surface_goes_no_farther_than_the_pixels_it_rests_on() -> None:
    y, x = np.mgrid[:NY, :NX]
    image = ((x - 10.0) ** 2 + (y - 10.0) ** 2).astype(np.float32)
    marked = (x - 10) ** 2 + (y - 10) ** 2 <= 4
    indices = np.flatnonzero(marked)
    values, _ = fill_groups(image, marked, indices, np.array([0, len(indices)]), 2.0, 2)
    assert values.min() == image[~marked].min() == 5


def test_a_ring_that_is_too_small_or_too_thin_carries_no_surface(rng: np.random.Generator) -> None:
    image = rng.normal(size=(NY, NX)).astype(np.float32)
    indices, starts = np.array([10 * NX + 5, 10 * NX + 12, 10 * NX + 19]), np.arange(4)
    marked = np.ones((NY, NX), bool)
    marked[10, 2:9] = False
    marked[8:13, 10:15] = False
    marked[10, [5, 12]] = True
    values, fitted = fill_groups(image, marked, indices, starts, 3.0, 1)
    assert fitted.tolist() == [False, True, False]
    assert np.isfinite(values).all()
