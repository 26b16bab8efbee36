"""Parts of single views that something opaque covers, such as a bar of the grid that comes into the field at high tilt.

The shadow has no detail of the specimen, and its edge, the sharpest thing in the view, does not move as the specimen does.  It is
replaced by the level around it before views are compared; its border is dissolved, so that no edge is left.  What is as dark in most
views is the specimen's, and stays; views with little else are left out (:mod:`tiltflow.preprocess.bad_views`).

IMOD has no counterpart: it leaves the whole view out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.binning import bin_image
from tiltflow.model import Stack
from tiltflow.parallel import map_threads

Images = NDArray[np.float32]
Mask = NDArray[np.bool_]

_KEPT_PX = 256
"""Larger side of the binned images that are kept, at most: that with which views are compared at first."""
_SIZE_PX = 128
"""Larger side of those in which shadows are found, at most; an edge is located to a hundredth of the field."""
_SMOOTH_PX = 1.0
"""Standard deviation of the Gaussian blur of these images: noise and beads of a pixel are not opaque then."""
_BRIGHT_PERCENTILE = 75.0
"""Percentile of a view that is its level: a shadow on half of it does not change it."""
_OPAQUE, _HALF_LIGHT = 0.2, 0.6
"""Fractions of the level below which light does not come through a specimen, and up to which what adjoins a shadow is its edge: an
optical thickness of 1.6 and of 0.5 more than the rest."""
_BELOW_ZERO = 0.05
"""Fraction of the level by which counts may lie below zero; images without a mean have no level that something could be dark against."""
_LEAST_PART = 0.02
"""Part of the field that an opaque thing covers at least, and by which it exceeds the median over the series; a cluster of gold is
smaller."""
_SOLID = 0.5
"""Part of a dark region that is opaque: the rest is its edge, a third of a narrow bar.  A thick specimen in images that are black before
the light is gone (8-bit movies) is opaque in a tenth of its shadow."""
_BORDER_PX, _SOFT_PX = 2, 1.5
"""Binned pixels that a mask is larger than the shadow, and the standard deviation of the blur of its edge."""
_LEVEL_REACH_PX = 6.0
"""Standard deviation, binned pixels, of the Gaussian average that continues the level into a shadow."""
_FEWEST_VIEWS = 5
"""Views below which the median over the series says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class _Shadow:
    """A shadow in a binned view: the soft mask, the level to put there, both `(ny, nx)`, and its part of the field."""

    mask: Images
    level: Images
    part: float


