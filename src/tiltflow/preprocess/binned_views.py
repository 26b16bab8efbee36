"""Small flattened views for the stages that compare whole views: coarse alignment and matching with projections.

The views are binned, converted to optical thickness by the logarithm when they are counts (the specimen absorbs, and only optical
thicknesses add up along a ray), and high-pass filtered: what is broader than a fraction of the field is illumination rather than
specimen.  Where the specimen is light on dark (:mod:`tiltflow.preprocess.contrast`) the counts themselves add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.binning import bin_image
from tiltflow.model import Progress, Stack
from tiltflow.observer import tell
from tiltflow.parallel import map_threads
from tiltflow.preprocess.contrast import is_light_on_dark
from tiltflow.preprocess.fixed_pattern import find_pattern
from tiltflow.preprocess.local_mean import LocalMean
from tiltflow.preprocess.opaque_parts import UnshadedStack

Images = NDArray[np.float32]

_BACKGROUND = 0.04
"""Standard deviation of the Gaussian whose blur of a view is its background, as a fraction of the larger side of the field.  What
is left has half its amplitude at 4.7 cycles per field.  From 0.02 to 0.08 the error of a coarse alignment changes by 1 %
(`benchmarks/sensitivity_volume.py`)."""
_BACKGROUND_TRUNCATE = 3.0
"""Standard deviations at which this Gaussian is cut off: 0.3 % of its weight lie beyond."""
_DARKEST = 0.02
"""Counts below this fraction of the median are raised to it before the logarithm: an optical thickness of 3.9 more than the median,
which only dead pixels, grid bars and the middle of gold beads reach.  Half or double makes no difference of 0.5 %."""
_SIGNED_FRACTION = 0.01
"""Fraction of pixels at or below 0 from which a view is not counts from zero, and has no logarithm."""


@dataclass(frozen=True, slots=True, eq=False)
class BinnedViews:
    """Small flat images of some views.

    Attributes
    ----------
    images
        `(views, ny, nx)`, mean zero, absorbing matter positive when the stack is counts of a bright field.
    binning
        Raw pixels per pixel along each side.
    raw_shape
        `(ny, nx)` of the raw images.
    pattern
        Fraction of the variance that was a fixed pattern of the camera, and was removed.
    light_on_dark
        Whether the specimen is brighter than what surrounds it, so that counts add up along a ray.
    """

    images: Images
    binning: int
    raw_shape: tuple[int, int]
    pattern: float = 0.0
    light_on_dark: bool = False

    def binned(self, factor: int) -> BinnedViews:
        """Return the same views binned further, by a whole factor; what is left over at the far edges is dropped."""
        if factor == 1:
            return self
        images = np.stack([bin_image(image, factor) for image in self.images])
        return replace(self, images=images, binning=self.binning * factor)


def read_binned(
    stack: Stack,
    views: NDArray[np.intp],
    max_size_px: int,
    *,
    take_out_pattern: bool = True,
    threads: int = 1,
    progress: Progress | None = None,
) -> BinnedViews:
    """Return views of a stack binned until their larger side is at most `max_size_px`, and flattened.

    Parameters
    ----------
    stack
        Raw views, `(views, ny, nx)`.
    views
        Which of them, counted from 0, in the order of the result.
    max_size_px
        Largest side of the result, pixels.
    take_out_pattern
        Whether to detect a fixed pattern of the camera (:mod:`tiltflow.preprocess.fixed_pattern`) and remove it.
    threads
        Views prepared at the same time.
    progress
        Called with the fraction done.

    Returns
    -------
    BinnedViews
        Images of mean zero, and the binning.
    """
    _, ny, nx = stack.shape
    binning = -(-max(ny, nx) // max_size_px)
    shape = ny // binning, nx // binning

    def prepare(view: int) -> Images:
        return stack.binned(view, binning) if isinstance(stack, UnshadedStack) else bin_image(np.asarray(stack[view]), binning)

    images = np.empty((len(views), *shape), np.float32)
    for place, image in enumerate(map_threads(prepare, (int(view) for view in views), threads)):
        images[place] = image
        tell(progress, (place + 1) / len(views))
    light = is_light_on_dark(images)
    background = LocalMean.of(shape, _BACKGROUND * max(shape), truncate=_BACKGROUND_TRUNCATE)
    for place, image in enumerate(map_threads(lambda image: _flatten(image, background, light_on_dark=light), images, threads)):
        images[place] = image
    pattern = find_pattern(images, threads) if take_out_pattern else None
    if pattern is not None:
        images -= pattern.image
    return BinnedViews(images, binning, (ny, nx), 0.0 if pattern is None else pattern.fraction, light)


def _flatten(image: Images, background: LocalMean, *, light_on_dark: bool) -> Images:
    """Return the optical thickness of an image of counts, or another image in standard deviations, without its background."""
    median = float(np.median(image))
    if not light_on_dark and median > 0 and float(np.mean(image <= 0)) < _SIGNED_FRACTION:
        contrast = -np.log(np.maximum(image, _DARKEST * median) / np.float32(median))
    else:
        spread = float(np.std(image)) or 1.0
        contrast = (image - np.float32(median)) / np.float32(spread)
    contrast -= background(contrast)
    return np.asarray(contrast - contrast.mean(), np.float32)
