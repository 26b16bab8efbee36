"""The loops behind the x-ray repair, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.kernels import xrays as kernels


@pytest.mark.parametrize("hot", [(12, 20), (0, 0), (0, slice(0, 5))], ids=["inside", "at the first pixel", "along the first row"])
def test_block_statistics_are_those_of_the_pixels_within_three_standard_deviations(rng, hot):
    image = rng.normal(100, 5, (64, 96)).astype(np.float32)
    image[hot] = 1e5
    edges_y, edges_x = np.array([0, 32, 64]), np.array([0, 48, 96])
    mean, sd, step_sd = np.empty((3, 2, 2))
    kernels.block_statistics(image, edges_y, edges_x, mean, sd, step_sd)
    block = image[0:32:4, 0:47].astype(float)
    for _ in range(2):
        block = block[np.abs(block - block.mean()) <= 3 * block.std()]
    assert np.isclose(mean[0, 0], block.mean(), atol=1e-3)
    assert np.isclose(sd[0, 0], block.std(), atol=1e-3)
    assert np.allclose(step_sd, 5 * np.sqrt(2), rtol=0.1)


def test_a_block_of_one_value_has_no_spread_and_one_of_a_single_column_no_pixels():
    mean, sd, step_sd = np.empty((3, 1, 2))
    kernels.block_statistics(np.full((8, 9), 7, np.float32), np.array([0, 8]), np.array([0, 8, 9]), mean, sd, step_sd)
    assert mean.tolist() == [[7, 0]]
    assert sd.tolist() == step_sd.tolist() == [[0, 0]]


@pytest.mark.parametrize("margin", [0, 1, 5])
@pytest.mark.parametrize("width", [9, 70, 200])
def test_candidates_are_the_pixels_above_the_threshold_or_above_all_four_two_steps_away(rng, width, margin):
    image = rng.normal(0, 1, (40, width)).astype(np.float32)
    image[rng.random(image.shape) < 0.01] += 8
    edges_y, edges_x = np.array([0, 17, 40]), np.unique(np.linspace(0, width, 4).astype(int))
    threshold, fall = rng.uniform(3, 6, (2, len(edges_x) - 1)), rng.uniform(3, 6, (2, len(edges_x) - 1))
    expected = []
    for y in range(margin, 40 - margin):
        for x in range(margin, width - margin):
            block = np.searchsorted(edges_y, y, "right") - 1, np.searchsorted(edges_x, x, "right") - 1
            around = [image[y, b] for b in (x - 2 if x >= 2 else x + 2, x + 2 if x + 2 < width else x - 2)]
            around += [image[a, x] for a in (y - 2 if y >= 2 else y + 2, y + 2 if y + 2 < 40 else y - 2)]
            value, least = image[y, x], np.float32(fall[block])
            if value > np.float32(threshold[block]) or all(value - least > other for other in around):
                expected.append(y * width + x)
    out = np.full(image.size, -1)
    found = kernels.find_candidates(image, edges_y, edges_x, threshold, fall, margin, out)
    assert sorted(out[:found]) == expected
    assert kernels.find_candidates(image, edges_y, edges_x, threshold, fall, margin, out[:1]) == found, (
        "it counts on when out is full"
    )


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
