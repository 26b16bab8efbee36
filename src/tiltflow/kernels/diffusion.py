"""One step of edge-enhancing diffusion of a block of a volume."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

Block = NDArray[np.float32]

EDGE_CONSTANT = 3.31488
"""Makes the flux across an edge grow with the gradient up to K and fall beyond it (Weickert 1998, with the power of 8)."""

NEGLIGIBLE = 0.15
"""Eighth power of g / k below which the exponential is less than 3e-10: it is not computed."""


@kernel()
def diffusion_tensor(smooth: Block, k: float, out: NDArray[np.float32]) -> None:
    """Write the diffusion tensor of each voxel, `(6, nz, ny, nx)`: xx, yy, zz, xy, xz, yz.

    It is 1 along the edge, and `1 - exp(-EDGE_CONSTANT / (g / k)^8)` across it, along the gradient g of `smooth`, `(nz, ny, nx)`.
    """
    nz, ny, nx = smooth.shape
    inverse = 1.0 / (k * k)
    for z in range(nz):
        above, below = min(z + 1, nz - 1), max(z - 1, 0)
        for y in range(ny):
            front, back = min(y + 1, ny - 1), max(y - 1, 0)
            for x in range(nx):
                gx = 0.5 * (smooth[z, y, min(x + 1, nx - 1)] - smooth[z, y, max(x - 1, 0)])
                gy = 0.5 * (smooth[z, front, x] - smooth[z, back, x])
                gz = 0.5 * (smooth[above, y, x] - smooth[below, y, x])
                square = gx * gx + gy * gy + gz * gz
                ratio = square * inverse
                fourth = ratio * ratio * ratio * ratio
                # The part by which diffusion is less across the edge, for each unit of the squared gradient.
                less = math.exp(-EDGE_CONSTANT / fourth) / square if fourth > NEGLIGIBLE else 0.0
                out[0, z, y, x] = 1.0 - less * gx * gx
                out[1, z, y, x] = 1.0 - less * gy * gy
                out[2, z, y, x] = 1.0 - less * gz * gz
                out[3, z, y, x] = -less * gx * gy
                out[4, z, y, x] = -less * gx * gz
                out[5, z, y, x] = -less * gy * gz


@kernel()
def flux_x(u: Block, d: NDArray[np.float32], z: int, y: int, x: int) -> float:
    """Flux of grey values between a voxel and the next along x; 0 at the end of the block."""
    nz, ny, nx = u.shape
    if x < 0 or x >= nx - 1:
        return 0.0
    front, back, above, below = min(y + 1, ny - 1), max(y - 1, 0), min(z + 1, nz - 1), max(z - 1, 0)
    along = u[z, y, x + 1] - u[z, y, x]
    in_y = u[z, front, x] - u[z, back, x] + u[z, front, x + 1] - u[z, back, x + 1]
    in_z = u[above, y, x] - u[below, y, x] + u[above, y, x + 1] - u[below, y, x + 1]
    dxx, dxy, dxz = d[0, z, y, x] + d[0, z, y, x + 1], d[3, z, y, x] + d[3, z, y, x + 1], d[4, z, y, x] + d[4, z, y, x + 1]
    return float(0.5 * (dxx * along + 0.25 * (dxy * in_y + dxz * in_z)))


@kernel()
def flux_y(u: Block, d: NDArray[np.float32], z: int, y: int, x: int) -> float:
    """Flux between a voxel and the next along y."""
    nz, ny, nx = u.shape
    if y < 0 or y >= ny - 1:
        return 0.0
    right, left, above, below = min(x + 1, nx - 1), max(x - 1, 0), min(z + 1, nz - 1), max(z - 1, 0)
    along = u[z, y + 1, x] - u[z, y, x]
    in_x = u[z, y, right] - u[z, y, left] + u[z, y + 1, right] - u[z, y + 1, left]
    in_z = u[above, y, x] - u[below, y, x] + u[above, y + 1, x] - u[below, y + 1, x]
    dyy, dxy, dyz = d[1, z, y, x] + d[1, z, y + 1, x], d[3, z, y, x] + d[3, z, y + 1, x], d[5, z, y, x] + d[5, z, y + 1, x]
    return float(0.5 * (dyy * along + 0.25 * (dxy * in_x + dyz * in_z)))


@kernel()
def flux_z(u: Block, d: NDArray[np.float32], z: int, y: int, x: int) -> float:
    """Flux between a voxel and the next along z."""
    nz, ny, nx = u.shape
    if z < 0 or z >= nz - 1:
        return 0.0
    right, left, front, back = min(x + 1, nx - 1), max(x - 1, 0), min(y + 1, ny - 1), max(y - 1, 0)
    along = u[z + 1, y, x] - u[z, y, x]
    in_x = u[z, y, right] - u[z, y, left] + u[z + 1, y, right] - u[z + 1, y, left]
    in_y = u[z, front, x] - u[z, back, x] + u[z + 1, front, x] - u[z + 1, back, x]
    dzz, dxz, dyz = d[2, z, y, x] + d[2, z + 1, y, x], d[4, z, y, x] + d[4, z + 1, y, x], d[5, z, y, x] + d[5, z + 1, y, x]
    return float(0.5 * (dzz * along + 0.25 * (dxz * in_x + dyz * in_y)))


@kernel()
def diffuse_step(u: Block, d: NDArray[np.float32], step: float, z0: int, y0: int, out: Block) -> None:
    """Write `u + step * div(D grad u)` of the rows and sections of the block that begin at `z0` and `y0` to `out`.

    What flows out of a voxel flows into its neighbour, so that the sum of all stays; nothing flows over the ends of the block.
    """
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            from_left = 0.0
            for x in range(out.shape[2]):
                to_right = flux_x(u, d, z0 + z, y0 + y, x)
                change = to_right - from_left
                change += flux_y(u, d, z0 + z, y0 + y, x) - flux_y(u, d, z0 + z, y0 + y - 1, x)
                change += flux_z(u, d, z0 + z, y0 + y, x) - flux_z(u, d, z0 + z - 1, y0 + y, x)
                out[z, y, x] = u[z0 + z, y0 + y, x] + step * change
                from_left = to_right
