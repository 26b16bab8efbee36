"""The leave-out error: the distance of each position from its prediction by a fit to all others.

Leaving out one position of a linear fit changes its residual from r to (1 - H)^-1 r, with H the 2 x 2 block of the hat matrix that
belongs to it (Cook & Weisberg 1982, Residuals and Influence in Regression, section 2.2).  At the solution the adjustment is linear to
well below a hundredth of a pixel, so that one factorisation gives every leave-out residual without a refit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.bundle.normal_equations import Geometry, Normal, normal_equations, reduced_system
from tiltflow.align.bundle.observations import Observations
from tiltflow.align.bundle.variables import Variables
from tiltflow.align.positive import inverse_but_for_rounding
from tiltflow.kernels import solve as kernels

Floats = NDArray[np.float64]

_RIDGE = 1e-9
"""Added to the diagonal of the equations without a track, relative to its mean: the others may not determine all variables."""


@dataclass(frozen=True, slots=True, eq=False)
class LeaveOut:
    """Leave-out residuals `(tracks, views, 2)`, NaN where unseen, and the trace of the hat matrix: how many numbers were fitted."""

    residual: Floats
    effective_unknowns: float


def leave_out(geometry: Geometry, observations: Observations, normal: Normal, covariance: Floats) -> LeaveOut:
    """Return the residual of every position as if it had not been used.

    `normal` are the equations at `geometry`, `covariance` is that of the view parameters from :func:`view_covariance`.
    """
    # Points as linear functions of view parameters: X = V^-1 (h - W' p), so cov(X, p) = -V^-1 W' C.
    tracks, views = observations.xy.shape[:2]
    inverse_factor = np.linalg.inv(normal.factor)
    to_point = np.einsum("jba,jbk->jak", inverse_factor, normal.cross)
    joint = (to_point.reshape(tracks * 3, -1) @ covariance).reshape(tracks, 3, -1)
    point_covariance = np.einsum("jba,jbc->jac", inverse_factor, inverse_factor) + np.einsum("jak,jbk->jab", joint, to_point)
    residual = geometry.residual(observations)
    out = np.full_like(residual, np.nan)
    view_blocks = covariance.reshape(views, 7, views, 7)[np.arange(views), :, np.arange(views), :]
    trace = kernels.leave_out(
        geometry.views,
        geometry.points,
        residual,
        observations.information,
        np.ascontiguousarray(view_blocks),
        joint.reshape(tracks, 3, views, 7),
        point_covariance,
        out,
    )
    return LeaveOut(out, float(trace))


def leave_tracks_out(
    geometry: Geometry, observations: Observations, normal: Normal, variables: Variables, sigma: float
) -> LeaveOut:
    """Return the residuals of every track with views fitted to the other tracks, and its point fitted to itself.

    For tracks whose errors are correlated from view to view: a single position left out would be predicted from its neighbours' errors.
    """
    map_ = variables.matrix()
    whole, _ = reduced_system(normal, geometry, map_)
    whole += sigma**2 * variables.precision()
    inverse = inverse_but_for_rounding(whole)
    ridge = _RIDGE * np.trace(whole) / len(whole) * np.eye(len(whole))
    out = np.full_like(observations.xy, np.nan)
    by_point = geometry.point_jacobians().reshape(-1, 3)
    by_view, trace = geometry.view_jacobians(geometry.points), 0.0
    for track in range(len(observations.xy)):
        alone = observations.only(track)
        own = Geometry(geometry.views, geometry.points[track : track + 1])
        part = normal_equations(own, alone, variables.rows)
        trace += float((inverse * part.matrix).sum())
        # At the optimum the gradient of all tracks is zero; without this track it is minus its own.
        values = np.linalg.solve(whole - part.matrix + ridge, -part.right)
        steps = (map_ @ values).reshape(len(geometry.views), -1)
        moved = np.einsum("vap,vp->va", by_view[track], steps)
        point = part.point_steps(values)[0]
        left = own.residual(alone)[0] - moved - (by_point @ point).reshape(-1, 2)
        out[track] = np.where(observations.seen[track, :, None], left, np.nan)
    return LeaveOut(out, trace + 3 * len(observations.xy))


def view_covariance(geometry: Geometry, normal: Normal, variables: Variables, sigma: float) -> Floats:
    """Return the covariance of the view parameters in units of sigma squared, `(7 views, 7 views)`."""
    map_ = variables.matrix()
    matrix, _ = reduced_system(normal, geometry, map_)
    matrix += sigma**2 * variables.precision()
    return np.asarray(map_ @ inverse_but_for_rounding(matrix) @ map_.T)
