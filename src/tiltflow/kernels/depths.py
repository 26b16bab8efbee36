"""What :mod:`tiltflow.kernels.covariance` computes of the covariances of views, from matrices over depths instead of views.

A covariance is `C = F W F' + N`, with `F_iz = exp(-i a_i z)` the phase of view i at depth z, `a` its phase at the depth of one pixel, W
the profile and N the noise.  With `G` the roots of the profile and `K = 1 + G F' N^-1 F G`, which is as large as there are depths,

    C^-1 = N^-1 - N^-1 F Q F' N^-1,     Q = G K^-1 G,     W F' C^-1 = Q F' N^-1,     log |C| = log |K| + log |N|

(Woodbury, e.g. Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. A.9).  `F' N^-1 F` depends on the distance of
two depths only, and the sums over z of `f_iz Q_zz' f_iz'*` on the sums along the diagonals of Q.  A thin specimen has fewer depths than
there are views, and the inverse takes the third power of their number.

Columns of data are worked on four at a time, as :func:`tiltflow.kernels.covariance.take_columns` has them: real parts, then imaginary
ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import REORDERED, kernel
from tiltflow.kernels.covariance import AT_ONCE, invert, multiply, take_columns

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

MATRICES = 2
"""Matrices of `(depths, depths)` that :func:`explain` and :func:`foretell` work in."""
BY_DEPTH = 21
"""Vectors of `(depths,)` that they work in."""
BY_VIEW = 28
"""Vectors of `(views,)` that they work in, beside two for each depth."""


@kernel(fastmath=REORDERED)
def turn(angles: Floats, cosine: Floats, sine: Floats) -> None:
    """Write the cosine and the sine of the multiples of angles, `(multiples, views)`, from 0 times on."""
    for i in range(len(angles)):
        cosine[0, i], sine[0, i] = 1.0, 0.0
        cosine[1, i], sine[1, i] = math.cos(angles[i]), math.sin(angles[i])
    for k in range(2, len(cosine)):
        for i in range(len(angles)):
            cosine[k, i] = cosine[k - 1, i] * cosine[1, i] - sine[k - 1, i] * sine[1, i]
            sine[k, i] = sine[k - 1, i] * cosine[1, i] + cosine[k - 1, i] * sine[1, i]


@kernel(fastmath=REORDERED)
def invert_by_depth(
    cosine: Floats, sine: Floats, root: Floats, noise: Floats, over_noise: Floats, out: Floats, work: Floats
) -> float:
    """Write K^-1 to `out` `(2, depths, depths)`, both triangles, and `1 / noise` to `over_noise`; return the log-determinant of C.

    `root` are the roots of the profile, and `work` has two rows as long as it.  NaN is returned where C is not positive.
    """
    views, depths = len(noise), len(root)
    logarithm, real, imaginary = 0.0, work[0], work[1]
    for i in range(views):
        if not noise[i] > 0.0:
            return math.nan
        logarithm += math.log(noise[i])
        over_noise[i] = 1.0 / noise[i]
    for k in range(depths):
        x, y = 0.0, 0.0
        for i in range(views):
            x += cosine[k, i] * over_noise[i]
            y += sine[k, i] * over_noise[i]
        real[k], imaginary[k] = x, y
    for z in range(depths):
        for other in range(z + 1):
            weight = root[z] * root[other]
            out[0, z, other], out[1, z, other] = weight * real[z - other], weight * imaginary[z - other]
        out[0, z, z] += 1.0
    logarithm += invert(out[0], out[1], work)
    for z in range(depths):
        for other in range(z):
            out[0, z, other], out[1, z, other] = -out[0, z, other], -out[1, z, other]
            out[0, other, z], out[1, other, z] = out[0, z, other], -out[1, z, other]
        out[0, z, z] = -out[0, z, z]
    return logarithm


@kernel(fastmath=REORDERED)
def add_diagonals(inverse: Floats, root: Floats, out: Floats) -> None:
    """Write the sums along the diagonals of Q, k below the middle one, to `out[:2, k]`, and those of z times Q to `out[2:, k]`.

    `out` is `(4, depths)`, real and imaginary parts.
    """
    depths, half = len(root), len(root) // 2
    for k in range(depths):
        out[0, k], out[1, k], out[2, k], out[3, k] = 0.0, 0.0, 0.0, 0.0
    for z in range(depths):
        for other in range(z + 1):
            weight = root[z] * root[other]
            real, imaginary = weight * inverse[0, z, other], weight * inverse[1, z, other]
            out[0, z - other] += real
            out[1, z - other] += imaginary
            out[2, z - other] += (z - half) * real
            out[3, z - other] += (z - half) * imaginary


@kernel(fastmath=REORDERED)
def diagonal_of_inverse(cosine: Floats, sine: Floats, diagonals: Floats, over_noise: Floats, out: Floats) -> None:
    """Write the diagonal of C^-1, `(views,)`, from the sums of :func:`add_diagonals`."""
    for i in range(len(out)):
        out[i] = diagonals[0, 0]
    for k in range(1, len(cosine)):
        real, imaginary = 2.0 * diagonals[0, k], 2.0 * diagonals[1, k]
        for i in range(len(out)):
            out[i] += real * cosine[k, i] + imaginary * sine[k, i]
    for i in range(len(out)):
        out[i] = over_noise[i] - over_noise[i] * over_noise[i] * out[i]


@kernel(fastmath=REORDERED)
def to_depths(cosine: Floats, sine: Floats, root: Floats, columns: Floats, out: Floats) -> None:
    """Write G F' of four columns, `(8, views)`, to `out`, `(8, depths)`."""
    views, half = columns.shape[1], len(root) // 2
    a0, a1, a2, a3 = columns[0], columns[1], columns[2], columns[3]
    b0, b1, b2, b3 = columns[4], columns[5], columns[6], columns[7]
    for z in range(half + 1):
        c, s = cosine[z], sine[z]
        x0, x1, x2, x3, y0, y1, y2, y3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        u0, u1, u2, u3, v0, v1, v2, v3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(views):
            x0 += c[i] * a0[i]
            x1 += c[i] * a1[i]
            x2 += c[i] * a2[i]
            x3 += c[i] * a3[i]
            y0 += c[i] * b0[i]
            y1 += c[i] * b1[i]
            y2 += c[i] * b2[i]
            y3 += c[i] * b3[i]
            u0 += s[i] * a0[i]
            u1 += s[i] * a1[i]
            u2 += s[i] * a2[i]
            u3 += s[i] * a3[i]
            v0 += s[i] * b0[i]
            v1 += s[i] * b1[i]
            v2 += s[i] * b2[i]
            v3 += s[i] * b3[i]
        above, below = root[half + z], root[half - z]
        out[0, half + z], out[4, half + z] = above * (x0 - v0), above * (y0 + u0)
        out[1, half + z], out[5, half + z] = above * (x1 - v1), above * (y1 + u1)
        out[2, half + z], out[6, half + z] = above * (x2 - v2), above * (y2 + u2)
        out[3, half + z], out[7, half + z] = above * (x3 - v3), above * (y3 + u3)
        out[0, half - z], out[4, half - z] = below * (x0 + v0), below * (y0 - u0)
        out[1, half - z], out[5, half - z] = below * (x1 + v1), below * (y1 - u1)
        out[2, half - z], out[6, half - z] = below * (x2 + v2), below * (y2 - u2)
        out[3, half - z], out[7, half - z] = below * (x3 + v3), below * (y3 - u3)


