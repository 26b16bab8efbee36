"""Median and spread of all voxels of a volume, gathered block by block.

Integers have a bin each, so that their median and median absolute deviation (MAD) are exact.  Floats are counted by the first 16
bits of their representation, which brackets both; a second reading counts 65,536 equal bins inside the bracket, which is finer than
any display.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tiltflow.kernels import products as kernels
from tiltflow.products.sections import LARGEST_VOXEL

_BINS = 1 << 16

_Counts = NDArray[np.int64]
_Values = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class VoxelStatistics:
    """Statistics of the usable voxels; all 0 when there is none.

    Attributes
    ----------
    minimum, maximum, mean, median
        Of the usable voxels.
    mad
        Median of the distances to the median.
    unusable
        Number of voxels that are not finite, or too large.
    whole
        Whether they are whole numbers by their type.
    """

    minimum: float
    maximum: float
    mean: float
    median: float
    mad: float
    unusable: int = 0
    whole: bool = True


class Histogram:
    """Counts voxels of one type; threads may add blocks at once.

    Parameters
    ----------
    dtype
        Integers of up to 16 bits, or float32.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        kind = np.dtype(dtype)
        self.whole = kind.kind in "iu"
        self._lowest = int(np.iinfo(kind).min) if self.whole else 0
        self._counts: _Counts = np.zeros(int(np.iinfo(kind).max) - self._lowest + 1 if self.whole else _BINS, np.int64)
        self._fine: _Counts = np.zeros(_BINS + 2, np.int64)
        self._minimum, self._maximum, self._total = math.inf, -math.inf, 0.0
        self._seen = 0
        self._lock = threading.Lock()

    def add(self, block: NDArray[Any]) -> None:
        """Count the voxels of a block, `(z, y, x)`."""
        counts = np.zeros_like(self._counts)
        low, high, total = math.inf, -math.inf, 0.0
        if self.whole:
            kernels.count_whole(block, self._lowest, counts)
        else:
            low, high, total = kernels.count_real(block, block.view(np.uint32), LARGEST_VOXEL, counts)
        with self._lock:
            self._counts += counts
            self._seen += block.size
            self._minimum, self._maximum, self._total = min(self._minimum, low), max(self._maximum, high), self._total + total

    def statistics(self, blocks: Iterable[NDArray[Any]] = ()) -> VoxelStatistics:
        """Return the statistics; floats need all their blocks again."""
        count = int(self._counts.sum())
        if not count:
            return VoxelStatistics(0.0, 0.0, 0.0, 0.0, 0.0, self._seen, self.whole)
        if self.whole:
            present = np.flatnonzero(self._counts)
            values, weights = (present + self._lowest).astype(float), self._counts[present]
            minimum, maximum, mean = float(values[0]), float(values[-1]), float(values @ weights / count)
        else:
            minimum, maximum, mean = self._minimum, self._maximum, self._total / count
            values, weights = self._refine(blocks)
        median = weighted_median(values, weights)
        return VoxelStatistics(
            minimum, maximum, mean, median, weighted_median(np.abs(values - median), weights), self._seen - count, self.whole
        )

    def _refine(self, blocks: Iterable[NDArray[Any]]) -> tuple[_Values, _Counts]:
        """Count equal bins over a range that always includes the median and one MAD on both sides."""
        low_quarter, low_median, high_median, high_quarter = self._bracket()
        reach = max(high_median - low_quarter, high_quarter - low_median)
        low, high = max(low_median - reach, self._minimum), min(high_median + reach, self._maximum)
        if not low < high:
            return np.array([low]), self._counts.sum(keepdims=True)
        self._fine[:] = 0
        for block in blocks:
            kernels.count_between(block, low, high, LARGEST_VOXEL, self._fine)
        centres = low + (np.arange(-1, _BINS + 1) + 0.5) * ((high - low) / _BINS)
        return centres, self._fine

    def _bracket(self) -> tuple[float, float, float, float]:
        """Return the lower edges of the bins of the first quartile and the median, the upper ones of the median and the third."""
        below = np.cumsum(self._counts)
        first, second, third = (int(np.searchsorted(below, below[-1] * share)) for share in (0.25, 0.5, 0.75))
        lower, upper = _edges(first)[0], _edges(third)[1]
        return lower, _edges(second)[0], _edges(int(np.searchsorted(below, below[-1] * 0.5, side="right")))[1], upper


def weighted_median(values: _Values, weights: _Counts) -> float:
    """Return the median of values that occur `weights` times each, as `np.median` defines it.

    >>> weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1, 2, 1]))
    1.5
    """
    order = np.argsort(values, kind="stable")
    ordered, below = values[order], np.cumsum(weights[order])
    middle = int(below[-1])
    lower = ordered[np.searchsorted(below, (middle - 1) // 2, side="right")]
    upper = ordered[np.searchsorted(below, middle // 2, side="right")]
    return float((lower + upper) / 2)


def _edges(index: int) -> tuple[float, float]:
    """Return the least and the greatest float32 whose first 16 bits, in ascending order, are `index`."""

    def number(word: int) -> float:
        bits = word ^ 0x80000000 if word >> 31 else word ^ 0xFFFFFFFF
        return float(np.array(bits, np.uint32).view(np.float32))

    return number(index << 16), number(index << 16 | 0xFFFF)
