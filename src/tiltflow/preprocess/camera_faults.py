"""Hot and dead columns, rows, blocks and pixels of the camera, found once for a series and repaired in every view.

A fault stays where it is while the specimen moves, so a few views spread over the series decide.

- **Lines.** The means of the columns over bands of rows, in units of the noise, are taken from each of these views.  Their median over
  the views, less its running median over the columns, is what all of them share.  Columns that stand out, are few and end as sharply as
  pixels do are a line; rows likewise.  A line that ends within the field covers some of the bands.
- **Stuck pixels** have the same value in all of these views, and differ from their neighbours by more than the noise.  Groups of
  them that fill a rectangle are dead or saturated blocks; a bead that is clipped in all views is round, and stays.

IMOD has no counterpart: its `ccderaser` takes the points, lines and areas of a model that the user draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.model import Stack
from tiltflow.parallel import map_threads
from tiltflow.preprocess.missing_pixels import fill_marked, not_numbers

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SAMPLED = 5
"""Views that are read: their median ignores what up to two of them show at a place."""
_FEWEST = 5
"""Views below which nothing is decided: what a few share may be the specimen's, or chance."""
_SMALLEST = 32
"""Pixels along each side below which nothing is searched: there are no neighbours to compare a line with."""
_BAND = 128
"""Rows over which the mean of a column is taken.  It has a tenth of the noise of a pixel."""
_MOST_BANDS = 8
"""Bands at most, so that large images have longer ones."""
_RUNNING = 33
"""Columns of the running median that the mean of a column is compared with; it follows the specimen and the illumination."""
_STRIDE = 8
"""Columns that share a value of the running median."""
_WIDEST = 8
"""Columns of the widest line."""
_CLEAR = 10.0
"""Robust standard deviations over the columns that a line stands out by."""
_LEAST = 0.3
"""Standard deviations of the noise of a pixel that a line differs by at least; weaker ones move no alignment."""
_SHARP = 0.5
"""Step from one column to the next at either side of a line, as a fraction of its height.  A bead or membrane eight pixels wide has
0.2, a line blurred by the point spread of the camera 0.8."""
_STEEP = 5.0
"""Steps at either side of a line over the median step of the 16 columns around it: the specimen and a lattice have many steps."""
_MISSED = 1
"""Views of those read in which a line may not show: a dark one, or one under a grid bar."""
_MOST = 0.05
"""Fraction of the columns, or of the pixels, that may be faulty: with more of them the image is something else (a lattice, a mask)."""
_STUCK_SD = 3.0
"""Standard deviations of the noise that stuck pixels differ by from their neighbours."""
_RECTANGULAR = 0.9
"""Fraction of its bounding rectangle that a group of stuck pixels fills; a disc fills 0.78."""
_SAMPLED_ROWS = 16
"""Rows of which the noise of a view is estimated."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraFaults:
    """What is wrong with the camera, the same in every view.

    Attributes
    ----------
    mask
        `(ny, nx)`: pixels that are repaired; None if there are none.
    columns, rows
        Those that are faulty, whole or in part, counted from 0.
    blocks
        Groups of stuck pixels beside them.
    """

    mask: Mask | None = None
    columns: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    blocks: int = 0

    @property
    def pixels(self) -> int:
        """Faulty pixels of a view."""
        return 0 if self.mask is None else int(self.mask.sum())

    def sentence(self) -> str:
        """Return what is wrong, in words, counted from 1; empty if nothing is."""
        named = [_named("column", self.columns), _named("row", self.rows)]
        if self.blocks:
            named.append(f"{self.blocks} group{'s' * (self.blocks > 1)} of stuck pixels")
        named = [each for each in named if each]
        if not named:
            return ""
        return f"the camera is at fault in every view: {', '.join(named)}; replaced from the pixels beside them"


def _named(kind: str, lines: Sequence[int]) -> str:
    if len(lines) > 6:
        return f"{len(lines)} {kind}s"
    return f"{kind}{'s' * (len(lines) > 1)} {', '.join(str(line + 1) for line in lines)}" if lines else ""


def find_camera_faults(stack: Stack, *, threads: int = 1) -> CameraFaults:
    """Return the faults of the camera that views spread over the series share.

    Parameters
    ----------
    stack
        Raw views, `(views, ny, nx)`.  At most five are read.
    threads
        Views looked at at the same time.
    """
    count, ny, nx = stack.shape
    views = np.unique(np.linspace(0, count - 1, min(_SAMPLED, count)).astype(int)).tolist()
    if len(views) < _FEWEST or min(ny, nx) < _SMALLEST:
        return CameraFaults()
    first, stuck = np.asarray(stack[views[0]]), np.ones((ny, nx), bool)

    def look(view: int) -> tuple[Floats, Floats, Mask]:
        image = first if view == views[0] else np.asarray(stack[view])
        return *_profiles(image), image == first

    profiles: tuple[list[Floats], list[Floats]] = [], []
    for columns, rows, same in map_threads(look, views, threads):
        profiles[0].append(columns)
        profiles[1].append(rows)
        stuck &= same
    lines = [_lines(np.array(kept)) for kept in profiles]
    mask = _spread(lines[0], ny, axis=0) | _spread(lines[1], nx, axis=1)
    stuck &= ~mask
    blocks = _blocks(stack, views, stuck, mask) if 0 < np.count_nonzero(stuck) <= _MOST * ny * nx else []
    for block in blocks:
        mask[tuple(block)] = True
    if not mask.any():
        return CameraFaults()
    faulty_columns, faulty_rows = (tuple(map(int, np.flatnonzero(each.any(axis=0)))) for each in lines)
    return CameraFaults(mask, faulty_columns, faulty_rows, len(blocks))


def _level(image: NDArray[np.generic]) -> float:
    sample = _sampled(image)
    finite = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
    return float(np.median(finite)) if finite.size else 0.0


def _less(image: NDArray[np.generic], level: float) -> NDArray[np.float32]:
    """Return the image less a level, as float32: a large offset does not cost digits.  What is no number is at the level."""
    wide = image.dtype.itemsize > 4 or (image.dtype.itemsize == 4 and image.dtype.kind != "f")
    centred = np.asarray(np.subtract(image, level, dtype=np.float64 if wide else np.float32), np.float32)
    if (missing := not_numbers(image)) is not None:
        centred[missing] = 0.0
    return centred


def _sampled(image: NDArray[Any]) -> NDArray[Any]:
    """Return rows spread over an image."""
    return image[:: max(len(image) // _SAMPLED_ROWS, 1)]


def _noise(rows: NDArray[np.float32]) -> float:
    """Return the standard deviation of the noise of a pixel, from the differences of neighbours along x."""
    steps = np.abs(np.diff(rows, axis=1))
    return max(_MAD_TO_SD * float(np.median(steps)), 0.5 * float(np.percentile(steps, 95))) / float(np.sqrt(2)) or 1.0


def _profiles(image: NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Return the means of columns over bands of rows, less the median of their band, and those of rows over bands of columns.

    Both are `(bands, lines)`, in standard deviations of the noise of a pixel.
    """
    level, (across, along) = _level(image), map(_edges, image.shape)
    columns, rows = np.empty((len(across) - 1, image.shape[1])), np.empty((len(along) - 1, image.shape[0]))
    for n, (a, b) in enumerate(pairwise(across)):
        band = _less(image[a:b], level)
        columns[n] = band.mean(axis=0, dtype=np.float32)
        for m, (c, d) in enumerate(pairwise(along)):
            rows[m, a:b] = band[:, c:d].mean(axis=1, dtype=np.float32)
    noise = _noise(_less(_sampled(image), level))
    return (
        (columns - np.median(columns, axis=1, keepdims=True)) / noise,
        (rows - np.median(rows, axis=1, keepdims=True)) / noise,
    )


