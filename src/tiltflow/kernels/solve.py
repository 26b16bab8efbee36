"""Normal equations of the bundle adjustment: one pass over the points of every track.

A view has seven parameters: shift x, shift y, axis angle, tilt, log magnification, stretch and skew (radians).  With c, s the
cosine and sine of the tilt, a point is seen at

    shift + m R(axis) ((1 + stretch) c x + s z,  y + skew x)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import REORDERED, kernel

Floats = NDArray[np.float64]

_UNDETERMINED = 1e-9
"""Determinant of 1 - H of a position below which the others do not determine it, and it has no leave-out residual."""


@kernel()
def predict(views: Floats, points: Floats, out: Floats) -> None:
    """Write where `points` `(tracks, 3)` are seen under `views` `(views, 7)` to `out` `(tracks, views, 2)`."""
    jacobians = np.empty((views.shape[0], 2, 3))
    point_jacobians(views, jacobians)
    for i in range(views.shape[0]):
        jacobian = jacobians[i]
        for j in range(points.shape[0]):
            for a in range(2):
                along = jacobian[a, 0] * points[j, 0] + jacobian[a, 1] * points[j, 1] + jacobian[a, 2] * points[j, 2]
                out[j, i, a] = views[i, a] + along


@kernel()
def point_jacobians(views: Floats, out: Floats) -> None:
    """Write the derivatives of positions by the point's x, y and z to `out` `(views, 2, 3)`."""
    for i in range(views.shape[0]):
        c, s = math.cos(views[i, 3]), math.sin(views[i, 3])
        m = math.exp(views[i, 4])
        ca, sa = m * math.cos(views[i, 2]), m * math.sin(views[i, 2])
        wide, skew = (1.0 + views[i, 5]) * c, views[i, 6]
        out[i, 0, 0], out[i, 1, 0] = ca * wide - sa * skew, sa * wide + ca * skew
        out[i, 0, 1], out[i, 1, 1] = -sa, ca
        out[i, 0, 2], out[i, 1, 2] = ca * s, sa * s


@kernel()
def view_jacobian(view: Floats, point: Floats, out: Floats) -> None:
    """Write the derivative of a point's position by the seven parameters of its view to `out` `(2, 7)`."""
    c, s = math.cos(view[3]), math.sin(view[3])
    m = math.exp(view[4])
    ca, sa = m * math.cos(view[2]), m * math.sin(view[2])
    x, z = point[0], point[2]
    u, v = (1.0 + view[5]) * c * x + s * z, point[1] + view[6] * x
    du = c * z - (1.0 + view[5]) * s * x
    out[0, 0], out[1, 0] = 1.0, 0.0
    out[0, 1], out[1, 1] = 0.0, 1.0
    out[0, 2], out[1, 2] = -sa * u - ca * v, ca * u - sa * v
    out[0, 3], out[1, 3] = ca * du, sa * du
    out[0, 4], out[1, 4] = ca * u - sa * v, sa * u + ca * v
    out[0, 5], out[1, 5] = ca * c * x, sa * c * x
    out[0, 6], out[1, 6] = -sa * x, ca * x


@kernel()
def view_jacobians(views: Floats, points: Floats, out: Floats) -> None:
    """Write the derivatives of positions by the parameters of their views to `out` `(points, views, 2, 7)`."""
    for j in range(points.shape[0]):
        for i in range(views.shape[0]):
            view_jacobian(views[i], points[j], out[j, i])


@kernel()
def accumulate(
    views: Floats,
    points: Floats,
    residual: Floats,
    information: Floats,
    first: NDArray[np.int64],
    column: NDArray[np.int64],
    share: Floats,
    normal: Floats,
    right: Floats,
    cross: Floats,
    point_normal: Floats,
    point_right: Floats,
) -> None:
    """Add the normal equations of all points: of the variables, of the points, and what joins them.

    `residual` is `(tracks, views, 2)`, `information` `(tracks, views, 3)` the weights xx, xy, yy, all 0 where unseen.  Parameter a of
    view i is the sum over k, from `first[7 i + a]` to `first[7 i + a + 1]`, of `share[k]` times variable `column[k]`.  Adds to `normal`
    `(variables, variables)`, `right` `(variables,)`, `cross` `(tracks, 3, variables)`, `point_normal` `(tracks, 3, 3)` and
    `point_right` `(tracks, 3)`.
    """
    jv, by_point = np.empty((2, 7)), np.empty((views.shape[0], 2, 3))
    point_jacobians(views, by_point)
    wv, wp = np.empty((2, 7)), np.empty((2, 3))
    block, pull = np.empty((7, 7)), np.empty(7)
    for i in range(views.shape[0]):
        jp = by_point[i]
        block[:], pull[:] = 0.0, 0.0
        for j in range(points.shape[0]):
            xx, xy, yy = information[j, i, 0], information[j, i, 1], information[j, i, 2]
            if xx + yy <= 0.0:
                continue
            view_jacobian(views[i], points[j], jv)
            for a in range(7):
                wv[0, a] = xx * jv[0, a] + xy * jv[1, a]
                wv[1, a] = xy * jv[0, a] + yy * jv[1, a]
            for b in range(3):
                wp[0, b] = xx * jp[0, b] + xy * jp[1, b]
                wp[1, b] = xy * jp[0, b] + yy * jp[1, b]
            rx, ry = residual[j, i, 0], residual[j, i, 1]
            for a in range(7):
                pull[a] += wv[0, a] * rx + wv[1, a] * ry
                for b in range(7):
                    block[a, b] += wv[0, a] * jv[0, b] + wv[1, a] * jv[1, b]
                for k in range(first[7 * i + a], first[7 * i + a + 1]):
                    for b in range(3):
                        cross[j, b, column[k]] += share[k] * (wv[0, a] * jp[0, b] + wv[1, a] * jp[1, b])
            for a in range(3):
                point_right[j, a] += wp[0, a] * rx + wp[1, a] * ry
                for b in range(3):
                    point_normal[j, a, b] += wp[0, a] * jp[0, b] + wp[1, a] * jp[1, b]
        for a in range(7):
            for k in range(first[7 * i + a], first[7 * i + a + 1]):
                right[column[k]] += share[k] * pull[a]
                for b in range(7):
                    for n in range(first[7 * i + b], first[7 * i + b + 1]):
                        normal[column[k], column[n]] += share[k] * share[n] * block[a, b]