@kernel(fastmath=REORDERED)
def from_depths(cosine: Floats, sine: Floats, moments: Floats, power: float, out: Floats) -> None:
    """Write F of four columns over depths, `(8, depths)`, to `out`, `(8, views)`, each times a power of its depth, which is 0 or 1."""
    views, half = out.shape[1], moments.shape[1] // 2
    f0, f1, f2, f3 = out[0], out[1], out[2], out[3]
    g0, g1, g2, g3 = out[4], out[5], out[6], out[7]
    for i in range(views):
        f0[i], f1[i], f2[i], f3[i] = 0.0, 0.0, 0.0, 0.0
        g0[i], g1[i], g2[i], g3[i] = 0.0, 0.0, 0.0, 0.0
    for z in range(half + 1):
        c, s = cosine[z], sine[z]
        # Of what is even in depth the cosines are left, of what is odd the sines; times the depth the even becomes odd.
        sign = 1.0 - 2.0 * power
        factor = float(z) if power > 0.0 else 0.5 if z == 0 else 1.0
        above, below = half + z, half - z
        x0, y0 = factor * (moments[0, above] + sign * moments[0, below]), factor * (moments[4, above] + sign * moments[4, below])
        x1, y1 = factor * (moments[1, above] + sign * moments[1, below]), factor * (moments[5, above] + sign * moments[5, below])
        x2, y2 = factor * (moments[2, above] + sign * moments[2, below]), factor * (moments[6, above] + sign * moments[6, below])
        x3, y3 = factor * (moments[3, above] + sign * moments[3, below]), factor * (moments[7, above] + sign * moments[7, below])
        u0, v0 = factor * (moments[0, above] - sign * moments[0, below]), factor * (moments[4, above] - sign * moments[4, below])
        u1, v1 = factor * (moments[1, above] - sign * moments[1, below]), factor * (moments[5, above] - sign * moments[5, below])
        u2, v2 = factor * (moments[2, above] - sign * moments[2, below]), factor * (moments[6, above] - sign * moments[6, below])
        u3, v3 = factor * (moments[3, above] - sign * moments[3, below]), factor * (moments[7, above] - sign * moments[7, below])
        for i in range(views):
            f0[i] += c[i] * x0 + s[i] * v0
            g0[i] += c[i] * y0 - s[i] * u0
            f1[i] += c[i] * x1 + s[i] * v1
            g1[i] += c[i] * y1 - s[i] * u1
            f2[i] += c[i] * x2 + s[i] * v2
            g2[i] += c[i] * y2 - s[i] * u2
            f3[i] += c[i] * x3 + s[i] * v3
            g3[i] += c[i] * y3 - s[i] * u3


