"""The sign of the defocus gradient of a tilted series.

At positive tilts either the right side of the aligned views is more underfocused (+1) or the left side (-1).  Which one is a matter of
the sign of the tilts and of the direction of the axis, and no other measurement on a tilt series tells it.  The ring model is fitted with
both signs; and with the gradient as a free factor, which must be significantly different from 0 on the side of the better sign.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.ctf.model import Microscope
from tiltflow.ctf.ring_fit import Fit, fit_rings
from tiltflow.ctf.ring_model import RingData

Floats = NDArray[np.float64]

_LEAST_GAIN = 12.0
"""Twice the logarithm of the ratio of the likelihoods of the two signs from which one is believed: the other one then has odds of 1 to
400, three standard deviations."""
_LEAST_SIGMAS = 3.0
"""Standard errors of the free factor that it must be away from 0."""
_GRADIENT = np.array([True, False, False, False])
"""What is free in the second fit."""


@dataclass(frozen=True, slots=True)
class Handedness:
    """Which way the defocus runs.

    Attributes
    ----------
    sign
        +1 if at positive tilts the right side is more underfocused, -1 if the left side is, None where the series does not decide.
    gain
        Twice the logarithm of the ratio of the likelihoods of +1 and -1.
    factor, factor_error
        The gradient in parts of the one of a flat specimen, and its standard error.
    """

    sign: int | None
    gain: float
    factor: float
    factor_error: float

    @property
    def certainty(self) -> float:
        """Probability of the more likely sign, 0.5 to 1.

        >>> round(Handedness(None, 2.0, 0.5, 0.4).certainty, 2)
        0.73
        """
        return float(1 / (1 + np.exp(-min(abs(self.gain), 700.0) / 2)))


def decide_hand(data: RingData, best: Fit, scope: Microscope, precision: Floats, scale: float) -> tuple[Handedness, Fit]:
    """Return the handedness, and the fit with the more likely sign.

    Parameters
    ----------
    data
        Isotropic spectra.
    best
        A fit with either sign.
    scope, precision, scale
        As for :func:`tiltflow.ctf.ring_fit.fit_rings`.
    """
    fits = {sign: fit_rings(data, replace(best.model, gradient=sign), scope, precision, scale=scale) for sign in (1.0, -1.0)}
    gain = fits[-1.0].cost - fits[1.0].cost
    likely = fits[1.0 if gain >= 0 else -1.0]
    loose = fit_rings(data, likely.model, scope, precision, scale=scale, free=_GRADIENT)
    variance = float(loose.covariance(precision)[-1, -1])
    error = float(np.sqrt(variance)) if variance > 0 else float("inf")  # untilted views tell nothing of it
    factor = loose.model.gradient
    return Handedness(decided_sign(gain, factor, error), gain, factor, error), likely


def decided_sign(gain: float, factor: float, error: float) -> int | None:
    """Return the sign that both the likelihoods of the signs and the free factor, with its standard error, decide for; else None.

    >>> decided_sign(40.0, 0.9, 0.2), decided_sign(-40.0, -0.9, 0.2), decided_sign(8.0, 0.9, 0.2)
    (1, -1, None)
    """
    sure = abs(gain) >= _LEAST_GAIN and abs(factor) > _LEAST_SIGMAS * error and factor * gain > 0
    return (1 if gain > 0 else -1) if sure else None
