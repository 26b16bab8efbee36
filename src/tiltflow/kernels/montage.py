"""Overlaps of the pieces of a montage compared, and pieces laid into a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

FAINT = np.float32(1e-4)
"""Weight of a pixel that lies in a piece but at its very edge: where another piece has it, that one decides."""
OUTSIDE = np.float32(1e-8)
"""Weight of what continues a piece beyond its edge: it counts only where there is no piece."""


@kernel(fastmath=True)
def _sort(values: NDArray[np.float32], i: int, k: int) -> None:
    a, b = values[i], values[k]
    values[i], values[k] = min(a, b), max(a, b)


@kernel(fastmath=True)
def median_3x3(image: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the median of each pixel and its eight neighbours to `out`; the edge is repeated."""
    ny, nx = image.shape
    v = np.empty(9, np.float32)
    for j in range(ny):
        low, high = max(j - 1, 0), min(j + 1, ny - 1)
        for i in range(nx):
            left, right = max(i - 1, 0), min(i + 1, nx - 1)
            v[0], v[1], v[2] = image[low, left], image[low, i], image[low, right]
            v[3], v[4], v[5] = image[j, left], image[j, i], image[j, right]
            v[6], v[7], v[8] = image[high, left], image[high, i], image[high, right]
            # Each row sorted; then the largest of the least, the middle of the middle ones and the least of the largest.
            for r in (0, 3, 6):
                _sort(v, r, r + 1)
                _sort(v, r + 1, r + 2)
                _sort(v, r, r + 1)
            least = max(v[0], v[3], v[6])
            largest = min(v[2], v[5], v[8])
            middle = max(min(v[1], v[4]), min(max(v[1], v[4]), v[7]))
            out[j, i] = max(min(least, middle), min(max(least, middle), largest))


