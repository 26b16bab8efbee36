"""Where the samples of stretched lines lie: the geometry that back-projection and projection share.

A voxel at `(x, z)` from the centre of its slice is seen at `u = x cos t + z sin t` of the view at tilt t, that is at
`s = x + z tan t` of the line stretched by `1 / cos t`.  Stretched lines hold two samples a voxel and cover all of the
slice; where the view does not reach they hold a fill value.  IMOD's `tilt` does the same (`COSINTERP 1,2`), and starts its samples
at the first pixel of the view or at the first voxel that needs it, whichever is farther in; so do we, to obtain the same values.

Slices are arrays `(z, x)` whose first row is the top (greatest z) of the specimen, as `tilt` writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import ParameterError
from tiltflow.geometry import folded_tilts

MAX_TILT_DEG = 88.0
"""Steepest view that is back-projected: a stretched line is 29 times as long there, and infinite at 90 degrees."""
_ROUNDING_FIRST, _ROUNDING_ENDS = 1e-9, 1e-6
"""Samples by which positions may be off through rounding, so that a sample on the first voxel, or on the edge of a view, counts."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SliceGrid:
    """The voxels of an XZ slice: `nx` columns and `nz` rows, centred at `(x_centre, z_centre)` of the specimen, binned pixels."""

    nx: int
    nz: int
    x_centre: float = 0.0
    z_centre: float = 0.0

    @property
    def x_first(self) -> float:
        """Position of the first column, binned pixels."""
        return self.x_centre - (self.nx - 1) / 2

    @property
    def z_first(self) -> float:
        """Height of the first row, which is the highest, binned pixels."""
        return self.z_centre + (self.nz - 1) / 2


@dataclass(frozen=True, slots=True, eq=False)
class StretchedLines:
    """The samples of every view for one slice; arrays `(views,)` as the kernels need them.

    Attributes
    ----------
    even, odd
        Index of the first even and the first odd sample of a view in the array of all lines of a slice.
    count
        Number of samples of a view.
    inside
        `(views, 2)`: first and one past the last sample within the view.
    start, step
        Position of sample 0 in the line, and distance from sample to sample, pixels.
    pixel, fraction
        `(length,)`: the same for each sample, in the order of the array of all lines: the pixel before it, and its distance from there.
        Undefined beyond the view.
    shift, slope
        The voxel of row z and column x lies at sample `shift + slope z + 2 x`.
    length
        Length of the array of all lines of a slice.
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


def stretched_lines(tilt_deg: Floats, width: int, xz: SliceGrid, axis_px: float | None = None) -> StretchedLines:
    """Return the samples that a slice needs of lines of `width` pixels.

    Parameters
    ----------
    tilt_deg
        `(views,)`, degrees.
    width
        Of the lines, pixels.
    xz
        Voxels of the slice.
    axis_px
        Where the tilt axis crosses the lines, pixels from their beginning; None for their centre.

    Raises
    ------
    ParameterError
        If a view is nearer to 90 degrees than :data:`MAX_TILT_DEG`.
    """
    steep = np.flatnonzero(np.abs(folded_tilts(tilt_deg)) > MAX_TILT_DEG)
    if steep.size:
        raise ParameterError(
            f"view {steep[0]} is tilted by {tilt_deg[steep[0]]:g} degrees: back-projection takes up to {MAX_TILT_DEG:g}; "
            "correct the tilt angles or exclude the view"
        )
    axis = width / 2 if axis_px is None else axis_px
    t = np.deg2rad(tilt_deg)
    cosine, slope = np.cos(t), np.tan(t)
    z = xz.z_first - np.array([0.0, xz.nz - 1])
    at_ends = z[:, None] * slope
    needed_first = xz.x_first + at_ends.min(axis=0)
    needed_last = xz.x_first + xz.nx - 1 + at_ends.max(axis=0)
    # Beyond 90 degrees the line runs the other way.
    seen_first, seen_last = np.sort([(0.5 - axis) / cosine, (width - 0.5 - axis) / cosine], axis=0)
    phase = np.maximum(seen_first, needed_first)
    before = np.ceil(2 * np.maximum(phase - needed_first, 0) - _ROUNDING_FIRST)
    first = phase - before / 2
    # One sample more than the last neighbour, for the rounding of positions.
    count = (np.floor(2 * (needed_last - first)) + 3).astype(np.int64)
    low = np.ceil(2 * (seen_first - first) - _ROUNDING_ENDS).astype(np.int64)
    high = (np.floor(2 * (seen_last - first) + _ROUNDING_ENDS) + 1).astype(np.int64)
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
        shift=2 * (xz.x_first + xz.z_first * slope - first),
        slope=-2 * slope,
        length=int(begin[-1]),
    )
