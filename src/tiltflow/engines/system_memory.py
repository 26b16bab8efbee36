"""The memory available to this process: what the system has free, within the limits of its control groups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_V2 = ("memory.max", "memory.current", "inactive_file")
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
