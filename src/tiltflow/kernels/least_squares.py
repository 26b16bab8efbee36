"""Least squares whose unknowns may not be negative."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

Floats = NDArray[np.float64]

_ZERO = 1e-12
"""Slopes, and parts of a diagonal, below this fraction of the largest are taken for zero."""
_ROUNDS = 3
"""Rounds for each unknown, after which the best solution so far stands."""


@kernel()
def nonnegative(gram: Floats, right: Floats, x: Floats, factor: Floats, work: Floats, order: NDArray[np.int64]) -> None:
    """Write to `x` the numbers, none of them negative, at which `x' gram x / 2 - right' x` is least.

    The active set method of Lawson & Hanson (1974, Solving Least Squares Problems, chapter 23; doi:10.1137/1.9781611971217), on normal
    equations as by Bro & De Jong (1997, doi:10.1002/(SICI)1099-128X(199709/10)11:5<393::AID-CEM483>3.0.CO;2-L).  It does what
    `scipy.optimize.nnls` does, whose import takes longer than all fits of a run, and whose fits wait for each other at the
    interpreter's lock.

    Parameters
    ----------
    gram
        `(n, n)`, symmetric and positive definite.
    right
        `(n,)`.
    x
        `(n,)`: where it is positive, the search begins.
    factor, work, order
        Room to work in: `(n, n)`, `(2, n)` and `(n,)`.
    """
    n, free = len(right), 0
    trial, slope = work[0], work[1]
    for j in range(n):
        if x[j] > 0.0 and extend(gram, factor, order, free, j):
            free += 1
        else:
            x[j] = 0.0
    largest = 0.0
    for j in range(n):
        largest = max(largest, abs(right[j]))
    entering = -1
    for _ in range(_ROUNDS * n):
        while free:
            solve(factor, right, order, free, trial)
            if entering >= 0 and trial[free - 1] <= 0.0:  # by rounding: what enters grows
                free -= 1
                slope[entering] = -1.0
                break
            entering = -1
            step, leaving = 1.0, -1
            for k in range(free):
                if trial[k] <= 0.0 and x[order[k]] <= step * (x[order[k]] - trial[k]):
                    step, leaving = x[order[k]] / (x[order[k]] - trial[k]), k
            for k in range(free):
                x[order[k]] = max(x[order[k]] + step * (trial[k] - x[order[k]]), 0.0)
            if leaving < 0:
                break
            x[order[leaving]] = 0.0
            kept = 0
            while x[order[kept]] > 0.0:
                kept += 1
            for k in range(kept, free):
                if x[order[k]] > 0.0 and extend(gram, factor, order, kept, order[k]):
                    kept += 1
                else:
                    x[order[k]] = 0.0
            free = kept
        if entering < 0:
            for j in range(n):
                slope[j] = right[j] if x[j] == 0.0 else 0.0
            for k in range(free):
                row, value = gram[order[k]], x[order[k]]
                for j in range(n):
                    slope[j] -= row[j] * value
            for k in range(free):
                slope[order[k]] = 0.0
        entering = -1
        for j in range(n):
            if slope[j] > _ZERO * largest and (entering < 0 or slope[j] > slope[entering]):
                entering = j
        if entering < 0:
            return
        if extend(gram, factor, order, free, entering):
            free += 1
        else:
            slope[entering] = -1.0


@kernel()
def extend(gram: Floats, factor: Floats, order: NDArray[np.int64], count: int, unknown: int) -> bool:
    """Add an unknown to the `count` ones in `order` whose Cholesky factor is in `factor`; return whether it is independent of them."""
    left = gram[unknown, unknown]
    for a in range(count):
        value = gram[unknown, order[a]]
        for b in range(a):
            value -= factor[count, b] * factor[a, b]
        factor[count, a] = value / factor[a, a]
        left -= factor[count, a] * factor[count, a]
    if not left > _ZERO * gram[unknown, unknown]:
        return False
    factor[count, count] = math.sqrt(left)
    order[count] = unknown
    return True


@kernel()
def solve(factor: Floats, right: Floats, order: NDArray[np.int64], count: int, out: Floats) -> None:
    """Write the solution for the `count` unknowns in `order` to `out`."""
    for a in range(count):
        value = right[order[a]]
        for b in range(a):
            value -= factor[a, b] * out[b]
        out[a] = value / factor[a, a]
    for a in range(count - 1, -1, -1):
        out[a] /= factor[a, a]
        for b in range(a):
            out[b] -= factor[a, b] * out[a]
