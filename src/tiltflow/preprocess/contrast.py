"""Whether a specimen is light on dark, as in annular dark field, instead of absorbing.

In a bright field the beam that meets nothing is the brightest, and what most of the field lets through is a fair share of it; the
logarithm makes thicknesses of the counts.  In a dark field counts are scattered by the specimen: they are themselves proportional to
the thickness, next to none come from where there is nothing, and their logarithm would turn the noise of the empty field into the
strongest contrast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]

_BRIGHT = 0.99
"""Quantile of an image that is its bright end, beyond hot pixels."""
_DARK = 0.01
"""Quantile that is its dark end."""
_ENOUGH_ALONG = 64
"""Pixels along the shorter side that are looked at: four thousand tell the quantiles of an image."""
_BELOW_ZERO = 0.05
"""Share of the bright end by which counts may be below zero: the noise of an empty field about a level that was subtracted."""
_TYPICAL_ABSORBED = 1.5
"""Optical thickness of the middle of the field below the bright end from which it is no absorption: less than a quarter of the beam
would pass most of the field, where nobody takes a series.  Real and simulated bright fields have 0.1 to 0.5, at 8 bits and the
steepest tilt 1; an annular dark field of a particle in vacuum has 4.4."""


def is_light_on_dark(images: Images) -> bool:
    """Return whether the counts of a series are scattered by the specimen rather than left over by it.

    Parameters
    ----------
    images
        Binned views, `(views, ny, nx)`, counts; a series of signed values is never called so.
    """
    every = max(min(images.shape[1:]) // _ENOUGH_ALONG, 1)
    some = images[:, ::every, ::every]
    dark, middle, bright = np.quantile(some.reshape(len(images), -1), [_DARK, 0.5, _BRIGHT], axis=1)
    counts = (bright > 0) & (dark > -_BELOW_ZERO * bright)
    return bool(np.mean(counts & (middle < np.exp(-_TYPICAL_ABSORBED) * bright)) > 0.5)
