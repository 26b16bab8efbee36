"""The views that patches are cut from: binned, flattened, of unit contrast, and again at lower resolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.patches.params import PatchParams
from tiltflow.align.robust_scale import SD_OF_MEDIAN
from tiltflow.binning import bin_image
from tiltflow.model import Image, Stack
from tiltflow.parallel import map_threads
from tiltflow.preprocess.contrast import is_light_on_dark
from tiltflow.preprocess.fixed_pattern import find_pattern
from tiltflow.preprocess.local_mean import LocalMean

_CLIP_SD = 5.0
"""Robust standard deviations at which contrast is clipped: gold and x-rays otherwise outweigh the texture."""
_FLATTEN_PER_WINDOW = 0.08
"""Sigma of the Gaussian blur that a view is divided by, as a fraction of the window."""
_LEAST_FLATTEN_PX = 8.0
"""Least sigma of it, pixels: finer detail is the texture that is compared."""
_LEVELS_BELOW = 2
"""Lower resolutions, each half of the one above, for the first passes."""
_LEAST_SIDE_PX = 48
"""Images are not binned to fewer pixels along a side: three windows of 16."""
_LEAST_MEAN = 0.05
"""Local means above this fraction of the median scale the contrast; images already of zero mean are not divided."""
_DARKEST_PERCENTILE = 1.0
"""The percentile of the local means that must be above it: a few dark spots do not count."""
_EVERY = 4
"""Of the local means each fourth pixel along both sides is looked at: they are smooth."""
_ENOUGH = 1 << 16
"""Pixels whose spread is that of all, to half a per cent."""
_SMOOTH_BINS = 1.5
"""Sigma of the smoothing of power spectra, bins."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Views at one resolution.

    Attributes
    ----------
    images
        `(views, ny, nx)`, mean 0; of the views that take part.
    bin
        Raw pixels per pixel.
    power
        `(views, frequencies)` power spectrum over rings of `frequency`, per pixel.
    frequency
        Cycles per pixel of this level.
    """

    images: NDArray[np.float32]
    bin: int
    power: NDArray[np.float64]
    frequency: NDArray[np.float64]


def room_for_views(
    stack: Stack, included: NDArray[np.bool_], params: PatchParams, empty: Callable[..., NDArray[Any]] = np.empty
) -> list[NDArray[np.float32]]:
    """Return arrays for the images of each level, made by `empty(shape, dtype)`."""
    binning, views = _binning(stack, params), int(np.count_nonzero(included))
    sides = [tuple(int(side) // binning // 2**below for side in stack.shape[1:]) for below in range(_LEVELS_BELOW + 1)]
    return [empty((views, *side), np.float32) for side in sides if side == sides[0] or min(side) >= _LEAST_SIDE_PX]


def read_views(
    stack: Stack,
    included: NDArray[np.bool_],
    params: PatchParams,
    window_px: int,
    threads: int,
    room: Sequence[NDArray[np.float32]] | None = None,
) -> list[Level]:
    """Return the views that take part at full working resolution, then binned by 2 and by 4 more; in the `room` given for their images.

    Each view is divided by its own local mean, so that beam, thickness and exposure fall out, clipped, and brought to zero mean and
    unit contrast.  Where the specimen is light on dark (:mod:`tiltflow.preprocess.contrast`) there is nothing to divide by around it.
    A pattern fixed to the camera is subtracted.
    """
    views = [int(view) for view in np.nonzero(included)[0]]
    binning = _binning(stack, params)
    sigma = max(_FLATTEN_PER_WINDOW * window_px / binning, _LEAST_FLATTEN_PX)
    images, *lower = room_for_views(stack, included, params) if room is None else room
    _fill(images, lambda place: np.asarray(stack[views[place]]), binning, threads)
    light = is_light_on_dark(images)
    local = LocalMean.of(images.shape[1:], sigma)
    _fill(images, lambda place: flatten(images[place], local, light_on_dark=light), 1, threads)
    if (pattern := find_pattern(images, threads)) is not None:
        images -= pattern.image
    levels = [_level(images, binning, threads)]
    for below in lower:
        _fill(below, levels[-1].images.__getitem__, 2, threads)
        levels.append(_level(below, levels[-1].bin * 2, threads))
    return levels


def _binning(stack: Stack, params: PatchParams) -> int:
    return max(-(-max(int(side) for side in stack.shape[1:]) // params.max_size_px), 1)


def _fill(images: NDArray[np.float32], image_of: Callable[[int], NDArray[Any]], binning: int, threads: int) -> None:
    """Put the image that belongs to each place into it, binned."""

    def work(place: int) -> None:
        images[place] = bin_image(image_of(place), binning)

    for _ in map_threads(work, range(len(images)), threads):
        pass


def flatten(image: Image, local_mean: LocalMean, *, light_on_dark: bool = False) -> Image:
    """Return contrast about the local mean, clipped at five robust standard deviations, of unit standard deviation.

    Light on dark, these are those of the contrast where there is specimen, and nothing is divided.
    """
    local = local_mean(image)
    flat = image - local
    some = local[::_EVERY, ::_EVERY]
    floor = _LEAST_MEAN * max(abs(float(np.median(some))), 1e-6)
    if not light_on_dark and float(np.percentile(some, _DARKEST_PERCENTILE)) > floor:
        flat /= local
    counted = flat[local > local.mean()] if light_on_dark else flat.ravel()
    counted = counted[:: max(len(counted) // _ENOUGH, 1)]
    spread = SD_OF_MEDIAN * float(np.median(np.abs(counted - np.median(counted))))
    if spread <= 0:
        return np.zeros_like(image)
    flat = np.clip(flat, -_CLIP_SD * spread, _CLIP_SD * spread)
    flat -= flat.mean()
    return np.asarray(flat / flat.std(), np.float32)


def _level(images: NDArray[np.float32], binning: int, threads: int) -> Level:
    ny, nx = images.shape[1:]
    taper = np.outer(np.hanning(ny), np.hanning(nx)).astype(np.float32)
    rings = min(ny, nx) // 2
    radius = np.hypot(scipy.fft.fftfreq(ny)[:, None], scipy.fft.rfftfreq(nx)[None])
    ring = np.minimum((radius * 2 * rings).astype(int), rings).ravel()
    counts = np.maximum(np.bincount(ring, minlength=rings + 1), 1)

    def by_ring(image: Image) -> NDArray[np.float64]:
        spectrum = scipy.fft.rfft2(image * taper)
        return np.asarray(np.bincount(ring, (spectrum.real**2 + spectrum.imag**2).ravel(), rings + 1) / counts)

    power = np.stack(list(map_threads(by_ring, images, threads)))
    power = scipy.ndimage.gaussian_filter1d(power, _SMOOTH_BINS, axis=1) / float((taper**2).sum())
    frequency = (np.arange(rings + 1) + 0.5) / (2 * rings)
    return Level(images, binning, power, frequency)
