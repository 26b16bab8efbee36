"""What is known of the defocus of a view from its neighbours: a random walk along the series, whose width is learnt.

    D_v = a + b sin t_v + w_v,        w_v - w_(v-1) ~ N(0, q^2)

The sine is what a field beside the axis of the stage gives; a and b are free.  The step q is learnt from the series: its likelihood
with the defocus integrated out is taken at a grid of values, and what follows for the defocus is the mean over that grid, so that the
errors hold what is not known of the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COMMON_STEP_NM = 1.0
"""Step of the walk that makes one defocus of all views."""
_STEPS_NM = np.geomspace(1.0, 300.0, 18)
"""Standard deviations of the step that are weighed: from none that matters to a microscope that focuses anew for every view."""
_USUAL_STEP_NM = 15.0
"""Below it all steps are equally likely before the series is seen, above it all orders of magnitude: half the scatter of the views of a
real series.  Were small orders of magnitude as likely, errors of weak series would be too small by a fifth."""
_LEAST_PRECISION = 1e-9
"""Precision of a defocus of which nothing is known, 1/nm²: 30 µm."""
_LEAST_TILT_RANGE = 0.2
"""Range of the sine of the tilt below which its slope cannot be told from a constant."""


def walk_precision(tilt_deg: Floats, order: NDArray[np.int64], step_nm: float) -> Floats:
    """Return the prior precision of the defocus, `(views, views)`, 1/nm².

    Parameters
    ----------
    tilt_deg
        `(views,)`.
    order
        The views in the order along which the defocus walks.
    step_nm
        Standard deviation of a step.
    """
    views = len(tilt_deg)
    difference = np.diff(np.eye(views)[order], axis=0)
    precision = difference.T @ difference / step_nm**2
    sine = np.sin(np.deg2rad(tilt_deg))
    if np.ptp(sine) > _LEAST_TILT_RANGE:
        along = precision @ sine
        precision = precision - np.outer(along, along) / (sine @ along)
    return np.asarray((precision + precision.T) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """The defocus of the views, given their neighbours.

    Attributes
    ----------
    defocus_nm
        `(views,)`.
    covariance
        `(views, views)`, nm².
    step_nm
        Step of the walk: mean of its logarithm.
    evidence
        Logarithm of the likelihood with defocus and step integrated out, to a constant.
    """

    defocus_nm: Floats
    covariance: Floats
    step_nm: float
    evidence: float

    @property
    def error_nm(self) -> Floats:
        """Standard error of each view, `(views,)`."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def posterior(at_nm: Floats, score: Floats, information: Floats, tilt_deg: Floats, order: NDArray[np.int64]) -> Posterior:
    """Return the defocus, given what the images tell without a prior, and the walk.

    Parameters
    ----------
    at_nm
        Where the likelihood was expanded, `(views,)`.
    score, information
        Its slope and its curvature there, `(views,)` and `(views, views)`.
    tilt_deg
        `(views,)`.
    order
        The views in the order along which the defocus walks.

    Examples
    --------
    >>> tilts = np.linspace(-60, 60, 41)
    >>> found = posterior(np.full(41, 4000.0), np.zeros(41), np.eye(41) / 40**2, tilts, np.arange(41))
    >>> bool(found.error_nm.max() < 20)
    True
    """
    views, centre = len(at_nm), float(np.mean(at_nm))
    away = at_nm - centre
    told = information @ away + score
    free = 2 if np.ptp(np.sin(np.deg2rad(tilt_deg))) > _LEAST_TILT_RANGE else 1
    evidence, means, covariances = [], [], []
    for step in _STEPS_NM:
        whole = walk_precision(tilt_deg, order, float(step)) + information
        whole[np.diag_indices_from(whole)] += _LEAST_PRECISION
        covariance = np.linalg.inv(whole)
        mean = covariance @ told
        of_step = np.log(step / (step + _USUAL_STEP_NM))
        evidence.append(of_step - (views - free) * np.log(step) - 0.5 * np.linalg.slogdet(whole)[1] + 0.5 * told @ mean)
        means.append(mean)
        covariances.append(covariance)
    best = max(evidence)
    share = np.exp(np.array(evidence) - best)
    total = float(share.sum())
    share /= total
    mean = share @ np.array(means)
    spread = np.array(means) - mean
    covariance = np.einsum("q,qij->ij", share, np.array(covariances)) + np.einsum("q,qi,qj->ij", share, spread, spread)
    return Posterior(mean + centre, covariance, float(np.exp(share @ np.log(_STEPS_NM))), float(best + np.log(total)))
