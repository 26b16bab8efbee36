"""Exact projections of ellipsoids, of which all phantoms are made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel


@kernel(fastmath=True)
def add_ellipsoid(
    image: NDArray[np.float64], cx: float, cy: float, shape: NDArray[np.float64], reach: float, density: float
) -> None:
    """Add `density` times the chord length through an ellipsoid along z, averaged over 3 x 3 points a pixel.

    `shape` is the symmetric `(3, 3)` matrix M of the ellipsoid `p' M p = 1` about `(cx, cy)`; pixel centres lie at +0.5.
    """
    ny, nx = image.shape
    x0, x1 = max(int(cx - reach) - 1, 0), min(int(cx + reach) + 2, nx)
    y0, y1 = max(int(cy - reach) - 1, 0), min(int(cy + reach) + 2, ny)
    axx, axy, ayy = shape[0, 0], shape[0, 1], shape[1, 1]
    axz, ayz, azz = shape[0, 2], shape[1, 2], shape[2, 2]
    for j in range(y0, y1):
        for i in range(x0, x1):
            total = 0.0
            for sj in range(3):
                for si in range(3):
                    du = i + (si + 0.5) / 3 - cx
                    dv = j + (sj + 0.5) / 3 - cy
                    b = axz * du + ayz * dv
                    c = axx * du * du + 2 * axy * du * dv + ayy * dv * dv - 1.0
                    inside = b * b - azz * c
                    if inside > 0:
                        total += 2.0 * np.sqrt(inside) / azz
            image[j, i] += density * total / 9.0


@kernel(fastmath=True)
def fill_ellipsoid(
    volume: NDArray[np.float32], cx: float, cy: float, cz: float, shape: NDArray[np.float64], reach: float, density: float
) -> None:
    """Add `density` times the fraction of each voxel `[z, y, x]` within an ellipsoid, by 2 x 2 x 2 points a voxel.

    `shape` is the symmetric `(3, 3)` matrix M of the ellipsoid `p' M p = 1` about `(cx, cy, cz)`; voxel centres lie at +0.5.
    """
    nz, ny, nx = volume.shape
    x0, x1 = max(int(cx - reach) - 1, 0), min(int(cx + reach) + 2, nx)
    y0, y1 = max(int(cy - reach) - 1, 0), min(int(cy + reach) + 2, ny)
    z0, z1 = max(int(cz - reach) - 1, 0), min(int(cz + reach) + 2, nz)
    for k in range(z0, z1):
        for j in range(y0, y1):
            for i in range(x0, x1):
                inside = 0
                for corner in range(8):
                    x = i + 0.25 + 0.5 * (corner & 1) - cx
                    y = j + 0.25 + 0.25 * (corner & 2) - cy
                    z = k + 0.25 + 0.125 * (corner & 4) - cz
                    across = shape[0, 0] * x * x + shape[1, 1] * y * y + shape[2, 2] * z * z
                    between = shape[0, 1] * x * y + shape[0, 2] * x * z + shape[1, 2] * y * z
                    inside += across + 2 * between < 1.0
                volume[k, j, i] += density * inside / 8.0
