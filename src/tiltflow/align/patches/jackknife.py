"""The uncertainty of the alignment, from leaving out one patch at a time.

At the end of a fit the gradients of the patches add up to zero; their scatter measures the uncertainty.  So each patch is left out in
turn, and the covariance of the view parameters is the jackknife's (Efron & Stein 1981, doi:10.1214/aos/1176345462), valid also where
the model is not exact.  Three contributions are added that single patches do not show:

* patches that overlap are not independent (:attr:`PatchLayout.crowding`), so that their number counts for less;
* what makes a patch drift makes the whole field drift too, the less, the larger the field: where the coarse alignment determines the
  drift of all patches, its own may be that large;
* what neither determines is as uncertain as the priors of the solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.bundle.adjustment import BundleFit
from tiltflow.align.bundle.expected_error import expected_error
from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.variables import PER_VIEW, SHIFT_X, SHIFT_Y, TILT
from tiltflow.align.patches.likelihood import own_place
from tiltflow.align.positive import inverse_but_for_rounding

Floats = NDArray[np.float64]

_CONFIDENCE = 0.05
"""One in twenty: the error exceeds its limit with this probability, by the chi-squared distribution of the patches' scatter."""


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutFits:
    """Normal equations of patches and field at the fit, in the plane of the specimen.

    Attributes
    ----------
    gradients
        `(patches, 2 views)` of the log-likelihood at the fit.
    information
        `(2 views, 2 views)` curvature, the same for all patches.
    field_information
        `(2 views, 2 views)` of the field.
    field_covariance
        `(2 views, 2 views)` of the field's error, drift of its content included.
    crowding
        Number of patches over the number of independent ones.
    """

    gradients: Floats
    information: Floats
    field_information: Floats
    field_covariance: Floats
    crowding: float


@dataclass(frozen=True, slots=True)
class JackknifeError:
    """The estimated error, raw pixels, root mean square over views and specimen, and its upper limit with 95 % confidence."""

    error_px: float
    limit_px: float


def jackknife_error(fit: BundleFit, patches: LeftOutFits, half_extent: tuple[float, float]) -> JackknifeError:
    """Return the estimated error of a fit whose last track is the field.

    Parameters
    ----------
    fit
        The adjustment of all patches and the field.
    patches
        Their normal equations at the fit.
    half_extent
        Half the field along x and y, raw pixels.

    Returns
    -------
    JackknifeError
        The root mean square error and its limit, raw pixels.
    """
    weights = fit.weights.max(axis=1)
    used = np.flatnonzero(weights[:-1] > 0)
    map_, prior = fit.variables.matrix(), fit.variables.precision()
    scale = weights / fit.sigma**2
    matrices, gradients = [], []
    reduction = _reduction(fit.geometry, patches.information)
    reduced = reduction @ patches.information
    for track in used:
        by_view = _by_view(fit.geometry, int(track), map_)
        matrices.append(scale[track] * by_view.T @ (reduced @ by_view))
        gradients.append(scale[track] * by_view.T @ (reduction @ patches.gradients[track]))
    by_view = _by_view(fit.geometry, -1, map_)
    of_field = scale[-1] * by_view.T @ _reduction(fit.geometry, patches.field_information) @ patches.field_information
    whole = np.sum(matrices, axis=0) + prior + of_field @ by_view
    whole += _held_still(fit.geometry, map_) * np.trace(whole) / len(whole)
    scatter = np.array(gradients) - np.mean(gradients, axis=0)
    left_out = np.array([np.linalg.solve(whole - matrix, each) for matrix, each in zip(matrices, scatter, strict=True)])
    inverse = inverse_but_for_rounding(whole)
    by_field = inverse @ of_field
    count = len(used)
    by_patches = patches.crowding * (count - 1) / count * left_out.T @ left_out
    covariance = by_patches + by_field @ patches.field_covariance @ by_field.T + inverse @ prior @ inverse
    error = expected_error(fit.geometry, map_ @ covariance @ map_.T, half_extent)
    freedom = max(count / patches.crowding - 1, 1.0)
    return JackknifeError(error, error * float(np.sqrt(freedom / _chi_squared_quantile(freedom))))


def _chi_squared_quantile(freedom: float) -> float:
    """Return the quantile of chi squared at the confidence (`scipy.stats.chi2.ppf`, whose import takes a second)."""
    return float(2 * scipy.special.gammaincinv(freedom / 2, _CONFIDENCE))


def _by_view(geometry: Geometry, track: int, map_: Floats) -> Floats:
    """Return how a track moves in the plane of the specimen by the variables, `(2 views, variables)`."""
    plane = np.linalg.inv(geometry.point_jacobians()[..., :2])
    moves = plane @ geometry.view_jacobians(geometry.points[track, None])[0]
    return np.asarray((moves @ map_.reshape(len(moves), PER_VIEW, -1)).reshape(2 * len(moves), -1))


def _reduction(geometry: Geometry, information: Floats) -> Floats:
    """Return what is left of the gradients of a track once its position is eliminated, as a map `(2 views, 2 views)`."""
    place = own_place(geometry.views[:, TILT])
    own = np.linalg.solve(place.T @ information @ place, place.T)
    return np.asarray(np.eye(len(place)) - information @ place @ own)


def _held_still(geometry: Geometry, map_: Floats) -> Floats:
    """Return the projector onto translations of the whole specimen, which the data do not determine."""
    translations = np.zeros((len(geometry.views), PER_VIEW, 3))
    translations[:, [SHIFT_X, SHIFT_Y]] = geometry.point_jacobians()
    null = np.linalg.qr(map_.T @ translations.reshape(-1, 3))[0]
    return np.asarray(null @ null.T)
