"""Dark, blocked, blank and saturated views, detected from the counts alone.

A specimen of thickness d transmits `exp(-d / (l cos t))` of the beam, with l the mean free path and t the tilt, so the logarithm of
the level of a view is a straight line in `1 / cos t`: views darken towards high tilt by nature.  The line is fitted robustly (Theil
and Sen: the median of the slopes of all pairs), a running median follows the drift of the beam, and a view is judged by its level
as a fraction of this prediction.  A grid bar that covers part of the field shows in the fraction of the field that is dark, which
is compared with its median over the series, so that an object that is dark in all views excludes none.

Corresponds to the exclusion of dark and end views by IMOD's batchruntomo, which tests the ends of the series only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.errors import ParameterError
from tiltflow.model import Progress, Stack
from tiltflow.parallel import map_views

Floats = NDArray[np.float64]

_SAMPLES = 256
"""Pixels sampled along each side: with 65 000 of them a median is known to half a percent of the standard deviation."""
_BLOCKS = 16
"""Blocks along each side whose means are tested for being dark.  A block holds 256 samples, so that noise makes none dark.
8 or 32 give the same views (`benchmarks/sensitivity_volume.py`)."""
_FLOOR_PERCENTILE = 0.5
"""Percentile of a view that is taken for its lowest count; the minimum itself may be a dead pixel."""
_SIGNED_FRACTION = 0.01
"""Fraction of negative pixels above which a stack is stored signed, not counted from zero; readout noise makes fewer."""
_FINITE_FRACTION = 0.99
"""Fraction of finite pixels that a view needs; single ones are replaced by the median of the view."""
_LEAST_LEVEL = 1e-6
"""Fraction of the brightest level to which darker ones are raised before the logarithm, so that a black view has one."""
_PATH_APART = 0.02
"""Difference of `1 / cos t` from which a pair of views has a slope: 11 degrees next to 0, a third of a degree at 60.  Of
views at nearly the same path length, noise sets the slope.  From half to double, predicted levels change by 0.1 %."""
_DRIFT_PART = 4
"""The running median of the drift reaches this part of the series (one over) to either side: a run of dark views shorter than an
eighth of the series does not move it, even at the ends.  With a beam that drifts by 15 % over a series the level is predicted to 5 %,
with half the reach to 2 %, with double to 11 %."""
_LEAST_DRIFT_REACH = 3
"""Views to either side that the running median reaches at least: its seven then hold a majority of good ones."""
_SPARSE_COUNT = 3.0
"""Counts a pixel below which the median of a view, a whole number, says little; of such counts the mean is taken, and its noise."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation, `1 / norm.ppf(0.75)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewParams:
    """When a view is excluded.  All thresholds are fractions.

    Attributes
    ----------
    enabled
        Whether views are tested; the statistics are measured either way.
    dark_fraction
        A view, or a part of its field, is dark when its level is less than this fraction of the one predicted from the series: far below
        what a drifting beam does, and above the light that a grid bar lets through.  With 0.18 a view with a quarter of the light is
        kept, with 0.7 one with half of it is excluded.
    blocked_fraction
        A view is blocked when the dark part of its field exceeds the median over the series by this; default as IMOD's
        `darkExcludeFraction`.
    blank_fraction
        A view is blank when its contrast is less than this fraction of the median over the series, allowing for its level.  0.05 to 0.2
        find the same views: a blank one has only readout noise, or none.
    saturated_fraction
        A view is saturated when the fraction of its pixels at its maximum or minimum exceeds the median over the series by this.
        No specimen has a fifth of the field at one grey value.  0.1 finds the same views, 0.4 keeps one of which 35 % are clipped.
    """

    enabled: bool = True
    dark_fraction: float = 0.35
    blocked_fraction: float = 0.33
    blank_fraction: float = 0.1
    saturated_fraction: float = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class ViewStatistics:
    """The statistics that decide, each `(views,)`.

    Attributes
    ----------
    level
        Median of the view, counts above the floor of the stack; the mean, where electrons are counted and there are few.
    expected_level
        Level predicted from the whole series, counts above the floor.
    contrast
        Standard deviation within a view, from the median absolute deviation, counts.
    dark
        Fraction of the field that is dark.
    saturated
        Fraction of the pixels at the maximum or the minimum.
    """

    level: Floats
    expected_level: Floats
    contrast: Floats
    dark: Floats
    saturated: Floats


