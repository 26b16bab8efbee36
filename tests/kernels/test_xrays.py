"""The loops behind the x-ray repair, against NumPy."""

from __future__ import annotations

import numpy as np

from tiltflow.kernels import xrays as kernels


def test_block_statistics_are_those_of_the_pixels_within_three_standard_deviations(rng):
    image = rng.normal(100, 5, (64, 96)).astype(np.float32)
    image[12, 20] = 1e5
    edges_y, edges_x = np.array([0, 32, 64]), np.array([0, 48, 96])
    mean, sd, step_sd = np.empty((3, 2, 2))
    kernels.block_statistics(image, edges_y, edges_x, mean, sd, step_sd)
    block = image[0:32:4, 0:47].astype(float)
    for _ in range(2):
        block = block[np.abs(block - block.mean()) <= 3 * block.std()]
    assert np.isclose(mean[0, 0], block.mean(), atol=1e-3)
    assert np.isclose(sd[0, 0], block.std(), atol=1e-3)
    assert np.allclose(step_sd, 5 * np.sqrt(2), rtol=0.1)


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
