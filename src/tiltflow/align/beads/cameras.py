"""Linear projection of the specimen into each view, for prediction while tracks are being made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.bundle import Solution

Floats = NDArray[np.float64]

_RIDGE = 1e-9
"""Added to the diagonal of a point's normal matrix along x and y: a point without positions stays at the origin."""


@dataclass(frozen=True, slots=True, eq=False)
class Cameras:
    """A point p of the specimen is seen at `matrices[v] @ p + shifts[v]`, raw pixels from the centre of the view."""

    matrices: Floats
    shifts: Floats

    def project(self, points: Floats) -> Floats:
        """Return where points `(n, 3)` are seen, `(n, views, 2)`."""
        return np.asarray(np.einsum("vij,nj->nvi", self.matrices, points) + self.shifts)

    def locate(self, xy: Floats, depth_sd: float) -> Floats:
        """Return the points `(n, 3)` that fit positions `(n, views, 2)` best, NaN where unseen.

        The depth has a prior of standard deviation `depth_sd`, pixels over the error of a position, so that a point seen at one
        tilt alone is put at depth 0.
        """
        centred = xy - self.shifts
        seen = ~np.isnan(centred[..., 0])
        normal = np.einsum("nv,vki,vkj->nij", seen.astype(float), self.matrices, self.matrices)
        normal[:, 2, 2] += 1 / depth_sd**2
        right = np.einsum("nv,vki,nvk->ni", seen.astype(float), self.matrices, np.nan_to_num(centred))
        normal[:, [0, 1], [0, 1]] += _RIDGE
        return np.asarray(np.linalg.solve(normal, right[..., None])[..., 0])

    def ray(self, view: int, xy: Floats) -> tuple[Floats, Floats]:
        """Return where the points seen at `xy` `(n, 2)` of a view are seen in all.

        A point at depth z is seen at `base + z step`, `(n, views, 2)` and `(views, 2)`.
        """
        back = np.linalg.inv(self.matrices[view, :, :2])
        flat = (xy - self.shifts[view]) @ back.T
        base = np.einsum("vij,nj->nvi", self.matrices[:, :, :2], flat) + self.shifts
        step = self.matrices[:, :, 2] - self.matrices[:, :, :2] @ back @ self.matrices[view, :, 2]
        return np.asarray(base), np.asarray(step)


def cameras_of_transforms(transforms: Floats, tilt_deg: Floats) -> Cameras:
    """Return the cameras of an alignment, `(views, 2, 3)`."""
    back = geometry.invert(transforms)
    t = np.deg2rad(tilt_deg)
    tilted = np.zeros((len(t), 2, 3))
    tilted[:, 0, 0], tilted[:, 0, 2], tilted[:, 1, 1] = np.cos(t), np.sin(t), 1.0
    return Cameras(back[..., :2] @ tilted, back[..., 2])


def cameras_of_solution(solution: Solution) -> Cameras:
    """Return the cameras of a solved geometry."""
    return Cameras(solution.matrices, solution.shift_px)
