"""Views that would do harm: dark, blocked, blank or saturated ones, found from the counts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.model import Progress, Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewParams:
    """When a view is left out.

    Attributes
    ----------
    enabled
        Whether to look at all.
    dark_fraction
        A view is dark when it transmits less than this fraction of what its neighbours in tilt let expect.
    blocked_fraction
        A view is blocked when more than this fraction of its field is dark.
    blank_fraction
        A view is blank when its contrast is less than this fraction of what its neighbours let expect.
    saturated_fraction
        A view is saturated when more than this fraction of its pixels sits at its maximum or minimum.
    """

    enabled: bool = True
    dark_fraction: float = 0.35
    blocked_fraction: float = 0.33
    blank_fraction: float = 0.1
    saturated_fraction: float = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class ViewStatistics:
    """The numbers that decide, each `(views,)`: mean and contrast in counts, the fractions of the field dark and saturated."""

    mean: NDArray[np.float64]
    contrast: NDArray[np.float64]
    dark: NDArray[np.float64]
    saturated: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ViewCheck:
    """Which views take part, `(views,)`, and why the others (counted from 0) do not."""

    included: NDArray[np.bool_]
    reasons: Mapping[int, str]
    statistics: ViewStatistics


def find_bad_views(
    stack: Stack, tilt_deg: ArrayLike, params: ViewParams | None = None, *, threads: int = 1, progress: Progress | None = None
) -> ViewCheck:
    """Find the views that neither alignment nor reconstruction should use."""
    raise NotImplementedError
