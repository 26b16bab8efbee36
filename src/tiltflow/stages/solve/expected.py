"""The error of the alignment that the fit itself expects: what the uncertainty of the views does to the specimen's points.

Points over the field and over the depth of the specimen are shaken with the covariance of the views; what a best 3-D point
cannot follow is the blur of the tomogram there.  It is as honest as the noise it is told, so lasting errors have to be in that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.stages.solve.normal import Geometry
from tiltflow.stages.solve.variables import PER_VIEW

Floats = NDArray[np.float64]


def expected_error(fitted: Geometry, covariance: Floats, half_extent: tuple[float, float]) -> float:
    """Return the root mean square displacement that blurs the tomogram, pixels, over views and over the specimen.

    Parameters
    ----------
    fitted
        The solution; its points tell the depth of the specimen.
    covariance
        Of the view parameters, `(7 views, 7 views)`, pixels and radians.
    half_extent
        Half the field along x and y.
    """
    views = len(fitted.views)
    values, vectors = np.linalg.eigh(covariance)
    shake = vectors * np.sqrt(np.maximum(values, 0.0))
    heights = np.unique(np.percentile(fitted.points[:, 2], [5, 95]))
    basis = np.linalg.qr(fitted.point_jacobians().reshape(-1, 3))[0]
    shake = shake.reshape(views, PER_VIEW, -1)
    total, count = 0.0, 0
    for place in _places(half_extent, heights):
        displacement = fitted.view_jacobians(place) @ shake
        flat = displacement.reshape(2 * views, -1)
        flat = flat - basis @ (basis.T @ flat)
        total += float((flat**2).sum())
        count += views
    return float(np.sqrt(total / count))


def _places(half_extent: tuple[float, float], heights: Floats) -> list[Floats]:
    across, along = (0.7 * half * np.array([-1.0, 0.0, 1.0]) for half in half_extent)
    return [np.array([x, y, z]) for x in across for y in along for z in heights]
