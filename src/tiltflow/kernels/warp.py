"""Resampling an image through an affine map, and averaging it in blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

LEVEL = 1e-12
"""Step below which a coordinate is the same along a row: less than a rounding error over the widest image."""


@kernel(fastmath=True)
def _cubic_at(image: NDArray[np.float32], x: np.float32, y: np.float32) -> np.float32:
    """Return the cubic convolution (a = -1) at pixel coordinates; the 4 x 4 pixels around must exist."""
    one, two = np.float32(1), np.float32(2)
    i, j = np.int32(x), np.int32(y)
    fx, fy = x - np.float32(i), y - np.float32(j)
    gx, gy = one - fx, one - fy
    px, py = fx * gx, fy * gy
    u0, u1, u2, u3 = -px * gx, one + fx * fx * (fx - two), fx * (one + px), -px * fx
    v0, v1, v2, v3 = -py * gy, one + fy * fy * (fy - two), fy * (one + py), -py * fy
    a = u0 * image[j - 1, i - 1] + u1 * image[j - 1, i] + u2 * image[j - 1, i + 1] + u3 * image[j - 1, i + 2]
    b = u0 * image[j, i - 1] + u1 * image[j, i] + u2 * image[j, i + 1] + u3 * image[j, i + 2]
    c = u0 * image[j + 1, i - 1] + u1 * image[j + 1, i] + u2 * image[j + 1, i + 1] + u3 * image[j + 1, i + 2]
    d = u0 * image[j + 2, i - 1] + u1 * image[j + 2, i] + u2 * image[j + 2, i + 1] + u3 * image[j + 2, i + 2]
    return np.float32(v0 * a + v1 * b + v2 * c + v3 * d)


@kernel(fastmath=True)
def _linear_at(image: NDArray[np.float32], x: np.float32, y: np.float32) -> np.float32:
    i, j = np.int32(x), np.int32(y)
    fx, fy = x - np.float32(i), y - np.float32(j)
    a = image[j, i] + fx * (image[j, i + 1] - image[j, i])
    b = image[j + 1, i] + fx * (image[j + 1, i + 1] - image[j + 1, i])
    return np.float32(a + fy * (b - a))


@kernel()
def steps_inside(start: float, step: float, low: float, high: float, n: int) -> tuple[int, int]:
    """Return the range of k in 0..n where `low <= start + k step <= high`."""
    if abs(step) < LEVEL:
        return (0, n) if low <= start <= high else (0, 0)
    a, b = (low - start) / step, (high - start) / step
    if a > b:
        a, b = b, a
    first, last = max(int(np.ceil(max(a, -1.0))), 0), min(int(np.floor(min(b, n + 1.0))) + 1, n)
    return (first, last) if first < last else (0, 0)


@kernel(fastmath=True)
def warp(
    image: NDArray[np.float32],
    pad: int,
    origin: NDArray[np.float64],
    matrix: NDArray[np.float64],
    linear: bool,
    fill: np.float32,
    lowest: np.float32,
    taper: np.float32,
    inside: bool,
    out: NDArray[np.float32],
) -> None:
    """Write into `out[j, i]` the image at `origin + matrix @ (i, j)`, in pixel coordinates of the padded image.

    `image` is bordered by `pad` (at least 2) pixels that repeat its edge.  Pixels reach half a pixel beyond their centres; farther
    out the value goes linearly from that of the nearest point of the edge to `fill`, over `taper` pixels (0: at once), or, with
    `inside`, reaches `fill` at the edge already.  No value falls below `lowest`.
    """
    ny, nx = out.shape
    half = 0.5
    x_low, x_high = pad - half, image.shape[1] - pad - half
    y_low, y_high = pad - half, image.shape[0] - pad - half
    for j in range(ny):
        x0, y0 = origin[0] + matrix[0, 1] * j, origin[1] + matrix[1, 1] * j
        a, b = steps_inside(x0, matrix[0, 0], x_low, x_high, nx)
        c, d = steps_inside(y0, matrix[1, 0], y_low, y_high, nx)
        first, last = max(a, c), min(b, d)
        if first >= last:
            first, last = nx, nx
        if linear:
            for i in range(first, last):
                out[j, i] = max(_linear_at(image, np.float32(x0 + matrix[0, 0] * i), np.float32(y0 + matrix[1, 0] * i)), lowest)
        else:
            for i in range(first, last):
                out[j, i] = max(_cubic_at(image, np.float32(x0 + matrix[0, 0] * i), np.float32(y0 + matrix[1, 0] * i)), lowest)
        for i in range(nx):
            in_frame = first <= i < last
            if in_frame and not inside:
                continue
            x, y = x0 + matrix[0, 0] * i, y0 + matrix[1, 0] * i
            if in_frame:
                weight = min(min(x - x_low, x_high - x, y - y_low, y_high - y) / max(taper, np.float32(1e-6)), 1.0)
                out[j, i] = fill + np.float32(weight) * (out[j, i] - fill)
                continue
            out[j, i] = fill
            if inside or taper <= 0:
                continue
            xe, ye = min(max(x, x_low), x_high), min(max(y, y_low), y_high)
            # The first pixel outside keeps the value of the edge, as newstack's taper does.
            weight = min((taper + 1.0 - np.hypot(x - xe, y - ye)) / taper, 1.0)
            if weight > 0:
                edge = max(image[int(ye + half), int(xe + half)], lowest)
                out[j, i] = fill + np.float32(weight) * (edge - fill)


@kernel(fastmath=True)
def bin_mean(image: NDArray[np.float32], factor: int, out: NDArray[np.float32]) -> None:
    """Write the means of blocks of `factor` x `factor` pixels into `out`; what is left over at the far edges is not read."""
    scale = np.float32(1.0 / (factor * factor))
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            total = np.float32(0)
            for q in range(factor):
                for p in range(factor):
                    total += image[j * factor + q, i * factor + p]
            out[j, i] = total * scale
