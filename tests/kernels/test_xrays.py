"""The loops behind the x-ray repair, against NumPy."""

from __future__ import annotations

import numpy as np

from tiltflow.kernels import xrays as kernels


def test_block_statistics_are_those_of_the_pixels_within_three_standard_deviations(rng):
    image = rng.normal(100, 5, (64, 96)).astype(np.float32)
    image[10, 20] = 1e5
    edges_y, edges_x = np.array([0, 32, 64]), np.array([0, 48, 96])
    mean, sd, step_sd = np.empty((3, 2, 2))
    kernels.block_statistics(image, edges_y, edges_x, mean, sd, step_sd)
    block = image[0:32:2, 0:47].astype(float)
    for _ in range(2):
        block = block[np.abs(block - block.mean()) <= 3 * block.std()]
    assert np.isclose(mean[0, 0], block.mean(), atol=1e-3)
    assert np.isclose(sd[0, 0], block.std(), atol=1e-3)
    assert np.allclose(step_sd, 5 * np.sqrt(2), rtol=0.1)


def test_the_surface_that_fills_a_hit_is_the_least_squares_polynomial_of_its_ring(rng):
    y, x = np.mgrid[:20, :24]
    image = (3 + 0.5 * x - 0.2 * y + 0.05 * x * y - 0.03 * y**2 + rng.normal(0, 0.1, x.shape)).astype(np.float32)
    group = np.array([9 * 24 + 11, 9 * 24 + 12, 10 * 24 + 11])
    state = np.zeros(image.shape, np.uint8)
    state.reshape(-1)[group] = 1
    out = np.empty(3, np.float32)
    work = np.empty((10, 10)), np.empty(10), np.empty(10), np.empty(128)
    kernels.fill(image, state, group, np.array([0, 3]), 2.0, 2, *work, out)

    gy, gx = np.divmod(group, 24)
    near = ((y[..., None] - gy) ** 2 + (x[..., None] - gx) ** 2 <= 4).any(-1) & (state == 0)

    def terms(y, x):
        return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).astype(float)

    coefficients = np.linalg.lstsq(terms(y[near], x[near]), image[near], rcond=None)[0]
    assert np.allclose(out, terms(gy, gx) @ coefficients, atol=1e-3)


def test_growth_collects_all_connected_pixels_and_no_others():
    image = np.zeros((12, 12), np.float32)
    image[3:5, 3:6] = 5
    image[5, 6] = 5
    image[9, 9] = 5
    state, group = np.zeros((12, 12), np.uint8), np.empty(50, np.int64)
    count = kernels.grow(image, 3 * 12 + 3, 1.0, state, group)
    assert count == 7
    assert set(group[:7]) == {y * 12 + x for y in (3, 4) for x in (3, 4, 5)} | {5 * 12 + 6}
    assert kernels.grow(image, 9 * 12 + 9, 1.0, state, group[:1]) == -1
