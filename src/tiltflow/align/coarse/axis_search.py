"""The tilt axis angle, estimated from the images alone.

Views stretched along the wrong direction disagree with the covariance model: its likelihood, with the variances estimated anew for
each angle, has one broad maximum at the true angle, to a fraction of a degree even at low doses.  That the nominal angle is near the
maximum at all (its sign may be wrong, or a quarter turn missing) is checked before, by :mod:`tiltflow.align.coarse.starts`.

The images of a tilt series cannot determine the handedness: turning the axis by half a turn is equivalent to changing the sign of
all tilts, and shows the specimen mirrored.

Halved or doubled, no constant here changes the error of the coarse alignment on simulated series by more than 7 %, nor that of the
axis angle, 0.4 degrees there, by more than 30 % (benchmarks/sensitivity.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import INITIAL_THICKNESS, ProjectionFit
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.preprocess.binned_views import BinnedViews

Floats = NDArray[np.float64]

_MOST_VIEWS = 45
"""Views are thinned out evenly to at most so many: the time grows with the third power of their number."""
_GROUPS = 6
"""Rings of frequencies of the fine search."""
_EM_ITERATIONS = 3
"""EM iterations of the model for each geometry, from a prior that is far off."""
_WIDTH_DEG = 4.0
"""First half width of the fine search."""
_NARROWER = 3.0
_LEAST_WIDTH_DEG = 1.0
"""The half width is divided by the former after each round whose maximum lay inside, down to the latter, so that the likelihoods still
differ by more than their roughness."""
_SLOPE_WIDTH = 0.035
"""Half width of the search for the slope of the specimen along the axis (2 degrees), which is correlated with the axis angle."""
_CLOSE_DEG = 0.3
"""The search ends when a round moves the axis by less: below `_LEAST_ERROR_DEG`."""
_ROUNDS = 7
"""Most rounds: enough for an axis 20 degrees off."""
_TRUST = 20.0
"""Ratio of the observed standard deviation to the one that the curvature of the likelihood gives: neighbouring frequencies are not
independent, and the profile over depth takes up part of the difference.  On simulated cryo series without gold the axis was off by 0.3 to
4.2 degrees, where the curvature gave 0.06 to 0.16."""
_LEAST_ERROR_DEG = 1.2
"""Lower bound of the stated standard deviation: root mean square error on simulated plastic sections without gold (0 to 2.5 degrees)."""
_RECOGNISED = 6.0
"""Least median peak height, standard deviations, of the views' correlations with their predictions; noise reaches 4."""
_OVERRULED = 3.0
"""The nominal angle is replaced when the estimate lies this many standard deviations away; smaller differences are left to the
alignment that follows."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The tilt axis angle, degrees: nominal, estimated with its standard deviation (NaN where there is no estimate), and used.

    `doubt` says why the angle used may be another one; empty where it is known.
    """

    given_deg: float
    found_deg: float
    error_deg: float
    used_deg: float
    notes: tuple[str, ...] = ()
    doubt: str = ""

    @classmethod
    def unknown(cls, given_deg: float) -> Axis:
        """Return the axis without an estimate: the nominal angle is used."""
        return cls(given_deg, np.nan, np.nan, given_deg)


def thinned(views: int, most: int) -> NDArray[np.intp]:
    """Return every view, or every second, third ..., so that there are at most so many."""
    return np.arange(0, views, -(-views // most))


def find_axis(views: BinnedViews, where: ViewGeometry, given_deg: float, *, threads: int = 1) -> Axis:
    """Return the tilt axis angle.

    Parameters
    ----------
    views
        Binned, flattened images, `(views, ny, nx)`.
    where
        The geometry of the views under some axis angle; the search starts from it.
    given_deg
        The nominal angle, degrees, which is kept unless the estimate clearly disagrees.
    threads
        Views worked on at the same time.

    Returns
    -------
    Axis
        The estimate and its standard deviation, degrees, and the angle to use.
    """
    thickness_px = INITIAL_THICKNESS * max(views.raw_shape)
    some = thinned(len(views.images), _MOST_VIEWS)
    views, where = replace(views, images=views.images[some]), where.of(some)
    fit = ProjectionFit(views, where, thickness_px, groups=_GROUPS, threads=threads)
    fit.step(FreeParameters(), em_iterations=_EM_ITERATIONS)
    width, found, spread = _WIDTH_DEG, where.axis_deg, np.inf
    for _ in range(_ROUNDS):
        search = fit.search(np.deg2rad(width), _SLOPE_WIDTH)
        move, spread = float(np.rad2deg(search.turn)), float(np.rad2deg(search.spread))
        found += move
        fit.step(FreeParameters())
        if abs(move) < _CLOSE_DEG and search.settled:
            break
        width = max(width / _NARROWER, _LEAST_WIDTH_DEG) if abs(move) < width else width
    error = max(_TRUST * spread, _LEAST_ERROR_DEG)
    if not np.isfinite(error) or error > _WIDTH_DEG or np.median(fit.assess(fit.where).heights) < _RECOGNISED:
        return Axis.unknown(given_deg)
    if abs(found - given_deg) <= _OVERRULED * error:
        return Axis(given_deg, found, error, given_deg)
    note = (
        f"the tilt axis angle estimated from the images, {found:.1f} +- {error:.1f} degrees, differs from the {given_deg:.1f} degrees of "
        "the header: the estimate is used"
    )
    return Axis(given_deg, found, error, found, (note,))
