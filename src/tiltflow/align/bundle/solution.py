"""The solved geometry, with projection of points into the views and triangulation of positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.model import Alignment, Evidence, LocalAlignment, PieceShifts

Floats = NDArray[np.float64]

_DETERMINED = 1e-6
"""Least ratio of eigenvalues of a point's normal matrix: the depth error is then a thousand times that across."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """The geometry of every view and the position of every feature.

    Attributes
    ----------
    image_shape
        `(ny, nx)` of the raw images.
    included
        `(views,)` views whose points were used; the geometry of the others is interpolated between them.
    rotation_deg, magnification, stretch, skew_deg
        `(views,)` angle of the tilt axis, magnification, and the specimen's stretch (a fraction of its x) and skew.
    tilt_deg
        `(views,)` tilt of the specimen: tiltalign's.
    aligned_tilt_deg
        `(views,)` tilt at which an aligned view has to be back-projected: `tilt_deg` with the stretch worked in.
    y_per_z
        `(views,)` how far a height is displaced along y in the aligned view, as a fraction of it; 0 without skew.
    shift_px
        `(views, 2)` where the origin of the specimen is seen, from the raw image's centre.
    transforms
        `(views, 2, 3)` raw to aligned, as :mod:`tiltflow.geometry` states them.
    points
        `(tracks, 3)` from the centre of the volume; NaN for tracks that determine none.
    residuals
        `(tracks, views, 2)` measured minus predicted, raw pixels; NaN where unseen.
    weights
        `(tracks, views)` between 0 and 1; 0 where unseen or rejected.
    tilt_offset_deg, pitch_deg
        The angles that level the points: one to add to every tilt, and the tilt of the points about x.
    z_range_px
        Lowest and highest point along z, in the volume levelled by the pitch.
    evidence
        Residuals, leave-out error, estimated error, and notes.
    local
        Corrections by area, where they were asked for and could be solved.
    slope
        A sentence on the slope across the tilt axis and what levels it, where the points lie slanted; else empty.
    pieces
        Where the tracks see the pieces of a montage.  If the shifts are used, geometry and residuals are those of views so stitched.
    """

    image_shape: tuple[int, int]
    included: NDArray[np.bool_]
    rotation_deg: Floats
    tilt_deg: Floats
    magnification: Floats
    stretch: Floats
    skew_deg: Floats
    shift_px: Floats
    aligned_tilt_deg: Floats
    y_per_z: Floats
    transforms: Floats
    points: Floats
    residuals: Floats
    weights: Floats
    tilt_offset_deg: float
    pitch_deg: float
    z_range_px: tuple[float, float]
    evidence: Evidence
    local: LocalAlignment | None = None
    slope: str = ""
    pieces: PieceShifts | None = None

    @property
    def used(self) -> NDArray[np.bool_]:
        """Tracks that carry weight, `(tracks,)`."""
        return np.asarray((self.weights > 0).any(axis=1))

    @property
    def matrices(self) -> Floats:
        """`(views, 2, 3)`: specimen coordinates to raw ones, without the shift."""
        backward = geometry.invert(self.transforms)[..., :2]
        t = np.deg2rad(self.aligned_tilt_deg)
        projection = np.zeros((len(t), 2, 3))
        projection[:, 0, 0], projection[:, 0, 2], projection[:, 1, 1] = np.cos(t), np.sin(t), 1.0
        projection[:, 1, 2] = self.y_per_z
        return np.asarray(backward @ projection)

    def alignment(self, method: str) -> Alignment:
        """Return the alignment that reconstruction takes, under the name of the method."""
        return Alignment(
            transforms=self.transforms,
            tilt_deg=self.aligned_tilt_deg,
            included=self.included,
            method=method,
            x_axis_tilt_deg=0.0 - self.pitch_deg,
            evidence=self.evidence,
            local=self.local,
            y_per_z=self.y_per_z,
            pieces=self.pieces,
        )


def project_solution(solution: Solution, points: ArrayLike) -> Floats:
    """Return where points `(..., 3)` are seen in the raw views: `(..., views, 2)`, origin at the corner of pixel 0."""
    centre = np.array(solution.image_shape[::-1]) / 2
    seen = np.einsum("vij,...j->...vi", solution.matrices, np.asarray(points, float))
    return np.asarray(seen + solution.shift_px + centre)


def triangulate(solution: Solution, xy: ArrayLike, weight: ArrayLike | None = None) -> Floats:
    """Return the points `(..., 3)` that fit raw positions `(..., views, 2)` best; NaN where unseen.

    A feature seen in fewer than two views, or at one tilt alone, determines no point: NaN.
    """
    xy = np.asarray(xy, float)
    centred = xy - np.array(solution.image_shape[::-1]) / 2 - solution.shift_px
    seen = ~np.isnan(centred[..., 0])
    w = np.where(seen, 1.0 if weight is None else np.asarray(weight, float), 0.0)
    matrices = solution.matrices
    normal = np.einsum("...v,vki,vkj->...ij", w, matrices, matrices)
    right = np.einsum("...v,vki,...vk->...i", w, matrices, np.nan_to_num(centred))
    largest = np.linalg.eigvalsh(normal)
    determined = largest[..., 0] > _DETERMINED * np.maximum(largest[..., -1], 1e-300)
    safe = np.where(determined[..., None, None], normal, np.eye(3))
    point = np.linalg.solve(safe, right[..., None])[..., 0]
    return np.where(determined[..., None], point, np.nan)
