"""The memory available to this process: what the system has free, within the limits of its control groups; and giving some back."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_V2 = ("memory.max", "memory.current", "inactive_file")
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of the parameters of glibc's `mallopt`."""
_LARGEST_KEPT, _LARGEST_OF_OLD, _MOST_FREE = 1 << 30, 1 << 25, 1 << 28
"""Bytes: blocks that are kept, those that a glibc before 2.35 keeps, and what is kept at the end of the heap."""
_MALLOC_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that can still be allocated; None on systems that do not report it (other than Linux).

    Containers and batch systems limit a job by a control group, of version 1 or 2: the tightest limit on the way to the root counts.
    Inactive file cache of a group can be reclaimed, and counts as free.
    """
    meminfo = _read(root / "proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    if found is None:
        return None
    return max(min([int(found[1]) * 1024, *_left_in_groups(root)]), 0)


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield the bytes that each control group with a limit has left."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = mounts, _V2
        elif "memory" in controllers.split(","):
            base, names = mounts / "memory", _V1
        else:
            continue
        # Inside a container the path may be that of the host, which does not exist here; the group itself is then the root.
        folder = base / path.strip("/")
        for group in [folder, *folder.parents]:
            left = _left(group, *names)
            if left is not None:
                yield left
            if group == base:
                break


def _left(group: Path, limit_name: str, usage_name: str, idle_name: str) -> int | None:
    limit, usage = _read(group / limit_name).strip(), _read(group / usage_name).strip()
    if not limit.isdigit() or not usage.isdigit():
        return None
    idle = re.search(rf"^{idle_name} (\d+)", _read(group / "memory.stat"), re.MULTILINE)
    return int(limit) - int(usage) + (int(idle[1]) if idle else 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep freed blocks of every size for the next array; elsewhere, and where the user has set it, do nothing.

    As it comes, it asks the system for every large array and gives it back: the pages of a view are zeroed and mapped several hundred
    times, which is a third of the CPU time of series of 4096 x 4096.  The threads share one heap, as those of their own are not kept.
    """
    if any(name in os.environ for name in _MALLOC_SETTINGS):
        return
    with suppress(OSError, AttributeError, TypeError):
        c_library = ctypes.CDLL(None)
        if hasattr(c_library, "gnu_get_libc_version"):
            if not c_library.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT):
                c_library.mallopt(_MMAP_THRESHOLD, _LARGEST_OF_OLD)
            c_library.mallopt(_TRIM_THRESHOLD, _MOST_FREE)
            c_library.mallopt(_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Have the C library give the system what it keeps of freed blocks, as glibc's `malloc_trim` does; elsewhere do nothing.

    Else the memory of a process grows by a fifth over 300 series, although what Python holds does not.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
