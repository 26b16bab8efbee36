"""Room for a file, taken from the disk at once.

A file that is written in small pieces here and there costs the system more than twice as much as one whose blocks lie ready.
`os.posix_fallocate` is no help: where a file system cannot reserve, as NFS, it writes to every block instead.
"""

from __future__ import annotations

import ctypes
import errno
import os


def reserve(descriptor: int, size: int) -> None:
    """Let the file system find the blocks of a file of `size` bytes; one that cannot is left to find them as it goes.

    Raises
    ------
    OSError
        If the disk or the quota has no room for them.
    """
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):  # not Linux
        return
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(descriptor, 0, 0, size) != 0 and (code := ctypes.get_errno()) in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        raise OSError(code, os.strerror(code))
