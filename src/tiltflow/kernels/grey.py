"""Grey values: statistics, and rounding to integers."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def statistics(image: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return the least, the greatest and the sum of a two-dimensional array."""
    low, high = image[0, 0], image[0, 0]
    total = 0.0
    for j in range(image.shape[0]):
        row = image[j]
        part = np.float32(0)
        for i in range(row.shape[0]):
            low = min(low, row[i])
            high = max(high, row[i])
            part += row[i]
        total += float(part)
    return low, high, total


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def round_into(image: NDArray[np.float32], least: int, most: int, out: NDArray[np.integer]) -> tuple[float, float, float]:
    """Write the values of a two-dimensional array, rounded half up and held within `least..most`, into integers.

    Returns the least, the greatest and the sum of the values before.
    """
    half, floor, ceiling = np.float32(0.5), np.float32(least), np.float32(most)
    low, high = image[0, 0], image[0, 0]
    total = 0.0
    for j in range(image.shape[0]):
        source, target = image[j], out[j]
        part = np.float32(0)
        for i in range(source.shape[0]):
            value = source[i]
            low = min(low, value)
            high = max(high, value)
            part += value
            target[i] = np.int32(min(max(np.floor(value + half), floor), ceiling))
        total += float(part)
    return low, high, total
