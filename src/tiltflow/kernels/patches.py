"""Patches: windows cut out of views through an affine map, their spectra, and the covariances of these."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import REORDERED, kernel
from tiltflow.kernels.covariance import invert
from tiltflow.kernels.warp import steps_inside


@kernel(fastmath=True)
def cut_window(
    image: NDArray[np.float32], origin: NDArray[np.float64], matrix: NDArray[np.float64], out: NDArray[np.float32]
) -> None:
    """Write the image at `origin + matrix @ (i, j)`, in pixel coordinates, to `out[j, i]`.

    Cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, a = -1/2) of the 4 x 4 pixels around; 0 where one lies outside.
    """
    ny, nx = image.shape
    width, height = out.shape[1], out.shape[0]
    half, one, three, five = np.float32(0.5), np.float32(1), np.float32(3), np.float32(5)
    pixels, stride = image.reshape(-1), np.uint32(nx)
    right, down = np.float32(matrix[0, 0]), np.float32(matrix[1, 0])
    for j in range(height):
        x0, y0 = origin[0] + matrix[0, 1] * j, origin[1] + matrix[1, 1] * j
        a, b = steps_inside(x0, matrix[0, 0], 1.0, nx - 2.0, width)
        c, d = steps_inside(y0, matrix[1, 0], 1.0, ny - 2.0, width)
        first, last = max(a, c), min(b, d)
        if first >= last:
            first, last = width, width
        for i in range(first):
            out[j, i] = 0
        for i in range(last, width):
            out[j, i] = 0
        from_x, from_y = np.float32(x0), np.float32(y0)
        for i in range(first, last):
            x, y = from_x + right * np.float32(i), from_y + down * np.float32(i)
            # A coordinate that was rounded up or down to the next pixel must not lead out of the image.
            p, q = max(min(np.int32(x), np.int32(nx - 3)), np.int32(1)), max(min(np.int32(y), np.int32(ny - 3)), np.int32(1))
            fx, fy = x - np.float32(p), y - np.float32(q)
            gx, gy = one - fx, one - fy
            # The four weights are -f g^2 / 2, 1 - f^2 (5 - 3 f) / 2, and both again with f and g exchanged.
            u0, u3 = -half * fx * gx * gx, -half * gx * fx * fx
            u1, u2 = one - half * fx * fx * (five - three * fx), one - half * gx * gx * (five - three * gx)
            v0, v3 = -half * fy * gy * gy, -half * gy * fy * fy
            v1, v2 = one - half * fy * fy * (five - three * fy), one - half * gy * gy * (five - three * gy)
            k = np.uint32(q - 1) * stride + np.uint32(p - 1)
            above = u0 * pixels[k] + u1 * pixels[k + 1] + u2 * pixels[k + 2] + u3 * pixels[k + 3]
            k += stride
            upper = u0 * pixels[k] + u1 * pixels[k + 1] + u2 * pixels[k + 2] + u3 * pixels[k + 3]
            k += stride
            lower = u0 * pixels[k] + u1 * pixels[k + 1] + u2 * pixels[k + 2] + u3 * pixels[k + 3]
            k += stride
            below = u0 * pixels[k] + u1 * pixels[k + 1] + u2 * pixels[k + 2] + u3 * pixels[k + 3]
            out[j, i] = v0 * above + v1 * upper + v2 * lower + v3 * below


@kernel()
def take_cells(
    spectra: NDArray[np.complex64],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    factor: NDArray[np.float32],
    by_row: NDArray[np.complex64],
    by_column: NDArray[np.complex64],
    view: int,
    out: NDArray[np.complex64],
) -> None:
    """Write the cells of a view's spectra `(patches, ky, kx)` to `out` `(patches, bins, views, cells)`.

    They are multiplied by `factor` `(bins, cells)`, and by each patch's phases `by_row` `(patches, ky)` and `by_column` `(patches, kx)`.
    """
    for patch in range(len(spectra)):
        for b in range(row.shape[0]):
            for c in range(row.shape[1]):
                y, x = row[b, c], column[b, c]
                turned = by_row[patch, y] * by_column[patch, x]
                out[patch, b, view, c] = spectra[patch, y, x] * turned * factor[b, c]


@kernel()
def turn_cells(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    by_row: NDArray[np.complex64],
    by_column: NDArray[np.complex64],
    view: int,
    out: NDArray[np.complex64],
) -> None:
    """Multiply the cells of a view in `out` `(patches, bins, views, cells)` by each patch's phases; arguments as of `take_cells`."""
    for patch in range(out.shape[0]):
        for b in range(row.shape[0]):
            for c in range(row.shape[1]):
                out[patch, b, view, c] *= by_row[patch, row[b, c]] * by_column[patch, column[b, c]]


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


