"""Borders around images, so that their opposite sides do not meet in the Fourier transform."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.model import Image

_LARGEST_FACTOR = 19
"""Largest prime of the sides of IMOD's transforms; larger ones make a transform slow."""


def padded_side(side: int, pad: int) -> int:
    """Return the first even length from `side + 2 * pad` on that has no prime above 19.

    >>> padded_side(192, 20), padded_side(4096, 20)
    (234, 4158)
    """
    n = side + 2 * pad
    while n % 2 or _largest_factor(n) > _LARGEST_FACTOR:
        n += 1
    return n


def _largest_factor(n: int) -> int:
    largest, divisor = 1, 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            n //= divisor
            largest = divisor
        divisor += 1
    return max(largest, n)


def padded(image: Image, pad: int, level: float | None = None) -> Image:
    """Return an image `(ny, nx)` in the middle of a larger one, in the border of which its edge goes linearly to a level.

    The level is the mean of the edge pixels if it is not given.
    """
    spare = [padded_side(side, pad) - side for side in image.shape]
    borders = [(room // 2, room - room // 2) for room in spare]
    level = edge_mean(image) if level is None else level
    return np.pad(image, borders, "linear_ramp", end_values=np.float32(level))


def edge_mean(image: NDArray[np.floating]) -> float:
    """Return the mean of the pixels at the edge of an image."""
    edge = (image[0], image[-1], image[1:-1, 0], image[1:-1, -1])
    return float(np.concatenate(edge).mean(dtype=np.float64))


def crop(image: NDArray[np.floating], shape: tuple[int, ...]) -> Image:
    """Return the middle of what :func:`padded` made, in the size that it had."""
    y, x = ((large - small) // 2 for large, small in zip(image.shape, shape, strict=True))
    return np.ascontiguousarray(image[y : y + shape[0], x : x + shape[1]], np.float32)
