"""From numbers to places in a drawing: the limits of an axis, its ticks, and how they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Limits = tuple[float | None, float | None]

MARGIN = 0.05
"""Room between the data and the end of an axis, as a fraction of their range."""

_LARGEST = 1e100
_SAME, _NEARLY = 1e-9, 1e-6
_STEPS = (1.0, 2.0, 5.0, 10.0)
_FARTHEST = 9999.0
_PLAIN = (1e-4, 1e6)
"""Numbers between these are written without a power of ten."""


def numbers(values: ArrayLike) -> Floats:
    """Return values as a list of numbers that can be drawn; NaN in place of what cannot."""
    found = np.atleast_1d(np.asarray(values, float))
    return np.where(np.isfinite(found), np.clip(found, -_LARGEST, _LARGEST), np.nan)


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis with its limits, and the place of both in the drawing, units of the drawing."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, values: ArrayLike) -> Floats:
        """Return where values lie, units of the drawing; never so far outside that a browser could not count it.

        >>> Scale(0.0, 10.0, 200.0, 0.0)([0.0, 2.5, 10.0]).tolist()
        [200.0, 150.0, 0.0]
        """
        share = (numbers(values) - self.low) / (self.high - self.low)
        return np.clip(self.start + share * (self.stop - self.start), -_FARTHEST, _FARTHEST)

    def ticks(self, apart: float) -> list[float]:
        """Return round numbers for ticks that are at least `apart` units of the drawing from each other."""
        return round_numbers(self.low, self.high, abs(self.stop - self.start) / apart)


@dataclass(slots=True)
class Axis:
    """What is known of one axis of a plot before it is drawn.

    Attributes
    ----------
    name
        What it shows, with the unit.
    limits
        Those asked for; None is an end that follows the data.
    least
        The smallest range that it spans.
    ticks
        Places and their labels, if they are not to be round numbers.
    grid
        Whether there is a line at every tick.
    seen
        The data along it.
    edges
        Where bars stand, and the like: an end of the data there has no margin.
    """

    name: str = ""
    limits: Limits = (None, None)
    least: float = 0.0
    ticks: list[tuple[float, str]] | None = None
    grid: bool = True
    seen: list[Floats] = field(default_factory=list)
    edges: set[float] = field(default_factory=set)

    def see(self, values: ArrayLike) -> Floats:
        """Take values into account; return them as numbers."""
        found = numbers(values)
        self.seen.append(found)
        return found

    def scale(self, start: float, stop: float) -> Scale:
        """Return the scale that shows all data within the limits that were asked for."""
        low, high = self._range()
        margin = MARGIN * (high - low)
        ends = low - (0.0 if low in self.edges else margin), high + (0.0 if high in self.edges else margin)
        low, high = (end if limit is None else limit for end, limit in zip(ends, self._limits(), strict=True))
        return Scale(*widened(low, high, self.least), start, stop)

    def _limits(self) -> Limits:
        low, high = (None if limit is None or not math.isfinite(limit) else float(limit) for limit in self.limits)
        return low, high

    def _range(self) -> tuple[float, float]:
        found = np.concatenate([*self.seen, [limit for limit in self._limits() if limit is not None]])
        found = found[np.isfinite(found)]
        return widened(float(found.min()), float(found.max())) if found.size else (0.0, 1.0)


def widened(low: float, high: float, least: float = 0.0) -> tuple[float, float]:
    """Return a range that is at least `least` wide about its middle, and never so narrow that no ticks fit into it.

    >>> widened(3.0, 3.0, 1.0), widened(0.0, 0.0)
    ((2.5, 3.5), (-0.5, 0.5))
    """
    most = max(abs(low), abs(high))
    if most < 1 / _LARGEST:
        least = max(least, 1.0)
    elif high - low <= _SAME * most:
        least = max(least, 2 * MARGIN * most)
    if high - low >= least:
        return low, high
    middle = (low + high) / 2
    return middle - least / 2, middle + least / 2


def round_numbers(low: float, high: float, most: float) -> list[float]:
    """Return the multiples of a round step between two numbers, about `most` at the most.

    >>> round_numbers(-66.0, 66.0, 8)
    [-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0]
    """
    step = _round_step((high - low) / max(most, 1.0))
    first, last = math.ceil(low / step - _SAME), math.floor(high / step + _SAME)
    return [count * step for count in range(first, last + 1)]


def written(values: list[float]) -> list[str]:
    """Return ticks as text, all with the decimals that tell them apart.

    >>> written([-0.5, 0.0, 0.5]), written([0.0, 2e6])
    (['−0.5', '0.0', '0.5'], ['0', '2e6'])
    """
    if len(values) < 2:
        return [with_minus(f"{value:.10g}") for value in values]
    most, place = max(map(abs, values)), math.floor(math.log10(values[1] - values[0]) + _NEARLY)
    if not _PLAIN[0] <= most < _PLAIN[1]:
        return [_with_power(value, math.floor(math.log10(most)) - place) for value in values]
    return [with_minus(f"{value:.{max(0, -place)}f}") for value in values]


def _with_power(value: float, digits: int) -> str:
    mantissa, power = f"{value:.{max(0, digits)}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return "0" if not float(mantissa) else with_minus(f"{mantissa}e{int(power)}")


def with_minus(text: str) -> str:
    """Return a number with a real minus sign, and none before zero.

    >>> with_minus("-3.0"), with_minus("-0.0")
    ('−3.0', '0.0')
    """
    bare = text.removeprefix("-")
    return f"−{bare}" if bare != text and float(bare) else bare


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in _STEPS if step * power >= least * (1 - _SAME))