@kernel(fastmath=True)
def _spline_weights(f: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return the weights of the four coefficients of a cubic B-spline around a point, from the second one on by `f`."""
    one, sixth = np.float32(1), np.float32(1 / 6)
    g = one - f
    return (
        g * g * g * sixth,
        np.float32(2 / 3) - f * f * (one - np.float32(0.5) * f),
        np.float32(2 / 3) - g * g * (one - np.float32(0.5) * g),
        f * f * f * sixth,
    )


@kernel(fastmath=True)
def shift_spline(
    coefficients: NDArray[np.float32], dx: float, dy: float, scratch: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write the cubic spline of `coefficients` at `(i + dx, j + dy)` to `out[j, i]`; beyond the edge they are repeated."""
    ny, nx = out.shape
    p, q = int(np.floor(dx)), int(np.floor(dy))
    u0, u1, u2, u3 = _spline_weights(np.float32(dx - p))
    v0, v1, v2, v3 = _spline_weights(np.float32(dy - q))
    for j in range(ny):
        a, b = min(max(j + q - 1, 0), ny - 1), min(max(j + q, 0), ny - 1)
        c, d = min(max(j + q + 1, 0), ny - 1), min(max(j + q + 2, 0), ny - 1)
        for i in range(nx):
            scratch[j, i] = v0 * coefficients[a, i] + v1 * coefficients[b, i] + v2 * coefficients[c, i] + v3 * coefficients[d, i]
    for j in range(ny):
        for i in range(nx):
            a, b = min(max(i + p - 1, 0), nx - 1), min(max(i + p, 0), nx - 1)
            c, d = min(max(i + p + 1, 0), nx - 1), min(max(i + p + 2, 0), nx - 1)
            out[j, i] = u0 * scratch[j, a] + u1 * scratch[j, b] + u2 * scratch[j, c] + u3 * scratch[j, d]


@kernel(fastmath=True)
def match_moments(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    taper_y: NDArray[np.float32],
    taper_x: NDArray[np.float32],
    gain: float,
    offset: float,
    limit: float,
    out: NDArray[np.float64],
) -> None:
    """Write the weighted moments of seven quantities over the pixels of two images, a least squares problem of gray levels, to `out`.

    They are, in this order: the mean gradient of `a` and `b` along x and along y; what magnifying and turning by one radian about the
    centre would change; `b`; 1; and `a`.  The weight is that of the tapers (0 at the rim), less where `|a - gain b - offset|` is above
    `limit`, as Huber has it.  `out` is `(9, 9)`; its last two rows and columns get the moments of the gradients of `a` with those of `b`.
    """
    ny, nx = a.shape
    out[:] = 0.0
    cy, cx = (ny - 1) / 2, (nx - 1) / 2
    half = np.float32(0.5)
    for j in range(1, ny - 1):
        if taper_y[j] == 0:
            continue
        for i in range(1, nx - 1):
            w = taper_y[j] * taper_x[i]
            if w == 0:
                continue
            ax, ay = half * (a[j, i + 1] - a[j, i - 1]), half * (a[j + 1, i] - a[j - 1, i])
            bx, by = half * (b[j, i + 1] - b[j, i - 1]), half * (b[j + 1, i] - b[j - 1, i])
            gx, gy = half * (ax + bx), half * (ay + by)
            va, vb = a[j, i], b[j, i]
            r = abs(va - gain * vb - offset)
            if r > limit:
                w *= limit / r
            x, y = i - cx, j - cy
            m, t = gx * x + gy * y, gy * x - gx * y
            out[0, 0] += w * gx * gx
            out[0, 1] += w * gx * gy
            out[0, 2] += w * gx * m
            out[0, 3] += w * gx * t
            out[0, 4] += w * gx * vb
            out[0, 5] += w * gx
            out[0, 6] += w * gx * va
            out[1, 1] += w * gy * gy
            out[1, 2] += w * gy * m
            out[1, 3] += w * gy * t
            out[1, 4] += w * gy * vb
            out[1, 5] += w * gy
            out[1, 6] += w * gy * va
            out[2, 2] += w * m * m
            out[2, 3] += w * m * t
            out[2, 4] += w * m * vb
            out[2, 5] += w * m
            out[2, 6] += w * m * va
            out[3, 3] += w * t * t
            out[3, 4] += w * t * vb
            out[3, 5] += w * t
            out[3, 6] += w * t * va
            out[4, 4] += w * vb * vb
            out[4, 5] += w * vb
            out[4, 6] += w * vb * va
            out[5, 5] += w
            out[5, 6] += w * va
            out[6, 6] += w * va * va
            out[7, 7] += w * ax * bx
            out[7, 8] += w * half * (ax * by + ay * bx)
            out[8, 8] += w * ay * by
    for p in range(9):
        for q in range(p):
            out[p, q] = out[q, p]


@kernel(fastmath=True)
def _spline_at(coefficients: NDArray[np.float32], x: float, y: float) -> np.float32:
    """Return the cubic spline at pixel coordinates; the 4 x 4 coefficients around must exist."""
    p, q = int(x), int(y)
    u0, u1, u2, u3 = _spline_weights(np.float32(x - p))
    v0, v1, v2, v3 = _spline_weights(np.float32(y - q))
    b = coefficients
    low = u0 * b[q - 1, p - 1] + u1 * b[q - 1, p] + u2 * b[q - 1, p + 1] + u3 * b[q - 1, p + 2]
    here = u0 * b[q, p - 1] + u1 * b[q, p] + u2 * b[q, p + 1] + u3 * b[q, p + 2]
    next_ = u0 * b[q + 1, p - 1] + u1 * b[q + 1, p] + u2 * b[q + 1, p + 1] + u3 * b[q + 1, p + 2]
    high = u0 * b[q + 2, p - 1] + u1 * b[q + 2, p] + u2 * b[q + 2, p + 1] + u3 * b[q + 2, p + 2]
    return np.float32(v0 * low + v1 * here + v2 * next_ + v3 * high)


@kernel(fastmath=True)
def lay_piece(
    coefficients: NDArray[np.float32],
    pad: int,
    origin: NDArray[np.float64],
    matrix: NDArray[np.float64],
    unused: float,
    ramp_x: float,
    ramp_y: float,
    reach: float,
    total: NDArray[np.float32],
    weight: NDArray[np.float32],
    covered: NDArray[np.bool_],
) -> None:
    """Add a piece at `origin + matrix @ (i, j)`, in pixel coordinates of the padded piece, to `total[j, i]`, and its weight to `weight`.

    The weight grows with the distance to the edge of the piece, from `unused` pixels on, along x over `ramp_x` and along y over `ramp_y`,
    to 1.  Within `unused` pixels of the edge it is :data:`FAINT`.  Outside, the nearest pixel counts: with :data:`OUTSIDE` at the edge,
    and less up to `reach` pixels from it.  `covered` is set where the piece is.  `coefficients` are those of the cubic spline through
    the piece, bordered by `pad` (at least 3) pixels that repeat its edge.
    """
    ny, nx = total.shape
    height, width = coefficients.shape[0] - 2 * pad, coefficients.shape[1] - 2 * pad
    x_low, y_low = pad - 0.5, pad - 0.5
    x_high, y_high = x_low + width, y_low + height
    for j in range(ny):
        x0, y0 = origin[0] + matrix[0, 1] * j, origin[1] + matrix[1, 1] * j
        first, last = _span(x0, matrix[0, 0], x_low - reach, x_high + reach, nx)
        start, end = _span(y0, matrix[1, 0], y_low - reach, y_high + reach, nx)
        for i in range(max(first, start), min(last, end)):
            x, y = x0 + matrix[0, 0] * i, y0 + matrix[1, 0] * i
            dx, dy = min(x - x_low, x_high - x), min(y - y_low, y_high - y)
            if dx >= 0 and dy >= 0:
                w = np.float32(min(max((dx - unused) / ramp_x, 0.0), 1.0) * min(max((dy - unused) / ramp_y, 0.0), 1.0)) + FAINT
                value = _spline_at(coefficients, x, y)
                covered[j, i] = True
            else:
                w = OUTSIDE * np.float32(1 - np.hypot(min(dx, 0.0), min(dy, 0.0)) / reach)
                if w <= 0:
                    continue
                value = _spline_at(
                    coefficients, int(min(max(x, x_low), x_high - 0.5) + 0.5), int(min(max(y, y_low), y_high - 0.5) + 0.5)
                )
            total[j, i] += w * value
            weight[j, i] += w


@kernel()
def _span(start: float, step: float, low: float, high: float, n: int) -> tuple[int, int]:
    """Return a range of k in 0..n that holds all with `low <= start + k step <= high`."""
    if abs(step) < 1e-12:
        return (0, n) if low <= start <= high else (0, 0)
    a, b = (low - start) / step, (high - start) / step
    if a > b:
        a, b = b, a
    return max(int(max(a, -1.0)), 0), min(int(min(max(b, -1.0), n + 1.0)) + 1, n)