@kernel(fastmath=REORDERED)
def invert_unsettled(
    settled: NDArray[np.complex64],
    decay: NDArray[np.float32],
    between: NDArray[np.int64],
    share: NDArray[np.float32],
    out: NDArray[np.complex64],
    matrices: NDArray[np.float32],
    vectors: NDArray[np.float32],
) -> bool:
    """Write to `out` the inverses of covariances `(bins, views, views)` whose elements but the diagonal are times `decay_i decay_k`.

    The diagonals are 1.  `decay` is `(bins, views)`; `matrices` `(2, views, views)` and `vectors` `(2, views)` are room to work in.
    A bin whose two `between` `(bins, 2)` are others is not inverted, but interpolated: `share` `(bins,)` of the second.  Returns whether
    all covariances that are inverted are positive.
    """
    real, imaginary, one = matrices[0], matrices[1], np.float32(1)
    for b in range(settled.shape[0]):
        if between[b, 0] != b:
            continue
        for i in range(settled.shape[1]):
            for k in range(i):
                weight = decay[b, i] * decay[b, k]
                real[i, k], imaginary[i, k] = settled[b, i, k].real * weight, settled[b, i, k].imag * weight
            real[i, i], imaginary[i, i] = one, np.float32(0)
        if math.isnan(invert(real, imaginary, vectors)):
            return False
        for i in range(settled.shape[1]):
            for k in range(i):
                out[b, i, k] = complex(-real[i, k], -imaginary[i, k])
                out[b, k, i] = complex(-real[i, k], imaginary[i, k])
            out[b, i, i] = complex(-real[i, i], np.float32(0))
    for b in range(settled.shape[0]):
        if between[b, 0] != b:
            first, second, of_second = out[between[b, 0]], out[between[b, 1]], share[b]
            for i in range(settled.shape[1]):
                for k in range(settled.shape[1]):
                    out[b, i, k] = first[i, k] + of_second * (second[i, k] - first[i, k])
    return True


@kernel(fastmath=REORDERED)
def add_products(
    spectra: NDArray[np.complex64],
    whitened: NDArray[np.complex64],
    precision: NDArray[np.complex64],
    cross: NDArray[np.complex64],
    x: NDArray[np.float64],
    y: NDArray[np.float32],
    slope: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add what the spectra of a patch `(bins, views, cells)` and their product with the precision say of each view.

    `x` `(bins,)` and `y` `(bins, cells)` are frequencies.  To `slope` `(views, 2)` the sums of `Im(conj(a) w) x` and `Im(conj(a) w) y`
    are added; to `sums` `(3, views)`, each times `1 - 1 / own`, with `own` the diagonal of the precision, those of `conj(a) p`,
    `|a|^2` and `|p|^2`, with `p = a - w / own` the prediction of a view from the others.
    """
    for b in range(spectra.shape[0]):
        for i in range(spectra.shape[1]):
            given, changed, along_y = spectra[b, i], whitened[b, i], y[b]
            twist, twist_y, together, square = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for c in range(len(given)):
                one, two = given[c], changed[c]
                turn = one.real * two.imag - one.imag * two.real
                twist += turn
                twist_y += turn * along_y[c]
                together += one.real * two.real + one.imag * two.imag
                square += two.real * two.real + two.imag * two.imag
            slope[i, 0] += x[b] * twist
            slope[i, 1] += twist_y
            own, power = float(precision[b, i, i].real), float(cross[b, i, i].real)
            known, lost = 1.0 - 1.0 / own, together / own
            sums[0, i] += known * (power - lost)
            sums[1, i] += known * power
            sums[2, i] += known * (power - 2.0 * lost + square / (own * own))


@kernel(fastmath=REORDERED)
def add_couplings(
    precision: NDArray[np.complex64],
    other: NDArray[np.complex64],
    conjugate: bool,
    moments: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Add `moments[m, b] Re(precision[b, i, k] other[b, i, k])`, of Hermitian matrices, to the lower triangles of `out[m, i, k]`.

    `moments` is `(3, bins)`, `out` `(3, views, views)`; with `conjugate` the conjugate of the other counts.
    """
    sign = np.float32(1.0 if conjugate else -1.0)
    for b in range(precision.shape[0]):
        first, second, third = moments[0, b], moments[1, b], moments[2, b]
        for i in range(precision.shape[1]):
            for k in range(i + 1):
                one, two = precision[b, i, k], other[b, i, k]
                coupling = one.real * two.real + sign * (one.imag * two.imag)
                out[0, i, k] += first * coupling
                out[1, i, k] += second * coupling
                out[2, i, k] += third * coupling