@dataclass(frozen=True, slots=True, eq=False)
class ViewCheck:
    """Which views are used, and why the others are not.

    Attributes
    ----------
    included
        `(views,)`.
    reasons
        Reason for every excluded view, counted from 0.
    statistics
        The statistics behind it.
    """

    included: NDArray[np.bool_]
    reasons: Mapping[int, str]
    statistics: ViewStatistics


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """What is kept of one view: statistics of its counts, and the means of its blocks."""

    level: float
    contrast: float
    low: float
    negative: float
    saturated: float
    finite: bool
    blocks: Floats


def find_bad_views(
    stack: Stack, tilt_deg: ArrayLike, params: ViewParams | None = None, *, threads: int = 1, progress: Progress | None = None
) -> ViewCheck:
    """Return which views alignment and reconstruction should use, and why not the others.

    Parameters
    ----------
    stack
        Raw views, `(views, ny, nx)`.
    tilt_deg
        Nominal tilt angles, `(views,)`, degrees.
    params
        Thresholds; None for the defaults.
    threads
        Views read at the same time.
    progress
        Called with the fraction done.

    Returns
    -------
    ViewCheck
        Included views, reasons and statistics.

    Raises
    ------
    ParameterError
        If there is not one tilt angle for each view.
    """
    params = params or ViewParams()
    tilts = np.asarray(tilt_deg, float)
    if tilts.shape != (stack.shape[0],):
        raise ParameterError(f"{tilts.size} tilt angles for {stack.shape[0]} views; give one for each")
    samples = list(map_views(lambda view: _sample(stack[view]), stack.shape[0], threads, progress))
    statistics = _statistics(samples, tilts, params)
    reasons: dict[int, str] = {}
    if params.enabled:
        finite = np.array([sample.finite for sample in samples])
        reasons = {view: reason for view in range(len(tilts)) if (reason := _reason(view, statistics, finite, params))}
    return ViewCheck(np.array([view not in reasons for view in range(len(tilts))]), reasons, statistics)