@kernel(fastmath=REORDERED)
def accumulate_joint(weights: Floats, shapes: Floats, sums: Floats, by_point: Floats, normal: Floats, across: Floats) -> None:
    """Add the normal equations of tracks with one weight matrix, whose derivatives by their views are sums of the same shapes.

    `weights` is `(2 views, 2 views)`, `shapes` `(k, views, 2, 7)`, `sums` `(k, k)` the sum over the tracks of the products of how much
    of each shape they have, weighted, and `by_point` `(2 views, 3)`.  Adds to `normal` `(7 views, 7 views)` of the parameters of the
    views, and to `across` `(k, 3, 7 views)` of points with views, by shape.
    """
    count, views = shapes.shape[:2]
    weighed = np.empty((count, 7 * views))
    for row in range(2 * views):
        i, a = row // 2, row % 2
        for s in range(count):
            for k in range(views):
                first, second = weights[row, 2 * k], weights[row, 2 * k + 1]
                for b in range(7):
                    weighed[s, 7 * k + b] = first * shapes[s, k, 0, b] + second * shapes[s, k, 1, b]
            for b in range(3):
                factor, out = by_point[row, b], across[s, b]
                for k in range(7 * views):
                    out[k] += factor * weighed[s, k]
        for b in range(7):
            out = normal[7 * i + b]
            for s in range(count):
                factor = 0.0
                for r in range(count):
                    factor += sums[r, s] * shapes[r, i, a, b]
                for k in range(7 * views):
                    out[k] += factor * weighed[s, k]


@kernel()
def whiten(factor: Floats, cross: Floats, right: Floats) -> None:
    """Solve `L y = cross` and `L y = right` in place for every track; `factor` `(tracks, 3, 3)` is lower triangular."""
    for j in range(factor.shape[0]):
        for a in range(3):
            pivot = factor[j, a, a]
            for b in range(a):
                f = factor[j, a, b]
                right[j, a] -= f * right[j, b]
                for k in range(cross.shape[2]):
                    cross[j, a, k] -= f * cross[j, b, k]
            right[j, a] /= pivot
            for k in range(cross.shape[2]):
                cross[j, a, k] /= pivot


@kernel()
def leave_out(
    views: Floats,
    points: Floats,
    residual: Floats,
    information: Floats,
    view_covariance: Floats,
    joint: Floats,
    point_covariance: Floats,
    out: Floats,
) -> float:
    """Write leave-out residuals to `out` `(tracks, views, 2)` where seen; return the trace of the hat matrix.

    `view_covariance` `(views, 7, 7)`, `point_covariance` `(tracks, 3, 3)` and `joint` `(tracks, 3, views, 7)`, minus the covariance
    of a point with its views, are those of the fit in units of sigma squared.
    """
    jv, by_point = np.empty((2, 7)), np.empty((views.shape[0], 2, 3))
    point_jacobians(views, by_point)
    spread = np.empty((2, 2))
    trace = 0.0
    for i in range(views.shape[0]):
        jp = by_point[i]
        for j in range(points.shape[0]):
            xx, xy, yy = information[j, i, 0], information[j, i, 1], information[j, i, 2]
            if xx + yy <= 0.0:
                continue
            view_jacobian(views[i], points[j], jv)
            for a in range(2):
                for b in range(2):
                    total = 0.0
                    for k in range(7):
                        for n in range(7):
                            total += jv[a, k] * view_covariance[i, k, n] * jv[b, n]
                        for n in range(3):
                            total -= jv[a, k] * joint[j, n, i, k] * jp[b, n] + jv[b, k] * joint[j, n, i, k] * jp[a, n]
                    for k in range(3):
                        for n in range(3):
                            total += jp[a, k] * point_covariance[j, k, n] * jp[b, n]
                    spread[a, b] = total
            h00 = spread[0, 0] * xx + spread[0, 1] * xy
            h01 = spread[0, 0] * xy + spread[0, 1] * yy
            h10 = spread[1, 0] * xx + spread[1, 1] * xy
            h11 = spread[1, 0] * xy + spread[1, 1] * yy
            trace += h00 + h11
            a00, a11 = 1.0 - h00, 1.0 - h11
            determinant = a00 * a11 - h01 * h10
            if determinant <= _UNDETERMINED:
                continue
            rx, ry = residual[j, i, 0], residual[j, i, 1]
            out[j, i, 0] = (a11 * rx + h01 * ry) / determinant
            out[j, i, 1] = (h10 * rx + a00 * ry) / determinant
    return trace
