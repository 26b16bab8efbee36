"""How large a Slurm job is: what the plan of the series needs, within the limits of the site."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dask.utils import parse_bytes

from tiltflow.disk import size_text
from tiltflow.engines.plan import Plan, duration
from tiltflow.settings import SlurmSettings

_WORTH_S = 60.0
"""Cores that make no series faster by more than a minute are left to others: about as long takes the start of a job."""
_WORKER_BYTES = 300 << 20
"""Dask and Prefect in a worker, beside the program itself, which the plan counts."""
_CAUTION = 3.0
"""The planned time is that of an ordinary core, to a factor of two or three (:mod:`tiltflow.engines.requirements`)."""
_PLANS, _LEAST_S = 10.0, 3600.0
"""The least time of a job in plans of its longest series, and at all: what batchruntomo itself may take, so that Slurm does not end it
before tiltflow does."""
_START_S = 600.0
"""Until a worker begins its first series: modules, and imports from a file system that all jobs of the run read at once."""

Needs = Callable[[int], Sequence[Plan]]
"""The plans of all series that are to be done, with so many threads."""


@dataclass(frozen=True, slots=True)
class JobSize:
    """What a job asks for.

    Attributes
    ----------
    memory
        Bytes.
    seconds
        The longest time of the job; None for the walltime of the settings as it stands.
    last_series_s
        After so long it takes no further series, as it might not finish it; None where that is not known.
    """

    cores: int
    memory: int
    seconds: int | None = None
    last_series_s: int | None = None

    def __str__(self) -> str:
        time = "" if self.seconds is None else f", {duration(self.seconds)}"
        return f"{self.cores} {'core' if self.cores == 1 else 'cores'}, {size_text(self.memory)} of memory{time}"

    @property
    def walltime(self) -> str | None:
        """The longest time as Slurm reads it."""
        if self.seconds is None:
            return None
        minutes, seconds = divmod(self.seconds, 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"


def size_of_job(slurm: SlurmSettings, needs: Needs, series_for_each: int) -> JobSize:
    """Return what a job asks for: the site's limits, or less where the plans of the series need less.

    Parameters
    ----------
    series_for_each
        How many series come to each job if all jobs work at once.
    """
    limit, most = parse_bytes(slurm.memory), walltime_seconds(slurm.walltime)
    if not needs(slurm.cores):
        return JobSize(slurm.cores, limit)
    fastest = _longest(needs(slurm.cores))
    cores = next(each for each in range(1, slurm.cores + 1) if _longest(needs(each)) <= fastest + _WORTH_S)
    while cores > 1 and _memory(needs(cores)) > limit:
        cores -= 1
    plans = needs(cores)
    one = _CAUTION * _longest(plans)
    seconds = _START_S + max(series_for_each * one, _PLANS * _longest(plans), _LEAST_S)
    if most is not None:
        seconds = min(seconds, most)
    # A job that is too short for one series takes one nevertheless: the plan may be wrong.
    last = max(seconds - one, min(_START_S, seconds))
    return JobSize(cores, min(_memory(plans), limit), round(seconds), round(last))


def walltime_seconds(text: str) -> int | None:
    """Return a time as Slurm reads it in seconds; None for no limit, or what is no time.

    >>> [walltime_seconds(text) for text in ("08:00:00", "90", "1:30", "1-12", "2-00:30", "UNLIMITED")]
    [28800, 5400, 90, 129600, 174600, None]
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if found is None:
        return None
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(numbers) == 1:
        return numbers[0] * 60
    if len(numbers) == 2:
        return numbers[0] * 60 + numbers[1]
    return (numbers[0] * 60 + numbers[1]) * 60 + numbers[2]


def _longest(plans: Sequence[Plan]) -> float:
    return max(plan.seconds + plan.fallback_seconds for plan in plans)


def _memory(plans: Sequence[Plan]) -> int:
    return max(plan.memory for plan in plans) + _WORKER_BYTES
