"""Loops that projection matching repeats: sampling views, and how they would change with each of their parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel
from tiltflow.kernels.warp import steps_inside

Image = NDArray[np.float32]
Single = np.float32
Spectra = NDArray[np.complex64]
Floats = NDArray[np.float64]


@kernel(fastmath=True)
def _inside(x: Single, y: Single, width: Single, height: Single, scale: Single) -> Single:
    """Return how far inside an image a position is: 0 up to one pixel from its edge, rising smoothly to 1, `1 / scale` farther in."""
    depth = min((min(x, width - x, y, height - y) - np.float32(1)) * scale, np.float32(1))
    return depth * depth * (np.float32(3) - np.float32(2) * depth) if depth > 0 else np.float32(0)


@kernel(fastmath=True)
def _spline(coefficients: Image, x: Single, y: Single) -> Single:
    """Return the cubic B-spline of some coefficients at a position, counted in pixels from the corner of the image."""
    most_x, most_y = coefficients.shape[1] - 3, coefficients.shape[0] - 3
    half, one, two, sixth = np.float32(0.5), np.float32(1), np.float32(2), np.float32(1.0 / 6.0)
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
    return np.float32(total)


@kernel(fastmath=True)
def sample_view(coefficients: Image, lines: Floats, taper: float, factor: float, out: Image, weight: Image) -> None:
    """Write into `out` `factor` times an image along lines, and into `weight` how far inside the image that is.

    `coefficients` are those of the cubic B-spline through the image; `out[j, i]` is taken at `lines[0] + i lines[1] + j lines[2]`, x
    before y, counted in pixels from the corner of the image.  The weight rises smoothly from 0 one pixel inside the edge to 1 `taper`
    pixels farther in; where it is 0 so is `out`.
    """
    height, width, scale = np.float32(coefficients.shape[0]), np.float32(coefficients.shape[1]), np.float32(1.0 / taper)
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            x = np.float32(lines[0, 0] + i * lines[1, 0] + j * lines[2, 0])
            y = np.float32(lines[0, 1] + i * lines[1, 1] + j * lines[2, 1])
            weight[j, i] = _inside(x, y, width, height, scale)
            out[j, i] = np.float32(factor) * _spline(coefficients, x, y) if weight[j, i] > 0 else np.float32(0)


@kernel(fastmath=True)
def sample_filled(coefficients: Image, lines: Floats, taper: float, factors: Floats, filling: Image, out: Image) -> None:
    """Write into `out` what :func:`sample_view` does times its weight, plus `filling` times what that lacks of 1, for several views.

    `filling` and `out` are `(views, ny, nx)`, `lines` `(views, 3, 2)` and `factors` `(views,)`.  Which part
    of a row lies inside the image is known before, so that the loop over its pixels has no branch.
    """
    rows, columns, n = coefficients.shape[1], coefficients.shape[2], out.shape[2]
    height, width, scale = np.float32(rows), np.float32(columns), np.float32(1.0 / taper)
    half, zero, one, two, three, sixth = (
        np.float32(0.5),
        np.float32(0),
        np.float32(1),
        np.float32(2),
        np.float32(3),
        np.float32(1.0 / 6.0),
    )
    stride, most_x, most_y = np.uint32(columns), np.int32(columns - 3), np.int32(rows - 3)
    for view in range(len(out)):
        pixels, factor = coefficients[view].reshape(-1), np.float32(factors[view])
        first, along, across = lines[view, 0], lines[view, 1], lines[view, 2]
        right, down = np.float32(along[0]), np.float32(along[1])
        for j in range(out.shape[1]):
            x0, y0 = first[0] + j * across[0], first[1] + j * across[1]
            a, b = steps_inside(x0, along[0], 1.0, columns - 1.0, n)
            c, d = steps_inside(y0, along[1], 1.0, rows - 1.0, n)
            begin, end = max(a, c), min(b, d)
            if begin >= end:
                begin, end = n, n
            for i in range(begin):
                out[view, j, i] = filling[view, j, i]
            for i in range(end, n):
                out[view, j, i] = filling[view, j, i]
            from_x, from_y = np.float32(x0), np.float32(y0)
            for i in range(begin, end):
                x, y = from_x + right * np.float32(i), from_y + down * np.float32(i)
                depth = max(min((min(x, width - x, y, height - y) - one) * scale, one), zero)
                inside = depth * depth * (three - two * depth)
                x -= half
                y -= half
                p, q = max(min(np.int32(x), most_x), np.int32(1)), max(min(np.int32(y), most_y), np.int32(1))
                fx, fy = x - np.float32(p), y - np.float32(q)
                gx, gy = one - fx, one - fy
                u0, u2, u3 = sixth * gx * gx * gx, two * two * sixth - half * gx * gx * (one + fx), sixth * fx * fx * fx
                v0, v2, v3 = sixth * gy * gy * gy, two * two * sixth - half * gy * gy * (one + fy), sixth * fy * fy * fy
                u1, v1 = one - u0 - u2 - u3, one - v0 - v2 - v3
                k = np.uint32(q - 1) * stride + np.uint32(p - 1)
                below = u0 * pixels[k] + u1 * pixels[k + 1] + u2 * pixels[k + 2] + u3 * pixels[k + 3]
                k += stride
                at = u0 * pixels[k] + u1 * pixels[k + 1] + u2 * pixels[k + 2] + u3 * pixels[k + 3]
                k += stride
                above = u0 * pixels[k] + u1 * pixels[k + 1] + u2 * pixels[k + 2] + u3 * pixels[k + 3]
                k += stride
                top = u0 * pixels[k] + u1 * pixels[k + 1] + u2 * pixels[k + 2] + u3 * pixels[k + 3]
                given = filling[view, j, i]
                out[view, j, i] = given + inside * (factor * (v0 * below + v1 * at + v2 * above + v3 * top) - given)


@kernel(fastmath=True)
def weigh_views(size: tuple[int, int], lines: Floats, taper: float, window: Image, out: Image) -> None:
    """Write into `out`, `(views, ny, nx)`, the weights of :func:`sample_view` times `window`, `(ny, nx)`.

    `size` is that of the images, `(ny, nx)`; `lines` is `(views, 3, 2)`.
    """
    height, width, scale = np.float32(size[0]), np.float32(size[1]), np.float32(1.0 / taper)
    for view in range(len(out)):
        first, along, across = lines[view, 0], lines[view, 1], lines[view, 2]
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                x = np.float32(first[0] + i * along[0] + j * across[0])
                y = np.float32(first[1] + i * along[1] + j * across[1])
                out[view, j, i] = window[j, i] * _inside(x, y, width, height, scale)


@kernel()
def put_transforms(
    predicted: Spectra,
    by_tilt: Spectra,
    weighted: Spectra,
    spectra: Spectra,
    begin: int,
    q: Floats,
    p: Floats,
    rows: NDArray[np.intp],
    out: NDArray[np.complex64],
) -> None:
    """Write the real transforms of what is compared of some views, from view `begin` on, into `out`, `(n, 6, ny, nx // 2 + 1)`.

    These are the derivatives by x, y and tilt of the prediction, the weighted residual, the view and its prediction.  The spectra are
    `(q, views, p)`; `q` and `p` are frequencies, cycles per pixel, that belong to column 1 and the following and to `rows`.  Other
    frequencies are not written to.
    """
    for view in range(len(out)):
        for k in range(len(q)):
            along = np.float32(2.0 * np.pi * q[k])
            for m in range(len(p)):
                across, row, at = np.float32(2.0 * np.pi * p[m]), rows[m], predicted[k, begin + view, m]
                turned = np.complex64(complex(-at.imag, at.real))
                out[view, 0, row, k + 1] = along * turned
                out[view, 1, row, k + 1] = across * turned
                out[view, 2, row, k + 1] = by_tilt[k, begin + view, m]
                out[view, 3, row, k + 1] = weighted[k, begin + view, m]
                out[view, 4, row, k + 1] = spectra[k, begin + view, m]
                out[view, 5, row, k + 1] = at


@kernel(fastmath=True)
def sensitivities(
    images: Image, weight: Image, tilts: Floats, y: Image, x: Image, blocks: NDArray[np.int32], sums: Floats, powers: Floats
) -> None:
    """Replace what is compared of some views by how each changes with its parameters, and add products with the residual to `sums`.

    A view whose content lies `(dx, dy)` farther shows `-dx by_x - dy by_y` more.  The parameters are the displacement along x and
    y, the rotation, the magnification, the tilt and the slope, angles in radians, and all changes are times `weight`.

    Parameters
    ----------
    images
        `(views, 6, ny, nx)`: the images whose transforms :func:`put_transforms` writes; replaced by the changes.
    weight
        `(views, ny, nx)`.
    tilts
        `(views,)`, radians.
    y, x
        `(ny,)` and `(nx,)`: distances from the axis.
    blocks
        `(ny, nx)`: the block that a pixel belongs to.
    sums
        `(views, blocks, 6)`: what products of changes and residual are added to.
    powers
        `(views, 3)`: to which squares of view and prediction and their product are added, all weighted.
    """
    n = len(x)
    for view in range(len(images)):
        c, tangent = np.float32(np.cos(tilts[view])), np.float32(np.tan(tilts[view]))
        for j in range(len(y)):
            by_x, by_y, by_tilt, residual = images[view, 0, j], images[view, 1, j], images[view, 2, j], images[view, 3, j]
            shown, prediction, weights, yj = images[view, 4, j], images[view, 5, j], weight[view, j], y[j]
            begin = 0
            while begin < n:
                block, end = blocks[j, begin], begin + 1
                while end < n and blocks[j, end] == block:
                    end += 1
                s0, s1, s2, s3, s4, s5 = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                seen_2, expected_2, together = np.float32(0), np.float32(0), np.float32(0)
                for i in range(begin, end):
                    w, e, seen, expected, xi = weights[i], residual[i], shown[i], prediction[i], x[i]
                    seen_2 += w * seen * seen
                    expected_2 += w * expected * expected
                    together += w * seen * expected
                    gx, gy = w * by_x[i], w * by_y[i]
                    tilted, slanted = w * by_tilt[i] + tangent * xi * gx, -yj * tangent * gx
                    turned, grown = yj / c * gx - xi * c * gy, -(xi * gx + yj * gy)
                    by_x[i], by_y[i], by_tilt[i], residual[i], shown[i], prediction[i] = -gx, -gy, turned, grown, tilted, slanted
                    s0 -= gx * e
                    s1 -= gy * e
                    s2 += turned * e
                    s3 += grown * e
                    s4 += tilted * e
                    s5 += slanted * e
                total = sums[view, block]
                total[0] += s0
                total[1] += s1
                total[2] += s2
                total[3] += s3
                total[4] += s4
                total[5] += s5
                powers[view, 0] += seen_2
                powers[view, 1] += expected_2
                powers[view, 2] += together
                begin = end


@kernel()
def put_band(values: Spectra, begin: int, rows: NDArray[np.intp], out: Spectra) -> None:
    """Write the frequencies of some views, from view `begin` on, into their real transforms `out`, `(n, ny, nx // 2 + 1)`.

    `values` is `(q, views, p)`; its frequencies belong to column 1 and the following and to `rows`.  Others are not written to.
    """
    for view in range(len(out)):
        for k in range(values.shape[0]):
            for m in range(len(rows)):
                out[view, rows[m], k + 1] = values[k, begin + view, m]


@kernel()
def take_band(transforms: Spectra, rows: NDArray[np.intp], begin: int, out: Spectra) -> None:
    """Write the frequencies of some views, from view `begin` on, from their real transforms into `out`: as :func:`put_band` has it."""
    for view in range(len(transforms)):
        for k in range(out.shape[0]):
            for m in range(len(rows)):
                out[k, begin + view, m] = transforms[view, rows[m], k + 1]


@kernel()
def take_changes(
    transforms: NDArray[np.complex64], rows: NDArray[np.intp], stride: int, begin: int, out: NDArray[np.complex64]
) -> None:
    """Write every `stride`-th frequency along x and y of some views' transforms, `(n, 6, ny, nx // 2 + 1)`, into `out[:, begin:]`.

    `out` is `(q, views, 6, p)`; its frequencies begin at column 1 and at the first of `rows`.
    """
    for view in range(len(transforms)):
        for kind in range(transforms.shape[1]):
            for k in range(out.shape[0]):
                for m in range(out.shape[3]):
                    out[k, begin + view, kind, m] = transforms[view, kind, rows[m * stride], 1 + k * stride]
