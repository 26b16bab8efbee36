"""A large offset of the grey values, taken off before single precision is used.

Raw sums of a detector may have a contrast of 7 on a level of 100 000.  Sums over many pixels in single precision, with seven digits,
lose that contrast, so that the level is subtracted from all views, in the precision that they are stored in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.model import Stack

_LARGE = 1000.0
"""Level over contrast from which it is an offset rather than counts, which have a ratio of at most 300 (100 000 electrons a pixel).
So small a contrast is its own logarithm, to a thousandth: nothing is lost by not knowing the counts."""
_SAMPLES = 32
"""Pixels sampled along each side."""
_QUARTILES_TO_SD = 0.7413
"""Standard deviation of a normal distribution over the distance of its quartiles."""


def large_level(image: NDArray[Any]) -> float:
    """Return the level of an image if its contrast is a small fraction of it; 0 otherwise."""
    step_y, step_x = (max(n // _SAMPLES, 1) for n in image.shape)
    pixels = np.asarray(image[::step_y, ::step_x], np.float64).ravel()
    pixels = np.sort(pixels[np.isfinite(pixels)])
    if not pixels.size:
        return 0.0
    lower, level, upper = (float(pixels[int(part * (pixels.size - 1))]) for part in (0.25, 0.5, 0.75))
    contrast = _QUARTILES_TO_SD * (upper - lower)
    return level if contrast > 0 and abs(level) > _LARGE * contrast else 0.0


def less(image: NDArray[Any], level: float, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return an image less a level as float32, subtracted in the precision of the image; written to `out`, if that is given."""
    if level == 0:
        found = image
    else:
        exact = np.float32 if image.dtype == np.float32 or image.dtype.itemsize <= 2 else np.float64
        found = np.subtract(image, exact(level), dtype=exact)
    if out is None:
        return np.asarray(found, np.float32)
    out[...] = found
    return out


class WithoutOffset:
    """A stack less one level, the same for all views."""

    def __init__(self, stack: Stack, level: float) -> None:
        self._stack, self._level = stack, level

    @property
    def shape(self) -> tuple[int, ...]:
        """`(views, ny, nx)`."""
        return self._stack.shape

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        return less(np.asarray(self._stack[view]), self._level)


def without_offset(stack: Stack) -> Stack:
    """Return a stack as it is; if its contrast is a small fraction of its level, less that level.

    Parameters
    ----------
    stack
        Views, `(views, ny, nx)`; the middle one is read.
    """
    level = large_level(np.asarray(stack[stack.shape[0] // 2]))
    return WithoutOffset(stack, level) if level else stack
