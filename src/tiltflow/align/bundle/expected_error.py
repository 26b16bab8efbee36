"""The estimated error of the alignment, from the covariance of the views.

The covariance of the views is propagated to the positions of points over the field and the depth of the specimen; the part that a
3-D point of its own cannot absorb is the blur of the tomogram there.  The noise must account for errors that are correlated from
view to view.  Misfits left by variables that were not free are added.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.variables import MAGNIFICATION, PER_VIEW, ROTATION, TILT

Floats = NDArray[np.float64]

_FEWEST = 4.0
"""Tracks, by weight, that a view needs for its own rotation, tilt and magnification to be estimated: eight measurements for five
unknowns."""
_SHIFTS = 2
"""Shifts of a view, which are always free."""
_DEPTH_PERCENTILES = (5, 95)
"""Percentiles of the points' heights taken for the depth of the specimen: a misplaced point does not count."""
_SEEN_MOTION = 0.5
"""Part of the variance of the noise from which on motion counts.  Of rigid simulated specimens with 8 to 30 beads it is at most 0.2, of
those that bend by 2 to 8 pixels 0.5 to 2.6."""
_PLACES = (-0.7, 0.0, 0.7)
"""Where the error is evaluated along x and y, as fractions of half the field; the mean square over them is nearly that over the field
(0.327 of the square at an edge, against 1/3)."""


def field_points(points: Floats, half_extent: tuple[float, float]) -> Floats:
    """Return the points `(n, 3)` at which an error is evaluated: over the field, at the heights between which `points` lie.

    `half_extent` is half the field along x and y, pixels.
    """
    heights = np.unique(np.percentile(points[:, 2], _DEPTH_PERCENTILES))
    across, along = (half * np.array(_PLACES) for half in half_extent)
    return np.array([(x, y, z) for x in across for y in along for z in heights])


def expected_error(fitted: Geometry, covariance: Floats, half_extent: tuple[float, float]) -> float:
    """Return the root mean square displacement that blurs the tomogram, pixels, over views and over the specimen.

    Parameters
    ----------
    fitted
        The solution; its points give the depth of the specimen.
    covariance
        Of the view parameters, `(7 views, 7 views)`, pixels and radians.
    half_extent
        Half the field along x and y.
    """
    views = len(fitted.views)
    basis = np.linalg.qr(fitted.point_jacobians().reshape(-1, 3))[0].reshape(views, 2, 3)
    by_view = fitted.view_jacobians(field_points(fitted.points, half_extent))
    each = np.arange(views)
    of_views = covariance.reshape(views, PER_VIEW, views, PER_VIEW)[each, :, each]
    # What a point moves with its own place blurs nothing: that part of the trace is taken away.
    whole = np.einsum("jvap,vpq,jvaq->", by_view, of_views, by_view, optimize=True)
    own = np.einsum("jvap,van->jnvp", by_view, basis, optimize=True).reshape(-1, views * PER_VIEW)
    blurring = float(whole) - float(((own @ covariance) * own).sum())
    return float(np.sqrt(max(blurring, 0.0) / (len(by_view) * views)))


def expected_error_of_pieces(
    fitted: Geometry,
    modes: Floats,
    shift_modes: Floats,
    weights: Callable[[Floats], Floats],
    half_extent: tuple[float, float],
    along: tuple[int, int],
) -> float:
    """Return the error of :func:`expected_error` for stitched views, with that of the placement of their pieces.

    Parameters
    ----------
    fitted
        The solution.
    modes, shift_modes
        A square root of the joint covariance of view parameters, `(7 views, n)`, and of the pieces' shifts, `(views, pieces, 2, n)`.
    weights
        Gives how much of each piece is seen at places `(n, views, 2)` from the image centre, `(n, views, pieces)`.
    half_extent
        Half the field along x and y.
    along
        Places along x and y: several on every piece, as a shift ends where its piece does.
    """
    views = len(fitted.views)
    basis = np.linalg.qr(fitted.point_jacobians().reshape(-1, 3))[0]
    by_view = modes.reshape(views, PER_VIEW, -1)
    heights = np.unique(np.percentile(fitted.points[:, 2], _DEPTH_PERCENTILES))
    steps = [half * ((2 * np.arange(n) + 1) / n - 1) for half, n in zip(half_extent, along, strict=True)]
    places = np.array([(x, y, z) for x in steps[0] for y in steps[1] for z in heights])
    acting = weights(np.stack([fitted.positions(place) for place in places]))
    total = 0.0
    for moves, share in zip(fitted.view_jacobians(places), acting, strict=True):
        flat = (moves @ by_view + np.einsum("vk,vkan->van", share, shift_modes)).reshape(2 * views, -1)
        flat -= basis @ (basis.T @ flat)
        total += float((flat**2).sum())
    return float(np.sqrt(total / (views * len(places))))


def specimen_motion(residual: Floats, seen: NDArray[np.bool_], noise_px: float) -> float:
    """Return by how much points of a specimen that deforms move against the solution, root mean square px; 0 where noise hides it.

    Noise differs from view to view, while a specimen that bends or shrinks moves on: the mean product of the residuals of neighbouring
    views is the variance of that motion alone.  It blurs the tomogram, and shrinks with no number of points; points that the fit
    rejects for it count too, for they belong to the specimen.

    Parameters
    ----------
    residual
        `(tracks, views, 2)`, the views in the order in which they were taken or tilted.
    seen
        `(tracks, views)`.
    noise_px
        Standard deviation of a coordinate.
    """
    pairs = seen[:, 1:] & seen[:, :-1]
    if not pairs.any():
        return 0.0
    square = float(np.mean(np.sum(residual[:, 1:] * residual[:, :-1], axis=-1)[pairs]))
    return float(np.sqrt(square)) if square > _SEEN_MOTION * 2 * noise_px**2 else 0.0


def view_misfit(fitted: Geometry, residual: Floats, weights: Floats) -> float:
    """Return the misfit that a rotation, tilt and magnification of each view would remove, beyond the noise, root mean square px.

    It is about 0 where each view had its own; where they were fixed or shared, it is an error that no number of tracks averages out.

    Parameters
    ----------
    fitted
        The solution.
    residual, weights
        `(tracks, views, 2)`, 0 where unseen, and `(tracks, views)`.
    """
    own = [ROTATION, TILT, MAGNIFICATION]
    jacobians = fitted.view_jacobians(fitted.points)[..., own]
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
