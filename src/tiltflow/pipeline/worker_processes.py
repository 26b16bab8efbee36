"""Series at once: processes of their own, each of which works on one series after another for a run.

Threads of one process would wait for each other at the interpreter's lock for half of a series.  A process gets a call of
:func:`tiltflow.pipeline.process` through a pipe and answers with progress, lines of the log and the result, which the run takes as
if the work were done in a thread of its own.  It ends with the run, however that ends: nobody else holds the other end of its pipe.  One
that dies costs the series that it works on, and the next series gets a new one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeAlias

from tiltflow import stopping
from tiltflow.beside import this_process_is_ours
from tiltflow.command import SECRETS
from tiltflow.delivery.cleanup import remove_scratch_left_behind
from tiltflow.errors import ResourceError, StageError
from tiltflow.lines_passed_on import PassedOn, log_here
from tiltflow.pipeline.conclusion import close_lost
from tiltflow.pipeline.failure import outside_of_the_work
from tiltflow.pipeline.job import OnProgress, SeriesProgress
from tiltflow.pipeline.lock import folder_lock
from tiltflow.pipeline.one_series import process
from tiltflow.recipe import Recipe
from tiltflow.work import SeriesResult, Site

_BEGIN = """
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:] = pipe.recv()
from tiltflow.unused_parts import leave_out_unused_parts
leave_out_unused_parts()
from tiltflow.pipeline.worker_processes import work_for_a_run
work_for_a_run(pipe)
"""
_LOOK_S = 0.2
"""How often it is looked whether the work is asked to end, while a process says nothing."""
_GRACE_S = 5.0
"""How long an ended process may take to be gone, and a signal to all processes of a job to reach this one too."""

_log = logging.getLogger(__name__)


Process: TypeAlias = Callable[..., SeriesResult]
"""What :func:`tiltflow.pipeline.process` is, or does the same elsewhere: the work on one series."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of the work on one series."""

    source: Path
    recipe: Recipe
    site: Site
    output: Path
    options: dict[str, Any]


class _DiedError(Exception):
    """A process is gone without an answer; the text says how it ended."""


@contextmanager
def worker_processes(is_over: Callable[[], bool]) -> Iterator[Process]:
    """Give a function that does the work on a series in another process; threads call it, as many at once as there shall be processes.

    Parameters
    ----------
    is_over
        Whether the run has ended, so that the series that are worked on are to end too; so they are where the work is asked to end
        (:mod:`tiltflow.stopping`).
    """
    workers = _Workers(is_over)
    try:
        yield workers.process
    finally:
        workers.close()


class _Workers:
    """The processes of a run; those that have nothing to do are kept for the next series."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()

    def process(
        self, source: Path, recipe: Recipe, site: Site, *, output: Path, on_progress: OnProgress, **options: Any
    ) -> SeriesResult:
        """Return the result of a series; one whose process dies has failed."""

        def take(progress: SeriesProgress | None) -> None:
            if progress is not None:
                on_progress(progress)
            if progress is None or progress.result is None:
                stopping.ask()
                if self._is_over():
                    raise KeyboardInterrupt

        try:
            worker = self._next()
        except OSError as error:
            result = outside_of_the_work(source, output, error)
        else:
            try:
                result = worker.work(_Call(source, recipe, site, output, options), take)
            except _DiedError as died:
                result = _lost(source, output, site, f"{source.name}: the process that worked on it {died}")
            except BaseException:
                worker.end()
                raise
            else:
                self._idle.put(worker)
                return result
        on_progress(SeriesProgress(source.stem, result.stage or "start", 1.0, result))
        return result

    def close(self) -> None:
        """End the processes, none of which has anything to do any more."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().end()

    def _next(self) -> _Worker:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return _Worker()


