"""What a smooth curve over the tilts leaves of a number of each view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FEWEST = 5
"""Views from which a scatter about a parabola means anything."""


def beside_parabola(values: Sequence[float], tilt_deg: Sequence[float], included: Sequence[bool]) -> NDArray[np.float64] | None:
    """Return the distances of the views that are used from a parabola over their tilts, in their order; None for few views.

    >>> beside_parabola([1.0, 4.0, 9.0, 16.0, 27.0], [1, 2, 3, 4, 5], [True] * 5).round(2)
    array([-0.17,  0.29,  0.17, -0.51,  0.23])
    """
    used = np.flatnonzero(included)
    if len(values) != len(tilt_deg) or len(used) < _FEWEST:
        return None
    tilt, value = np.array(tilt_deg, float)[used], np.array(values, float)[used]
    return np.asarray(value - np.polynomial.Polynomial.fit(tilt, value, 2)(tilt))
