"""The aligned stack: every raw view carried by its transform onto the common, tilt-axis-along-y frame.

A view is binned first and transformed then, by cubic convolution, as IMOD's `newstack -xform -bin` does; where the raw image
does not reach, the view is filled with its own mean, approached over a taper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.model import Image, Progress, Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class StackParams:
    """How the aligned stack is made; defaults as batchruntomo's `newst.com`.

    Attributes
    ----------
    binning
        Raw pixels averaged into one, along x and y (`BinByFactor`).
    linear
        Interpolate linearly instead of cubically (`LinearInterpolation`).
    taper
        Approach the fill value over a border (`TaperAtFill`) instead of at once.
    taper_px
        Width of the taper, output pixels; None for one percent of the mean side, between 16 and 127, as IMOD has it.
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


def aligned_shape(raw_shape: tuple[int, ...], params: StackParams) -> tuple[int, int]:
    """Return `(ny, nx)` of the aligned views of a raw stack `(views, ny, nx)`."""
    raise NotImplementedError


def align_stack(
    stack: Stack,
    transforms: ArrayLike,
    params: StackParams,
    *,
    out_shape: tuple[int, int] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Iterator[Image]:
    """Yield the aligned views in the order of the stack."""
    raise NotImplementedError


def round_to_int16(image: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return grey values rounded half up and held within 16 bits, as newstack writes them."""
    return np.clip(np.floor(image + np.float32(0.5)), -32768, 32767).astype(np.int16)
