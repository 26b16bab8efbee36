"""Grey levels as IMOD makes them: sections brought to a common mean, and the contrast of pictures.

`newstack -float 3` (:func:`common_mean`).  With D the least of (minimum - mean) over the sections and G the mean of their means,
every section is shifted to the mean m = max(0, G + D) - D, so that nothing is negative.  Integers are rounded:
floor(x + 0.5).  The header's minimum and maximum are those before rounding.

`mrc2tif -C b,w` (:func:`contrast`).  With min and max from the header,

    slope = 255 / (max - min) * 256 / (w - b + 1),    intercept = -((b / 255) (max - min) + min) slope

and a pixel is slope * level + intercept, cut to 0 .. 255 and truncated.

IMOD cuts levels that leave the range of the file's integers; here such sections keep all their levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import products as kernels
from tiltflow.model import Progress
from tiltflow.parallel import map_threads
from tiltflow.products.sections import Block, Sections, blocks

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Minimum, maximum and mean of each section, `(sections,)`."""

    minimum: Floats
    maximum: Floats
    mean: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """The new level of a value is `scale * value + offset`, with one pair a section.

    Attributes
    ----------
    scale, offset
        `(sections,)`; the scale is 1 but for IMOD's rounding.
    minimum, maximum, mean
        Of all sections, at the new levels and before any rounding.
    """

    scale: Floats
    offset: Floats
    minimum: float
    maximum: float
    mean: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """The grey of a level is `slope * level + intercept`, cut to 0 .. 255 and truncated."""

    slope: float
    intercept: float


def section_moments(sections: Sections, *, threads: int = 1, progress: Progress | None = None) -> Moments:
    """Return the moments of each section; everything is read once."""
    nz, ny, nx = sections.shape

    def survey(place: Block) -> tuple[Block, Floats, Floats, NDArray[np.float64]]:
        block = sections.read(place.sections, place.rows)
        low, high = np.empty((2, len(block)), np.float32)
        total = np.empty(len(block))
        kernels.section_moments(block, low, high, total)
        return place, low, high, total

    minimum, maximum, total = np.full(nz, np.inf, np.float32), np.full(nz, -np.inf, np.float32), np.zeros(nz)
    for place, low, high, block_total in map_threads(survey, blocks(sections.shape), threads):
        zs = place.sections
        np.minimum(minimum[zs], low, out=minimum[zs])
        np.maximum(maximum[zs], high, out=maximum[zs])
        total[zs] += block_total
        if progress is not None:
            progress(place.done)
    return Moments(minimum, maximum, (total / (ny * nx)).astype(np.float32))


def common_mean(moments: Moments) -> Levels:
    """Return the levels that bring all sections to one mean.

    Notes
    -----
    IMOD derives a scale from the new minimum and maximum of each section, in float32.  It differs from 1 in the last bit at most,
    and is kept, as it decides how halves are rounded.
    """
    low, high, mean = moments.minimum, moments.maximum, moments.mean
    depth = np.min(low - mean)
    grand_mean = np.float32(mean.mean(dtype=np.float64))
    target = max(np.float32(0), grand_mean + depth) - depth
    new_low, new_high = (low + target) - mean, (high + target) - mean
    spread = high - low
    flat = spread <= 0
    scale = np.where(flat, np.float32(1), (new_high - new_low) / np.where(flat, np.float32(1), spread)).astype(np.float32)
    offset = new_low - scale * low
    return Levels(
        scale,
        offset,
        float(np.min(scale * low + offset)),
        float(np.max(scale * high + offset)),
        float((scale * mean + offset).mean(dtype=np.float64)),
    )


def contrast(minimum: float, maximum: float, black: int = 0, white: int = 255) -> Contrast:
    """Return the contrast for levels between `minimum` and `maximum`; middle grey everywhere if these are equal."""
    spread = maximum - minimum
    if not spread > 0:
        return Contrast(0.0, 128.0)
    slope = 255 / spread * 256 / (white - black + 1)
    return Contrast(slope, -((black / 255) * spread + minimum) * slope)


def picture(image: Floats, levels: Levels, section: int, grey: Contrast, *, whole: bool) -> NDArray[np.uint8]:
    """Return the picture `(ny, nx)` of a section, with the top row first."""
    out = np.empty(image.shape, np.uint8)
    kernels.grey_picture(image, levels.scale[section], levels.offset[section], whole, grey.slope, grey.intercept, out)
    return out
