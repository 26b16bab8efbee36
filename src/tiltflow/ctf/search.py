"""The mean defocus of a series, from a search over all that is possible: never the alias at which every second ring is missed.

The ring model is fitted with one defocus from many starts, without a gradient, to the views of the least tilt, where that matters little.
The best few are fitted again to all views, with both hands, and the likelihood decides between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.ctf.defocus_prior import COMMON_STEP_NM, walk_precision
from tiltflow.ctf.model import Microscope
from tiltflow.ctf.ring_fit import Fit, fit_rings
from tiltflow.ctf.ring_model import RingData, first_model

Floats = NDArray[np.float64]

_FACTOR = 1.2
"""Ratio of neighbouring starts: half a ring at the third zero, within which a fit finds the nearest minimum."""
_MOST_VIEWS = 15
"""Views that are searched: enough for one number, and the clearest."""
_KEPT = 4
"""Candidates that are fitted to everything."""
_DISTINCT = 0.12
"""Relative difference of two candidates below which they are the same minimum."""
_RINGLESS_NM = 1e6
"""A defocus whose rings are finer than any tile resolves: the model without rings."""
_PHASES_DEG = (0.0, 45.0, 90.0, 135.0)
"""Starts of a phase shift that is looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search found.

    Attributes
    ----------
    fit
        With one defocus for all views, of the better hand.
    gain
        How much better it is than a model without rings, in units of the noise: twice the logarithm of the ratio of the likelihoods.
    alias_gain
        How much better it is than any other defocus; infinite where no other was found.
    """

    fit: Fit
    gain: float
    alias_gain: float


def search(
    data: RingData, tilt_deg: Floats, scope: Microscope, span_nm: tuple[float, float], scale: float, *, phase: bool
) -> Found:
    """Return the most likely common defocus.

    Parameters
    ----------
    data
        Isotropic spectra.
    tilt_deg
        `(views,)`.
    scope
        The microscope.
    span_nm
        Least and greatest defocus.
    scale
        Variance of the noise over that of independent cells.
    phase
        Whether a phase shift is looked for, too.
    """
    views = np.sort(np.argsort(np.abs(tilt_deg), kind="stable")[:_MOST_VIEWS])
    few = _of_views(data, views)
    free = np.array([False, False, False, phase])
    count = int(np.ceil(np.log(span_nm[1] / span_nm[0]) / np.log(_FACTOR))) + 1
    prior = walk_precision(tilt_deg[views], np.arange(len(views)), COMMON_STEP_NM)
    starts = [
        replace(first_model(few, float(defocus), 0.0), phase_deg=shift)
        for defocus in np.geomspace(*span_nm, count)
        for shift in (_PHASES_DEG if phase else (0.0,))
    ]
    fits = [fit_rings(few, start, scope, prior, scale=scale, free=free) for start in starts]
    allowed = [fit for fit in fits if span_nm[0] / _FACTOR < np.mean(fit.model.defocus_nm) < span_nm[1] * _FACTOR]
    candidates = _distinct(sorted(allowed or fits, key=lambda fit: fit.cost))[:_KEPT]
    prior = walk_precision(tilt_deg, np.arange(len(tilt_deg)), COMMON_STEP_NM)
    whole = []
    for candidate in candidates:
        for hand in (1.0, -1.0):
            start = first_model(data, float(np.mean(candidate.model.defocus_nm)), hand)
            start = replace(start, shared=candidate.model.shared, phase_deg=candidate.model.phase_deg)
            whole.append(fit_rings(data, start, scope, prior, scale=scale, free=free))
    best, *others = _distinct(sorted(whole, key=lambda fit: fit.cost))
    ringless = fit_rings(
        data, replace(best.model, defocus_nm=np.full(len(tilt_deg), _RINGLESS_NM)), scope, np.zeros_like(prior), scale=scale
    )
    return Found(best, ringless.cost - best.cost, min((other.cost for other in others), default=np.inf) - best.cost)


def _of_views(data: RingData, views: NDArray[np.int64]) -> RingData:
    """Return the data of some views."""
    return replace(
        data,
        power=data.power[views],
        weight=data.weight[views],
        per_hand=data.per_hand[views],
        spread_nm=data.spread_nm[views],
    )


def _distinct(fits: Sequence[Fit]) -> list[Fit]:
    """Return the fits, best first, without those that are close to a better one."""
    kept: list[Fit] = []
    for fit in fits:
        mean = np.mean(fit.model.defocus_nm)
        if all(abs(np.log(mean / np.mean(other.model.defocus_nm))) > _DISTINCT for other in kept):
            kept.append(fit)
    return kept
