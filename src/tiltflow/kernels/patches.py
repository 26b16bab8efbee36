"""Windows cut out of views through an affine map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel


@kernel(fastmath=True)
def cut_window(
    image: NDArray[np.float32],
    origin: NDArray[np.float64],
    matrix: NDArray[np.float64],
    taper_y: NDArray[np.float32],
    taper_x: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Write `taper_y[j] * taper_x[i]` times the image at `origin + matrix @ (i, j)`, in pixel coordinates, to `out[j, i]`.

    Cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = -1/2) of the 4 x 4 pixels around; 0 where one lies outside.
    """
    ny, nx = image.shape
    half, one = np.float32(0.5), np.float32(1)
    for j in range(out.shape[0]):
        x0, y0 = origin[0] + matrix[0, 1] * j, origin[1] + matrix[1, 1] * j
        for i in range(out.shape[1]):
            x, y = x0 + matrix[0, 0] * i, y0 + matrix[1, 0] * i
            if not (1.0 <= x < nx - 2 and 1.0 <= y < ny - 2):
                out[j, i] = 0
                continue
            p, q = int(x), int(y)
            fx, fy = np.float32(x - p), np.float32(y - q)
            gx, gy = one - fx, one - fy
            # The four weights are -f g^2 / 2, 1 - f^2 (5 - 3 f) / 2, and both again with f and g exchanged.
            u0, u3 = -half * fx * gx * gx, -half * gx * fx * fx
            u1, u2 = one - half * fx * fx * (5 - 3 * fx), one - half * gx * gx * (5 - 3 * gx)
            v0, v3 = -half * fy * gy * gy, -half * gy * fy * fy
            v1, v2 = one - half * fy * fy * (5 - 3 * fy), one - half * gy * gy * (5 - 3 * gy)
            a = u0 * image[q - 1, p - 1] + u1 * image[q - 1, p] + u2 * image[q - 1, p + 1] + u3 * image[q - 1, p + 2]
            b = u0 * image[q, p - 1] + u1 * image[q, p] + u2 * image[q, p + 1] + u3 * image[q, p + 2]
            c = u0 * image[q + 1, p - 1] + u1 * image[q + 1, p] + u2 * image[q + 1, p + 1] + u3 * image[q + 1, p + 2]
            d = u0 * image[q + 2, p - 1] + u1 * image[q + 2, p] + u2 * image[q + 2, p + 1] + u3 * image[q + 2, p + 2]
            out[j, i] = taper_y[j] * taper_x[i] * (v0 * a + v1 * b + v2 * c + v3 * d)


@kernel(fastmath=True)
def fill_covariance(
    table: NDArray[np.complex64],
    step: float,
    band: NDArray[np.int64],
    frequency: NDArray[np.float64],
    tangent: NDArray[np.float64],
    strength: NDArray[np.float64],
    out: NDArray[np.complex64],
) -> None:
    """Write `strength_i strength_k table[band](frequency (tangent_i - tangent_k))` to `out` `(bins, views, views)`, 1 on the diagonal.

    `table` `(bands, places)` is sampled every `step` from 0 on; for negative places it is the complex conjugate.
    """
    views = len(tangent)
    last = table.shape[1] - 2
    for b in range(len(band)):
        row = table[band[b]]
        for i in range(views):
            out[b, i, i] = 1.0
            for k in range(i):
                place = frequency[b] * (tangent[i] - tangent[k]) / step
                distance = abs(place)
                n = min(int(distance), last)
                f = np.float32(min(distance - n, 1.0))
                value = (row[n] + f * (row[n + 1] - row[n])) * np.float32(strength[b, i] * strength[b, k])
                if place < 0:
                    value = value.conjugate()
                out[b, i, k] = value
                out[b, k, i] = value.conjugate()
