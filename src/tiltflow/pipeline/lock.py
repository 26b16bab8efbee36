"""One run at a time in the folder of a series: a record never describes the products of another run.

The lock is one of the system (`flock`) on a hidden file, so that it ends with its process however that ends.  Not every file system
takes it from one machine to another, and some know no locks at all.  So the file also says who holds it, and its time is set anew as long
as the holder lives: a lock of another machine holds while it was heard of lately, whatever the system says, and where there are no locks
the file itself, which only one process can make, is the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tiltflow import stopping
from tiltflow.errors import LocationError
from tiltflow.owner import is_gone, kernel, new_token

LOCK_NAME = ".tiltflow-lock"
PAGES_LOCK_NAME = ".tiltflow-pages-lock"
HEARTBEAT_S = 20.0
DEAD_S = 300.0
"""After how long without a heartbeat the lock of another machine is nobody's: a share may hang for minutes, and clocks may differ."""
_LOOK_AGAIN_S = 0.5
_CHANGES_S = 0.001
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
"""Errors of file systems that know no locks."""

_log = logging.getLogger(__name__)


@contextmanager
def folder_lock(folder: Path, waiting: Callable[[str], object], name: str = LOCK_NAME) -> Iterator[None]:
    """Hold a folder inside a `with` block; a run that comes later waits for the end of the first, or takes the place of one that died.

    Parameters
    ----------
    folder
        Of the series; it is made if it is not there.
    waiting
        Called twice a second while another run holds the folder, with a word on that run; may raise so as not to wait.  That it is waited
        for is logged once.
    name
        Of the hidden file, which is removed at the end.

    Raises
    ------
    OSError
        If the folder or the file cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with _held(path, _locked(path, waiting)):
        yield


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
    while True:
        descriptor, note = _try(path)
        if note is not None:
            raise LocationError(refusal.format(holder=note.who or "one that has just begun"))
        if descriptor is not None:
            break
    with _held(path, descriptor):
        yield


def holder_of(folder: Path) -> str | None:
    """Return in words who works in the folder of a series; None if nobody does."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        note = _read(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _word(note)
        except OSError:
            return _word(note) if note.holds_without_locks else None
        return _word(note) if note.holds_from_elsewhere else None
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Note:
    """What the file of a lock says: who holds it, and for how long nothing was heard of him."""

    who: str = ""
    token: str = ""
    host: str = ""
    kernel: str = ""
    silent_s: float = 0.0

    @property
    def holds_from_elsewhere(self) -> bool:
        """Whether the holder is on another machine or in another container, and lives."""
        if not self.token or is_gone(self.token) is not None:
            return False  # of this machine, where the system's lock tells
        started_again = self.host == socket.gethostname() and self.kernel != kernel()
        return not started_again and self.silent_s < DEAD_S

    @property
    def holds_without_locks(self) -> bool:
        """Whether the holder lives, where the system's lock does not tell."""
        gone = is_gone(self.token) if self.token else None
        return self.silent_s < DEAD_S if not self.token else self.holds_from_elsewhere if gone is None else not gone


@contextmanager
def _held(path: Path, descriptor: int) -> Iterator[None]:
    """Be heard of inside a `with` block, and give the lock back at its end."""
    over, own = threading.Event(), _read(descriptor).token
    threading.Thread(target=_beat, args=(os.dup(descriptor), over, own), name="lock", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(OSError):
            # Else the folder was removed meanwhile, or this process was silent for so long that another one took its place.
            if _is_at(descriptor, path) and _read(descriptor).token == own:
                path.unlink()
        os.close(descriptor)


def _locked(path: Path, waiting: Callable[[str], object]) -> int:
    """Return the open file that holds the lock."""
    looks, told = 0, False
    while True:
        descriptor, note = _try(path)
        if descriptor is not None:
            return descriptor
        if note is None:
            stopping.pause(_CHANGES_S)
            continue
        word = f"another run works on it ({note.who or 'just begun'})"
        looks += 1
        waiting(word)
        if not told and (note.who or looks > 1):  # one that has just begun says who it is by the second look
            _log.warning("%s: %s; waiting for its end", path.parent.name, word)
            told = True
        stopping.pause(_LOOK_AGAIN_S)


def _try(path: Path) -> tuple[int | None, _Note | None]:
    """Return the open file that holds the lock, or the note of who holds it; neither, if that changes at the moment."""
    descriptor, made = _opened(path)
    if descriptor is None:
        return None, None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note = _read(descriptor)
        os.close(descriptor)
        return None, note
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return _made_or_held(path, descriptor, made=made)
        os.close(descriptor)
        raise
    note = _read(descriptor)
    if not _is_at(descriptor, path) or note.holds_from_elsewhere:  # it was removed between our opening and our locking
        os.close(descriptor)
        return None, note if note.holds_from_elsewhere else None
    _write(descriptor)
    return descriptor, None


def _opened(path: Path) -> tuple[int | None, bool]:
    """Return the open file, and whether it was made just now; None if another process makes or removes it at the moment."""
    how = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, how), False
    with contextlib.suppress(FileExistsError):
        return os.open(path, how | os.O_CREAT | os.O_EXCL, 0o666), True
    return None, False


def _made_or_held(path: Path, descriptor: int, *, made: bool) -> tuple[int | None, _Note | None]:
    """As :func:`_try`, where the file system knows no locks: the lock is the file, which only one process can make."""
    if made:
        _write(descriptor)
        return descriptor, None
    note = _read(descriptor)
    os.close(descriptor)
    if note.holds_without_locks:
        return None, note
    aside = path.with_name(f"{path.name}-{new_token()}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        taken = _note_at(aside)
        if taken is not None and taken.token != note.token:  # another process removed the dead one's just before, and made its own
            with contextlib.suppress(OSError):
                os.link(aside, path, follow_symlinks=False)
        aside.unlink()
    return None, None


def _beat(descriptor: int, over: threading.Event, own: str) -> None:
    """Set the time of the file anew until the lock is given back."""
    try:
        while not over.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):  # it was removed with its folder, or the share hangs
                if _read(descriptor).token == own:
                    os.utime(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a word for others, and no reason to fail on a full disk
        os.ftruncate(descriptor, 0)
        host = socket.gethostname()
        os.pwrite(descriptor, f"process {os.getpid()} on {host}\n{new_token()}\n{host}\n{kernel()}\n".encode(), 0)


def _read(descriptor: int) -> _Note:
    who, token, host, start, *_ = [*os.pread(descriptor, 1000, 0).decode(errors="replace").split("\n"), "", "", "", ""]
    return _Note(who.strip(), token, host, start, time.time() - os.fstat(descriptor).st_mtime)


def _note_at(path: Path) -> _Note | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _word(note: _Note) -> str:
    return note.who or "a run that has just begun"


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
