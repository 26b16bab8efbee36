"""Which views take part, and values for the others, interpolated over tilt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.errors import ParameterError
from tiltflow.model import Stack

Floats = NDArray[np.float64]


def included_views(stack: Stack, tilts: Floats, included: ArrayLike | None) -> NDArray[np.intp]:
    """Return the indices of the views that take part, `(included,)`, after checking the input.

    Raises
    ------
    ParameterError
        If angles or inclusions do not match the stack, nothing is included, or an included view is seen edge-on.
    """
    if tilts.shape != (stack.shape[0],):
        raise ParameterError(f"{tilts.size} tilt angles for {stack.shape[0]} views; give one for each")
    mask = np.ones(len(tilts), bool) if included is None else np.asarray(included, bool)
    if mask.shape != tilts.shape or not mask.any():
        raise ParameterError(
            f"{int(mask.sum())} of {mask.size} views are included, of a stack of {len(tilts)}; include at least one"
        )
    if (steep := mask & geometry.edge_on(tilts)).any():
        raise ParameterError(
            f"View {int(np.argmax(steep)) + 1}, tilted by {tilts[steep][0]:g} degrees, cannot be stretched to zero tilt; leave it out"
        )
    return np.flatnonzero(mask)


def spread_over_tilt(tilts: Floats, chosen: NDArray[np.intp], values: Floats) -> Floats:
    """Return values for all views: those of the chosen ones, and between them by interpolation over tilt."""
    order = np.argsort(tilts[chosen], kind="stable")
    spread = np.interp(tilts, tilts[chosen][order], values[order])
    spread[chosen] = values
    return spread