def _sample(image: NDArray[np.generic]) -> _Sample:
    step_y, step_x = (max(n // _SAMPLES, 1) for n in image.shape)
    pixels = np.asarray(image[::step_y, ::step_x], np.float64)
    good = np.isfinite(pixels)
    if not good.all():
        pixels = np.where(good, pixels, np.median(pixels[good]) if good.any() else 0.0)
    # What is sorted once tells everything: sorting takes less than one median.
    ordered = np.sort(pixels, axis=None)
    median, (lowest, highest) = _quantile(ordered, 0.5), ordered[[0, -1]].tolist()
    level, contrast = median, _MAD_TO_SD * _quantile(np.sort(np.abs(ordered - median)), 0.5)
    at_limits = float(np.searchsorted(ordered, lowest, "right") + ordered.size - np.searchsorted(ordered, highest)) / ordered.size
    if _counts_few(ordered, median):
        within = np.minimum(pixels, _quantile(ordered, 1 - _FLOOR_PERCENTILE / 100))
        level, contrast = float(within.mean()), float(within.std())
        at_limits = max(at_limits - float(np.exp(-level)), 0.0)  # so many pixels receive no electron
    edges_y, edges_x = (np.linspace(0, n, min(_BLOCKS, n) + 1).astype(int)[:-1] for n in pixels.shape)
    sums = np.add.reduceat(np.add.reduceat(pixels, edges_y, axis=0), edges_x, axis=1)
    counts = np.diff(edges_y, append=pixels.shape[0])[:, None] * np.diff(edges_x, append=pixels.shape[1])
    return _Sample(
        level=level,
        contrast=contrast,
        low=_quantile(ordered, _FLOOR_PERCENTILE / 100),
        negative=float(np.searchsorted(ordered, 0.0)) / ordered.size,
        saturated=at_limits if lowest < highest else 1.0,
        finite=bool(good.mean() > _FINITE_FRACTION),
        blocks=sums / counts,
    )


def _quantile(ordered: Floats, share: float) -> float:
    """Return the value below which a share of sorted ones lies, interpolated as by :func:`numpy.quantile`."""
    place = share * (ordered.size - 1)
    below = int(place)
    first, second = ordered[[below, min(below + 1, ordered.size - 1)]].tolist()
    return float(first + (place - below) * (second - first))


def _counts_few(ordered: Floats, median: float) -> bool:
    """Return whether sorted pixels hold few counted electrons: whole numbers from 0."""
    return bool(0 <= median < _SPARSE_COUNT and ordered[0] == 0 and (ordered == np.rint(ordered)).all())


def _statistics(samples: list[_Sample], tilts: Floats, params: ViewParams) -> ViewStatistics:
    median = np.array([sample.level for sample in samples])
    # Counts start at zero unless the stack is signed, by an offset or by a normalisation.
    signed = np.mean([sample.negative for sample in samples]) > _SIGNED_FRACTION
    floor = min(sample.low for sample in samples) if signed else 0.0
    level = median - floor
    expected = _expected_level(level, tilts)
    dark = [np.mean(sample.blocks - floor < params.dark_fraction * want) for sample, want in zip(samples, expected, strict=True)]
    return ViewStatistics(
        level=level,
        expected_level=expected,
        contrast=np.array([sample.contrast for sample in samples]),
        dark=np.array(dark),
        saturated=np.array([sample.saturated for sample in samples]),
    )


def _expected_level(level: Floats, tilts: Floats) -> Floats:
    """Return the level predicted for each view: a robust line in 1 / cos t, plus the running median of its residuals."""
    positive = np.maximum(level, _LEAST_LEVEL * max(float(level.max()), 1e-30))
    # The path length diverges at 90 degrees.
    folded = np.clip(geometry.folded_tilts(tilts), -geometry.STEEPEST_DEG, geometry.STEEPEST_DEG)
    logs, path = np.log(positive), 1 / np.cos(np.deg2rad(folded))
    i, j = np.triu_indices(len(tilts), 1)
    apart = np.abs(path[i] - path[j]) > _PATH_APART
    slope = float(np.median((logs[i] - logs[j])[apart] / (path[i] - path[j])[apart])) if apart.any() else 0.0
    residual = logs - slope * path
    order = np.argsort(tilts, kind="stable")
    reach = max(len(tilts) // _DRIFT_PART, _LEAST_DRIFT_REACH)
    drift = np.empty_like(residual)
    for place, view in enumerate(order):
        drift[view] = np.median(residual[order[max(place - reach, 0) : place + reach + 1]])
    return np.asarray(np.exp(slope * path + drift))


def _reason(view: int, statistics: ViewStatistics, finite: NDArray[np.bool_], params: ViewParams) -> str | None:
    """Return why a view is excluded, or None."""
    if not finite[view]:
        return "has pixels that are not numbers"
    usual_contrast = float(np.median(statistics.contrast))
    if statistics.contrast[view] <= params.blank_fraction * usual_contrast * min(_transmission(view, statistics), 1.0):
        return f"is blank: its contrast is {statistics.contrast[view]:.3g}, that of the series {usual_contrast:.3g}"
    if _transmission(view, statistics) < params.dark_fraction:
        return f"is dark: its level is {100 * _transmission(view, statistics):.0f} % of the one predicted from the other views"
    dark = statistics.dark[view] - np.median(statistics.dark)
    if dark > params.blocked_fraction:
        return f"is blocked: {100 * statistics.dark[view]:.0f} % of its field is dark"
    saturated = statistics.saturated[view] - np.median(statistics.saturated)
    if saturated > params.saturated_fraction:
        return f"is saturated: {100 * statistics.saturated[view]:.0f} % of its pixels are at its maximum or minimum"
    return None


def _transmission(view: int, statistics: ViewStatistics) -> float:
    """Return the level of a view as a fraction of the one predicted."""
    return float(statistics.level[view] / statistics.expected_level[view])
