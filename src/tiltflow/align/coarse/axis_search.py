"""The angle of the tilt axis that the images themselves tell.

Views stretched along the wrong direction do not fit the model of a slab: its likelihood, learnt anew for each angle, has one wide
maximum at the true one, to a fraction of a degree, even for low doses.  A scan over half a turn finds out whether the angle that
was given is in the right place at all (its sign, or a quarter turn); the neighbourhood is then searched finely.

What no images of a tilt series can tell is the handedness: half a turn of the axis is the same as the other sign of all tilts,
and shows the specimen mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import ProjectionFit, turned
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.preprocess.binned_views import BinnedViews

Floats = NDArray[np.float64]

_SCAN_STEP_DEG = 10.0
_SCAN_SIZE = 32
_WIDTH_DEG = 4.0
"""First half width of the fine search."""
_SLOPE_WIDTH = 0.035
"""Half width of the search for the slope of the specimen along the axis, which an axis that is off can imitate."""
_CLOSE_DEG = 0.3
"""The search ends when a round moves the axis by less."""
_ROUNDS = 7
_TRUST = 8.0
"""Factor from the standard deviation that the likelihood gives to the one seen: neighbouring frequencies are not independent."""
_LEAST_ERROR_DEG = 0.5
"""No angle is believed to be better known than this: about what is seen on simulated sections."""
_RECOGNISED = 6.0
"""Standard deviations that a typical view's correlation with its prediction must reach for the images to tell anything; noise has 4."""
_OVERRULED = 4.0
"""The given angle is overruled by one that lies so many standard deviations away; the alignment that follows sees to the rest."""
_CLEAR = 4.0
"""What a place of the scan must be more likely than the given one by, in units of how much neighbouring places differ by chance."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The angle of the tilt axis, degrees: as given, as found and its standard deviation (NaN: not found), and as used."""

    given_deg: float
    found_deg: float
    error_deg: float
    used_deg: float
    notes: tuple[str, ...] = ()

    @classmethod
    def unknown(cls, given_deg: float) -> Axis:
        """Return the axis when nothing is known but what was given."""
        return cls(given_deg, np.nan, np.nan, given_deg)


def find_axis(views: BinnedViews, where: ViewGeometry, given_deg: float, *, threads: int = 1) -> Axis:
    """Return the angle of the tilt axis.

    Parameters
    ----------
    where
        The views placed with some angle, which the search starts from.
    given_deg
        The angle to keep unless the images clearly disagree.
    """
    thickness_px = 0.3 * max(views.raw_shape)
    offset = _scan(views, where, thickness_px, threads)
    fit = ProjectionFit(views, turned(where, np.deg2rad(offset)), thickness_px, groups=6, threads=threads)
    fit.step(FreeParameters(), lessons=3)
    width, found, spread = _WIDTH_DEG, where.axis_deg + offset, np.inf
    for _ in range(_ROUNDS):
        search = fit.search(np.deg2rad(width), _SLOPE_WIDTH)
        move, spread = float(np.rad2deg(search.turn)), float(np.rad2deg(search.spread))
        found += move
        fit.step(FreeParameters())
        if abs(move) < _CLOSE_DEG and search.settled:
            break
        width = max(width / 3, 1.0) if abs(move) < width else width
    error = max(_TRUST * spread, _LEAST_ERROR_DEG)
    if not np.isfinite(error) or error > _WIDTH_DEG or np.median(fit.assess(fit.where).heights) < _RECOGNISED:
        return Axis.unknown(given_deg)
    if abs(found - given_deg) <= _OVERRULED * error:
        return Axis(given_deg, found, error, given_deg)
    note = f"the images put the tilt axis at {found:.1f} +- {error:.1f} degrees, the header at {given_deg:.1f}: the images are used"
    return Axis(given_deg, found, error, found, (note,))


def _scan(views: BinnedViews, where: ViewGeometry, thickness_px: float, threads: int) -> float:
    """Return how far from the given angle, degrees, the likelihood is highest on a grid over half a turn; 0 when near or unclear."""
    small = views.binned(max(max(views.images.shape[1:]) // _SCAN_SIZE, 1))
    fit = ProjectionFit(small, where, thickness_px, groups=4, threads=threads)
    fit.step(FreeParameters(), lessons=3)
    offsets = np.arange(-90.0, 90.0, _SCAN_STEP_DEG)
    likelihoods = np.array([fit.likelihood(turned(fit.where, np.deg2rad(offset)), lessons=3) for offset in offsets])
    best = int(np.argmax(likelihoods))
    rough = float(np.median(np.abs(np.diff(likelihoods, 2))))
    clear = likelihoods[best] - likelihoods[offsets == 0].item() > _CLEAR * rough
    return float(offsets[best]) if abs(offsets[best]) > _SCAN_STEP_DEG and clear else 0.0
