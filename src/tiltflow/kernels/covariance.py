"""The covariances of all views at one frequency along x, ring by ring: their inverses, and what the covariance model asks of them.

The phases of content at depth z in two views differ by `z (a_i - a_j)`, `a` being the phase of view i at the depth of one pixel, and
depths are the whole pixels from `-half` to `half`: sums over depth are then sums of cosines and sines of multiples of one angle, which
follow from one another by a rotation.  Real and imaginary parts are kept apart, and of Hermitian matrices the lower triangles, so that
every inner loop runs along contiguous numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import REORDERED, kernel

Floats = NDArray[np.float64]
Real = NDArray[np.floating[Any]]
Numbers = NDArray[np.intp]

MATRICES = 8
"""Matrices of `(views, views)` that :func:`explain` and :func:`foretell` work in."""
VECTORS = 28
"""Vectors of `(views,)` that they work in."""
AT_ONCE = 4
"""Columns of data that are worked on together; :func:`multiply` and :func:`add_squares` are written for as many."""


@kernel(fastmath=REORDERED)
def sums_over_depth(angles: Floats, even: Floats, odd: Floats, out: Floats, work: Floats) -> None:
    """Write to the lower triangle of `out[0]` the sums of `even[z] cos(z t)` over depth, and to `out[1]` those of `odd[z] sin(z t)`.

    `t = angles[i] - angles[j]`; `even` and `odd` are `(half + 1,)`, and `work` has four rows as long as `angles`.
    """
    cosine, sine, c, s = work[0], work[1], work[2], work[3]
    for i in range(len(angles)):
        for j in range(i + 1):
            cosine[j], sine[j] = math.cos(angles[i] - angles[j]), math.sin(angles[i] - angles[j])
            c[j], s[j] = 1.0, 0.0
            out[0, i, j], out[1, i, j] = even[0], 0.0
        for z in range(1, len(even)):
            for j in range(i + 1):
                turned = c[j] * cosine[j] - s[j] * sine[j]
                s[j] = s[j] * cosine[j] + c[j] * sine[j]
                c[j] = turned
                out[0, i, j] += even[z] * turned
                out[1, i, j] += odd[z] * s[j]


@kernel(fastmath=REORDERED)
def powers_by_depth(angles: Floats, forms: Floats, out: Floats, work: Floats) -> None:
    """Add to `out[k, half + z]` the value of a Hermitian form for the phases of depth z: the power that it has there.

    `forms[2 k]` and `forms[2 k + 1]` are the lower triangles of the real and the imaginary part of form k, of which there are two.
    """
    cosine, sine, c, s = work[0], work[1], work[2], work[3]
    half = out.shape[1] // 2
    for i in range(len(angles)):
        for j in range(i):
            cosine[j], sine[j] = math.cos(angles[i] - angles[j]), math.sin(angles[i] - angles[j])
            c[j], s[j] = 2.0, 0.0
        first, second = 0.0, 0.0
        for j in range(i):
            first += forms[0, i, j]
            second += forms[2, i, j]
        out[0, half] += 2.0 * first + forms[0, i, i]
        out[1, half] += 2.0 * second + forms[2, i, i]
        for z in range(1, half + 1):
            even, odd, other_even, other_odd = 0.0, 0.0, 0.0, 0.0
            for j in range(i):
                turned = c[j] * cosine[j] - s[j] * sine[j]
                s[j] = s[j] * cosine[j] + c[j] * sine[j]
                c[j] = turned
                even += forms[0, i, j] * turned
                odd += forms[1, i, j] * s[j]
                other_even += forms[2, i, j] * turned
                other_odd += forms[3, i, j] * s[j]
            out[0, half + z] += even - odd + forms[0, i, i]
            out[0, half - z] += even + odd + forms[0, i, i]
            out[1, half + z] += other_even - other_odd + forms[2, i, i]
            out[1, half - z] += other_even + other_odd + forms[2, i, i]


@kernel(fastmath=REORDERED)
def invert(real: Real, imaginary: Real, work: Real) -> float:
    """Invert a positive Hermitian matrix in place, but for the sign; return its log-determinant, NaN if it is not positive.

    Only lower triangles are read and written: by the sweep operator (Goodnight 1979, doi:10.1080/00031305.1979.10482685), which
    leaves minus the inverse.
    """
    size, x, y = len(real), work[0], work[1]
    logarithm = 0.0
    for k in range(size):
        pivot = real[k, k]
        if not pivot > 0.0:
            return math.nan
        logarithm += math.log(pivot)
        for j in range(k):
            x[j], y[j] = real[k, j], -imaginary[k, j]
        for j in range(k + 1, size):
            x[j], y[j] = real[j, k], imaginary[j, k]
        x[k], y[k] = 0.0, 0.0
        for i in range(size):
            a, b = x[i] / pivot, y[i] / pivot
            row, other = real[i], imaginary[i]
            for j in range(i + 1):
                row[j] -= a * x[j] + b * y[j]
                other[j] -= b * x[j] - a * y[j]
        for j in range(k):
            real[k, j], imaginary[k, j] = x[j] / pivot, -y[j] / pivot
        for i in range(k + 1, size):
            real[i, k], imaginary[i, k] = x[i] / pivot, y[i] / pivot
        real[k, k], imaginary[k, k] = -1.0 / pivot, 0.0
    return logarithm


@kernel(fastmath=REORDERED)
def invert_ring(covariance: Floats, noise: Floats, out: Floats, work: Floats) -> float:
    """Write the inverse of a covariance with `noise` on its diagonal to `out`, both triangles, and return its log-determinant.

    `covariance` and `out` are `(2, views, views)`, real and imaginary part; of the former the lower triangle counts.
    """
    size = len(noise)
    for i in range(size):
        for j in range(i):
            out[0, i, j], out[1, i, j] = covariance[0, i, j], covariance[1, i, j]
        out[0, i, i], out[1, i, i] = covariance[0, i, i] + noise[i], 0.0
    logarithm = invert(out[0], out[1], work)
    for i in range(size):
        for j in range(i):
            out[0, i, j], out[1, i, j] = -out[0, i, j], -out[1, i, j]
            out[0, j, i], out[1, j, i] = out[0, i, j], -out[1, i, j]
        out[0, i, i] = -out[0, i, i]
    return logarithm


@kernel(fastmath=REORDERED)
def take_columns(data: NDArray[np.complex64], order: Numbers, begin: int, end: int, out: Floats) -> None:
    """Write the columns `order[begin:end]` of `data`, at most four, to `out`, zeros for those that there are not.

    `out` is `(8, views)`: real parts, then imaginary ones.
    """
    for k in range(AT_ONCE):
        for i in range(len(data)):
            if begin + k < end:
                value = data[i, order[begin + k]]
                out[k, i], out[AT_ONCE + k, i] = value.real, value.imag
            else:
                out[k, i], out[AT_ONCE + k, i] = 0.0, 0.0


@kernel(fastmath=REORDERED)
def multiply(matrix: Floats, columns: Floats, out: Floats) -> None:
    """Write the product of a matrix `(2, views, views)`, real and imaginary part, with four columns as :func:`take_columns` has them.

    Each element of the matrix is loaded once for all four: it does not fit into the fastest cache.
    """
    size = matrix.shape[1]
    a0, a1, a2, a3 = columns[0], columns[1], columns[2], columns[3]
    b0, b1, b2, b3 = columns[4], columns[5], columns[6], columns[7]
    for i in range(size):
        real, imaginary = matrix[0, i], matrix[1, i]
        x0, x1, x2, x3, y0, y1, y2, y3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(size):
            c, d = real[j], imaginary[j]
            x0 += c * a0[j] - d * b0[j]
            x1 += c * a1[j] - d * b1[j]
            x2 += c * a2[j] - d * b2[j]
            x3 += c * a3[j] - d * b3[j]
            y0 += c * b0[j] + d * a0[j]
            y1 += c * b1[j] + d * a1[j]
            y2 += c * b2[j] + d * a2[j]
            y3 += c * b3[j] + d * a3[j]
        out[0, i], out[1, i], out[2, i], out[3, i] = x0, x1, x2, x3
        out[4, i], out[5, i], out[6, i], out[7, i] = y0, y1, y2, y3


@kernel(fastmath=REORDERED)
def add_squares(columns: Floats, scale: float, forms: Floats) -> None:
    """Add four columns times their conjugates, times `scale`, to the lower triangles of `forms`, `(2, views, views)`."""
    x0, x1, x2, x3 = columns[0], columns[1], columns[2], columns[3]
    y0, y1, y2, y3 = columns[4], columns[5], columns[6], columns[7]
    for i in range(columns.shape[1]):
        a0, a1, a2, a3 = x0[i] * scale, x1[i] * scale, x2[i] * scale, x3[i] * scale
        b0, b1, b2, b3 = y0[i] * scale, y1[i] * scale, y2[i] * scale, y3[i] * scale
        real, imaginary = forms[0, i], forms[1, i]
        for j in range(i + 1):
            real[j] += a0 * x0[j] + b0 * y0[j] + a1 * x1[j] + b1 * y1[j] + a2 * x2[j] + b2 * y2[j] + a3 * x3[j] + b3 * y3[j]
            imaginary[j] += b0 * x0[j] - a0 * y0[j] + b1 * x1[j] - a1 * y1[j] + b2 * x2[j] - a2 * y2[j] + b3 * x3[j] - a3 * y3[j]


@kernel(fastmath=REORDERED)
def invert_rings(
    angles: Floats,
    even: Floats,
    odd: Floats,
    noise: Floats,
    out: NDArray[np.complex128],
    logarithms: Floats,
    matrices: Floats,
    vectors: Floats,
) -> None:
    """Write the inverse of the covariance of every frequency along x and ring, and its log-determinant, NaN where it is not positive.

    `angles` is `(q, views)`, `noise` `(q, groups, views)`, `out` `(q, groups, views, views)` and `logarithms` `(q, groups)`; `even` and
    `odd` are what :func:`sums_over_depth` takes, and the other parameters those of :func:`explain`.
    """
    inverse = matrices[2:4]
    for q in range(len(angles)):
        sums_over_depth(angles[q], even, odd, matrices[:2], vectors[:4])
        for group in range(noise.shape[1]):
            logarithms[q, group] = invert_ring(matrices[:2], noise[q, group], inverse, vectors[:4])
            for i in range(angles.shape[1]):
                for j in range(angles.shape[1]):
                    out[q, group, i, j] = complex(inverse[0, i, j], inverse[1, i, j])


@kernel(fastmath=REORDERED)
def explain(
    angles: Floats,
    profile: Floats,
    noise: Floats,
    seen: NDArray[np.bool_],
    signal: Floats,
    order: Numbers,
    starts: Numbers,
    data: NDArray[np.complex64],
    by_depth: Floats,
    by_noise: Floats,
    power: Floats,
    matrices: Floats,
    vectors: Floats,
) -> bool:
    """Add what depths, noise and signal explain of the data at one frequency along x, and what they are expected to explain.

    Parameters
    ----------
    angles
        `(views,)`: phase of each view at the depth of one pixel.
    profile
        `(2, half + 1)` or more: what :func:`sums_over_depth` takes.
    noise
        `(groups, views)` over the signal.
    seen
        `(views,)`: whether the view resolves this frequency.
    signal
        `(groups,)`.
    order, starts
        Frequencies along y ring by ring, and where each of the `groups` begins among them; `(groups + 1,)`.
    data
        `(views, p)`.
    by_depth, by_noise, power
        What is added to: `(2, 2 half + 1)`, `(2, groups, views)` and `(3, groups)`: squares of whitened data, their number, and
        log-determinants.
    matrices, vectors
        Room to work in: `(MATRICES, views, views)` and `(VECTORS, views)`.

    Returns
    -------
    bool
        Whether all covariances are positive.
    """
    size = len(angles)
    covariance, inverse, forms = matrices[:2], matrices[2:4], matrices[4:8]
    seen_by, solved, work = vectors[4:12], vectors[12:20], vectors[:4]
    sums_over_depth(angles, profile[0], profile[1], covariance, work)
    for i in range(size):
        for j in range(i + 1):
            forms[0, i, j], forms[1, i, j], forms[2, i, j], forms[3, i, j] = 0.0, 0.0, 0.0, 0.0
    for group in range(len(signal)):
        count = starts[group + 1] - starts[group]
        if count == 0:
            continue
        logarithm = invert_ring(covariance, noise[group], inverse, work)
        if math.isnan(logarithm):
            return False
        whitened, scale = 0.0, 1.0 / signal[group]
        for at in range(starts[group], starts[group + 1], AT_ONCE):
            take_columns(data, order, at, starts[group + 1], seen_by)
            multiply(inverse, seen_by, solved)
            add_squares(solved, scale, forms)
            for k in range(AT_ONCE):
                for i in range(size):
                    x, y = solved[k, i], solved[AT_ONCE + k, i]
                    whitened += (seen_by[k, i] * x + seen_by[AT_ONCE + k, i] * y) * scale
                    if seen[i]:
                        by_noise[0, group, i] += (x * x + y * y) * scale
        for i in range(size):
            if seen[i]:
                by_noise[1, group, i] += count * inverse[0, i, i]
            for j in range(i + 1):
                forms[2, i, j] += count * inverse[0, i, j]
                forms[3, i, j] += count * inverse[1, i, j]
        power[0, group] += whitened
        power[1, group] += count * size
        power[2, group] += count * logarithm
    powers_by_depth(angles, forms, by_depth, work)
    return True


@kernel(fastmath=REORDERED)
def foretell(
    angles: Floats,
    profile: Floats,
    noise: Floats,
    to_tilt: Floats,
    signal: Floats,
    order: Numbers,
    starts: Numbers,
    data: NDArray[np.complex64],
    predicted: NDArray[np.complex64],
    by_tilt: NDArray[np.complex64],
    weighted: NDArray[np.complex64],
    precision: NDArray[np.float32],
    matrices: Floats,
    vectors: Floats,
) -> bool:
    """Write the prediction of every view from all others at one frequency along x.

    `profile` is `(4, half + 1)`: what :func:`sums_over_depth` takes for the covariance, and for its derivative by the tilt but for the
    factor `to_tilt`, `(views,)`.  What is written, `(views, p)`, is described at
    :class:`tiltflow.align.projection.covariance_model.Prediction`.  Other parameters, and what is returned, are those of :func:`explain`.
    """
    size = len(angles)
    covariance, inverse, moved = matrices[:2], matrices[2:4], matrices[4:6]
    seen_by, solved, turned, work = vectors[4:12], vectors[12:20], vectors[20:28], vectors[:4]
    sums_over_depth(angles, profile[2], profile[3], moved, work)
    # The sum over z of z w(z) exp(-i z t), times -i: cosines give the imaginary part, sines the real one.
    for i in range(size):
        for j in range(i):
            real, imaginary = moved[1, i, j], -moved[0, i, j]
            moved[0, i, j], moved[1, i, j] = real * to_tilt[i], imaginary * to_tilt[i]
            moved[0, j, i], moved[1, j, i] = -real * to_tilt[j], imaginary * to_tilt[j]
        moved[0, i, i], moved[1, i, i] = 0.0, 0.0
    sums_over_depth(angles, profile[0], profile[1], covariance, work)
    for group in range(len(signal)):
        if starts[group + 1] == starts[group]:
            continue
        if math.isnan(invert_ring(covariance, noise[group], inverse, work)):
            return False
        scale = 1.0 / signal[group]
        own_x, own_y = work[0], work[1]
        for i in range(size):
            # The sum over j of moved_ij inverse_ji, whose conjugate is inverse_ij.
            a, b = 0.0, 0.0
            for j in range(size):
                a += moved[0, i, j] * inverse[0, i, j] + moved[1, i, j] * inverse[1, i, j]
                b += moved[1, i, j] * inverse[0, i, j] - moved[0, i, j] * inverse[1, i, j]
            own_x[i], own_y[i] = a / inverse[0, i, i], b / inverse[0, i, i]
        for at in range(starts[group], starts[group + 1], AT_ONCE):
            take_columns(data, order, at, starts[group + 1], seen_by)
            multiply(inverse, seen_by, solved)
            multiply(moved, solved, turned)
            for k in range(min(AT_ONCE, starts[group + 1] - at)):
                column = order[at + k]
                for i in range(size):
                    x, y, alone = solved[k, i], solved[AT_ONCE + k, i], inverse[0, i, i]
                    a = turned[k, i] - own_x[i] * x + own_y[i] * y
                    b = turned[AT_ONCE + k, i] - own_x[i] * y - own_y[i] * x
                    by_tilt[i, column] = complex(a, b)
                    predicted[i, column] = data[i, column] - complex(x / alone, y / alone)
                    weighted[i, column] = complex(x * scale, y * scale)
                    precision[i, column] = alone * scale
    return True