@kernel(fastmath=REORDERED)
def solve_columns(
    cosine: Floats,
    sine: Floats,
    root: Floats,
    inverse: Floats,
    over_noise: Floats,
    columns: Floats,
    by_depth: Floats,
    moments: Floats,
    out: Floats,
) -> None:
    """Write C^-1 of four columns to `out`, `(8, views)`, K^-1 G F' N^-1 of them to `by_depth`, and that times G to `moments`."""
    for k in range(2 * AT_ONCE):
        for i in range(columns.shape[1]):
            out[k, i] = columns[k, i] * over_noise[i]
    to_depths(cosine, sine, root, out, moments)
    multiply(inverse, moments, by_depth)
    for k in range(2 * AT_ONCE):
        for z in range(len(root)):
            moments[k, z] = by_depth[k, z] * root[z]
    from_depths(cosine, sine, moments, 0.0, out)
    for k in range(2 * AT_ONCE):
        for i in range(columns.shape[1]):
            out[k, i] = (columns[k, i] - out[k, i]) * over_noise[i]


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
    depths: Floats,
    views: Floats,
) -> bool:
    """Add what :func:`tiltflow.kernels.covariance.explain` adds.

    Parameters
    ----------
    profile
        `(2 half + 1,)`, nowhere 0.
    matrices, depths, views
        Room to work in: `(MATRICES, depths, depths)`, `(BY_DEPTH, depths)` and `(BY_VIEW + 2 depths, views)`.

    The other parameters, and what is returned, are those of the former.
    """
    size, length = len(angles), len(profile)
    inverse, moments, solved_by_depth = matrices[:2], depths[:8], depths[8:16]
    diagonals, root, work = depths[16:20], depths[20], depths[16:18]
    seen_by, solved, over_noise, alone = views[:8], views[8:16], views[16], views[17]
    cosine, sine = views[BY_VIEW : BY_VIEW + length], views[BY_VIEW + length : BY_VIEW + 2 * length]
    turn(angles, cosine, sine)
    for z in range(length):
        root[z] = math.sqrt(profile[z])
    for group in range(len(signal)):
        count = starts[group + 1] - starts[group]
        if count == 0:
            continue
        logarithm = invert_by_depth(cosine, sine, root, noise[group], over_noise, inverse, work)
        if math.isnan(logarithm):
            return False
        add_diagonals(inverse, root, diagonals)
        diagonal_of_inverse(cosine, sine, diagonals, over_noise, alone)
        whitened, scale = 0.0, 1.0 / signal[group]
        for at in range(starts[group], starts[group + 1], AT_ONCE):
            take_columns(data, order, at, starts[group + 1], seen_by)
            solve_columns(cosine, sine, root, inverse, over_noise, seen_by, solved_by_depth, moments, solved)
            for k in range(AT_ONCE):
                for z in range(length):
                    x, y = solved_by_depth[k, z], solved_by_depth[AT_ONCE + k, z]
                    by_depth[0, z] += (x * x + y * y) * scale / profile[z]
                for i in range(size):
                    x, y = solved[k, i], solved[AT_ONCE + k, i]
                    whitened += (seen_by[k, i] * x + seen_by[AT_ONCE + k, i] * y) * scale
                    if seen[i]:
                        by_noise[0, group, i] += (x * x + y * y) * scale
        for i in range(size):
            if seen[i]:
                by_noise[1, group, i] += count * alone[i]
        for z in range(length):
            by_depth[1, z] += count * (1.0 - inverse[0, z, z]) / profile[z]
        power[0, group] += whitened
        power[1, group] += count * size
        power[2, group] += count * logarithm
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
    depths: Floats,
    views: Floats,
) -> bool:
    """Write what :func:`tiltflow.kernels.covariance.foretell` writes; profile and room to work in are those of :func:`explain`."""
    size, length = len(angles), len(profile)
    inverse, moments, solved_by_depth = matrices[:2], depths[:8], depths[8:16]
    diagonals, root, work = depths[16:20], depths[20], depths[16:18]
    seen_by, solved, over_noise, alone, turned = views[:8], views[8:16], views[16], views[17], views[18:26]
    own_x, own_y = views[26], views[27]
    cosine, sine = views[BY_VIEW : BY_VIEW + length], views[BY_VIEW + length : BY_VIEW + 2 * length]
    turn(angles, cosine, sine)
    for z in range(length):
        root[z] = math.sqrt(profile[z])
    for group in range(len(signal)):
        if starts[group + 1] == starts[group]:
            continue
        if math.isnan(invert_by_depth(cosine, sine, root, noise[group], over_noise, inverse, work)):
            return False
        add_diagonals(inverse, root, diagonals)
        diagonal_of_inverse(cosine, sine, diagonals, over_noise, alone)
        # The sum over z of -i z f_iz (W F' C^-1)_zi: along a diagonal, z times Q counts above it and below.
        for i in range(size):
            own_x[i], own_y[i] = 0.0, diagonals[2, 0]
        for k in range(1, length):
            real, imaginary = diagonals[0, k], diagonals[1, k]
            along, across = 2.0 * diagonals[2, k] - k * real, 2.0 * diagonals[3, k] - k * imaginary
            for i in range(size):
                own_x[i] += k * (imaginary * cosine[k, i] - real * sine[k, i])
                own_y[i] += along * cosine[k, i] + across * sine[k, i]
        for i in range(size):
            factor = to_tilt[i] * over_noise[i] / alone[i]
            own_x[i], own_y[i] = own_x[i] * factor, -own_y[i] * factor
        scale = 1.0 / signal[group]
        for at in range(starts[group], starts[group + 1], AT_ONCE):
            take_columns(data, order, at, starts[group + 1], seen_by)
            solve_columns(cosine, sine, root, inverse, over_noise, seen_by, solved_by_depth, moments, solved)
            from_depths(cosine, sine, moments, 1.0, turned)
            for k in range(min(AT_ONCE, starts[group + 1] - at)):
                column = order[at + k]
                for i in range(size):
                    x, y = solved[k, i], solved[AT_ONCE + k, i]
                    a = to_tilt[i] * turned[AT_ONCE + k, i] - own_x[i] * x + own_y[i] * y
                    b = -to_tilt[i] * turned[k, i] - own_x[i] * y - own_y[i] * x
                    by_tilt[i, column] = complex(a, b)
                    predicted[i, column] = data[i, column] - complex(x / alone[i], y / alone[i])
                    weighted[i, column] = complex(x * scale, y * scale)
                    precision[i, column] = alone[i] * scale
    return True