class _Worker:
    """A process, and our end of its pipe."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BEGIN, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name not in SECRETS},
                start_new_session=True,  # a terminal's signals are passed on by the run
            )
        self._say(sys.path)
        self._say(logging.getLogger("tiltflow").getEffectiveLevel())

    def work(self, call: _Call, take: Callable[[SeriesProgress | None], None]) -> SeriesResult:
        """Return the result of a series.

        Parameters
        ----------
        call
            Of the work.
        take
            Receives the progress, and None every now and then while there is none; what it raises asks the work to end.

        Raises
        ------
        _DiedError
            If the process died, or somebody else asked it to end.
        BaseException
            What `take` raised, once the process has recorded that it was interrupted.
        """
        raised: BaseException | None = None
        self._say(call)
        for answer in self._answers():
            if isinstance(answer, logging.LogRecord):
                log_here(answer)
            elif isinstance(answer, SeriesResult):
                if raised is None:
                    return answer
                raise raised
            elif isinstance(answer, _Interrupted):
                if raised is None:
                    stopping.pause(_GRACE_S)
                    self.end()
                raise raised or _DiedError(f"was asked to end ({answer.by})")
            elif raised is None:
                try:
                    take(answer)
                except BaseException as error:  # noqa: BLE001  raised again, when the process has ended its work
                    raised = error
                    self._say(str(error) or type(error).__name__)
        died = self.end()
        raise raised or _DiedError(died)

    def _answers(self) -> Iterator[Any]:
        """Yield what the process says until it dies, and None every now and then while it says nothing."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                yield self._pipe.recv() if self._pipe.poll(_LOOK_S) else None

    def _say(self, word: object) -> None:
        with contextlib.suppress(OSError):  # it is dead, which shows when it does not answer
            self._pipe.send(word)

    def end(self) -> str:
        """End the process, and return how it ended."""
        self._pipe.close()
        try:
            status = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status == -signal.SIGKILL:
            return "was killed (SIGKILL), as the system does where memory is short: run fewer series at once (--jobs)"
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _lost(source: Path, output: Path, site: Site, why: str) -> SeriesResult:
    """Return the result of a series whose process died, when its record is closed and what it left is removed."""
    result = outside_of_the_work(source, output, StageError(why))
    _log.error("%s", why)

    def leave(word: str) -> None:
        raise ResourceError(word)

    try:
        with folder_lock(output, leave):
            result = close_lost(result, site.thresholds)
        remove_scratch_left_behind(site.scratch or Path(tempfile.gettempdir()))
    except OSError as error:
        _log.warning("%s: its record could not be closed: %s", source.stem, error)
    return result


@dataclass(frozen=True, slots=True)
class _Interrupted:
    """The answer of a process whose work was asked to end, and recorded that."""

    by: str


class _Answers:
    """What is said to the run, by any thread; where the run is gone, this process ends at once."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def say(self, answer: object) -> None:
        """Say it."""
        try:
            with self._lock:
                self._pipe.send(answer)
        except OSError:
            os._exit(1)


def work_for_a_run(pipe: Connection) -> None:
    """Work on the series that are called for, one after the other, until the other end of the pipe is closed: the main of a process."""
    this_process_is_ours()
    os.set_inheritable(pipe.fileno(), False)
    answers = _Answers(pipe)
    logger = logging.getLogger("tiltflow")
    logger.setLevel(pipe.recv())
    logger.propagate = False
    logger.addHandler(PassedOn(answers.say))
    for number in stopping.SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: stopping.request(signal.Signals(number).name))
    calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, calls), name="run", daemon=True).start()
    while True:
        call = calls.get()
        try:
            result = process(call.source, call.recipe, call.site, output=call.output, on_progress=answers.say, **call.options)
        except KeyboardInterrupt as interrupt:
            answers.say(_Interrupted(str(interrupt) or type(interrupt).__name__))
        else:
            answers.say(result)


def _listen(pipe: Connection, calls: queue.SimpleQueue[_Call]) -> None:
    """Take calls, and words that ask the work to end, and end this process with the run."""
    try:
        while True:
            said = pipe.recv()
            if isinstance(said, _Call):
                calls.put(said)
            else:
                stopping.request(said)
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001  a call that cannot be understood: without this thread the process would never end
        traceback.print_exc()
        os._exit(1)
