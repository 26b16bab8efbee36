"""Disk space for a file, reserved before it is written.

A file that is written in small pieces here and there costs the system a third more than one whose blocks lie ready
(`docs/explanation/performance.md` has the figures), and a disk that is too small is noticed before the work is done.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


def reserve(path: Path) -> None:
    """Reserve the disk blocks of a file that already has its size; do nothing on a file system that cannot.

    Raises
    ------
    OSError
        If the disk or the quota has no room for them.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    # Where a file system cannot reserve, as NFS before 4.2, the C library would write to every block instead.  It has to read them
    # first, and gives up on a file that is open only for writing: posix_fallocate(3), EBADF.
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if size := os.fstat(descriptor).st_size:
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise
    finally:
        os.close(descriptor)
