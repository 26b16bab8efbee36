"""Work in a second process beside this one, which is its copy: what two threads would do in turn at the interpreter's lock.

A copy of a process needs no start: it has every module, every compiled kernel and every open file that this one has, and shares its
memory until either writes to it.  It cannot change anything here, so that the work has to say all it found in what it returns.

A lock that another thread holds while the copy is made stays locked in it.  So only a process may be copied whose threads are all
tiltflow's: that of the command or one of its workers (:func:`this_process_is_ours`), and no notebook's or orchestrator's; and only by its
main thread, beside which no other thread works on a series: in a watched folder others do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from tiltflow import stopping
from tiltflow.freed_memory import give_back_freed_memory

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tiltflow.model import Progress

R = TypeVar("R")

_LOOK_S = 0.2
"""How often it is looked whether the work is asked to end, while an answer is waited for."""

_DONE, _FAILED, _PROGRESS = "done", "failed", "progress"
"""What a copy says: its result, what it raised, and the fraction that is done."""

_ours = False
"""Whether none but tiltflow's threads run in this process."""


def this_process_is_ours() -> None:
    """Allow copies of this process: none but tiltflow's threads will run in it."""
    global _ours  # noqa: PLW0603  a property of the process
    _ours = True


@contextmanager
def beside(work: Callable[[Progress], R], *, threads: int) -> Iterator[Callable[[Progress], R]]:
    """Begin work that goes on beside the `with` block, and give the function that waits for its result and reports its progress.

    The work is done by that function itself, in turn, where there is one thread only, where this process is not to be copied (also on
    any system but Linux, whose libraries do not allow it), and where the copy is lost: what is returned or raised is the same.  A result
    that is not asked for is dropped, with the copy.

    Parameters
    ----------
    work
        Is called with a function that hears which fraction of it is done.  It needs nothing of other threads, and changes nothing: the
        memory that it writes to is a copy.  What it returns or raises can be pickled.
    threads
        Threads that this process may use in all.
    """
    if threads < 2 or not can_copy():
        yield work
        return
    copy = _Copy(work)
    try:
        yield copy.result
    finally:
        copy.end()


def left_of(threads: int) -> int:
    """Return how many of its threads this process has left while a copy is at work: half of them, or all where there can be none."""
    return max(threads // 2, 1) if can_copy() else threads


def can_copy() -> bool:
    """Return whether this process can be, and may be, copied by this thread."""
    return _ours and sys.platform == "linux" and threading.current_thread() is threading.main_thread()


class _Copy:
    """The second process, and our end of its pipe; it ends when that is closed."""

    def __init__(self, work: Callable[[Progress], Any]) -> None:
        from multiprocessing.connection import Pipe  # commands that copy nothing do without

        give_back_freed_memory()  # what is free needs no copy
        self._work = work
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = _forked(self._pipe, theirs, work)

    def result(self, progress: Progress) -> Any:
        """Return what the work returns, or raise what it raises."""
        for what, said in self._answers():
            if what == _DONE:
                return said
            if what == _FAILED:
                raise cast("Exception", said)
            progress(cast("float", said))
        return self._work(progress)  # it was killed, as the system does where memory is short, or its answer cannot be sent

    def _answers(self) -> Iterator[tuple[str, object]]:
        """Yield what the copy says until it is gone."""
        while True:
            try:
                answer = self._pipe.recv() if self._pipe.poll(_LOOK_S) else None
            except (EOFError, OSError):
                return
            stopping.ask()
            if answer is not None:
                yield answer

    def end(self) -> None:
        """End it."""
        self._pipe.close()
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # somebody waits for all children of this process
                os.waitpid(self._process, 0)


def _forked(ours: Connection, theirs: Connection, work: Callable[[Progress], Any]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of threads: what they may hold is not asked for in the copy
        try:
            process = os.fork()
        except OSError:
            return 0
    if process == 0:
        _answer(ours, theirs, work)
    return process


def _answer(ours: Connection, theirs: Connection, work: Callable[[Progress], Any]) -> NoReturn:
    """Do the work and say what comes of it: all that the copy does."""
    try:
        ours.close()
        for number in stopping.SIGNALS:  # a terminal sends them to all; this process ends with the other
            signal.signal(number, signal.SIG_IGN)
        # Nothing is said here: a thread that draws the progress may have held the lock of what it would be said through.
        logging.disable()
        warnings.simplefilter("ignore")
        threading.Thread(target=_end_with, args=(theirs,), name="beside", daemon=True).start()
        try:
            answer: tuple[str, object] = _DONE, work(_in_steps(lambda fraction: theirs.send((_PROGRESS, fraction))))
        except Exception as error:  # noqa: BLE001  raised in the other process
            answer = _FAILED, error
        theirs.send(answer)
    finally:
        os._exit(0)


def _in_steps(say: Progress) -> Progress:
    """Return a progress that passes on every hundredth, as nobody may listen yet: the pipe holds some thousand words."""
    said = 0.0

    def progress(fraction: float) -> None:
        nonlocal said
        if fraction >= said + 0.01:
            said = fraction
            say(fraction)

    return progress


def _end_with(pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    os._exit(0)
