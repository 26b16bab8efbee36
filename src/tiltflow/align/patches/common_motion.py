"""The whole field as one more track: its position by the coarse alignment, and the uncertainty of that.

Patches determine a drift along the series that is common to all of them poorly; the field as a whole determines it best.  So the
coarse alignment is kept as a track through the centre of the field.  Its error is modelled as independent scatter from view to view
and a drift; their standard deviations are estimated from the patches (empirical Bayes; see
:mod:`tiltflow.align.bundle.empirical_bayes` for the update).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.patches.likelihood import own_place

Floats = NDArray[np.float64]

_CYCLES, _SETTLED = 30, 1e-3
"""Most iterations of the variances, which end when no standard deviation changes by more, as a fraction."""
_AXIS_PX = 1.0
"""Prior standard deviation of the field's drift along the tilt axis for an error of the axis angle."""
_EXPECTED = 4.0
"""Weight of the prior variances, as a number of views."""


@dataclass(frozen=True, slots=True)
class CommonDisplacement:
    """Standard deviations of the coarse alignment's error along x and y in the plane of the specimen, raw pixels.

    `scatter_px` is that of the independent error of each view, `drift_px` of the step from each view to the next in order of tilt.
    The defaults are the prior.
    """

    scatter_px: tuple[float, float] = (0.15, 0.15)
    drift_px: tuple[float, float] = (0.08, 0.08)

    def covariance(self, tilt: Floats) -> Floats:
        """Return the covariance of the displacements, `(2 views, 2 views)`."""
        shapes = _shapes(tilt)
        sds = (self.scatter_px[0], self.drift_px[0], self.scatter_px[1], self.drift_px[1])
        return np.asarray(_displaced_together(tilt) + sum(sd**2 * shape for sd, shape in zip(sds, shapes, strict=True)))

    def information(self, tilt: Floats) -> Floats:
        """Return the inverse covariance, `(2 views, 2 views)`."""
        return np.asarray(np.linalg.inv(self.covariance(tilt)), np.float64)

    def estimated(self, information: Floats, gradient: Floats, tilt: Floats) -> CommonDisplacement:
        """Return the most probable standard deviations given the patches, this being the prior.

        Minus the log-likelihood of a displacement x from the coarse alignment is x' S x / 2 - b' x, with S the `information`
        `(2 views, 2 views)` and b the `gradient` `(2 views,)`.
        """
        shapes = np.stack(_shapes(tilt))
        together = _displaced_together(tilt)
        expected = np.square([self.scatter_px[0], self.drift_px[0], self.scatter_px[1], self.drift_px[1]])
        variances = expected
        for _ in range(_CYCLES):
            covariance = together + np.tensordot(variances, shapes, 1)
            system = np.eye(len(gradient)) + information @ covariance
            solution = np.linalg.solve(system, np.column_stack([gradient, information]))
            a, p = solution[:, 0], solution[:, 1:]
            explained = (shapes @ a) @ a + _EXPECTED * expected / variances**2
            expected_power = (shapes * p).sum(axis=(1, 2)) + _EXPECTED / variances
            factor = np.sqrt(explained / expected_power)
            variances = variances * factor
            if np.abs(np.sqrt(factor) - 1).max() < _SETTLED:
                break
        sds = np.sqrt(variances).tolist()
        return CommonDisplacement((sds[0], sds[2]), (sds[1], sds[3]))


def _shapes(tilt: Floats) -> list[Floats]:
    """Return the covariances of unit scatter and unit drift, along x and along y."""
    views = len(tilt)
    rank = np.empty(views)
    rank[np.argsort(tilt, kind="stable")] = np.arange(views)
    random_walk = 0.5 * (views - np.abs(rank[:, None] - rank))
    out: list[Floats] = []
    for axis in (0, 1):
        only = np.zeros((2, 2))
        only[axis, axis] = 1.0
        out += [np.asarray(np.kron(each, only), np.float64) for each in (np.eye(views), random_walk)]
    return out


def _displaced_together(tilt: Floats) -> Floats:
    """Return the covariance of a drift along y by an error of the axis angle, proportional to the tangent of the tilt."""
    shape = np.zeros((len(tilt), 2))
    shape[:, 1] = _AXIS_PX * np.tan(tilt) / max(float(np.sqrt(np.mean(np.tan(tilt) ** 2))), 1e-9)
    return np.outer(shape, shape)


def common_displacement(information: Floats, gradients: Floats, weights: Floats, tilt: Floats) -> tuple[Floats, Floats]:
    """Return the normal equations of the displacement that all patches share: S `(2 views, 2 views)` and b `(2 views,)`.

    `information` `(2 views, 2 views)` is that of each patch, `gradients` `(patches, 2 views)` are those of the log-likelihood,
    `weights` `(patches,)`.  The position of each patch is eliminated.
    """
    place = own_place(tilt)
    through = information @ place @ np.linalg.inv(place.T @ information @ place)
    left = information - through @ (information @ place).T
    return weights.sum() * left, weights @ (gradients - gradients @ place @ through.T)
