"""Views that would do harm: dark, blocked, blank or saturated ones, found from the counts alone.

A section of thickness d lets through `exp(-d / (l cos t))` of the beam, so that the logarithm of a view's level is a straight line
in `1 / cos t`: views darken towards high tilt by nature.  The line is fitted robustly (Theil and Sen: the median of the slopes of
all pairs), followed by a slow correction for beams that drift, and a view is judged by what it lacks of that.  A grid bar that
covers part of the field shows in the fraction of the field that is dark.  Both are compared with what is usual in the series, so
that an object that is dark in all views harms none.

Answers to the exclusion of dark and end views by IMOD's batchruntomo, which looks at the ends of the series only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import Progress, Stack
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

_SAMPLES = 256
"""Pixels along each side that are looked at."""
_BLOCKS = 16
"""Blocks along each side whose means tell a blocked field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewParams:
    """When a view is left out.

    Attributes
    ----------
    enabled
        Whether to look at all.
    dark_fraction
        A view, or a part of its field, is dark when it transmits less than this fraction of what the series lets expect.
    blocked_fraction
        A view is blocked when this much more of its field is dark than is usual in the series.
    blank_fraction
        A view is blank when its contrast is less than this fraction of what is usual around it.
    saturated_fraction
        A view is saturated when this much more of its pixels than is usual sits at its maximum or minimum.
    """

    enabled: bool = True
    dark_fraction: float = 0.35
    blocked_fraction: float = 0.33
    blank_fraction: float = 0.1
    saturated_fraction: float = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class ViewStatistics:
    """The numbers that decide, each `(views,)`.

    Attributes
    ----------
    level
        Median, counts above the floor of the stack.
    expected_level
        What the series lets expect of it.
    contrast
        Standard deviation within a view, by the median deviation, counts.
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
    """Which views take part, `(views,)`, and why the others (counted from 0) do not."""

    included: NDArray[np.bool_]
    reasons: Mapping[int, str]
    statistics: ViewStatistics


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """What is kept of one view: counts, and means of blocks."""

    median: float
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
        `(views, ny, nx)`.
    tilt_deg
        Nominal tilts, `(views,)`.
    """
    params = params or ViewParams()
    tilts = np.asarray(tilt_deg, float)
    if tilts.shape != (stack.shape[0],):
        raise ParameterError(f"{tilts.size} tilt angles for {stack.shape[0]} views; give one for each")
    samples = []
    for sample in map_threads(lambda view: _sample(stack[view]), range(stack.shape[0]), threads):
        samples.append(sample)
        if progress is not None:
            progress(len(samples) / stack.shape[0])
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
    median = float(np.median(pixels))
    at_limits = np.mean(pixels == pixels.max()) + np.mean(pixels == pixels.min())
    edges_y, edges_x = (np.linspace(0, n, min(_BLOCKS, n) + 1).astype(int)[:-1] for n in pixels.shape)
    sums = np.add.reduceat(np.add.reduceat(pixels, edges_y, axis=0), edges_x, axis=1)
    counts = np.diff(edges_y, append=pixels.shape[0])[:, None] * np.diff(edges_x, append=pixels.shape[1])
    return _Sample(
        median=median,
        contrast=1.4826 * float(np.median(np.abs(pixels - median))),
        low=float(np.percentile(pixels, 0.5)),
        negative=float(np.mean(pixels < 0)),
        saturated=float(at_limits) if pixels.min() < pixels.max() else 1.0,
        finite=bool(good.mean() > 0.99),
        blocks=sums / counts,
    )


def _statistics(samples: list[_Sample], tilts: Floats, params: ViewParams) -> ViewStatistics:
    median = np.array([sample.median for sample in samples])
    # Counts start at zero unless the stack is signed, by an offset or by a normalisation.
    signed = np.mean([sample.negative for sample in samples]) > 0.01
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
    """Return the level that a robust line in 1 / cos t, and a slow correction of it, give each view."""
    positive = np.maximum(level, 1e-6 * max(float(level.max()), 1e-30))
    logs, path = np.log(positive), 1 / np.cos(np.deg2rad(np.clip(tilts, -85, 85)))
    i, j = np.triu_indices(len(tilts), 1)
    apart = np.abs(path[i] - path[j]) > 0.02
    slope = float(np.median((logs[i] - logs[j])[apart] / (path[i] - path[j])[apart])) if apart.any() else 0.0
    rest = logs - slope * path
    order = np.argsort(tilts, kind="stable")
    reach = max(len(tilts) // 4, 3)
    drift = np.empty_like(rest)
    for place, view in enumerate(order):
        drift[view] = np.median(rest[order[max(place - reach, 0) : place + reach + 1]])
    return np.asarray(np.exp(slope * path + drift))


def _reason(view: int, statistics: ViewStatistics, finite: NDArray[np.bool_], params: ViewParams) -> str | None:
    """Return why a view is left out, or None."""
    if not finite[view]:
        return "has pixels that are not numbers"
    usual_contrast = float(np.median(statistics.contrast))
    if statistics.contrast[view] <= params.blank_fraction * usual_contrast * min(_transmission(view, statistics), 1.0):
        return f"is blank: its contrast is {statistics.contrast[view]:.3g}, that of the series {usual_contrast:.3g}"
    if _transmission(view, statistics) < params.dark_fraction:
        return f"is dark: it has {100 * _transmission(view, statistics):.0f} % of the level that the series lets expect"
    dark = statistics.dark[view] - np.median(statistics.dark)
    if dark > params.blocked_fraction:
        return f"is blocked: {100 * statistics.dark[view]:.0f} % of its field is dark"
    saturated = statistics.saturated[view] - np.median(statistics.saturated)
    if saturated > params.saturated_fraction:
        return f"is saturated: {100 * statistics.saturated[view]:.0f} % of its pixels are at its limits"
    return None


def _transmission(view: int, statistics: ViewStatistics) -> float:
    """Return the level of a view as a fraction of what is expected."""
    return float(statistics.level[view] / statistics.expected_level[view])
