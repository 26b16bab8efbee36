"""The state of a file on disk: while it stays, so do the contents."""

from __future__ import annotations

from pathlib import Path

State = tuple[int, int, int, int]
"""Inode, bytes, and times of the last change of contents and of anything, ns."""


def state_of(path: Path) -> State:
    """Return the state of a file on disk, links followed.

    Raises
    ------
    OSError
        If it cannot be asked for.
    """
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
