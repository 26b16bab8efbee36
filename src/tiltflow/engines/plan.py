"""The memory, disk space and time that the work on a series needs, and its refusal where they are not available."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tiltflow.disk import size_text
from tiltflow.engines.system_memory import available_memory
from tiltflow.errors import MemoryShortageError, ResourceError

_DISK_RESERVE = 1.05
"""Free space over the space needed: file systems lose a few percent to blocks and metadata."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the work on a series needs.

    Attributes
    ----------
    memory_by_stage
        Peak of the resident memory in the stages that need the most, bytes.
    scratch
        Bytes in the scratch folder: the aligned stack and the volumes.
    results
        Bytes in the folder of the results, where the products are made.
    seconds
        Estimated wall time.
    fallback_seconds
        Further time if the methods of alignment that come after the one asked for are needed too.
    """

    memory_by_stage: Mapping[str, int]
    scratch: int
    results: int
    seconds: float
    fallback_seconds: float = 0.0

    @property
    def memory(self) -> int:
        """Peak of the resident memory, bytes."""
        return max(self.memory_by_stage.values())

    def __str__(self) -> str:
        largest = max(self.memory_by_stage, key=lambda stage: self.memory_by_stage[stage])
        return (
            f"up to {size_text(self.memory)} of memory ({largest}), {size_text(self.scratch)} of scratch, "
            f"{size_text(self.results)} of results, {expected_time(self.seconds, self.fallback_seconds)}"
        )


def check_room(plan: Plan, name: str, scratch: Path, results: Path) -> None:
    """Refuse work for which memory or disk space is not sufficient.

    Parameters
    ----------
    plan
        What is needed.
    name
        Of the series, for the message.
    scratch, results
        Folders whose disks must have room.

    Raises
    ------
    ResourceError
        With what is needed, what is available, and what to do.
    """
    memory = available_memory()
    if memory is not None and plan.memory > memory:
        raise MemoryShortageError(
            f"{name}: the work needs {size_text(plan.memory)} of memory, and {size_text(memory)} are available: use fewer threads "
            "(--threads) or series at once (--jobs), give the job more, or bin the aligned stack "
            "(runtime.AlignedStack.any.binByFactor)"
        )
    one_disk = scratch.stat().st_dev == results.stat().st_dev
    needs = [("scratch and results need", scratch, plan.scratch + plan.results)]
    if not one_disk:
        needs = [("scratch needs", scratch, plan.scratch), ("the results need", results, plan.results)]
    for what, folder, size in needs:
        free = shutil.disk_usage(folder).free
        if size * _DISK_RESERVE > free:
            raise ResourceError(
                f"{name}: {what} {size_text(size)} in {folder}, which has {size_text(free)} free: give another folder, a larger "
                "aligned binning (runtime.AlignedStack.any.binByFactor) or a smaller thickness"
            )


def expected_time(seconds: float, fallback_seconds: float) -> str:
    """Return the time that work takes, and the time if further methods of alignment are needed, where that is more.

    >>> expected_time(30.0, 0.0), expected_time(30.0, 25.0), expected_time(7200.0, 60.0)
    ('about 30 s', 'about 30 s (60 s with the fallback methods)', 'about 2.0 h')
    """
    likely, longest = duration(seconds), duration(seconds + fallback_seconds)
    return f"about {likely}" + (f" ({longest} with the fallback methods)" if longest != likely else "")


def duration(seconds: float) -> str:
    """Return an estimated time as text, in seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(round(seconds, -1), 10):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
