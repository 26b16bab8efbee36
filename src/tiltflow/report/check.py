"""What a check of a result is, and what a number beside two limits says."""

from __future__ import annotations

from dataclasses import dataclass

from tiltflow.work import Quantity, Trust


@dataclass(frozen=True, slots=True)
class Check:
    """One number that was looked at.

    Attributes
    ----------
    name
        What it is, in a few words.
    level
        What it says about the result.
    finding
        A sentence with the number.
    limits
        What would be good, and what poor.
    number
        The number itself, if there is one.
    judged
        Whether the level is a judgement; what is only told says nothing for or against the result.
    left_out
        Whether it tells that something which was asked for was not done, so that it is to be seen wherever the series is listed.
    """

    name: str
    level: Trust
    finding: str
    limits: str = ""
    number: Quantity | None = None
    judged: bool = True
    left_out: bool = False


def told(name: str, finding: str, number: Quantity | None = None, *, left_out: bool = False) -> Check:
    """Return what is worth knowing, and is no judgement."""
    return Check(name, Trust.GOOD, finding, number=number, judged=False, left_out=left_out)


def rising(value: float, good: float, poor: float) -> Trust:
    """Return what a number says that is good from one limit and poor below the other."""
    return Trust.GOOD if value >= good else Trust.POOR if value < poor else Trust.DOUBTFUL


def falling(value: float, good: float, poor: float) -> Trust:
    """Return what a number says that is good up to one limit and poor above the other."""
    return Trust.POOR if value > poor else Trust.GOOD if value <= good else Trust.DOUBTFUL
