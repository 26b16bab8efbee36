"""Claims on what is being compiled, so that no two processes that keep it in the same folder do the same work."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

FILE = "compiling.lock"
"""A file in the folder, each byte of which stands for a function.  It is empty, and stays: the locks are those of the system.  Functions
that share a byte by chance wait for each other, a minute at most."""
_LONGEST_S, _EVERY_S = 60.0, 0.02
"""How long another process is waited for, which may have been stopped, and how often it is looked at."""


@contextlib.contextmanager
def claimed(folder: Path, name: str) -> Iterator[None]:
    """Hold the claim on a function, once no other process has it.

    A claim ends with its process, however that ends.  Where the file system knows no locks, or after a minute, the work is begun without
    one: it is done twice at worst.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(folder)
    except OSError:
        yield
        return
    place, until = zlib.crc32(name.encode()) & 0x7FFFFFFF, time.monotonic() + _LONGEST_S
    held = False
    while not held and time.monotonic() < until:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            held = True
        except (BlockingIOError, PermissionError):
            time.sleep(_EVERY_S)
        except OSError:
            break
    try:
        yield
    finally:
        if held:
            with contextlib.suppress(OSError):
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place)


@functools.cache
def _opened(folder: Path) -> int:
    """Return a descriptor of the file, open as long as the process: to close any of them would end all claims of the process."""
    return os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
