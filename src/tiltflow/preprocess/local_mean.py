"""The background of an image: its blur by a wide Gaussian, from means of blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.binning import bin_image

Image = NDArray[np.float32]

_BLOCKS_PER_SD = 4.0
"""Blocks in a standard deviation of the Gaussian: the blur is off by 1 % of its variation."""
_SPREAD_OF_BLOCKS = 1 / 12 + 1 / 6
"""Variance that a mean over a block and linear interpolation between blocks add, blocks squared."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalMean:
    """A Gaussian blur of images of one shape, whose edge pixels go on beyond it (`scipy.ndimage.gaussian_filter` with `mode="nearest"`).

    A Gaussian of some pixels leaves nothing finer than blocks of a quarter of its width, so that these are blurred, and interpolated:
    two products with small matrices, in a tenth of the time.

    Attributes
    ----------
    block
        Side of a block, pixels.
    along_y, along_x
        `(ny, blocks)` and `(nx, blocks)`: the weight of each block's mean; None where blocks would be single pixels.
    sigma, truncate
        The Gaussian, pixels, and where it is cut off, standard deviations.
    """

    block: int
    along_y: Image | None
    along_x: Image | None
    sigma: float
    truncate: float

    @classmethod
    def of(cls, shape: tuple[int, int], sigma: float, *, truncate: float = 4.0) -> LocalMean:
        """Return the blur of images of `shape` `(ny, nx)` by a Gaussian of `sigma` pixels."""
        block = int(sigma / _BLOCKS_PER_SD)
        if block < 2 or min(shape) < 2 * block:
            return cls(1, None, None, sigma, truncate)
        along_y, along_x = (_weights(n, block, sigma, truncate) for n in shape)
        return cls(block, along_y, along_x, sigma, truncate)

    def __call__(self, image: Image) -> Image:
        """Return the blur of an image `(ny, nx)`."""
        if self.along_y is None or self.along_x is None:
            return np.asarray(scipy.ndimage.gaussian_filter(image, self.sigma, mode="nearest", truncate=self.truncate), np.float32)
        beyond = [(0, -side % self.block) for side in image.shape]
        whole = np.pad(image, beyond, mode="edge") if any(after for _, after in beyond) else image
        return np.asarray(self.along_y @ bin_image(whole, self.block) @ self.along_x.T)


def _weights(n: int, block: int, sigma: float, truncate: float) -> Image:
    blocks = -(-n // block)
    narrower = np.sqrt((sigma / block) ** 2 - _SPREAD_OF_BLOCKS)
    blurred = scipy.ndimage.gaussian_filter1d(np.eye(blocks), narrower, axis=0, mode="nearest", truncate=truncate)
    place = (np.arange(n) + 0.5) / block - 0.5
    before = np.clip(np.floor(place).astype(int), 0, blocks - 2)
    after = (place - before)[:, None]
    return np.asarray((1 - after) * blurred[before] + after * blurred[before + 1], np.float32)
