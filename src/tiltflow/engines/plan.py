"""What the work on a series takes (memory, disk and time), and its refusal where there is not as much."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tiltflow.engines.system_memory import available_memory
from tiltflow.errors import ResourceError

_DISK_RESERVE = 1.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What the work on a series takes.

    Attributes
    ----------
    memory_by_stage
        Peak of the resident memory in the stages that take the most, bytes.
    scratch
        Bytes in the scratch folder: the aligned stack and the volumes.
    results
        Bytes in the folder of the results, where the products are made.
    seconds
        Wall time, as far as that can be told.
    """

    memory_by_stage: Mapping[str, int]
    scratch: int
    results: int
    seconds: float

    @property
    def memory(self) -> int:
        """Peak of the resident memory, bytes."""
        return max(self.memory_by_stage.values())

    def __str__(self) -> str:
        hungriest = max(self.memory_by_stage, key=lambda stage: self.memory_by_stage[stage])
        return (
            f"up to {gigabytes(self.memory)} of memory ({hungriest}), {gigabytes(self.scratch)} of scratch, "
            f"{gigabytes(self.results)} of results, about {duration(self.seconds)}"
        )


def check_room(plan: Plan, name: str, scratch: Path, results: Path) -> None:
    """Refuse work that does not fit into the memory or onto the disks.

    Raises
    ------
    ResourceError
        If it does not, with what is needed, what there is, and what to do.
    """
    memory = available_memory()
    if memory is not None and plan.memory > memory:
        raise ResourceError(
            f"{name}: the work needs {gigabytes(plan.memory)} of memory, and {gigabytes(memory)} are available: use fewer threads "
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
                f"{name}: {what} {gigabytes(size)} in {folder}, which has {gigabytes(free)} free: give another folder, a larger "
                "aligned binning (runtime.AlignedStack.any.binByFactor) or a smaller thickness"
            )


def gigabytes(size: int) -> str:
    """Return a size for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e9:.2g} GB"


def duration(seconds: float) -> str:
    """Return a time that is roughly known for people."""
    if seconds < 90:
        return f"{max(round(seconds, -1), 10):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
