"""Who a hidden file or folder, or a note in a book, belongs to, so that those of processes that died can be removed and no others.

A token names the kernel and the numbering of processes that a process lives in, its number, and its start: two containers may have equal
host names and equal process numbers, and a number is used again.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import socket
import time
from pathlib import Path

FOREIGN_S = 7 * 86400.0
"""For how long nothing in it was written, until what belongs to another machine or container counts as left behind: no stage of the work
writes nothing for a day."""
_UNTOLD = 0
"""The start of a process of which the kernel tells nothing but that it lives."""
_TOKEN = re.compile(r"([0-9a-f]{8})-([0-9a-f]+)-([0-9a-f]+)-[0-9a-f]{16}")
_NAME = re.compile(rf"\.?.*?-({_TOKEN.pattern})(?:\.[^.]*)?")


def new_token() -> str:
    """Return a text for a name that no other name has, and that says whom it belongs to."""
    return f"{_of_process(os.getpid())}-{secrets.token_hex(8)}"


@functools.lru_cache(1)
def _of_process(pid: int) -> str:
    """Return what all tokens of this process begin with."""
    return f"{_place()}-{pid:x}-{_start(pid) or _UNTOLD:x}"


def is_gone(token: str) -> bool | None:
    """Return whether the process of a token is gone; None where it lived on another machine or in another container, or is no token."""
    found = _TOKEN.fullmatch(token)
    if found is None or found[1] != _place():
        return None
    return _start(int(found[2], 16)) not in (int(found[3], 16), _UNTOLD)


def is_left_behind(path: Path) -> bool:
    """Return whether a file or folder with a token in its name belongs to a process that is gone."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return False
    gone = is_gone(found[1])
    return time.time() - _last_written(path) > FOREIGN_S if gone is None else gone


def _last_written(path: Path) -> float:
    times = [path.lstat().st_mtime]
    if path.is_dir() and not path.is_symlink():
        times += [entry.lstat().st_mtime for entry in path.rglob("*")]
    return max(times)


def kernel() -> str:
    """Return what tells this start of this machine from every other; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _place() -> str:
    """Return 8 digits for the numbering of processes: the start of the kernel and the namespace, or else the host."""
    try:
        where = f"{kernel()}\n{Path('/proc/self/ns/pid').readlink()}" if kernel() else socket.gethostname()
    except OSError:
        where = socket.gethostname()
    return hashlib.sha256(where.encode()).hexdigest()[:8]


def _start(pid: int) -> int | None:
    """Return when a process started, in ticks of the kernel (:data:`_UNTOLD` where it does not tell); None if it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:  # it is gone, or there is no such file: on other systems, and where processes of others are hidden (hidepid)
        return _UNTOLD if _lives(pid) else None
    return None if words[0] in "ZX" else int(words[19])


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
