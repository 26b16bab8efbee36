"""The lines of the views before back-projection: logarithm, filter, weight and scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import Stack
from tiltflow.reconstruct.radial_filters import DC, continue_lines, padded_length

LOG_FLOOR = 1e-3
"""Fraction of the mean to which darker grey values are raised before the logarithm: an optical thickness of 6.9 more than the mean,
which no specimen that transmits an image has."""

_CACHED_BYTES = 1 << 20
"""Size of the padded lines that are filtered at once: they and their spectra stay in a second-level cache of 1 MB."""
_MEAN_ROWS = 128
"""Rows of a view of which at least so many are averaged for its mean grey value, which is then known to a tenth of its noise."""


@runtime_checkable
class ReadsRows(Protocol):
    """A stack that can read some rows of a view without the others, which saves reading every view once for each slab."""

    def read_block(self, views: slice, rows: slice, /) -> NDArray[Any]:
        """Return some rows of some views, `(views, rows, nx)`."""


@dataclass(frozen=True, slots=True, eq=False)
class Weighting:
    """The filter of every view, and what the view contributes beyond its edges.

    Attributes
    ----------
    views
        Which views take part, counted from 0.
    tilt_deg
        Their tilts, degrees.
    weights
        `(views, frequencies)`: product of filter, weight of the view and scale.
    fill
        `(views,)`: what a view contributes beyond its edges, grey values.
    base
        Added to every voxel, grey values.
    log_offset, log_floor
        Added before the logarithm (None for linear data), and the least value of which it is taken.
    """

    views: NDArray[np.int64]
    tilt_deg: NDArray[np.float64]
    weights: NDArray[np.float32]
    fill: NDArray[np.float32]
    base: float
    log_offset: float | None
    log_floor: float


def chosen_views(count: int, included: ArrayLike | None = None, excluded: Sequence[int] = ()) -> NDArray[np.int64]:
    """Return which of `count` views are included and not excluded, counted from 0.

    Raises
    ------
    ParameterError
        If `included` is of another length, an excluded view does not exist, or no view is left.
    """
    wanted = np.ones(count, bool) if included is None else np.array(included, bool)
    if wanted.shape != (count,):
        raise ParameterError(f"{wanted.size} marks of inclusion for {count} aligned views: there must be one a view")
    outside = [v for v in excluded if not 0 <= v < count]
    if outside:
        raise ParameterError(f"view {outside[0] + 1} is to be excluded, but the views are 1 to {count}")
    wanted[list(excluded)] = False
    views = np.flatnonzero(wanted)
    if views.size == 0:
        raise ParameterError(f"all of the {count} views are excluded: nothing to reconstruct")
    return views


def weigh(
    aligned: Stack,
    views: NDArray[np.int64],
    tilt_deg: NDArray[np.float64],
    share: NDArray[np.float64],
    radial: NDArray[np.float64],
    *,
    log_offset: float | None = None,
    base: float = 0.0,
) -> Weighting:
    """Return the weighting of views whose lines are filtered by `radial`, `(frequencies,)`, and multiplied by `share`, `(views,)`.

    Raises
    ------
    ParameterError
        If a logarithm is asked for and the mean grey value has none.
    """
    mean, floor = _mean_grey(aligned, views), 0.0
    if log_offset is not None:
        mean += log_offset
        if not mean > 0:
            raise ParameterError(f"the mean grey value plus {log_offset:g} is {mean:g}, which has no logarithm: leave LOG out")
        floor = LOG_FLOOR * mean
        mean = float(np.log10(mean))
    return Weighting(
        views=views,
        tilt_deg=tilt_deg,
        weights=(share[:, None] * radial).astype(np.float32),
        fill=(share * DC * mean).astype(np.float32),
        base=base,
        log_offset=log_offset,
        log_floor=floor,
    )


def _mean_grey(aligned: Stack, views: NDArray[np.int64]) -> float:
    """Return the mean grey value over the views, from 128 to 255 rows of each."""
    every = max(aligned.shape[1] // _MEAN_ROWS, 1)
    return float(np.mean([np.asarray(aligned[int(v)][::every]).mean(dtype=np.float64) for v in views]))


def read_lines(
    aligned: Stack, weighting: Weighting, y0: int, y1: int, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return rows `y0` to `y1` (exclusive) of the views, `(views, rows, nx)`, as logarithms if asked for; in `out` if it is given."""
    lines = np.empty((len(weighting.views), y1 - y0, aligned.shape[2]), np.float32) if out is None else out
    if isinstance(aligned, ReadsRows):
        gaps = np.flatnonzero(np.diff(weighting.views) != 1) + 1
        done = 0
        for run in np.split(weighting.views, gaps):
            lines[done : done + len(run)] = aligned.read_block(slice(int(run[0]), int(run[-1]) + 1), slice(y0, y1))
            done += len(run)
    else:
        for line, v in zip(lines, weighting.views.tolist(), strict=True):
            line[...] = aligned[v][y0:y1]
    if weighting.log_offset is not None:
        lines += np.float32(weighting.log_offset)
        np.log10(np.maximum(lines, np.float32(weighting.log_floor), out=lines), out=lines)
    return lines


def filter_lines(
    lines: NDArray[np.float32], weights: NDArray[np.float32], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return lines `(views, rows, nx)` whose frequencies are multiplied by `weights`, `(views, frequencies)`.

    They are written to `out` if it is given, which may be `lines`.
    """
    views, rows, width = lines.shape
    filtered = np.empty_like(lines) if out is None else out
    padded = np.empty((_at_once(rows, padded_length(width)), rows, padded_length(width)), np.float32)
    for first in range(0, views, len(padded)):
        some = slice(first, min(first + len(padded), views))
        block = padded[: some.stop - first]
        block[..., :width] = lines[some]
        filter_padded(block, width, weights[some])
        filtered[some] = block[..., :width]
    return filtered


def filter_padded(lines: NDArray[np.float32], width: int, weights: NDArray[np.float32]) -> None:
    """Filter the first `width` pixels of lines `(views, rows, padded length)` in place; the pixels behind them are overwritten."""
    views, rows, length = lines.shape
    at_once = _at_once(rows, length)
    for first in range(0, views, at_once):
        block = lines[first : first + at_once]
        continue_lines(block, width)
        spectrum = scipy.fft.rfft(block, axis=-1)
        spectrum *= weights[first : first + at_once, None]
        block[..., :width] = scipy.fft.irfft(spectrum, length, axis=-1, overwrite_x=True)[..., :width]


def _at_once(rows: int, length: int) -> int:
    """Return how many views, of `rows` lines of a length each, are filtered at once."""
    return max(_CACHED_BYTES // (4 * rows * length), 1)
