"""Where the samples of stretched lines lie: the geometry that back-projection and projection share.

A voxel at `(x, z)` from the centre of its section is seen at `u = x cos t + z sin t` of the view at tilt t, that is at
`s = x + z tan t` of the line stretched by `1 / cos t`.  Stretched lines hold two samples a voxel and reach over all that the
section needs; where the view does not reach they hold a fill value.  IMOD's `tilt` does so too (`COSINTERP 1,2`), and starts its
samples at the first pixel of the view or at the first voxel that needs it, whichever is farther in; so do we, for the same values.

Sections are arrays `(z, x)` whose first row is the top (greatest z) of the specimen, as `tilt` writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import ParameterError

MAX_TILT_DEG = 88.0

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A grid of voxels: `nx` columns and `nz` rows whose centre lies at `(x_centre, z_centre)` of the specimen, binned pixels."""

    nx: int
    nz: int
    x_centre: float = 0.0
    z_centre: float = 0.0

    @property
    def x_first(self) -> float:
        """Of the first column."""
        return self.x_centre - (self.nx - 1) / 2

    @property
    def z_first(self) -> float:
        """Of the first row, which is the highest."""
        return self.z_centre + (self.nz - 1) / 2


@dataclass(frozen=True, slots=True, eq=False)
class StretchedLines:
    """The samples of every view for one section; arrays `(views,)` as the kernels want them.

    Attributes
    ----------
    even, odd
        Where the even and the odd samples of a view begin in the array of all lines of a section.
    count
        Samples of a view.
    inside
        `(views, 2)`: first and one past the last sample within the view.
    start, step
        Pixel of the line where sample 0 lies, and from sample to sample.
    pixel, fraction
        `(length,)`: the same sample by sample, in the order of the array of all lines: the pixel before, and how far it is from there
        to the next one.  They mean nothing beyond the view.
    shift, slope
        The voxel of row z and column x lies at sample `shift + slope z + 2 x`.
    length
        Of the array of all lines of a section.
    """

    even: Integers
    odd: Integers
    count: Integers
    inside: Integers
    start: Floats
    step: Floats
    pixel: NDArray[np.uint32]
    fraction: NDArray[np.float32]
    shift: Floats
    slope: Floats
    length: int


def stretched_lines(tilt_deg: Floats, width: int, section: Section, axis_px: float | None = None) -> StretchedLines:
    """Return the samples that a section needs of lines of `width` pixels.

    Parameters
    ----------
    tilt_deg
        `(views,)`.
    axis_px
        Where the tilt axis crosses the lines, pixels from the corner; None for their centre.
    """
    steep = np.flatnonzero(np.abs(tilt_deg) > MAX_TILT_DEG)
    if steep.size:
        raise ParameterError(
            f"view {steep[0]} is tilted by {tilt_deg[steep[0]]:g} degrees: back-projection takes up to {MAX_TILT_DEG:g}; "
            "correct the tilt angles or exclude the view"
        )
    axis = width / 2 if axis_px is None else axis_px
    t = np.deg2rad(tilt_deg)
    cosine, slope = np.cos(t), np.tan(t)
    z = section.z_first - np.array([0.0, section.nz - 1])
    at_ends = z[:, None] * slope
    needed_first = section.x_first + at_ends.min(axis=0)
    needed_last = section.x_first + section.nx - 1 + at_ends.max(axis=0)
    seen_first, seen_last = (0.5 - axis) / cosine, (width - 0.5 - axis) / cosine
    phase = np.maximum(seen_first, needed_first)
    before = np.ceil(2 * np.maximum(phase - needed_first, 0) - 1e-9)
    first = phase - before / 2
    # One sample more than the last neighbour, for the rounding of positions.
    count = (np.floor(2 * (needed_last - first)) + 3).astype(np.int64)
    low = np.ceil(2 * (seen_first - first) - 1e-6).astype(np.int64)
    high = (np.floor(2 * (seen_last - first) + 1e-6) + 1).astype(np.int64)
    half = count // 2 + 1
    begin = np.concatenate([[0], np.cumsum(2 * half)])
    even, odd = begin[:-1], begin[:-1] + half
    start, step = first * cosine + axis - 0.5, cosine / 2
    pixel, fraction = np.zeros(begin[-1], np.uint32), np.zeros(begin[-1], np.float32)
    for v, samples in enumerate(count):
        at = start[v] + step[v] * np.arange(samples)
        before = np.clip(np.floor(at), 0, max(width - 2, 0))
        for parity, place in enumerate((even[v], odd[v])):
            here, places = before[parity::2], slice(place, place + len(before[parity::2]))
            pixel[places], fraction[places] = here, at[parity::2] - here
    return StretchedLines(
        even=even,
        odd=odd,
        count=count,
        inside=np.clip(np.stack([low, np.maximum(low, high)], axis=1), 0, count[:, None]),
        start=start,
        step=step,
        pixel=pixel,
        fraction=fraction,
        shift=2 * (section.x_first + section.z_first * slope - first),
        slope=-2 * slope,
        length=int(begin[-1]),
    )
