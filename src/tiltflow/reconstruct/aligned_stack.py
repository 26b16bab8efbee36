"""The aligned stack: every raw view transformed to the common frame whose tilt axis runs along y.

A view is binned first and then transformed by cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711, with a = -1), as IMOD's
`newstack -xform -bin` does.  Where the raw image does not reach, the view is filled with its own mean, approached over a taper.
Counts stay counts: a view without negative pixels is not given any by the overshoot of the interpolation.

Differences from newstack: within one pixel of the edge of the raw image, its edge is repeated; the taper falls with the distance
from the frame; and a size that the binning does not divide is trimmed on both sides, so that its centre still goes to the centre of
the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.binning import bin_image
from tiltflow.errors import ParameterError
from tiltflow.kernels.warp import warp
from tiltflow.model import Image, Progress, Stack
from tiltflow.parallel import map_views

_PAD = 3
"""Pixels of repeated edge around a binned view: cubic convolution reads two beyond the edge, and positions are rounded."""
_TAPER_PART, _LEAST_TAPER_PX, _MOST_TAPER_PX = 100, 16, 127
"""Width of the taper: the mean side of the view over this, within limits; those of newstack."""
_LEAST_DETERMINANT = 1e-6
"""Determinant of a transform below which it cannot be inverted: a scale of a thousandth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackParams:
    """How the aligned stack is made; defaults are those of batchruntomo's `newst.com`.

    Attributes
    ----------
    binning
        Raw pixels averaged into one, along x and y (`BinByFactor`).
    linear
        Interpolate linearly instead of cubically (`LinearInterpolation`).
    taper
        Approach the fill value over a border (`TaperAtFill`) instead of at once.
    taper_px
        Width of the taper, output pixels; None for one percent of the mean side, between 16 and 127, as in IMOD.
    taper_inside
        Taper good pixels down at the edge of the image, instead of continuing its edge outwards.
    size_xy
        Size of the output, pixels after binning; None for that of the raw image divided by the binning, rounded down.
    """

    binning: int = 1
    linear: bool = False
    taper: bool = True
    taper_px: int | None = None
    taper_inside: bool = False
    size_xy: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.binning < 1:
            raise ParameterError(f"binning {self.binning} of the aligned stack: it must be 1 or more")
        if self.taper_px is not None and self.taper_px < 0:
            raise ParameterError(f"taper of {self.taper_px} pixels: it must be 0 or more")
        if self.size_xy is not None and min(self.size_xy) < 1:
            raise ParameterError(f"size {self.size_xy} of the aligned stack: both sides must be 1 or more")


def aligned_shape(raw_shape: tuple[int, ...], params: StackParams) -> tuple[int, int]:
    """Return `(ny, nx)` of the aligned views of a raw stack `(views, ny, nx)`.

    >>> aligned_shape((41, 630, 653), StackParams(binning=4))
    (157, 163)
    """
    if params.size_xy is not None:
        return params.size_xy[1], params.size_xy[0]
    ny, nx = raw_shape[-2] // params.binning, raw_shape[-1] // params.binning
    if min(ny, nx) < 1:
        raise ParameterError(f"binning {params.binning} leaves nothing of images of {raw_shape[-1]} x {raw_shape[-2]} pixels")
    return ny, nx


