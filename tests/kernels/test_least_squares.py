"""Least squares without negative unknowns, against SciPy's, and against what makes a solution the best one."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tiltflow.kernels.least_squares import nonnegative

Floats = NDArray[np.float64]


def solved(gram: Floats, right: Floats, start: Floats | None = None) -> Floats:
    n = len(right)
    x = np.zeros(n) if start is None else start.copy()
    nonnegative(gram, right, x, np.empty((n, n)), np.empty((2, n)), np.empty(n, np.int64))
    return x


def problem(seed: int, rows: int, unknowns: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, unknowns)), rng.normal(size=rows)


def waves(heights: int, seed: int) -> tuple[Floats, Floats]:
    """A profile of layers, seen through noisy waves, with neighbours held together: unknowns that hardly differ."""
    rng = np.random.default_rng(seed)
    z = np.linspace(-1, 1, heights)
    profile = np.where(np.abs(z - rng.uniform(-0.5, 0.5)) < rng.uniform(0.05, 0.4), 1.0, 0.0)
    phase = 2 * np.pi * np.linspace(0, 3, 40)[:, None] * z
    system = np.vstack([np.cos(phase), np.sin(phase)])
    right = system @ profile + rng.normal(0, 1.0, len(system))
    rough = 0.2 * (np.eye(heights) - np.eye(heights, k=1))
    return np.vstack([system, rough]), np.concatenate([right, np.zeros(heights)])


@pytest.mark.parametrize("seed", range(20))
def test_the_solution_is_that_of_scipy(seed):
    for system, right in (problem(seed, 40, 25), waves(81, seed)):
        ours = solved(system.T @ system, system.T @ right)
        np.testing.assert_allclose(ours, scipy.optimize.nnls(system, right)[0], rtol=1e-6, atol=1e-8 * np.abs(ours).max())


@given(seed=st.integers(0, 2**32 - 1), unknowns=st.integers(1, 12), more=st.integers(0, 12))
def test_nothing_gets_better_where_an_unknown_is_moved(seed, unknowns, more):
    system, right = problem(seed, unknowns + more, unknowns)
    gram, against = system.T @ system + 1e-3 * np.eye(unknowns), system.T @ right
    x = solved(gram, against)
    slope, small = against - gram @ x, 1e-8 * max(np.abs(against).max(), 1e-300)
    assert (x >= 0).all()
    assert (slope <= small).all()
    assert (np.abs(slope[x > 0]) <= small).all()


@pytest.mark.parametrize("seed", range(5))
def test_wherever_the_search_begins_it_ends_at_the_same_place(seed):
    system, right = waves(81, seed)
    gram, against = system.T @ system, system.T @ right
    expected = solved(gram, against)
    rng = np.random.default_rng(seed)
    for start in (np.ones(81), rng.uniform(-1, 1, 81).clip(0), expected):
        np.testing.assert_allclose(solved(gram, against, start), expected, atol=1e-8 * expected.max())


def test_where_no_unknown_helps_all_are_zero():
    assert not solved(np.eye(4), -np.ones(4)).any()
    assert not solved(np.eye(4), np.zeros(4), np.ones(4)).any()
