"""Each kernel that links spots against the same thing in NumPy."""

from __future__ import annotations

import numpy as np

from tiltflow.kernels import bead_links as kernel


def test_the_sweep_counts_each_view_once_at_the_depths_that_explain_a_spot(rng: np.random.Generator) -> None:
    points, views, half = 3, 6, np.array([50.0, 40.0])
    base, step = rng.uniform(-30, 30, (points, views, 2)), rng.uniform(-0.6, 0.6, (views, 2))
    step[2] = 0
    xy = rng.uniform(-40, 40, (120, 2))
    first = np.arange(views + 1) * 20
    free = rng.random(120) < 0.8
    depths = np.linspace(-40, 40, 33)
    hits, possible = np.zeros((points, 33), np.int32), np.zeros((points, 33), np.int32)
    used = np.array([0, 1, 2, 4, 5])
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.hypot(*np.where(step == 0, 1, step).T)[:, None]
    normal[2] = 0, 1
    across = np.sum(xy * np.repeat(normal, 20, axis=0), axis=1)
    order = np.lexsort((across, np.repeat(np.arange(views), 20)))
    xy, free, across = xy[order], free[order], across[order]
    kernel.sweep_depths(base, step, half, xy, first, free, across, normal, used, depths, 5.0, hits, possible)
    expected_hits, expected_possible = np.zeros((points, 33), int), np.zeros((points, 33), int)
    for m in range(points):
        for v in used:
            seen = base[m, v] + depths[:, None] * step[v]
            expected_possible[m] += (np.abs(seen) < half).all(axis=1)
            spots = xy[first[v] : first[v + 1]][free[first[v] : first[v + 1]]]
            expected_hits[m] += (np.hypot(*(seen[:, None] - spots[None]).T) <= 5.0).any(axis=0)
    np.testing.assert_array_equal(hits, expected_hits)
    np.testing.assert_array_equal(possible, expected_possible)


def test_the_densest_difference_is_the_one_that_most_owners_share(rng: np.random.Generator) -> None:
    scattered, owners = rng.uniform(-50, 50, (60, 2)), rng.integers(0, 12, 60)
    together = np.array([7.0, -3.0]) + rng.normal(0, 0.3, (12, 2))
    differences = np.concatenate([scattered, together])
    owner = np.concatenate([owners, np.arange(12)])
    best, votes = kernel.densest(differences, owner, 1.5, np.empty(12, np.int64))
    assert votes == 12
    assert np.hypot(*(differences[best] - [7, -3])) < 1.5


def test_votes_of_one_owner_count_once() -> None:
    differences = np.zeros((5, 2))
    assert kernel.densest(differences, np.zeros(5, np.int64), 1.0, np.empty(1, np.int64))[1] == 1


def test_no_differences_have_no_densest() -> None:
    assert kernel.densest(np.empty((0, 2)), np.empty(0, np.int64), 1.0, np.empty(0, np.int64)) == (-1, 0)
