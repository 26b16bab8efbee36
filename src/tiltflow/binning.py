"""Images binned by a whole factor, without a copy of the whole image as real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.model import Image

_BAND_BYTES = 1 << 20
"""Of the rows that are real numbers at a time: they stay in a core's cache until they are added up."""


def bin_image(image: NDArray[Any], factor: int) -> Image:
    """Return the means of blocks of `factor` x `factor` pixels, float32; what is left over at the far edges is dropped.

    Parameters
    ----------
    image
        `(y, x)`, of any real type; with a factor of 1 it is returned itself if it is float32.
    """
    if factor == 1:
        return np.asarray(image, np.float32)
    from tiltflow.kernels.warp import bin_mean  # numba is slow to import

    ny, nx = image.shape[0] // factor, image.shape[1] // factor
    binned = np.empty((ny, nx), np.float32)
    band = max(_BAND_BYTES // (4 * factor * image.shape[1]), 1)
    for first in range(0, ny, band):
        rows = image[first * factor : min(first + band, ny) * factor]
        bin_mean(np.ascontiguousarray(rows, np.float32), factor, binned[first : first + band])
    return binned
