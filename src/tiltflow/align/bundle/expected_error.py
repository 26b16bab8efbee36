"""The error of the alignment that the fit itself expects: what the uncertainty of the views does to the specimen's points.

Points over the field and over the depth of the specimen are shaken with the covariance of the views; what a best 3-D point
cannot follow is the blur of the tomogram there.  It is as honest as the noise it is told, so lasting errors have to be in that.
What variables that were not free leave in the residuals comes on top.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.variables import MAGNIFICATION, PER_VIEW, ROTATION, TILT

Floats = NDArray[np.float64]

_FEWEST = 4.0
"""Tracks, by weight, from which on a view tells what it would rather be."""
_SHIFTS = 2


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


def view_misfit(fitted: Geometry, residual: Floats, weights: Floats) -> float:
    """Return what a rotation, a tilt and a magnification of its own would change in every view beyond the noise, root mean square px.

    It is 0, or nearly so, where each view had them; where they were fixed or shared, the views of a microscope that does not keep
    still are wrong together in a way that no number of tracks averages out.

    Parameters
    ----------
    fitted
        The solution.
    residual, weights
        `(tracks, views, 2)`, 0 where unseen, and `(tracks, views)`.
    """
    own = [ROTATION, TILT, MAGNIFICATION]
    jacobians = np.stack([fitted.view_jacobians(point)[..., own] for point in fitted.points])
    explained, left, freedom, points = 0.0, 0.0, 0.0, 0.0
    enough = [view for view in range(len(fitted.views)) if weights[:, view].sum() > _FEWEST]
    for view in enough:
        root = np.repeat(np.sqrt(weights[:, view]), 2)
        design, wrong = jacobians[:, view].reshape(-1, len(own)) * root[:, None], residual[:, view].ravel() * root
        change = design @ np.linalg.lstsq(design, wrong, rcond=None)[0]
        count = float(weights[:, view].sum())
        explained += float(change @ change)
        left += float(np.sum((wrong - change) ** 2))
        freedom += 2 * count - _SHIFTS - len(own)
        points += count
    if not enough:
        return 0.0
    by_noise = len(own) * len(enough) * left / freedom
    return float(np.sqrt(max(explained - by_noise, 0.0) / points))


def _places(half_extent: tuple[float, float], heights: Floats) -> list[Floats]:
    across, along = (0.7 * half * np.array([-1.0, 0.0, 1.0]) for half in half_extent)
    return [np.array([x, y, z]) for x in across for y in along for z in heights]
