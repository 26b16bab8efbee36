"""Stopping: a signal sets a flag, and the work asks for it between the calls of its kernels.

An exception that a signal's handler raises comes out of whatever runs at that moment, and a library that calls back swallows it.  So the
handler only notes the signal, and :func:`ask` raises where the work can end: at each report of progress and at each item of a loop over
threads.  A second signal ends the process at once; what it leaves is cleaned by the next start.  Each is answered by a line on standard
error.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeAlias

SIGNALS = tuple(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if isinstance(number := getattr(signal, name, None), signal.Signals)
)
"""What ends the work: Ctrl-C, the end of a job or a service, and a terminal that is closed."""

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None
"""As :func:`signal.getsignal` gives them."""

STOPPING = "stopping in order; once more to stop at once"
_STOPPED = "stopped at once; the next run cleans up what this one leaves"

# Signals belong to the process, and so does what they ask for.
_asked = threading.Event()
_by: list[str] = []
_closing = threading.local()


class Interrupted(KeyboardInterrupt):
    """The work was asked to end, by the signal that the text names."""


def ask() -> None:
    """Raise if the work is asked to end; does nothing inside :func:`closing`.

    Raises
    ------
    Interrupted
        With the name of the signal.
    """
    if _asked.is_set() and not getattr(_closing, "depth", 0):
        raise Interrupted(_by[0] if _by else "asked to end")


def asked() -> bool:
    """Return whether the work is asked to end."""
    return _asked.is_set()


def pause(seconds: float) -> None:
    """Wait, and no longer than until the work is asked to end.

    Raises
    ------
    Interrupted
        If it is.
    """
    if getattr(_closing, "depth", 0):
        threading.Event().wait(seconds)
        return
    _asked.wait(seconds)
    ask()


def request(why: str) -> None:
    """Ask the work of this process to end, for a process whose main loop belongs to a framework with requests of its own.

    Parameters
    ----------
    why
        In words, for the record of the work.
    """
    _by.append(why)
    _asked.set()


def withdraw() -> None:
    """Take every request back: what was asked to end has ended, and other work may begin."""
    _asked.clear()
    _by.clear()


@contextmanager
def closing() -> Iterator[None]:
    """Let this thread finish what a `with` block does: the record of work that ends is written even so."""
    _closing.depth = getattr(_closing, "depth", 0) + 1
    try:
        yield
    finally:
        _closing.depth -= 1


@contextmanager
def stoppable(*, passing_on: bool = False) -> Iterator[None]:
    """Let the signals of :data:`SIGNALS` ask the work inside a `with` block to end; the second one ends the process at once.

    A signal that is ignored, as SIGHUP under `nohup`, stays ignored.  Only the main thread receives signals: in others nothing is
    changed.

    Parameters
    ----------
    passing_on
        Whether the handler that was there before is called too, for a framework that has its own way of ending, and its own words.  Its
        threads may outlive the block, so that the work stays asked to end until the next begins.
    """
    before = _handlers()
    if not before:
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        again = _asked.is_set()
        request(signal.Signals(number).name)
        handler = before[signal.Signals(number)]
        if passing_on and callable(handler):
            handler(number, frame)
        elif not again:
            _say(STOPPING)
        else:
            _say(_STOPPED)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    withdraw()
    try:
        with _handled(before, note):
            yield
    finally:
        if not passing_on:
            withdraw()


@contextmanager
def held() -> Iterator[None]:
    """Hold the signals of :data:`SIGNALS` back until a `with` block is done, then give them to the handlers they had before it.

    For calls of a library that drops what a handler raises, or puts handlers of its own in; in a program or a framework that does not
    ask, handlers do.
    """
    came: list[int] = []
    ignored = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN]
    try:
        with _handled(_handlers(), lambda number, _frame: came.append(number)):
            yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for signum in ignored:
                signal.signal(signum, signal.SIG_IGN)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


def _say(text: str) -> None:
    """Write a line to standard error past Python's buffer, in the middle of whose use the signal may have come."""
    if sys.__stderr__ is None:
        return
    with suppress(OSError, ValueError):  # it may be closed, or its reader gone
        descriptor = sys.__stderr__.fileno()
        os.write(descriptor, f"{os.linesep if os.isatty(descriptor) else ''}{text}\n".encode())


def _handlers() -> dict[signal.Signals, _Handler]:
    """Return what handles the signals now that are not ignored; nothing in a thread that receives none: only the main one does."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)}


@contextmanager
def _handled(before: Mapping[signal.Signals, _Handler], by: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have the signals of `before` handled by another function inside a `with` block, and as before after it."""
    for number in before:
        signal.signal(number, by)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