class UnshadedStack:
    """A stack whose opaque parts are replaced by the level around them as views are read, and which remembers small images of its views.

    Attributes
    ----------
    parts
        Part of the field that is replaced in each view that has an opaque part, counted from 0.
    """

    def __init__(self, stack: Stack, shadows: Mapping[int, _Shadow], small: Mapping[int, Images] = MappingProxyType({})) -> None:
        self._stack = stack
        self._shadows = shadows
        self._small = {view: image for view, image in small.items() if view not in shadows}
        self.parts = {view: shadow.part for view, shadow in shadows.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """`(views, ny, nx)`."""
        return self._stack.shape

    @property
    def remark(self) -> str:
        """What the user is told of the opaque parts; empty where there are none."""
        if not self.parts:
            return ""
        parts = ", ".join(f"{view + 1} ({part:.0%})" for view, part in self.parts.items())
        return f"something opaque, such as a bar of the grid, covers a part of single views, which is not compared: view {parts}"

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        image = self._stack[view]
        shadow = self._shadows.get(int(view))
        return np.asarray(image) if shadow is None else _filled(np.asarray(image, np.float32), shadow)

    def binned(self, view: int, factor: int) -> Images:
        """Return a view binned by a whole factor (:func:`tiltflow.binning.bin_image`); not to be written to."""
        if view in self._small and factor == _kept_binning(self.shape[1:]):
            return self._small[view]
        return bin_image(self[view], factor)


def without_opaque_parts(stack: Stack, included: NDArray[np.bool_], *, threads: int = 1) -> UnshadedStack:
    """Return a stack without the parts of single views that something opaque covers.

    Parameters
    ----------
    stack
        The views, `(view, y, x)`, counts from zero; others are returned as they are.
    included
        Views that take part, `(views,)`.
    threads
        Views read at the same time.
    """
    views = np.flatnonzero(included).tolist()
    if len(views) < _FEWEST_VIEWS:
        return UnshadedStack(stack, {})
    shape = tuple(stack.shape[1:])
    kept, further = _kept_binning(shape), _binning(shape) // _kept_binning(shape)

    def look(view: int) -> tuple[Images, _Shadow | None]:
        small = bin_image(stack[view], kept)
        return small, _shadow_of(bin_image(small, further))

    small: dict[int, Images] = {}
    found: dict[int, _Shadow | None] = {}
    for view, (image, shadow) in zip(views, map_threads(look, views, threads), strict=True):
        small[view], found[view] = image, shadow
    usual = float(np.median([0.0 if each is None else each.part for each in found.values()]))
    shadows = {view: each for view, each in found.items() if each is not None and each.part > usual + _LEAST_PART}
    return UnshadedStack(stack, shadows, small)


def _kept_binning(shape: tuple[int, ...]) -> int:
    """Return the binning of the images of views `(ny, nx)` that are kept."""
    return max(-(-max(shape) // _KEPT_PX), 1)


def _binning(shape: tuple[int, ...]) -> int:
    """Return the binning of the images of views `(ny, nx)` in which shadows are found."""
    kept = _kept_binning(shape)
    return kept if max(shape) <= _SIZE_PX * kept else 2 * kept


def _shadow_of(binned: Images) -> _Shadow | None:
    """Return the shadow in a binned view; None where there is none."""
    small = scipy.ndimage.gaussian_filter(binned, _SMOOTH_PX, mode="nearest")
    level = float(np.percentile(small, _BRIGHT_PERCENTILE))
    if level <= 0 or float(small.min()) < -_BELOW_ZERO * level:
        return None
    dark = _at_the_border(small < _HALF_LIGHT * level, small < _OPAQUE * level)
    part = float(dark.mean())
    if part < _LEAST_PART:
        return None
    wide = scipy.ndimage.binary_dilation(dark, iterations=_BORDER_PX)
    clear = (~wide).astype(np.float32)
    around = scipy.ndimage.gaussian_filter(small * clear, _LEVEL_REACH_PX, mode="nearest")
    weight = scipy.ndimage.gaussian_filter(clear, _LEVEL_REACH_PX, mode="nearest")
    far = float(np.median(small[~wide])) if (~wide).any() else level
    # Far from the edge the average has no data; there the level is the median.
    least = np.float32(_LEAST_PART)
    mask = np.clip(scipy.ndimage.gaussian_filter(wide.astype(np.float32), _SOFT_PX, mode="nearest"), 0, 1)
    mask[dark] = 1.0
    return _Shadow(mask, np.asarray((around + least * far) / (weight + least), np.float32), part)


def _at_the_border(dark: Mask, opaque: Mask) -> Mask:
    """Return the dark regions that reach the border of the image and are opaque but for their edges."""
    label, count = scipy.ndimage.label(dark)
    edge = np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]])
    area, whole = (np.bincount(label[part], minlength=count + 1) for part in (opaque, dark))
    least = np.maximum(_LEAST_PART * dark.size, _SOLID * whole)
    kept = [number for number in np.unique(edge) if number and area[number] >= least[number]]
    return np.isin(label, kept)


def _filled(image: Images, shadow: _Shadow) -> Images:
    """Return a view with its shadow replaced."""
    mask, level = (_enlarged(each, image.shape) for each in (shadow.mask, shadow.level))
    return np.asarray(image * (1 - mask) + level * mask, np.float32)


def _enlarged(small: Images, shape: tuple[int, ...]) -> Images:
    """Return a binned image at full size, by linear interpolation between the centres of its pixels."""
    factor = _binning(shape)
    rows, columns = ((np.arange(n) + 0.5) / factor - 0.5 for n in shape)
    grid = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(scipy.ndimage.map_coordinates(small, grid, order=1, mode="nearest"), np.float32)
