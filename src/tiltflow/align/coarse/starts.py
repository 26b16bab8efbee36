"""The tilt axis angle where nothing tells it, or where what tells it is doubted: views placed from starts all over half a turn.

Views that were placed under a wrong axis have shifts that make up for it, so that a search from them ends where it began, with a
small error.  Placed anew under each angle they leave no such trace: the likelihood against the angle has one broad maximum, tens of
degrees wide, at the true one.  Where no specimen decides, or one that looks the same from all sides, the likelihoods scatter from
start to start instead; how smooth their curve is says whether its maximum means anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.coarse.axis_search import Axis, thinned
from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import INITIAL_THICKNESS, ProjectionFit
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.preprocess.binned_views import BinnedViews

Floats = NDArray[np.float64]
Place = Callable[[BinnedViews, NDArray[np.intp], float], ViewGeometry]
"""Returns the geometry of some of the views, placed under an angle of the tilt axis, degrees."""

STEP_DEG = 15.0
"""Between starts over half a turn: half the width of the maximum of the narrowest curves, of gold on a section.  A told angle is not
doubted for less."""
_HALF_TURN_DEG = 180.0
_ACROSS_DEG = (0.0, 45.0, 90.0, 135.0)
"""A told angle, and those that it is compared with whenever it is told: one of them is within 22.5 degrees of any other angle."""
_FINE_DEG = (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0)
"""Where the curve is sampled again about its maximum, for a parabola through all of them."""
_MOST_VIEWS = 36
"""Views are thinned out evenly to at most so many: the time grows with their square, and steps of 4 degrees in tilt do."""
_SMALL_PX = 32
"""Size of the images of the starts: the curves are clearer than with 64, in a third of the time.  Tops are sampled on larger ones."""
_GROUPS = 6
_EM_ITERATIONS = 3
"""Rings of frequencies, and EM iterations from a prior that is far off: those of the search for the axis."""
_CLEAR = 3.0
"""How far the best start must lie above the median of all, in units of the roughness of the curve (median second difference).  Series
without a specimen have 0.2 to 0.9, simulated sections 3 to 8, real ones 7 to 17 (those of `benchmarks/foreign.py`)."""
_HINTS = 1.2
"""How far at least, where that is not clear, for a told angle to be doubted that is not the likeliest: ice without gold has 1.5 to
3.4."""
_ERROR_DEG = 2.5
"""Least standard deviation of an angle from starts: root mean square of what the tops of the curves are off on ten real and simulated
series, 4.7 at most.  The alignment that follows goes on from there."""
_ALIKE = 1.0
"""Standard deviations from the assumed angle within which that is used."""


@dataclass(frozen=True, slots=True, eq=False)
class Starts:
    """How likely the views are when they are placed under each of several angles.

    Attributes
    ----------
    angles_deg
        The starts, `(starts,)`, evenly over half a turn.
    likelihoods
        Log-likelihood of the geometry that each leads to, `(starts,)`.
    """

    angles_deg: Floats
    likelihoods: Floats

    @property
    def best_deg(self) -> float:
        """The likeliest angle, by a parabola through the best start and its neighbours."""
        k = int(np.argmax(self.likelihoods))
        before, at, after = (float(self.likelihoods[(k + j) % len(self.likelihoods)]) for j in (-1, 0, 1))
        curvature = before - 2 * at + after
        move = 0.0 if curvature >= 0 else 0.5 * (before - after) / curvature
        return float(self.angles_deg[k] + move * STEP_DEG)

    @property
    def clearness(self) -> float:
        """How far the best start lies above the median of all, in units of the roughness of the curve."""
        around = self.likelihoods
        rough = np.abs(np.roll(around, 1) - 2 * around + np.roll(around, -1))
        return float((around.max() - np.median(around)) / max(float(np.median(rough)), 1e-30))

    @property
    def decided(self) -> bool:
        """Whether the curve is smooth enough for its maximum to mean anything."""
        return self.clearness > _CLEAR


def from_starts(views: BinnedViews, place: Place, assumed_deg: float) -> Axis:
    """Return the tilt axis angle of a series whose sources do not tell it; unknown, with the reason, where the images do not decide.

    Parameters
    ----------
    views
        Binned, flattened images, `(views, ny, nx)`, small ones.
    place
        Places some of them under an angle.
    assumed_deg
        The angle that is used where nothing is found, degrees; what is found is within a quarter turn of it.
    """
    starts = all_over(views, place)
    if not starts.decided:
        doubt = (
            f"the tilt axis angle is unknown: no source tells it, and views placed under angles all over half a turn do not decide; "
            f"{assumed_deg:g} degrees is assumed"
        )
        return replace(Axis.unknown(assumed_deg), notes=(doubt,), doubt=doubt)
    top, error = _finer(views, place, starts.best_deg)
    found = _nearest(top, assumed_deg)
    # Series without an axis in their header are often turned already, so that it is that of the images.
    used = assumed_deg if abs(found - assumed_deg) <= _ALIKE * error else found
    note = f"no source tells the tilt axis angle: found in the images is {found:.1f} +- {error:.1f} degrees, and {used:.1f} is used"
    return Axis(assumed_deg, found, error, used, (note,))


def checked_by_starts(views: BinnedViews, place: Place, doubted: Axis) -> Axis:
    """Return the tilt axis angle where a search from the told one ended far from it.

    The told one is kept unless the starts clearly disagree, or lie nearer to what the search found.

    Parameters
    ----------
    views, place
        As of :func:`from_starts`.
    doubted
        What the search found.
    """
    given = doubted.given_deg
    starts = all_over(views, place)
    if not starts.decided:
        doubt = (
            f"the tilt axis angle of the header, {given:.1f} degrees, may be wrong: a search ended at {doubted.found_deg:.1f}, but views "
            "placed under angles all over half a turn do not decide; that of the header is kept"
        )
        return replace(Axis.unknown(given), notes=(doubt,), doubt=doubt)
    best = _nearest(starts.best_deg, given)
    if abs(best - given) <= min(STEP_DEG, abs(best - _nearest(doubted.found_deg, best))):
        return Axis(given, best, _ERROR_DEG, given)
    return _overruled(views, place, starts, given)


def refuted_by_starts(views: BinnedViews, place: Place, given_deg: float) -> Axis | None:
    """Return the tilt axis angle that overrules a told one, or that one and a doubt, where a start across from it is likelier.

    Else None is returned.  Three starts are tried beside the told angle, and all of them only if one is likelier: of sixteen series
    with a true angle, ice without gold among them, none has a likelier one.  Parameters are those of :func:`from_starts`.
    """
    small = _small(views)
    told, *others = _likelihoods(small, place, given_deg + np.array(_ACROSS_DEG))
    if told >= max(others):
        return None
    starts = all_over(views, place)
    best = _nearest(starts.best_deg, given_deg)
    if starts.clearness <= _HINTS or abs(best - given_deg) <= STEP_DEG:
        return None
    if starts.decided:
        return _overruled(views, place, starts, given_deg)
    doubt = (
        f"the tilt axis angle of the header, {given_deg:.1f} degrees, may be wrong: views agree better under one of about {best:.0f}, "
        "but starts from angles all over half a turn do not decide; that of the header is kept"
    )
    return replace(Axis.unknown(given_deg), notes=(doubt,), doubt=doubt)


def _overruled(views: BinnedViews, place: Place, starts: Starts, given: float) -> Axis:
    top, error = _finer(views, place, starts.best_deg)
    found = _nearest(top, given)
    note = (
        f"the tilt axis angle estimated from the images, {found:.1f} +- {error:.1f} degrees, differs from the {given:.1f} degrees of "
        "the header: the estimate is used"
    )
    return Axis(given, found, error, found, (note,))


def all_over(views: BinnedViews, place: Place) -> Starts:
    """Return how likely starts evenly over half a turn are; parameters as of :func:`from_starts`."""
    angles = np.arange(0.0, _HALF_TURN_DEG, STEP_DEG)
    return Starts(angles, _likelihoods(_small(views), place, angles))


def _small(views: BinnedViews) -> BinnedViews:
    return views.binned(max(max(views.images.shape[1:]) // _SMALL_PX, 1))


def _finer(views: BinnedViews, place: Place, about_deg: float) -> tuple[float, float]:
    """Return the likeliest angle near one that is good to some degrees, and its standard deviation from the scatter of the curve."""
    offsets = np.array(_FINE_DEG)
    values = _likelihoods(views, place, about_deg + offsets)
    (bend, slope, _), covariance = np.polyfit(offsets, (values - values.mean()) / np.ptp(values), 2, cov=True)
    if bend >= 0:
        return about_deg, STEP_DEG / 2  # no top between the starts: the nearest of them is all that is known
    top = -slope / (2 * bend)
    by = np.array([slope / (2 * bend**2), -1 / (2 * bend), 0.0])
    error = max(float(np.sqrt(by @ covariance @ by)), _ERROR_DEG)
    return about_deg + float(np.clip(top, offsets[0], offsets[-1])), min(error, STEP_DEG / 2)


def _likelihoods(views: BinnedViews, place: Place, angles_deg: Floats) -> Floats:
    """Return the log-likelihood of the views placed under each angle, after one more joint step, `(angles,)`."""
    some = thinned(len(views.images), _MOST_VIEWS)
    part, size = replace(views, images=views.images[some]), max(views.raw_shape)

    def at(angle_deg: float) -> float:
        fit = ProjectionFit(part, place(part, some, angle_deg), INITIAL_THICKNESS * size, groups=_GROUPS)
        fit.step(FreeParameters(), em_iterations=_EM_ITERATIONS)
        return fit.assess(fit.where).likelihood

    return np.array([at(float(angle)) for angle in angles_deg])  # threads would spend more time on taking turns than they save


def _nearest(angle_deg: float, about_deg: float) -> float:
    """Return an angle of an axis, which half a turn does not change, within a quarter turn of another."""
    return about_deg + (angle_deg - about_deg + _HALF_TURN_DEG / 2) % _HALF_TURN_DEG - _HALF_TURN_DEG / 2
