"""How far off the alignment may be, told by patches that know nothing of each other.

At the end of a fit what the patches pull adds up to nothing; what each of them would move on its own is the fit's disagreement with
itself.  So each patch is left out in turn, and the covariance of the view parameters is the jackknife's (Efron & Stein 1981,
doi:10.1214/aos/1176345462): right even where the model is not.  Three things are added that single patches cannot tell:

* patches that overlap say in part the same (:attr:`PatchLayout.crowding`), so that fewer count than there are;
* what makes a patch drift makes the field drift as well, the less, the larger the field: where the coarse alignment holds the drift
  of all patches, its own may be that large;
* what neither tells is as uncertain as it was before (the priors of the solution).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tiltflow.align.bundle.adjustment import BundleFit
from tiltflow.align.bundle.expected_error import expected_error
from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.bundle.variables import PER_VIEW, SHIFT_X, SHIFT_Y, TILT
from tiltflow.align.patches.likelihood import own_place

Floats = NDArray[np.float64]

_CONFIDENCE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutFits:
    """What patches and field say, in the plane of the specimen.

    Attributes
    ----------
    pulls
        `(patches, 2 views)` slopes of the log-likelihood at the fit.
    information
        `(2 views, 2 views)` curvature, the same for all patches.
    field_information
        `(2 views, 2 views)` of the field, beside patches as many as there seem to be.
    field_covariance
        `(2 views, 2 views)` of the field's error, as it may be at worst.
    crowding
        By how much patches together know less than as many that do not overlap.
    """

    pulls: Floats
    information: Floats
    field_information: Floats
    field_covariance: Floats
    crowding: float


@dataclass(frozen=True, slots=True)
class JackknifeError:
    """The error that is to be expected, raw pixels, root mean square over views and specimen, and the limit it keeps in 19 of 20."""

    error_px: float
    limit_px: float


def jackknife_error(fit: BundleFit, said: LeftOutFits, half_extent: tuple[float, float]) -> JackknifeError:
    """Return the error of a fit whose last track is the field; `half_extent` is half the field along x and y."""
    weights = fit.weights.max(axis=1)
    used = np.flatnonzero(weights[:-1] > 0)
    map_, prior = fit.variables.matrix(), fit.variables.precision()
    matrices, gradients = [], []
    for track in used:
        reduce = _reduction(fit.geometry, int(track), said.information, map_)
        scale = weights[track] / fit.sigma**2
        matrices.append(scale * reduce @ said.information @ _by_view(fit.geometry, int(track), map_))
        gradients.append(scale * reduce @ said.pulls[track])
    reduce = _reduction(fit.geometry, -1, said.field_information, map_)
    scale = weights[-1] / fit.sigma**2
    whole = np.sum(matrices, axis=0) + prior + scale * reduce @ said.field_information @ _by_view(fit.geometry, -1, map_)
    whole += _held_still(fit.geometry, map_) * np.trace(whole) / len(whole)
    pulls = np.array(gradients) - np.mean(gradients, axis=0)
    left_out = np.array([np.linalg.solve(whole - matrix, pull) for matrix, pull in zip(matrices, pulls, strict=True)])
    inverse = np.linalg.inv(whole)
    by_field = scale * inverse @ reduce @ said.field_information
    count = len(used)
    patches = said.crowding * (count - 1) / count * left_out.T @ left_out
    covariance = patches + by_field @ said.field_covariance @ by_field.T + inverse @ prior @ inverse
    error = expected_error(fit.geometry, map_ @ covariance @ map_.T, half_extent)
    freedom = max(count / said.crowding - 1, 1.0)
    return JackknifeError(error, error * float(np.sqrt(freedom / stats.chi2.ppf(_CONFIDENCE, freedom))))


def _by_view(geometry: Geometry, track: int, map_: Floats) -> Floats:
    """Return how a track moves in the plane of the specimen by the variables, `(2 views, variables)`."""
    plane = np.linalg.inv(geometry.point_jacobians()[..., :2])
    moves = np.einsum("vpa,vaq->vpq", plane, geometry.view_jacobians(geometry.points[track]))
    by_view = map_.reshape(len(moves), PER_VIEW, -1)
    return np.asarray(np.einsum("vpq,vqn->vpn", moves, by_view).reshape(2 * len(moves), -1))


def _reduction(geometry: Geometry, track: int, information: Floats, map_: Floats) -> Floats:
    """Return what takes pulls of a track `(2 views,)` to the variables, its own place eliminated, `(variables, 2 views)`."""
    by_view = _by_view(geometry, track, map_)
    place = own_place(geometry.views[:, TILT])
    own = np.linalg.solve(place.T @ information @ place, place.T)
    return np.asarray(by_view.T - by_view.T @ information @ place @ own)


def _held_still(geometry: Geometry, map_: Floats) -> Floats:
    """Return the projector onto moves of the whole specimen, which nothing determines."""
    translations = np.zeros((len(geometry.views), PER_VIEW, 3))
    translations[:, [SHIFT_X, SHIFT_Y]] = geometry.point_jacobians()
    null = np.linalg.qr(map_.T @ translations.reshape(-1, 3))[0]
    return np.asarray(null @ null.T)
