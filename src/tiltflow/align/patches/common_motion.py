"""The whole field as one more track: where the coarse alignment put it, and how far that is to be believed.

A drift along the series that is common to all patches is what patches know least of, and what the field as a whole knows best.  So
the coarse alignment is kept as a track through the centre of the field.  Its errors are taken to stray from view to view and to
drift; by how much is learnt from where the patches are sure (empirical Bayes; see :mod:`tiltflow.align.bundle.empirical_bayes` for
the update).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.patches.likelihood import own_place

Floats = NDArray[np.float64]

_CYCLES = 30
_AXIS_PX = 1.0
"""How far the field may drift along the tilt axis for an angle of the axis that was off."""
_EXPECTED = 4.0
"""How many views the spreads that are expected count for, beside those that are seen."""


@dataclass(frozen=True, slots=True)
class CommonDisplacement:
    """How far the coarse alignment strays along x and y in the plane of the specimen, raw pixels.

    `scatter_px` independently from view to view, `drift_px` from each view to the next in order of tilt.
    """

    scatter_px: tuple[float, float] = (0.15, 0.15)
    drift_px: tuple[float, float] = (0.08, 0.08)

    def covariance(self, tilt: Floats) -> Floats:
        """Return that of the displacements `(2 views, 2 views)`."""
        shapes = _shapes(tilt)
        sds = (self.scatter_px[0], self.drift_px[0], self.scatter_px[1], self.drift_px[1])
        return np.asarray(_displaced_together(tilt) + sum(sd**2 * shape for sd, shape in zip(sds, shapes, strict=True)))

    def information(self, tilt: Floats) -> Floats:
        """Return the inverse covariance, `(2 views, 2 views)`."""
        return np.asarray(np.linalg.inv(self.covariance(tilt)), np.float64)

    def learnt(self, information: Floats, pull: Floats, tilt: Floats) -> CommonDisplacement:
        """Return what is most probable where the patches say x' S x / 2 - b' x of the displacement x from the coarse alignment.

        `information` is S `(2 views, 2 views)`, `pull` b `(2 views,)`.
        """
        shapes = _shapes(tilt)
        expected = np.square([self.scatter_px[0], self.drift_px[0], self.scatter_px[1], self.drift_px[1]])
        variances = expected
        for _ in range(_CYCLES):
            covariance = _displaced_together(tilt) + np.tensordot(variances, np.stack(shapes), 1)
            system = np.eye(len(pull)) + information @ covariance
            answer = np.linalg.solve(system, np.column_stack([pull, information]))
            a, p = answer[:, 0], answer[:, 1:]
            explained = np.array([a @ shape @ a for shape in shapes]) + _EXPECTED * expected / variances**2
            foreseen = np.array([float(np.sum(p * shape)) for shape in shapes]) + _EXPECTED / variances
            variances = variances * np.sqrt(explained / foreseen)
        sds = np.sqrt(variances).tolist()
        return CommonDisplacement((sds[0], sds[2]), (sds[1], sds[3]))


def _shapes(tilt: Floats) -> list[Floats]:
    """Return the covariances of unit scatter and unit drift, along x and along y."""
    views = len(tilt)
    rank = np.empty(views)
    rank[np.argsort(tilt, kind="stable")] = np.arange(views)
    walk = 0.5 * (views - np.abs(rank[:, None] - rank))
    out: list[Floats] = []
    for axis in (0, 1):
        only = np.zeros((2, 2))
        only[axis, axis] = 1.0
        out += [np.asarray(np.kron(each, only), np.float64) for each in (np.eye(views), walk)]
    return out


def _displaced_together(tilt: Floats) -> Floats:
    """Return the covariance of a drift along y for an angle of the axis that is off, which goes with the tangent of the tilt."""
    shape = np.zeros((len(tilt), 2))
    shape[:, 1] = _AXIS_PX * np.tan(tilt) / max(float(np.sqrt(np.mean(np.tan(tilt) ** 2))), 1e-9)
    return np.outer(shape, shape)


def common_displacement(information: Floats, pulls: Floats, weights: Floats, tilt: Floats) -> tuple[Floats, Floats]:
    """Return what patches say of a displacement that they have in common: S `(2 views, 2 views)` and b `(2 views,)`.

    `information` `(2 views, 2 views)` is that of each, `pulls` `(patches, 2 views)` their slopes, `weights` `(patches,)` how much they
    count.  The place of each patch is its own affair.
    """
    place = own_place(tilt)
    through = information @ place @ np.linalg.inv(place.T @ information @ place)
    left = information - through @ (information @ place).T
    return weights.sum() * left, weights @ (pulls - pulls @ place @ through.T)
