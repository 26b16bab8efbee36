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
volume that the reconstruction shows.  IMOD's XAXISTILT, which undoes it, is -p.  IMOD's tilt takes the X-axis tilt from two
places, XAXISTILT and a line a view in XTILTFILE (`.xtilt`), and subtracts the first from the second: the pitch is

    p = (value in .xtilt) - XAXISTILT

so that a `.xtilt` which does the work of XAXISTILT holds its negative.

**Other programs.**  What each of them calls these quantities, for an axis angle R, tilt t, pitch p and the shift s of the raw view
(:func:`raw_shifts`), pixel size a:

===========  ================  ================  ==============  ====================  =================
program      axis              tilt              about x         shift                 centre of n pixels
===========  ================  ================  ==============  ====================  =================
IMOD         within A          t                 p in `.xtilt`   d, aligned frame, px  n / 2
RELION       rlnTomoZRot = R   rlnTomoYTilt = t  rlnTomoXTilt=p  s a, ångström         floor(n / 2) + 0.5
AreTomo      ROT = R           TILT = t          none            TX, TY = s, px        n / 2
Warp         AxisAngle = R     Angle = -t        none            s a, ångström         n / 2
data portal  matrix Rz(R)      t                 p               s, px                 n / 2
===========  ================  ================  ==============  ====================  =================

RELION counts pixels from their centres, and its centre of an even image is half a pixel from ours.  Programs that take an angle and a
shift in place of A get :func:`rigid` transforms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

STEEPEST_DEG = 85.0
"""Views are stretched by 1 / cos(tilt) to be compared; at this tilt the factor is 11, so that a view of 256 pixels resolves 23 pixels
along x."""


def edge_on(tilt_deg: ArrayLike) -> NDArray[np.bool_]:
    """Return which views see the plane of zero tilt edge-on, within 5 degrees, so that they cannot be stretched to it.

    >>> edge_on([-90, -85, 0, 87, 93, 100, 175])
    array([ True, False, False,  True,  True, False, False])
    """
    return np.asarray(np.abs(folded_tilts(tilt_deg)) > STEEPEST_DEG)


def folded_tilts(tilt_deg: ArrayLike) -> Floats:
    """Return tilts folded to -90 to 90 degrees: beyond, a view shows what the one at half a turn less does, mirrored.

    >>> folded_tilts([-60, 0, 100, 175])
    array([-60.,   0., -80.,  -5.])
    """
    return np.asarray((np.asarray(tilt_deg, float) + 90.0) % 180.0 - 90.0)


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


def raw_shifts(transforms: ArrayLike) -> Floats:
    """Return the shift of each raw view, `(..., 2)`: where the centre of the aligned image lies in it, from its own centre; -A⁻¹ d.

    >>> raw_shifts([[1, 0, 3], [0, 1, -2]])
    array([-3.,  2.])
    """
    return invert(transforms)[..., 2]


def rigid(transforms: ArrayLike) -> Floats:
    """Return transforms `(views, 2, 3)` without magnification and stretch: the nearest rotation, and the same :func:`raw_shifts`."""
    return from_axis_and_shifts(axis_angles(transforms), raw_shifts(transforms))


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


def projections(tilt_deg: ArrayLike, pitch_deg: ArrayLike = 0.0) -> Floats:
    """Return `(views, 2, 3)`: the matrices that carry points of the levelled volume to each aligned view, both from their centres.

    The pitch may be one for all views, or one for each.
    """
    t = np.deg2rad(np.atleast_1d(np.asarray(tilt_deg, float)))
    p = np.broadcast_to(np.deg2rad(np.asarray(pitch_deg, float)), t.shape)
    rows = [[np.cos(t), np.sin(t) * np.sin(p), np.sin(t) * np.cos(p)], [np.zeros_like(t), np.cos(p), -np.sin(p)]]
    return np.moveaxis(np.array(rows), -1, 0)


def to_xtilt_file(x_axis_tilt_deg: ArrayLike) -> Floats:
    """Return what `.xtilt` holds for an X-axis tilt (XAXISTILT): its negative, the pitch.

    >>> to_xtilt_file([-2.2, 0.0])
    array([2.2, 0. ])
    """
    return 0.0 - np.asarray(x_axis_tilt_deg, float)


def from_xtilt_file(xtilt_deg: ArrayLike, x_axis_tilt_deg: float = 0.0) -> Floats:
    """Return the X-axis tilt of each view from `.xtilt` and the XAXISTILT beside it, which IMOD's tilt subtracts from it."""
    return x_axis_tilt_deg - np.asarray(xtilt_deg, float)


def warp_angles(tilt_deg: ArrayLike) -> Floats:
    """Return the tilts as Warp and M count them: z is seen at `-sin` of their angle, so that they are the negative ones.

    A sign that is forgotten mirrors the volume.
    """
    return 0.0 - np.asarray(tilt_deg, float)


def common_axis_angle(transforms: ArrayLike) -> float:
    """Return the tilt axis angle of all transforms `(views, 2, 3)` together, degrees, -180 to 180.

    >>> round(common_axis_angle(from_axis_and_shifts([179.0, -179.0], [[0, 0], [0, 0]])) % 360, 6)
    180.0
    """
    angles = np.deg2rad(axis_angles(np.asarray(transforms, float).reshape(-1, 2, 3)))
    return float(np.rad2deg(np.arctan2(np.sin(angles).mean(), np.cos(angles).mean())))
