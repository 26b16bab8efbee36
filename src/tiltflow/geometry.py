"""THE statement of axes, signs and the rotation centre; nothing else in tiltflow decides them.

**Images.**  An image is `(y, x)`; x points right, y up (the first row is the bottom, as MRC files store it).  The pixel
`[j, i]` covers `i <= x < i + 1`, `j <= y < j + 1`: its centre is at `(i + 0.5, j + 0.5)` and the centre of an image of `n`
pixels at `n / 2`.  Angles are degrees, counter-clockwise positive.

**Pictures.**  Key image, movies and the pyramid begin at the top, so that they look as in 3dmod: their row `j` is row `ny - 1 - j` of
the MRC file.

**Transforms.**  A transform is a `(2, 3)` array `[A | d]`, one line of IMOD's `.xf`: it maps a raw point to the aligned image,
both measured from the centre of their image:

    x_aligned - c_aligned = A (x_raw - c_raw) + d

in unbinned pixels.  The aligned image has the tilt axis along y, through its centre.

**Tilt axis.**  The axis angle R is measured from y: aligned coordinates turn by +R into raw ones, so that A is about the
rotation by -R.

**Projection.**  At tilt t a specimen point `(x, y, z)`, measured from the centre of the volume, is seen at

    u = x cos t + z sin t,    v = y

The pitch p is the tilt of the specimen about x: `y = y' cos p - z' sin p`, `z = y' sin p + z' cos p`, with primes for the levelled
volume that the reconstruction shows.  IMOD's XAXISTILT, which undoes it, is -p.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def rotation(angle_deg: float) -> Floats:
    """Return the `(2, 2)` matrix that turns points counter-clockwise.

    >>> rotation(90).round(3) @ [1, 0]
    array([0., 1.])
    """
    a = np.deg2rad(angle_deg)
    c, s = float(np.cos(a)), float(np.sin(a))
    return np.array([[c, -s], [s, c]])


def transform(matrix: ArrayLike, shift: ArrayLike = (0.0, 0.0)) -> Floats:
    """Return `[A | d]`, `(2, 3)`, or `(n, 2, 3)` from stacks of matrices and shifts."""
    matrix, shift = np.asarray(matrix, float), np.asarray(shift, float)
    shape = np.broadcast_shapes(matrix.shape[:-2], shift.shape[:-1])
    out = np.empty((*shape, 2, 3))
    out[..., :2], out[..., 2] = matrix, shift
    return out


def apply(xf: ArrayLike, points: ArrayLike) -> Floats:
    """Return points `(..., 2)` mapped by a transform; both are measured from the image centre."""
    xf = np.asarray(xf, float)
    return np.asarray(np.einsum("...ij,...j->...i", xf[..., :2], np.asarray(points, float)) + xf[..., 2])


def invert(xf: ArrayLike) -> Floats:
    """Return the transform from aligned to raw points; stacks are inverted one by one."""
    xf = np.asarray(xf, float)
    inverse = np.linalg.inv(xf[..., :2])
    return transform(inverse, -np.einsum("...ij,...j->...i", inverse, xf[..., 2]))


def compose(first: ArrayLike, then: ArrayLike) -> Floats:
    """Return the transform that applies `first`, then `then` (IMOD's `xfproduct first then`)."""
    first, then = np.asarray(first, float), np.asarray(then, float)
    return transform(then[..., :2] @ first[..., :2], apply(then, first[..., 2]))


def from_axis_and_shifts(axis_angle_deg: ArrayLike, raw_shifts: ArrayLike) -> Floats:
    """Return `(views, 2, 3)`: undo the shift of each raw view, `(views, 2)`, then turn its tilt axis onto y."""
    raw_shifts = np.atleast_2d(np.asarray(raw_shifts, float))
    angles = np.broadcast_to(np.asarray(axis_angle_deg, float), len(raw_shifts))
    matrices = np.stack([rotation(-angle) for angle in angles])
    return transform(matrices, -np.einsum("vij,vj->vi", matrices, raw_shifts))


def axis_angles(transforms: ArrayLike) -> Floats:
    """Return the tilt axis angle, degrees, that each transform `(views, 2, 3)` removes, by the rotation nearest to it."""
    a = np.asarray(transforms, float)
    return np.asarray(-np.rad2deg(np.arctan2(a[..., 1, 0] - a[..., 0, 1], a[..., 0, 0] + a[..., 1, 1])))


def project(points: ArrayLike, tilt_deg: ArrayLike, pitch_deg: float = 0.0) -> Floats:
    """Return where specimen points `(points, 3)` are seen in the aligned views: `(views, points, 2)`.

    With a pitch the points are those of the levelled volume.
    """
    points = np.atleast_2d(np.asarray(points, float))
    p = np.deg2rad(pitch_deg)
    y = points[:, 1] * np.cos(p) - points[:, 2] * np.sin(p)
    z = points[:, 1] * np.sin(p) + points[:, 2] * np.cos(p)
    t = np.deg2rad(np.atleast_1d(np.asarray(tilt_deg, float)))[:, None]
    u = points[:, 0] * np.cos(t) + z * np.sin(t)
    return np.stack([u, np.broadcast_to(y, u.shape)], axis=-1)
