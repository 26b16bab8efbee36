"""One run at a time in the folder of a series: a record never describes the products of another run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tiltflow import stopping
from tiltflow.errors import LocationError

LOCK_NAME = ".tiltflow-lock"
_LOOK_AGAIN_S = 0.5
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
"""Errors of file systems that know no locks; there, nothing tells two runs apart."""

_log = logging.getLogger(__name__)


@contextmanager
def folder_lock(folder: Path, waiting: Callable[[str], object]) -> Iterator[None]:
    """Hold the folder of a series inside a `with` block; a run that comes later waits for the end of the first.

    The lock is one of the system on a hidden file (`flock`), so that it ends with the process however that ends, and holds between the
    machines that mount a share by NFS.  The file is removed at the end.

    Parameters
    ----------
    folder
        Of the series; it is made if it is not there.
    waiting
        Called twice a second while another run holds the folder, with a word on that run, which is logged once; may raise to end the
        waiting.

    Raises
    ------
    OSError
        If the folder or the file cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    descriptor = _locked(path, waiting)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is_at(descriptor, path):  # else the folder was removed meanwhile, and another run may hold a new file
                path.unlink()
        os.close(descriptor)


@contextmanager
def sole_lock(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file inside a `with` block, as :func:`folder_lock` does, but without waiting for another process that holds it.

    Raises
    ------
    LocationError
        If another process holds it: `refusal`, in which `{holder}` stands for that process.
    OSError
        If the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _try_to_lock(path)
    if isinstance(descriptor, str):
        raise LocationError(refusal.format(holder=descriptor or "one that has just begun"))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is_at(descriptor, path):
                path.unlink()
        os.close(descriptor)


def _locked(path: Path, waiting: Callable[[str], object]) -> int:
    """Return the open file that holds the lock."""
    looks, told = 0, False
    while True:
        descriptor = _try_to_lock(path)
        if not isinstance(descriptor, str):
            return descriptor
        word = f"another run works on it ({descriptor or 'just begun'}); waiting for its end"
        looks += 1
        if not told and (descriptor or looks > 1):  # one that has just begun says who it is by the second look
            _log.warning("%s: %s", path.parent.name, word)
            told = True
        waiting(word)
        stopping.pause(_LOOK_AGAIN_S)


def _try_to_lock(path: Path) -> int | str:
    """Return the open file that holds the lock, or what the process says of itself that holds it, empty if it has not said it yet."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(descriptor, path):  # the run before removed it between our opening and our locking
                os.close(descriptor)
                continue
            with contextlib.suppress(OSError):  # a word for others, and no reason to fail on a full disk
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BlockingIOError:
            said = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            return said
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            return descriptor
        else:
            return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
