"""The shim between a program and the C library (`shim.c`): its making, its control, and its log."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")


class Call(IntEnum):
    """Kinds of calls, as the shim numbers them."""

    OPEN = 0
    WRITE = 1
    RENAME = 2
    LINK = 3
    SYMLINK = 4
    UNLINK = 5
    RMDIR = 6
    MKDIR = 7
    TRUNCATE = 8
    ALLOCATE = 9
    SYNC = 10
    CHMOD = 11
    COPY = 12
    MAP = 13


class Mode(IntEnum):
    """What the shim does at the call that was named."""

    COUNT = 1
    KILL = 2
    KILL_HALF_WAY = 3
    FAIL_ONCE = 4
    FAIL_FROM = 5
    SHORT_THEN_FAIL = 6


EVERY = tuple(Call)
TAKES_ROOM = (Call.OPEN, Call.WRITE, Call.LINK, Call.SYMLINK, Call.MKDIR, Call.ALLOCATE)
"""Calls that fail when a disk is full."""


@dataclass(frozen=True)
class Arming:
    """What the shim is told: where it looks, what it does at which call, and where it notes all of them."""

    folders: tuple[str, ...]
    mode: Mode = Mode.COUNT
    at: int = 0
    failure: int = 0
    calls: tuple[int, ...] = EVERY
    log: str = ""


@dataclass(frozen=True)
class Event:
    """A call that succeeded: `size` is the offset of a write, the new size of a truncation; `flag` a truncating open, a `syncfs`."""

    call: Call
    flag: int
    inode: int
    size: int
    first: str
    second: str
    data: bytes


def compile_shim(folder: Path) -> Path | None:
    """Return the shared object, made in `folder`; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    made = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl", "-lpthread"], check=True, capture_output=True)
    return made


def arm(arming: Arming) -> None:
    """Arm the shim that is loaded in this process."""
    library = ctypes.CDLL(None)
    library.tiltflow_shim_watch("\n".join(arming.folders).encode())
    bits = sum(1 << call for call in arming.calls)
    library.tiltflow_shim_arm(int(arming.mode), ctypes.c_long(arming.at), arming.failure, ctypes.c_uint(bits), arming.log.encode())


_ENTRY = struct.Struct("=iiQqIIQ")


def read_log(path: Path) -> Sequence[Event]:
    """Return the calls in a log; the last one is left out where the process died while it was noted."""
    return tuple(_events(path.read_bytes()))


def _events(text: bytes) -> Iterator[Event]:
    place = 0
    while place + _ENTRY.size <= len(text):
        call, flag, inode, size, first, second, length = _ENTRY.unpack_from(text, place)
        place += _ENTRY.size
        ends = place + first, place + first + second, place + first + second + length
        if ends[2] > len(text):
            return
        names = text[place : ends[0]].decode(errors="surrogateescape"), text[ends[0] : ends[1]].decode(errors="surrogateescape")
        yield Event(Call(call), flag, inode, size, *names, text[ends[1] : ends[2]])
        place = ends[2]
