"""Which directions a series was seen from: range, gaps and order of its tilts, and what their lack does to the volume.

A point is drawn out along z because views beyond the greatest tilt are missing.  With views at every angle from -a to a the ratio of the
widths of a point along z and x is

    sqrt((a + sin a cos a) / (a - sin a cos a))

(Radermacher, 1988, https://doi.org/10.1002/jemt.1060090405), the ratio of the mean of cos² to that of sin² over the tilts.  Where the
tilts do not lie evenly about zero, `a` is half their range, and the point is drawn out along their middle and not along z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.record import AlignmentEntry, SeriesRecord

Floats = NDArray[np.float64]

_SAME_DEG = 0.5
"""Tilts that differ by less were meant to be one."""
_ONE_SIDED_DEG = 3.0
"""A series from one side may begin a view beyond zero."""
_MOST_BREAKS = 0.15
"""Pairs of neighbouring views, as a fraction, that may be out of a scheme's order."""

_OUTWARD = 0.8
"""Rank correlation of time and distance from the first tilt, of a dose-symmetric series."""


@dataclass(frozen=True, slots=True)
class TiltCoverage:
    """The tilts of the views that are used.

    Attributes
    ----------
    views
        Their number.
    low_deg, high_deg
        The lowest and the highest of them.
    gap_deg, gap_at_deg
        The largest difference between neighbours, and its middle; 0 and the tilt itself for a single view.
    """

    views: int
    low_deg: float
    high_deg: float
    gap_deg: float
    gap_at_deg: float

    @property
    def range_deg(self) -> float:
        """From the lowest to the highest."""
        return self.high_deg - self.low_deg

    @property
    def middle_deg(self) -> float:
        """The tilt in the middle of the range."""
        return (self.high_deg + self.low_deg) / 2

    @property
    def one_sided(self) -> bool:
        """Whether all tilts are on one side of zero, as in half of a series."""
        return self.views > 1 and (self.low_deg > -_ONE_SIDED_DEG or self.high_deg < _ONE_SIDED_DEG)

    @property
    def elongation(self) -> float | None:
        """How many times longer than wide a point is in the volume; None for less than a degree, where it has no end."""
        return elongation(self.range_deg)


def elongation(range_deg: float) -> float | None:
    """Return how many times a point is drawn out by tilts over a range.

    >>> round(elongation(120.0), 2), round(elongation(24.0), 1), elongation(180.0)
    (1.55, 8.2, 1.0)
    """
    half = math.radians(min(range_deg, 180.0) / 2)
    if half < math.radians(0.5):
        return None
    overlap = math.sin(half) * math.cos(half)
    return round(math.sqrt((half + overlap) / (half - overlap)), 4)


def coverage_of(found: AlignmentEntry) -> TiltCoverage | None:
    """Return the tilts of the views that are used; None where there are none."""
    tilt = np.sort([angle for angle, used in zip(found.tilt_deg, found.included, strict=False) if used])
    if not len(tilt):
        return None
    steps = np.diff(tilt)
    widest = int(np.argmax(steps)) if len(steps) else 0
    gap = float(steps[widest]) if len(steps) else 0.0
    return TiltCoverage(len(tilt), float(tilt[0]), float(tilt[-1]), gap, float(tilt[widest]) + gap / 2)


def scheme_of(record: SeriesRecord) -> str:
    """Return in which order the tilts were taken, in words; empty where the record does not tell.

    Views are in the order of acquisition unless the stack is sorted by tilt; then nothing is known of it.
    """
    known = record.input.get("tilt_angles")
    return scheme(known.value) if known is not None and _is_numbers(known.value) else ""


def scheme(tilt_deg: Sequence[float]) -> str:
    """Return the scheme of tilts in the order of their views.

    >>> scheme([0, 3, -3, -6, 6, 9, -9]), scheme([0, 3, 6, 9, -3, -6, -9]), scheme([-9, -6, -3, 0])
    ('dose-symmetric', 'bidirectional', 'in order of tilt')
    """
    tilt = np.asarray(tilt_deg, float)
    steps = np.diff(tilt)
    if len(steps) < 2:
        return ""
    if _share(steps >= -_SAME_DEG) <= _MOST_BREAKS or _share(steps <= _SAME_DEG) <= _MOST_BREAKS:
        return "in order of tilt"
    turn = int(np.argmax(np.abs(steps)))
    branches = steps[:turn], steps[turn + 1 :]
    if all(len(branch) and (np.all(branch > 0) or np.all(branch < 0)) for branch in branches):
        return "bidirectional"
    from_start = tilt - tilt[0]
    outward = np.corrcoef(np.arange(len(tilt)), np.argsort(np.argsort(np.abs(from_start))))[0, 1]
    return "dose-symmetric" if outward > _OUTWARD and np.ptp(np.sign(from_start)) > 1 else ""


def _share(kept: NDArray[np.bool_]) -> float:
    """Return the fraction of the pairs that break a rule."""
    return float(np.mean(~kept))


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, (int, float)) for each in value)