def aligned_dtype(raw: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of the aligned views: int16 for bytes and int16, float32 for all other types.

    >>> aligned_dtype(np.dtype("uint16"))
    dtype('float32')
    """
    return np.dtype(np.int16 if raw.name in {"int8", "uint8", "int16"} else np.float32)


def align_stack(
    stack: Stack,
    transforms: ArrayLike,
    params: StackParams,
    *,
    out_shape: tuple[int, int] | None = None,
    then: Callable[[int, Image], Image] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Iterator[Image]:
    """Yield the aligned views, in the order of the stack.

    Parameters
    ----------
    stack
        Raw views; at most `2 * threads + 1` aligned ones exist at a time.
    transforms
        `(views, 2, 3)`, raw to aligned, unbinned pixels (:mod:`tiltflow.geometry`).
    params
        Binning, interpolation, taper and size.
    out_shape
        `(ny, nx)` of the output; None for :func:`aligned_shape`.
    then
        Makes of the number of a view, from 0, and its aligned image the one that is yielded, in the same thread.
    threads
        Views transformed at the same time.
    progress
        Called with the fraction done.

    Yields
    ------
    Image
        `(ny, nx)`, float32.

    Raises
    ------
    ParameterError
        If there is not one transform for each view, or one cannot be inverted.
    """
    xf = np.asarray(transforms, np.float64)
    views = stack.shape[0]
    if xf.shape != (views, 2, 3):
        raise ParameterError(f"transforms of shape {xf.shape} for a stack of {views} views: there must be one (2, 3) matrix a view")
    singular = np.flatnonzero(~(np.abs(np.linalg.det(xf[:, :, :2])) > _LEAST_DETERMINANT))
    if singular.size:
        raise ParameterError(f"the transform of view {singular[0]} cannot be inverted: {xf[singular[0]].tolist()}")
    shape = aligned_shape(stack.shape, params) if out_shape is None else out_shape

    def made(view: int) -> Image:
        image = align_view(stack[view], xf[view], params, shape)
        return image if then is None else then(view, image)

    yield from map_views(made, views, threads, progress)


def align_view(view: NDArray[np.generic], xf: ArrayLike, params: StackParams, out_shape: tuple[int, int]) -> Image:
    """Return one raw view `(ny, nx)`, transformed by `xf` `(2, 3)` to an aligned image of `out_shape` `(ny, nx)`."""
    padded, offset = _binned_with_border(view, params.binning)
    image = padded[_PAD:-_PAD, _PAD:-_PAD]
    back = geometry.invert(xf)
    matrix = np.ascontiguousarray(back[:, :2])
    centre_raw = (np.array(view.shape[::-1]) / 2 - offset) / params.binning
    centre_out = np.array(out_shape[::-1]) / 2
    origin = centre_raw - 0.5 + _PAD + back[:, 2] / params.binning + matrix @ (0.5 - centre_out)
    lowest = np.float32(0.0 if float(image.min()) >= 0 else np.finfo(np.float32).min)
    out = np.empty(out_shape, np.float32)
    fill = np.float32(image.mean(dtype=np.float64))
    warp(padded, _PAD, origin, matrix, params.linear, fill, lowest, np.float32(_taper(params, out_shape)), params.taper_inside, out)
    return out


def _taper(params: StackParams, shape: tuple[int, int]) -> int:
    if not params.taper:
        return 0
    if params.taper_px is not None:
        return params.taper_px
    return int(np.clip(round(sum(shape) / (2 * _TAPER_PART)), _LEAST_TAPER_PX, _MOST_TAPER_PX))


def _binned_with_border(view: NDArray[np.generic], factor: int) -> tuple[Image, NDArray[np.int64]]:
    """Return the binned view with its edge repeated around it, and the raw pixel (x, y) at which its first bin begins."""
    ny, nx = view.shape[0] // factor, view.shape[1] // factor
    y0, x0 = (view.shape[0] - ny * factor) // 2, (view.shape[1] - nx * factor) // 2
    padded = np.empty((ny + 2 * _PAD, nx + 2 * _PAD), np.float32)
    image = padded[_PAD:-_PAD, _PAD:-_PAD]
    raw = view[y0 : y0 + ny * factor, x0 : x0 + nx * factor]
    image[...] = bin_image(raw, factor)
    padded[:_PAD], padded[-_PAD:] = padded[_PAD], padded[-_PAD - 1]
    padded[:, :_PAD], padded[:, -_PAD:] = padded[:, _PAD, None], padded[:, -_PAD - 1, None]
    return padded, np.array([x0, y0])