def _outstanding(profile: Floats) -> Floats:
    """Return profiles less their running median, `(bands, lines)`."""
    around = np.pad(profile, ((0, 0), (_RUNNING // 2, _RUNNING // 2 + _STRIDE)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(around, _RUNNING + _STRIDE - 1, axis=1)[:, ::_STRIDE]
    return np.asarray(profile - np.repeat(np.median(windows, axis=2), _STRIDE, axis=1)[:, : profile.shape[1]])


def _edges(n: int) -> NDArray[np.intp]:
    return np.linspace(0, n, min(max(n // _BAND, 1), _MOST_BANDS) + 1).astype(np.intp)


def _lines(profiles: Floats) -> Mask:
    """Return which lines are faulty in which band, `(bands, lines)`, from `(views, bands, lines)`."""
    bands, whole = (_outstanding(np.median(each, axis=0)) for each in (profiles, profiles.mean(axis=1, keepdims=True)))
    # A weak line is found over its whole length, where it is as high in a band as it is on average.
    weak = _standing_out(whole, profiles.mean(axis=1, keepdims=True))
    found = _standing_out(bands, profiles) | (bands / np.where(weak, whole, np.inf) > _SHARP)
    return found if found.mean() <= _MOST else np.zeros_like(found)


def _standing_out(profile: Floats, profiles: Floats) -> Mask:
    """Return which columns stand out as lines do, `(bands, columns)`: on the whole and in the views, `(views, bands, columns)`."""
    spread = _MAD_TO_SD * np.median(np.abs(profile), axis=1, keepdims=True)
    out = np.abs(profile) > np.maximum(_CLEAR * spread, _LEAST)
    found = np.zeros_like(out)
    for band in np.flatnonzero(out.any(axis=1)):
        for run in scipy.ndimage.find_objects(scipy.ndimage.label(out[band])[0]):
            found[band][run] = _is_line(profiles[:, band], run[0])
    return found


def _is_line(profiles: Floats, run: slice) -> bool:
    """Return whether a run of columns that stand out is narrow, and in nearly every view stands out as sharply as pixels do.

    Parameters
    ----------
    profiles
        `(views, columns)`.
    """
    if run.stop - run.start > _WIDEST:
        return False
    near = profiles[:, max(run.start - _RUNNING // 2, 0) : run.stop + _RUNNING // 2]
    usual = np.median(np.abs(np.diff(near, axis=1)), axis=1)
    inner = profiles[:, run]
    right = profiles[:, run.stop if run.stop < profiles.shape[1] else run.start - 1]
    left = profiles[:, run.start - 1] if run.start > 0 else right
    level = (left + right) / 2
    heights = inner - level[:, None]
    peak = heights[:, int(np.abs(np.median(heights, axis=0)).argmax())]
    sign = np.sign(np.median(peak))
    steps = np.diff(np.column_stack([left, inner, right]), axis=1) * sign
    sharp = np.minimum(steps.max(axis=1), -steps.min(axis=1)) > np.maximum(_SHARP * sign * peak, _STEEP * usual)
    return bool(np.count_nonzero(sharp & (sign * peak > _LEAST / 2)) >= len(profiles) - _MISSED)


def _spread(lines: Mask, length: int, axis: int) -> Mask:
    """Return the pixels of the lines, `(ny, nx)`."""
    pixels = np.repeat(lines, np.diff(_edges(length)), axis=0)
    return pixels if axis == 0 else pixels.T


def _blocks(stack: Stack, views: Sequence[int], stuck: Mask, lines: Mask) -> list[tuple[slice, ...]]:
    """Return the groups of stuck pixels that fill a rectangle and differ from their neighbours in all of the views."""
    label, _ = scipy.ndimage.label(stuck, np.ones((3, 3)))
    areas = np.bincount(label.ravel())
    places = scipy.ndimage.find_objects(label)
    rectangular = {
        group: place
        for group, place in enumerate(places, 1)
        if areas[group] >= _RECTANGULAR * np.prod([each.stop - each.start for each in place])
    }
    marked = np.isin(label, list(rectangular))
    if not marked.any():
        return []
    group, least = label[marked], np.full(int(marked.sum()), np.inf)
    for view in views:
        raw = np.asarray(stack[view])
        image = _less(raw, _level(raw))
        filled = fill_marked(image, marked | lines)
        least = np.minimum(least, np.abs(image - filled)[marked] / _noise(_sampled(image)))
    means = np.bincount(group, least, label.max() + 1) / np.maximum(np.bincount(group, minlength=label.max() + 1), 1)
    return [place for number, place in rectangular.items() if means[number] > _STUCK_SD]
