"""Views made small and flat for the stages that compare whole views: coarse alignment and matching with projections.

The views are binned, turned into optical thickness by the logarithm when they are counts (a section absorbs, so that only there
do the densities along a ray add up), and freed of everything broader than a fraction of the field, which is the beam's and not
the specimen's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tiltflow.model import Progress, Stack
from tiltflow.observer import tell
from tiltflow.parallel import map_threads
from tiltflow.preprocess.fixed_pattern import find_pattern

Images = NDArray[np.float32]

_BACKGROUND = 0.04
"""Sigma of the Gaussian whose blur is taken for the beam's, as a fraction of the field."""
_DARKEST = 0.02
"""Counts below this fraction of the median are raised to it before the logarithm."""


@dataclass(frozen=True, slots=True, eq=False)
class BinnedViews:
    """Small flat images of some views.

    Attributes
    ----------
    images
        `(views, ny, nx)`, mean zero, absorbing matter positive when the stack is counts.
    binning
        Raw pixels per pixel along each side.
    raw_shape
        `(ny, nx)` of the raw images.
    pattern
        Part of the power that stayed with the camera and was taken out.
    """

    images: Images
    binning: int
    raw_shape: tuple[int, int]
    pattern: float = 0.0

    def binned(self, factor: int) -> BinnedViews:
        """Return the same views binned further."""
        if factor == 1:
            return self
        views, ny, nx = self.images.shape
        ny, nx = ny // factor, nx // factor
        blocks = self.images[:, : ny * factor, : nx * factor].reshape(views, ny, factor, nx, factor)
        return BinnedViews(blocks.mean(axis=(2, 4), dtype=np.float32), self.binning * factor, self.raw_shape, self.pattern)


def read_binned(
    stack: Stack,
    views: NDArray[np.intp],
    max_size_px: int,
    *,
    take_out_pattern: bool = True,
    threads: int = 1,
    progress: Progress | None = None,
) -> BinnedViews:
    """Return the views of a stack binned until their larger side is at most `max_size_px`, and flattened.

    Parameters
    ----------
    views
        Which ones, in this order.
    take_out_pattern
        Whether to look for a pattern that stays with the camera, and to take it out.
    """
    from tiltflow.kernels.warp import bin_mean  # numba is slow to import

    _, ny, nx = stack.shape
    binning = -(-max(ny, nx) // max_size_px)
    shape = ny // binning, nx // binning

    def prepare(view: int) -> Images:
        image = np.ascontiguousarray(stack[view], np.float32)
        small = np.empty(shape, np.float32)
        bin_mean(image, binning, small)
        return _flatten(small)

    images = np.empty((len(views), *shape), np.float32)
    for place, image in enumerate(map_threads(prepare, (int(view) for view in views), threads)):
        images[place] = image
        tell(progress, (place + 1) / len(views))
    pattern = find_pattern(images) if take_out_pattern else None
    if pattern is not None:
        images -= pattern.image
    return BinnedViews(images, binning, (ny, nx), 0.0 if pattern is None else pattern.fraction)


def _flatten(image: Images) -> Images:
    """Return the optical thickness of an image of counts, or a signed image as it is, without its background."""
    median = float(np.median(image))
    if median > 0 and float(np.mean(image <= 0)) < 0.01:
        contrast = -np.log(np.maximum(image, _DARKEST * median) / np.float32(median))
    else:
        spread = float(np.std(image)) or 1.0
        contrast = (image - np.float32(median)) / np.float32(spread)
    sigma = _BACKGROUND * max(image.shape)
    contrast -= ndimage.gaussian_filter(contrast, sigma, mode="nearest", truncate=3.0)
    return np.asarray(contrast - contrast.mean(), np.float32)
