"""Memory of arrays that are gone: kept for the next by the C library, or given back to the system.

Both are calls of glibc; with another C library nothing is done.
"""

from __future__ import annotations

import ctypes
import functools
import os
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of the parameters of glibc's `mallopt`."""
_LARGEST_KEPT, _LARGEST_OF_OLD, _MOST_FREE = 1 << 30, 1 << 25, 1 << 28
"""Bytes: blocks that are kept, those that a glibc before 2.35 keeps, and what is kept at the end of the heap."""
_MALLOC_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


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
