"""Back-projection of a slice cell by cell, where the mapping from voxels to views differs from place to place.

Within a cell of some columns and rows all rays of a view are parallel, so that one line, resampled obliquely from the filtered view,
serves all of them: :func:`tiltflow.kernels.backprojection.backproject` does the rest.  Resampling takes more loads for each sample
than stretching, but there are only as many samples as the cell is wide plus those of rays that leave at its sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel
from tiltflow.kernels.backprojection import backproject

EDGE = 1e-3
"""Pixels beyond the first and last column at which a sample still counts as on it, for the rounding of positions."""
LEVEL = 1e-12
"""Step below which a position is the same for all samples: less than a rounding error over the longest line."""


@kernel(fastmath=True)
def backproject_cells(
    filtered: NDArray[np.float32],
    corner: NDArray[np.int64],
    size: NDArray[np.int64],
    column: NDArray[np.float64],
    row: NDArray[np.float64],
    step: NDArray[np.float64],
    shift: NDArray[np.float64],
    slope: NDArray[np.float64],
    count: NDArray[np.int64],
    fill: NDArray[np.float32],
    base: np.float32,
    lines: NDArray[np.float32],
    block: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write into `out[z, x]` the value `base` plus, for every view, the lines that its cells take from it.

    Cell c has its first voxel at `corner[c]` (z, x) and `size[c]` voxels; its line of view v has `count[c, v]` samples, the first
    at `column[c, v]`, `row[c, v]` of `filtered[v]` and the next ones `step[c, v]` (column, row) apart, and is read at sample
    `shift[c, v] + slope[c, v] z + 2 x` of the cell.  `lines` and `block` are scratch for the lines of a cell and for its voxels.
    """
    views = filtered.shape[0]
    even, odd = np.empty(views, np.int64), np.empty(views, np.int64)
    mixed = np.empty(filtered.shape[2], np.float32)
    longest = count.max() // 2 + 1
    pixel, fraction = np.empty(longest, np.uint32), np.empty(longest, np.float32)
    for c in range(corner.shape[0]):
        place = 0
        for v in range(views):
            half = count[c, v] // 2 + 1
            even[v], odd[v] = place, place + half
            place += 2 * half
            cut_line(
                filtered[v],
                column[c, v],
                row[c, v],
                step[c, v, 0],
                step[c, v, 1],
                fill[v],
                mixed,
                pixel,
                fraction,
                lines[even[v] : odd[v]],
                lines[odd[v] : odd[v] + half],
            )
        nz, nx = size[c, 0], size[c, 1]
        voxels = block[: nz * nx].reshape((nz, nx))
        backproject(lines, even, odd, shift[c], slope[c], base, voxels)
        z0, x0 = corner[c, 0], corner[c, 1]
        for z in range(nz):
            out[z0 + z, x0 : x0 + nx] = voxels[z]


@kernel(fastmath=True)
def cut_line(
    image: NDArray[np.float32],
    column: float,
    row: float,
    column_step: float,
    row_step: float,
    fill: np.float32,
    mixed: NDArray[np.float32],
    pixel: NDArray[np.uint32],
    fraction: NDArray[np.float32],
    even: NDArray[np.float32],
    odd: NDArray[np.float32],
) -> None:
    """Write samples along a line that crosses all columns of an image, even and odd ones separately.

    Sample k lies at `column + k column_step`, `row + k row_step`, the first step above 0.  Rows are interpolated where the line
    crosses the columns, columns then; it is `fill` beyond the columns, or more than a row beyond the rows.  `mixed` is scratch of
    as many pixels as the image has columns, `pixel` and `fraction` are of as many as there are even samples.
    """
    ny, nx = image.shape
    n = even.shape[0] + odd.shape[0]
    low, high = _inside(column, column_step, -EDGE, nx - 1 + EDGE, n)
    low_row, high_row = _inside(row, row_step, -1.0, float(ny), n)
    low, high = max(low, low_row), min(high, high_row)
    if low >= high:
        even[:] = fill
        odd[:] = fill
        return
    first = min(max(int(column + low * column_step), 0), nx - 2)
    last = min(max(int(column + (high - 1) * column_step), first), nx - 2) + 2
    slope = row_step / column_step
    _mix_rows(image, row + (first - column) * slope, slope, first, last, mixed)
    next_one = mixed[1:]
    for parity in range(2):
        out = odd if parity else even
        half = out.shape[0]
        begin, end = min((low + 1 - parity) // 2, half), min((high + 1 - parity) // 2, half)
        out[:begin] = fill
        out[end:] = fill
        samples = out[begin:end]
        start, stride = column + (parity + 2 * begin) * column_step, 2 * column_step
        # All positions first, then all values: the compiler vectorises the first loop, and both together badly.
        for k in range(samples.shape[0]):
            p = start + stride * k
            pixel[k] = min(max(np.int32(p), first), last - 2)
            fraction[k] = np.float32(p - pixel[k])
        for k in range(samples.shape[0]):
            i = pixel[k]
            samples[k] = mixed[i] + fraction[k] * (next_one[i] - mixed[i])


@kernel(fastmath=True)
def _mix_rows(image: NDArray[np.float32], row: float, slope: float, first: int, last: int, out: NDArray[np.float32]) -> None:
    """Write into `out[i]`, for the columns `first <= i < last`, the image at row `row + slope (i - first)`, held within its rows.

    Rows are interpolated by cubic convolution (Keys 1981, a = -1/2), which keeps more detail than a line, and linearly at the edges.
    """
    most = image.shape[0] - 1
    i = first
    while i < last:
        y = row + slope * (i - first)
        j = min(max(int(np.floor(y)), 0), max(most - 1, 0))
        # As far as the line stays between these two rows, or beyond the first or the last one.
        end = last
        if slope > 0 and j < most - 1:
            end = first + int(np.ceil((j + 1 - row) / slope))
        elif slope < 0 and j > 0:
            end = first + int(np.floor((j - row) / slope)) + 1
        end = min(max(end, i + 1), last)
        above, below = image[j], image[min(j + 1, most)]
        g0, g1 = np.float32(y - j - slope * i), np.float32(slope)
        if 0 < j < most - 1:
            before, after = image[j - 1], image[j + 2]
            for k in range(i, end):
                g = g0 + g1 * np.float32(k)
                p0, p1, p2, p3 = before[k], above[k], below[k], after[k]
                curve = (p1 - p2) * np.float32(3) + p3 - p0
                bend = p0 + p0 - p1 * np.float32(5) + p2 * np.float32(4) - p3
                out[k] = p1 + np.float32(0.5) * g * (p2 - p0 + g * (bend + g * curve))
        else:
            for k in range(i, end):
                g = min(max(g0 + g1 * np.float32(k), np.float32(0)), np.float32(1))
                out[k] = above[k] + g * (below[k] - above[k])
        i = end


@kernel()
def _inside(start: float, step: float, least: float, most: float, n: int) -> tuple[int, int]:
    """Return the first and one past the last k of `n` for which `start + k step` lies between two bounds."""
    if abs(step) < LEVEL:
        return (0, n) if least <= start <= most else (n, n)
    one, two = (least - start) / step, (most - start) / step
    if one > two:
        one, two = two, one
    first = min(max(np.ceil(one), 0.0), float(n))
    last = min(max(np.floor(two) + 1, 0.0), float(n))
    return int(first), int(last)
