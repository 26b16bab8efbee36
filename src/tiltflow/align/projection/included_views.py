"""Which views take part, and what the others are given: values between those of their neighbours in tilt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import Stack

Floats = NDArray[np.float64]

_STEEPEST_DEG = 85.0
"""Views are stretched by 1 / cos(tilt): beyond this, eleven times, a pixel of the view says nothing of one of the stretched image."""


def included_views(stack: Stack, tilts: Floats, included: ArrayLike | None) -> NDArray[np.intp]:
    """Return the indices of the views that take part, after a look at what was given.

    Raises
    ------
    ParameterError
        If angles or inclusions do not match the stack, or nothing is included.
    """
    if tilts.shape != (stack.shape[0],):
        raise ParameterError(f"{tilts.size} tilt angles for {stack.shape[0]} views; give one for each")
    mask = np.ones(len(tilts), bool) if included is None else np.asarray(included, bool)
    if mask.shape != tilts.shape or not mask.any():
        raise ParameterError(
            f"{int(mask.sum())} of {mask.size} views are included, of a stack of {len(tilts)}; include at least one"
        )
    if np.any(np.abs(tilts[mask]) > _STEEPEST_DEG):
        raise ParameterError(
            f"A tilt of {tilts[mask][np.argmax(np.abs(tilts[mask]))]:g} degrees is not one of a tilt series; leave the view out"
        )
    return np.flatnonzero(mask)


def spread_over_tilt(tilts: Floats, chosen: NDArray[np.intp], values: Floats) -> Floats:
    """Return values for all views: those of the chosen ones, and between them by interpolation over tilt."""
    order = np.argsort(tilts[chosen], kind="stable")
    spread = np.interp(tilts, tilts[chosen][order], values[order])
    spread[chosen] = values
    return spread
