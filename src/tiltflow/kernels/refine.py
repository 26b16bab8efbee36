"""Loops over one view that projection matching repeats: sampling it, and how it would change with each parameter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

Image = NDArray[np.float32]
Floats = NDArray[np.float64]


@kernel(fastmath=True)
def sample_view(
    coefficients: Image, origin: Floats, step_x: Floats, step_y: Floats, taper: float, out: Image, weight: Image
) -> None:
    """Write into `out[j, i]` the image at `origin + i step_x + j step_y`, and into `weight` how far inside the image that is.

    `coefficients` are those of the cubic B-spline through the image; positions count pixels from the corner of the image.  The
    weight rises smoothly from 0 one pixel inside the edge to 1 `taper` pixels farther in; where it is 0 so is `out`.
    """
    height, width = np.float32(coefficients.shape[0]), np.float32(coefficients.shape[1])
    rows, columns = out.shape
    most_x, most_y = coefficients.shape[1] - 3, coefficients.shape[0] - 3
    half, one, two, three = np.float32(0.5), np.float32(1), np.float32(2), np.float32(3)
    sixth, scale = np.float32(1.0 / 6.0), np.float32(1.0 / taper)
    for j in range(rows):
        for i in range(columns):
            x = np.float32(origin[0] + i * step_x[0] + j * step_y[0])
            y = np.float32(origin[1] + i * step_x[1] + j * step_y[1])
            inside = (min(x, width - x, y, height - y) - one) * scale
            if inside <= 0:
                out[j, i], weight[j, i] = 0, 0
                continue
            inside = min(inside, one)
            weight[j, i] = inside * inside * (three - two * inside)
            x -= half
            y -= half
            left, low = min(max(int(x), 1), most_x), min(max(int(y), 1), most_y)
            fx, fy = x - np.float32(left), y - np.float32(low)
            gx, gy = one - fx, one - fy
            u0, u2, u3 = sixth * gx * gx * gx, two * two * sixth - half * gx * gx * (one + fx), sixth * fx * fx * fx
            v0, v2, v3 = sixth * gy * gy * gy, two * two * sixth - half * gy * gy * (one + fy), sixth * fy * fy * fy
            u1, v1 = one - u0 - u2 - u3, one - v0 - v2 - v3
            below, at = coefficients[low - 1], coefficients[low]
            above, top = coefficients[low + 1], coefficients[low + 2]
            total = v0 * (u0 * below[left - 1] + u1 * below[left] + u2 * below[left + 1] + u3 * below[left + 2])
            total += v1 * (u0 * at[left - 1] + u1 * at[left] + u2 * at[left + 1] + u3 * at[left + 2])
            total += v2 * (u0 * above[left - 1] + u1 * above[left] + u2 * above[left + 1] + u3 * above[left + 2])
            total += v3 * (u0 * top[left - 1] + u1 * top[left] + u2 * top[left + 1] + u3 * top[left + 2])
            out[j, i] = total


@kernel(fastmath=True)
def sensitivities(
    by_x: Image,
    by_y: Image,
    by_tilt: Image,
    weight: Image,
    residual: Image,
    tilt: float,
    blocks: NDArray[np.int32],
    out: Image,
    sums: Floats,
) -> None:
    """Write how a stretched view changes with each of its parameters, and add their products with the residual to `sums`.

    A view whose content lies `(dx, dy)` farther shows `-dx by_x - dy by_y` more.  The parameters are the displacement along x and
    y, the rotation, the magnification, the tilt and the slope, angles in radians: `out` is `(6, ny, nx)`, all times `weight`.
    `sums` is `(blocks, 6)`; `blocks`, `(ny, nx)`, says to which block a pixel belongs.
    """
    rows, columns = by_x.shape
    c, tangent = np.float32(np.cos(tilt)), np.float32(np.tan(tilt))
    for j in range(rows):
        y = np.float32(j + 0.5 - rows / 2)
        for i in range(columns):
            x = np.float32(i + 0.5 - columns / 2)
            w, e = weight[j, i], residual[j, i]
            gx, gy = w * by_x[j, i], w * by_y[j, i]
            block = blocks[j, i]
            out[0, j, i] = -gx
            out[1, j, i] = -gy
            out[2, j, i] = y / c * gx - x * c * gy
            out[3, j, i] = -(x * gx + y * gy)
            out[4, j, i] = w * by_tilt[j, i] + tangent * x * gx
            out[5, j, i] = -y * tangent * gx
            for k in range(6):
                sums[block, k] += out[k, j, i] * e
