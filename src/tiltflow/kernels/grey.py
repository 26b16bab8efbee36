"""Grey values: statistics, and rounding to integers.

Minima, maxima and sums are kept by column: independent lanes are five times as fast as one running value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel


@kernel(fastmath=True)
def statistics(image: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], total: NDArray[np.float32]) -> None:
    """Update the least, the greatest and the sum of each column, `(columns,)`, with a two-dimensional array."""
    for j in range(image.shape[0]):
        for i in range(image.shape[1]):
            value = image[j, i]
            low[i] = min(low[i], value)
            high[i] = max(high[i], value)
            total[i] += value


@kernel(fastmath=True)
def round_into(
    image: NDArray[np.float32],
    least: int,
    most: int,
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    total: NDArray[np.float32],
    row: int,
    out: NDArray[np.integer],
) -> None:
    """Write the values of a two-dimensional array, rounded half up and clamped to `least..most`, to integers `out[:, row]`.

    The values before rounding update the statistics of each column, as in :func:`statistics`.
    """
    half, floor, ceiling = np.float32(0.5), np.float32(least), np.float32(most)
    for j in range(image.shape[0]):
        for i in range(image.shape[1]):
            value = image[j, i]
            low[i] = min(low[i], value)
            high[i] = max(high[i], value)
            total[i] += value
            out[j, row, i] = np.int32(np.floor(min(max(value + half, floor), ceiling)))
