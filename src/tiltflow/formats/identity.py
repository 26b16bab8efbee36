"""The identity of a tilt series: the contents of every file that its reading used or looked for."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tiltflow.checksum import sha256_of
from tiltflow.errors import InputChangedError, LocationError
from tiltflow.formats.file_state import State, state_of
from tiltflow.formats.frame_stacks import frame_files
from tiltflow.formats.sources import side_files
from tiltflow.parallel import map_threads, usable_cores

_BLOCK = 16 << 20
"""Bytes that one core hashes at a time: a stack of gigabytes is hashed as fast as it is read, in bounded memory."""
_READ = 256 << 10
"""Bytes that are read and hashed at a time: they stay in the cache of the core."""
_REMEMBERED = 256
"""Stacks whose checksum a process remembers; a run asks for each a few times."""

Known = tuple[State, str]
"""State of a stack at some time, and its checksum then."""
_WRITTEN = 3
"""The first of these change when a file is written; the last also when its permissions or its links do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one input from another.

    Attributes
    ----------
    stack
        Checksum of the stack: the SHA-256 of the SHA-256 of its blocks of 16 MiB.
    beside
        Checksum of each file beside the stack that is looked for, by name; None for one that is absent, which counts too.
    state
        Of the stack on disk.  It says whether the stack has to be hashed again, and is no part of the identity: a copy, or what was
        restored from an archive, is the same input.
    frames
        State and checksum of each stack of even or odd frames beside the stack, by name; None where they do not count.  Only half
        volumes are made of them, so that they are no part of `content`.
    """

    stack: str
    beside: Mapping[str, str | None]
    state: State
    frames: Mapping[str, Known] | None = None

    @property
    def content(self) -> dict[str, object]:
        """What the identity is made of."""
        return {"stack": self.stack, "beside": dict(self.beside)}


def identity_of(path: Path, known: Known | None = None, *, frames: Mapping[str, Known] | None = None) -> Identity:
    """Return the identity of the series whose stack is at `path`.

    Parameters
    ----------
    path
        Of the stack.
    known
        The state of the stack at another time, and its checksum then: it is not hashed again if it has not changed.
    frames
        The same of stacks of even and odd frames, by name, empty where nothing is known of them; None if they do not count.

    Raises
    ------
    LocationError
        If a file cannot be read.
    InputChangedError
        If the stack changes meanwhile.
    """
    try:
        state, stack = _known(path, known)
        beside = {each.name: sha256_of(each) if each.is_file() else None for each in side_files(path)}
        halves = None
        if frames is not None:
            halves = {each.name: _known(each, frames.get(each.name)) for each in frame_files(path) if each.is_file()}
    except OSError as error:
        raise LocationError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
    return Identity(stack, beside, state, halves)


def _known(path: Path, known: Known | None) -> Known:
    """Return the state and the checksum of a stack; it is hashed if its state is not the known one."""
    state = state_of(path)
    checksum = known[1] if known is not None and known[0] == state else _checksum(path, state)
    if state_of(path) != state:
        raise InputChangedError(_changed(path))
    return state, checksum


def require_same(path: Path, before: Identity) -> None:
    """Raise unless a series is what it was, and was so all the time.

    A stack that was written again counts as changed, even if it has its old contents now: between, it had others.

    Raises
    ------
    InputChangedError
        With the name of a file that was changed.
    LocationError
        If one cannot be read any more.
    """
    now = identity_of(path, (before.state, before.stack), frames=before.frames)
    if not _same(before.state, before.stack, now.state, now.stack):
        raise InputChangedError(_changed(path))
    halves, were = now.frames or {}, before.frames or {}
    for name in sorted({*halves, *were}):
        if name not in halves or name not in were or not _same(*were[name], *halves[name]):
            raise InputChangedError(_changed(path.with_name(name)))
    for name, checksum in now.beside.items():
        if checksum != before.beside.get(name):
            raise InputChangedError(_changed(path.with_name(name)))


def _same(state: State, checksum: str, now: State, checksum_now: str) -> bool:
    return state[:_WRITTEN] == now[:_WRITTEN] and checksum == checksum_now


def _changed(path: Path) -> str:
    return f"{path} was changed while it was being read; wait until it is complete, and run the same command again"


@functools.lru_cache(_REMEMBERED)
def _checksum(path: Path, state: State) -> str:
    """Return the checksum of a file in a state; blocks are hashed on all cores, which leaves the file where its reading finds it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        whole = hashlib.sha256()
        starts = range(0, state[1], _BLOCK)
        for digest in map_threads(lambda start: _digest(descriptor, start), starts, usable_cores()):
            whole.update(digest)
    finally:
        os.close(descriptor)
    return whole.hexdigest()


def _digest(descriptor: int, start: int) -> bytes:
    """Return the SHA-256 of the block of a file that begins at `start`, or of what there is of it."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_READ))
    place, end = start, start + _BLOCK
    while place < end and (count := os.preadv(descriptor, [buffer[: end - place]], place)):
        digest.update(buffer[:count])
        place += count
    return digest.digest()
