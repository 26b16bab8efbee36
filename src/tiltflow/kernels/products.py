"""Loops over sections and blocks of voxels for the products: moments, means, grey levels, binning, counting.

The arithmetic of moments and levels is that of IMOD to the last bit: sums of a row in float32 from left to right, sums of rows in
float64, and a multiplication and an addition that are each rounded to float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

Floats = NDArray[np.float32]


@kernel()
def section_moments(block: Floats, minimum: Floats, maximum: Floats, total: NDArray[np.float64]) -> None:
    """Write the least, the greatest and the sum of the values of each section of `block`, `(sections, rows, nx)`."""
    sections, rows, nx = block.shape
    for k in range(sections):
        low = high = block[k, 0, 0]
        whole_sum = 0.0
        for j in range(rows):
            row_sum = np.float32(0.0)
            for i in range(nx):
                value = block[k, j, i]
                row_sum += value
                low = min(low, value)
                high = max(high, value)
            whole_sum += float(row_sum)
        minimum[k], maximum[k], total[k] = low, high, whole_sum


@kernel()
def running_mean(block: Floats, window: int, whole: bool, out: Floats) -> None:
    """Write the mean of every `window` sections in a row, `(sections - window + 1, rows, nx)`; cut toward zero if `whole`."""
    sections, rows, nx = out.shape
    count = np.float32(window)
    for k in range(sections):
        for j in range(rows):
            for i in range(nx):
                out[k, j, i] = block[k, j, i]
            for step in range(1, window):
                for i in range(nx):
                    out[k, j, i] += block[k + step, j, i]
            if whole:
                for i in range(nx):
                    out[k, j, i] = np.trunc(out[k, j, i] / count)
            else:
                for i in range(nx):
                    out[k, j, i] = out[k, j, i] / count


@kernel()
def change_levels(block: Floats, scale: Floats, offset: Floats, whole: bool, out: NDArray[Any]) -> None:
    """Write `scale * value + offset`, one pair a section, rounded to the nearest whole number if `whole`."""
    sections, rows, nx = block.shape
    half = np.float32(0.5)
    for k in range(sections):
        for j in range(rows):
            for i in range(nx):
                value = block[k, j, i] * scale[k] + offset[k]
                out[k, j, i] = np.floor(value + half) if whole else value


@kernel()
def grey_picture(
    image: Floats, scale: float, offset: float, whole: bool, slope: float, intercept: float, out: NDArray[np.uint8]
) -> None:
    """Write the picture of an image: its levels changed, then `slope * level + intercept` cut to 0 .. 255, top row first."""
    ny, nx = image.shape
    factor, shift, half = np.float32(scale), np.float32(offset), np.float32(0.5)
    for j in range(ny):
        for i in range(nx):
            value = image[j, i] * factor + shift
            if whole:
                value = np.floor(value + half)
            out[ny - 1 - j, i] = np.uint8(min(max(value * slope + intercept, 0.0), 255.0))


@kernel()
def bin_whole(block: NDArray[Any], bin_z: int, bin_y: int, bin_x: int, sums: NDArray[np.int32], out: NDArray[Any]) -> None:
    """Write the means of 2 x 2 x 2 whole numbers, `floor(mean + 0.5)`; a factor of 1 leaves an axis as it is.

    Where `out` reaches beyond whole groups, a group is the voxels that exist.  `sums` is a row of scratch, `(nx,)`.
    """
    nz, ny, nx = block.shape
    out_z, out_y, out_x = out.shape
    pairs = min(out_x, nx // 2) if bin_x == 2 else 0
    for k in range(out_z):
        z0 = bin_z * k
        z1 = min(z0 + bin_z, nz) - 1
        for j in range(out_y):
            y0 = bin_y * j
            y1 = min(y0 + bin_y, ny) - 1
            for i in range(nx):
                sums[i] = np.int32(block[z0, y0, i]) + block[z0, y1, i] + block[z1, y0, i] + block[z1, y1, i]
            for i in range(pairs):
                out[k, j, i] = (sums[2 * i] + sums[2 * i + 1] + 4) >> 3
            for i in range(pairs, out_x):
                out[k, j, i] = (2 * sums[bin_x * i] + 4) >> 3


@kernel()
def bin_real(block: NDArray[Any], bin_z: int, bin_y: int, bin_x: int, sums: Floats, out: Floats) -> None:
    """Write the means of 2 x 2 x 2 values as they are; otherwise as :func:`bin_whole`."""
    nz, ny, nx = block.shape
    out_z, out_y, out_x = out.shape
    pairs = min(out_x, nx // 2) if bin_x == 2 else 0
    eighth = np.float32(0.125)
    for k in range(out_z):
        z0 = bin_z * k
        z1 = min(z0 + bin_z, nz) - 1
        for j in range(out_y):
            y0 = bin_y * j
            y1 = min(y0 + bin_y, ny) - 1
            for i in range(nx):
                sums[i] = np.float32(block[z0, y0, i]) + block[z0, y1, i] + block[z1, y0, i] + block[z1, y1, i]
            for i in range(pairs):
                out[k, j, i] = (sums[2 * i] + sums[2 * i + 1]) * eighth
            for i in range(pairs, out_x):
                out[k, j, i] = (sums[bin_x * i] + sums[bin_x * i]) * eighth


@kernel()
def count_whole(block: NDArray[Any], lowest: int, counts: NDArray[np.int64]) -> None:
    """Add each voxel to `counts[value - lowest]`."""
    sections, rows, nx = block.shape
    for k in range(sections):
        for j in range(rows):
            for i in range(nx):
                counts[np.int64(block[k, j, i]) - lowest] += 1


@kernel()
def count_real(block: Floats, bits: NDArray[np.uint32], limit: float, counts: NDArray[np.int64]) -> tuple[float, float, float]:
    """Add each voxel within `limit` to the bin of the first 16 bits of its float32 in ascending order; return min, max, sum.

    `bits` is `block` viewed as integers.  The order of these, with the sign bit flipped, or all bits where it is set, is that of the
    numbers.  Minimum and maximum are infinite when no voxel counts.
    """
    sections, rows, nx = block.shape
    low, high, total = np.inf, -np.inf, 0.0
    for k in range(sections):
        for j in range(rows):
            for i in range(nx):
                value = block[k, j, i]
                if abs(value) <= limit:
                    word = bits[k, j, i]
                    word = ~word if word >> np.uint32(31) else word | np.uint32(0x80000000)
                    counts[word >> np.uint32(16)] += 1
                    low = min(low, value)
                    high = max(high, value)
                    total += value
    return low, high, total


@kernel()
def count_between(block: Floats, low: float, high: float, limit: float, counts: NDArray[np.int64]) -> None:
    """Add each voxel within `limit` to one of equal bins from `low` to `high`; the first and last bin take what lies beyond."""
    sections, rows, nx = block.shape
    inner = counts.size - 2
    per_unit = inner / (high - low)
    for k in range(sections):
        for j in range(rows):
            for i in range(nx):
                value = block[k, j, i]
                if abs(value) <= limit:
                    counts[int(min(max((value - low) * per_unit + 1.0, 0.0), inner + 1.0))] += 1


@kernel()
def fill_unusable(block: Floats, limit: float, value: float) -> int:
    """Set voxels that are not numbers or beyond `limit` to `value`, in place; return how many there were."""
    sections, rows, nx = block.shape
    filled = 0
    for k in range(sections):
        for j in range(rows):
            for i in range(nx):
                if not abs(block[k, j, i]) <= limit:
                    block[k, j, i] = value
                    filled += 1
    return filled
