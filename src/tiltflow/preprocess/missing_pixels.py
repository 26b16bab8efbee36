"""Pixels that hold no value of their own, replaced from the nearest pixels that do: faults of the camera, NaN, infinity, 1e38."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

LARGEST = 1.8e19
"""The square of a larger number is beyond 32-bit reals, so that no sum of squares can hold it; no camera counts so far."""


def not_numbers(image: NDArray[Any]) -> Mask | None:
    """Return the pixels that are NaN, infinite or beyond :data:`LARGEST`, `(ny, nx)`; None if there are none."""
    if image.dtype.kind != "f":
        return None
    flat = np.ascontiguousarray(image).reshape(-1)
    # One pass without a temporary array: the sum of squares is finite if all pixels are, but for the largest numbers.
    if flat.dtype != np.float16:
        with np.errstate(over="ignore", invalid="ignore"):
            if np.dot(flat, flat) <= np.finfo(np.float32).max:
                return None
    bad = ~np.isfinite(image)
    if flat.dtype != np.float16:  # which holds nothing as large
        bad |= np.abs(image) > LARGEST
    return bad if bad.any() else None


def fill_marked(image: NDArray[Any], marked: Mask) -> NDArray[np.float32]:
    """Return a copy of an image, as float32, whose marked pixels are replaced from those beside them.

    The nearest unmarked pixels to the left, right, above and below count by the inverse square of their distance, so that a line is
    interpolated across, a border is continued and a block takes from all sides.  Where none is within 64 pixels, the pixel gets the
    median of the unmarked ones (0 if there are none).

    Parameters
    ----------
    image, marked
        `(ny, nx)`.
    """
    from tiltflow.kernels.xrays import fill_from_beside  # numba is slow to import

    filled = np.array(image, np.float32, order="C")
    places = np.flatnonzero(marked)
    far = fill_from_beside(filled, np.ascontiguousarray(marked), places.astype(np.int64))
    if far:
        left = filled[~marked]
        filled[np.isnan(filled) & marked] = np.median(left) if left.size else 0.0
    return filled
