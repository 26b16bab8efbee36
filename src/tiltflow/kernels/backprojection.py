"""Back-projection of stretched lines, one slice at a time.

A line of a view at tilt t, stretched by 1 / cos t, lies in register with the rows of its slice: a row at height z sees it at
x + z tan t, so that all voxels of a row share one fraction, and the innermost loop is a weighted sum of contiguous arrays.
Lines hold two samples a voxel, stored as all even ones, then all odd ones, which keeps both neighbours contiguous along x.

The loop has two loads and two multiply-adds for each voxel and view, and takes four views to a pass over the row being made, which
stays in the first-level cache; it is bound by the loads (`benchmarks/reconstruction.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

TILE_X = 512
"""Voxels of a row that are made at once: with the eight lines of four views they take 18 kB of a first-level cache of 32 kB."""
TILE_Z = 16
"""Rows that are made before the next views: they and the lines that they share stay in the second-level cache."""


@kernel(fastmath=True)
def stretch_lines(
    filtered: NDArray[np.float32],
    even: NDArray[np.int64],
    odd: NDArray[np.int64],
    count: NDArray[np.int64],
    inside: NDArray[np.int64],
    pixel: NDArray[np.uint32],
    fraction: NDArray[np.float32],
    fill: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write the stretched lines of one slice into `out`, all views one after the other.

    The sample at place k lies `fraction[k]` of the way from pixel `pixel[k]` of the line `filtered[v]` to the next, and is
    interpolated linearly.  Even samples of view v begin at place `even[v]`, odd ones at `odd[v]`; those before sample `inside[v, 0]`
    and from `inside[v, 1]` on are `fill[v]`.
    """
    for v in range(filtered.shape[0]):
        here, next_one = filtered[v, :-1], filtered[v, 1:]
        for parity in range(2):
            begin = even[v] if parity == 0 else odd[v]
            end = begin + (count[v] + 1 - parity) // 2
            low, high = begin + (inside[v, 0] + 1 - parity) // 2, begin + (inside[v, 1] + 1 - parity) // 2
            for k in range(begin, low):
                out[k] = fill[v]
            for k in range(high, end):
                out[k] = fill[v]
            i, f, segment = pixel[low:high], fraction[low:high], out[low:high]
            for k in range(segment.shape[0]):
                segment[k] = here[i[k]] + f[k] * (next_one[i[k]] - here[i[k]])


@kernel(fastmath=True)
def backproject(
    lines: NDArray[np.float32],
    even: NDArray[np.int64],
    odd: NDArray[np.int64],
    shift: NDArray[np.float64],
    slope: NDArray[np.float64],
    base: np.float32,
    out: NDArray[np.float32],
) -> None:
    """Write into `out[z, x]` the value `base` plus, for every view, its line at sample `shift + slope z + 2 x`."""
    nz, nx = out.shape
    views = shift.shape[0]
    fours = views - views % 4
    one = np.float32(1)
    for x0 in range(0, nx, TILE_X):
        n = min(TILE_X, nx - x0)
        for z0 in range(0, nz, TILE_Z):
            z1 = min(z0 + TILE_Z, nz)
            for z in range(z0, z1):
                out[z, x0 : x0 + n] = base
            for v in range(0, fours, 4):
                for z in range(z0, z1):
                    row = out[z, x0 : x0 + n]
                    p0, q0, f0 = _neighbours(even[v], odd[v], shift[v] + slope[v] * z, x0)
                    p1, q1, f1 = _neighbours(even[v + 1], odd[v + 1], shift[v + 1] + slope[v + 1] * z, x0)
                    p2, q2, f2 = _neighbours(even[v + 2], odd[v + 2], shift[v + 2] + slope[v + 2] * z, x0)
                    p3, q3, f3 = _neighbours(even[v + 3], odd[v + 3], shift[v + 3] + slope[v + 3] * z, x0)
                    a0, b0 = lines[p0 : p0 + n], lines[q0 : q0 + n]
                    a1, b1 = lines[p1 : p1 + n], lines[q1 : q1 + n]
                    a2, b2 = lines[p2 : p2 + n], lines[q2 : q2 + n]
                    a3, b3 = lines[p3 : p3 + n], lines[q3 : q3 + n]
                    g0, g1, g2, g3 = one - f0, one - f1, one - f2, one - f3
                    for x in range(n):
                        first = (g0 * a0[x] + f0 * b0[x]) + (g1 * a1[x] + f1 * b1[x])
                        row[x] += first + ((g2 * a2[x] + f2 * b2[x]) + (g3 * a3[x] + f3 * b3[x]))
            for v in range(fours, views):
                for z in range(z0, z1):
                    row = out[z, x0 : x0 + n]
                    p0, q0, f0 = _neighbours(even[v], odd[v], shift[v] + slope[v] * z, x0)
                    a0, b0 = lines[p0 : p0 + n], lines[q0 : q0 + n]
                    g0 = one - f0
                    for x in range(n):
                        row[x] += g0 * a0[x] + f0 * b0[x]


@kernel(fastmath=True)
def _neighbours(even: int, odd: int, sample: float, x: int) -> tuple[int, int, np.float32]:
    """Return where the sample before and the one after lie for voxel x, and the fraction between them."""
    k = int(sample)
    half = (k >> 1) + x
    f = np.float32(sample - k)
    if k & 1:
        return odd + half, even + half + 1, f
    return even + half, odd + half, f


@kernel(fastmath=True)
def turn_about_x(
    here: NDArray[np.float32],
    there: NDArray[np.float32],
    row_here: NDArray[np.float64],
    row_there: NDArray[np.float64],
    share: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write into `out[z, x]` what lies at `share[z]` of the way from one slice to the next.

    Each slice is interpolated linearly at row `row_here[z]` or `row_there[z]`; rows beyond it are those of its edge.
    """
    last = here.shape[0] - 2
    one = np.float32(1)
    for z in range(out.shape[0]):
        j, k = min(max(int(row_here[z]), 0), last), min(max(int(row_there[z]), 0), last)
        fj, fk = np.float32(min(max(row_here[z] - j, 0.0), 1.0)), np.float32(min(max(row_there[z] - k, 0.0), 1.0))
        a, b, c, d = here[j], here[j + 1], there[k], there[k + 1]
        wa, wb = (one - share[z]) * (one - fj), (one - share[z]) * fj
        wc, wd = share[z] * (one - fk), share[z] * fk
        row = out[z]
        for x in range(row.shape[0]):
            row[x] = (wa * a[x] + wb * b[x]) + (wc * c[x] + wd * d[x])
