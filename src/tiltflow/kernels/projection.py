"""Projection of slices onto stretched lines, and of these onto the lines of the views: the adjoints of back-projection.

`project` is the transpose of `backproject`, and `relax_lines` that of `stretch_lines`, element by element: what one gathers with
a weight the other scatters with the same weight.  Iterative methods converge to the right place only then.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel
from tiltflow.kernels.backprojection import TILE_X


@kernel(fastmath=True)
def project(
    xz: NDArray[np.float32],
    even: NDArray[np.int64],
    odd: NDArray[np.int64],
    shift: NDArray[np.float64],
    slope: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Write into the lines `out` the sum over the voxels of `xz[z, x]`, each at sample `shift + slope z + 2 x` of each view."""
    nz, nx = xz.shape
    one = np.float32(1)
    out[:] = 0
    for v in range(shift.shape[0]):
        for x0 in range(0, nx, TILE_X):
            n = min(TILE_X, nx - x0)
            for z in range(nz):
                sample = shift[v] + slope[v] * z
                k = int(sample)
                half = (k >> 1) + x0
                f = np.float32(sample - k)
                if k & 1:
                    p, q = odd[v] + half, even[v] + half + 1
                else:
                    p, q = even[v] + half, odd[v] + half
                row, near, far, g = xz[z, x0 : x0 + n], out[p : p + n], out[q : q + n], one - f
                for x in range(n):
                    near[x] += g * row[x]
                for x in range(n):
                    far[x] += f * row[x]


@kernel(fastmath=True)
def relax_lines(
    stretched: NDArray[np.float32],
    even: NDArray[np.int64],
    odd: NDArray[np.int64],
    inside: NDArray[np.int64],
    pixel: NDArray[np.uint32],
    fraction: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write into the lines of the views, `out[v, x]`, the sums of their stretched samples; samples beyond a view are dropped."""
    out[:] = 0
    one = np.float32(1)
    for v in range(out.shape[0]):
        here, next_one = out[v, :-1], out[v, 1:]
        for parity in range(2):
            begin = even[v] if parity == 0 else odd[v]
            low, high = begin + (inside[v, 0] + 1 - parity) // 2, begin + (inside[v, 1] + 1 - parity) // 2
            i, f, samples = pixel[low:high], fraction[low:high], stretched[low:high]
            for k in range(samples.shape[0]):
                here[i[k]] += (one - f[k]) * samples[k]
                next_one[i[k]] += f[k] * samples[k]
