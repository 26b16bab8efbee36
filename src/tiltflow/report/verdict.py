"""Whether to trust a tomogram, by numbers that anyone can check.

The worst of the checks (:mod:`tiltflow.report.checks`) is the verdict.  What was not measured is never good: an alignment without an
estimate of its error is doubtful at best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from tiltflow.record import NumberEntry, SeriesRecord, VerdictEntry
from tiltflow.report.check import Check
from tiltflow.report.checks import examine
from tiltflow.report.render import figure
from tiltflow.work import Quantity, Thresholds, Trust, Verdict

_LEADING = ("alignment error", "leave-out error", "residual")


def judge(record: SeriesRecord, thresholds: Thresholds) -> Verdict:
    """Return the verdict on a series and its reasons, the weightiest first."""
    if record.status == "error":
        failure = record.failure
        return Verdict(Trust.FAILED, (f"it failed at {failure.stage}: {failure.reason}" if failure else "it failed",))
    if record.status == "running":
        stage = next((entry.name for entry in reversed(record.stages) if entry.status == "running"), None)
        return Verdict(Trust.UNFINISHED, (f"the record ends in the stage {stage}" if stage else "the record is incomplete",))
    checks = examine(record, thresholds)
    return Verdict(
        level=checks[0].level,
        reasons=tuple(check.finding for check in checks),
        numbers={check.name: check.number for check in checks if check.number is not None},
    )


def faults(verdict: Verdict, checks: Sequence[Check]) -> int:
    """Return how many of the reasons for a verdict, which come first, are not good ones; all of them where nothing was checked."""
    return sum(check.level is not Trust.GOOD for check in checks) if checks else len(verdict.reasons)


def leading_figures(verdict: Verdict) -> dict[str, Quantity]:
    """Return the two figures that go beside the first reason: those of the alignment, and none that the reason gives.

    A good result of which none of them is known has others.
    """
    first = verdict.reasons[0] if verdict.reasons else ""
    good = verdict.level is Trust.GOOD
    names = [name for name in _LEADING if name in verdict.numbers] or list(verdict.numbers if good else ())
    shown = [name for name in names if good or figure(verdict.numbers[name]) not in first]
    return {name: verdict.numbers[name] for name in shown[:2]}


def headline(verdict: Verdict) -> str:
    """Return a verdict on one line: what is worst, then figures.

    >>> headline(Verdict(Trust.POOR, ("6 of 31 views are not recognised",), {"leave-out error": Quantity(0.41, "px")}))
    'POOR: 6 of 31 views are not recognised (leave-out error 0.41 px)'
    >>> headline(Verdict(Trust.GOOD, ("the leave-out error is 0.41 px",), {"leave-out error": Quantity(0.41, "px")}))
    'GOOD (leave-out error 0.41 px)'
    """
    numbers = ", ".join(f"{name} {figure(number)}" for name, number in leading_figures(verdict).items())
    reason = verdict.reasons[0] if verdict.reasons and not (verdict.level is Trust.GOOD and numbers) else ""
    return verdict.level.upper() + (f": {reason}" if reason else "") + (f" ({numbers})" if numbers else "")


def entry(verdict: Verdict, thresholds: Thresholds) -> VerdictEntry:
    """Return a verdict as the record keeps it."""
    return VerdictEntry(
        level=verdict.level,
        reasons=list(verdict.reasons),
        numbers={name: NumberEntry(value=number.value, unit=number.unit) for name, number in verdict.numbers.items()},
        thresholds=asdict(thresholds),
    )


def from_entry(kept: VerdictEntry) -> Verdict:
    """Return the verdict that a record keeps."""
    numbers = {name: Quantity(number.value, number.unit) for name, number in kept.numbers.items() if number.value is not None}
    return Verdict(kept.level, tuple(kept.reasons), numbers)
