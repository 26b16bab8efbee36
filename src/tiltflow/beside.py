"""Work in a second process beside this one, which is its copy: what two threads would do in turn at the interpreter's lock.

A copy of a process needs no start: it has every module, every compiled kernel and every open file that this one has, and shares its
memory until either writes to it.  It changes nothing here but files and shared arrays, so that the work has to say
what else it found in what it returns.

A lock that another thread holds while the copy is made stays locked in it.  So only a process may be copied whose threads are all
tiltflow's: that of the command or one of its workers (:func:`this_process_is_ours`), and no notebook's or orchestrator's; and only by its
main thread, beside which no other thread works on a series: in a watched folder others do.
"""

from __future__ import annotations

import contextlib
import logging
import math
import mmap
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, cast

from tiltflow import stopping
from tiltflow.freed_memory import give_back_freed_memory
from tiltflow.lines_passed_on import PassedOn, log_here

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import DTypeLike, NDArray

    from tiltflow.model import Progress

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_LOOK_S = 0.2
"""How often it is looked whether the work is asked to end, while an answer is waited for."""

_DONE, _FAILED, _PROGRESS, _LINE, _GONE = "done", "failed", "progress", "line", "gone"
"""What a copy says: its result, what it raised, the fraction that is done, a line of its log; and the end of its pipe."""
_LAST = _DONE, _FAILED, _GONE
"""After which it says no more."""

_ours = False
"""Whether none but tiltflow's threads run in this process."""


def this_process_is_ours() -> None:
    """Allow copies of this process: none but tiltflow's threads will run in it."""
    global _ours  # noqa: PLW0603  a property of the process
    _ours = True


class Beside(Protocol[R_co]):
    """Work that goes on beside this process."""

    def __call__(self, progress: Progress) -> R_co:
        """Wait for the result, and report the progress meanwhile; what the work logs is logged here."""

    def is_done(self) -> bool:
        """Return whether it is done, so that nobody waits for the result."""


@contextmanager
def beside(work: Callable[[Progress], R], *, threads: int) -> Iterator[Beside[R]]:
    """Begin work that goes on beside the `with` block, and give what waits for its result and reports its progress.

    The work is done when it is asked for, in turn, where there is one thread only, where this process is not to be copied (also on
    any system but Linux, whose libraries do not allow it), and where the copy is lost: what is returned or raised is the same.  A result
    that is not asked for is dropped, with the copy.

    Parameters
    ----------
    work
        Is called with a function that hears which fraction of it is done.  It needs nothing of other threads, changes nothing but files
        and shared arrays (:func:`shared_array`), as other memory that it writes to is a copy, and can be done again, as it is where the
        copy is lost.  What it returns or raises can be pickled.
    threads
        Threads that this process may use in all.
    """
    if threads < 2 or not can_copy():
        yield _InTurn(work)
        return
    copy = _Copy(work)
    try:
        yield copy
    finally:
        copy.end()


def shared_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros that this process and its copies share: what one of them writes the others read.

    What a copy finds much of has a place there, as its answer goes through a pipe.
    """
    import numpy as np  # commands that copy nothing do without

    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype, math.prod(shape)).reshape(shape)


def left_of(threads: int) -> int:
    """Return how many of its threads this process has left while a copy is at work: half of them, or all where there can be none."""
    return max(threads // 2, 1) if can_copy() else threads


def can_copy() -> bool:
    """Return whether this process can be, and may be, copied by this thread."""
    return _ours and sys.platform == "linux" and threading.current_thread() is threading.main_thread()


class _InTurn(Generic[R]):
    """Work that is done when its result is asked for."""

    def __init__(self, work: Callable[[Progress], R]) -> None:
        self._work = work

    def __call__(self, progress: Progress) -> R:
        return self._work(progress)

    def is_done(self) -> bool:
        return False


class _Copy(Generic[R]):
    """The second process, and our end of its pipe; it ends when that is closed."""

    def __init__(self, work: Callable[[Progress], R]) -> None:
        from multiprocessing.connection import Pipe  # commands that copy nothing do without

        give_back_freed_memory()  # what is free needs no copy
        self._work = work
        self._heard: deque[tuple[str, object]] = deque()
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = _forked(self._pipe, theirs, work)

    def __call__(self, progress: Progress) -> R:
        while True:
            if not self._heard:
                self._listen(_LOOK_S)
                stopping.ask()
                continue
            what, said = self._heard.popleft()
            if what == _DONE:
                return cast("R", said)
            if what == _FAILED:
                raise cast("Exception", said)
            if what == _GONE:
                return self._work(progress)  # it was killed, as the system does where memory is short, or its answer cannot be sent
            if what == _LINE:
                log_here(cast("logging.LogRecord", said))
            else:
                progress(cast("float", said))

    def is_done(self) -> bool:
        while self._listen(0.0):
            pass
        return self._has_said_all()

    def _has_said_all(self) -> bool:
        return bool(self._heard) and self._heard[-1][0] in _LAST

    def _listen(self, seconds: float) -> bool:
        """Hear the next word, for which is waited at most so long, and return whether there was one that others may follow."""
        if self._has_said_all():
            return False
        try:
            if not self._pipe.poll(seconds):
                return False
            self._heard.append(self._pipe.recv())
        except Exception:  # noqa: BLE001  the end of the pipe, or an answer that is not understood here
            self._heard.append((_GONE, None))
        return True

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
        one_at_a_time = threading.Lock()

        def say(what: str, said: object) -> None:
            with one_at_a_time:
                theirs.send((what, said))

        # Nothing is said but to the other process: a thread that draws the progress may have held the lock of what else is said through.
        _log_only_to(PassedOn(lambda line: say(_LINE, line)))
        warnings.simplefilter("ignore")
        threading.Thread(target=_end_with, args=(theirs,), name="beside", daemon=True).start()
        try:
            answer: tuple[str, object] = _DONE, work(_in_steps(lambda fraction: say(_PROGRESS, fraction)))
        except Exception as error:  # noqa: BLE001  raised in the other process
            answer = _FAILED, error
        say(*answer)
    finally:
        os._exit(0)


def _log_only_to(handler: logging.Handler) -> None:
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and (logger.handlers or not logger.propagate):
            logger.handlers, logger.propagate = [], True
    logging.root.handlers = [handler]


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
