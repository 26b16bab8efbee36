"""Running a program: the one place in tiltflow that starts one."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tiltflow import stopping
from tiltflow.errors import CommandError

_log = logging.getLogger(__name__)

SECRETS = frozenset({"TILTFLOW_TOKEN"})
"""Variables that no program we start gets to see."""
TOO_LONG = 124
"""Status of a program that took longer than it may, as of `timeout`."""
_GRACE_S = 5.0
_LOOK_S = 0.2
"""How often it is looked whether a program that prints nothing is to end."""
_KEPT_LINES = 200


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A program that ended with status 0: its time and the end of what it printed."""

    command: tuple[str, ...]
    seconds: float
    last_lines: tuple[str, ...]


def find_program(name: str) -> Path | None:
    """Return the path of a program on the PATH, or None."""
    return next(find_programs(name), None)


def find_programs(name: str) -> Iterator[Path]:
    """Yield every program of that name on the PATH, in its order."""
    seen = set()
    for folder in os.get_exec_path():
        found = shutil.which(name, path=folder) if folder else None
        if found and found not in seen:
            seen.add(found)
            yield Path(found)


def run(
    program: str | Path,
    args: Sequence[str],
    *,
    cwd: Path,
    on_line: Callable[[str], None] | None = None,
    limit_s: float | None = None,
) -> CommandResult:
    """Run a program to its end, passing on each line as it is printed (standard output and error together).

    The program gets a process group of its own.  Where the work is asked to end, or an exception leaves `on_line`, the whole group is
    asked to stop, then killed; where this process is killed, the group is killed too.

    Parameters
    ----------
    limit_s
        The longest time that it may take, s; None for no limit.

    Raises
    ------
    CommandError
        If the program is missing, ends with a status other than 0, or takes longer than it may (:data:`TOO_LONG`).
    Interrupted
        If the work is asked to end.
    """
    path = shutil.which(program)
    command = (str(program), *args)
    if path is None:
        raise CommandError(f"{program} is not on the PATH: install it, or put its folder on the PATH", command, 127)
    _log.info("running %s in %s", shlex.join(command), cwd)
    begin = time.perf_counter()
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        with _watched() as watch:
            process = subprocess.Popen(
                [path, *args],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name not in SECRETS},
            )
            try:
                watch(process.pid)
                for line in _lines(process, limit_s):
                    lines.append(line)
                    if on_line:
                        on_line(line)
                status = process.wait()
            finally:
                if process.returncode is None:  # it was not waited for to its end
                    _stop(process)
    except _TakesTooLongError as error:
        raise CommandError(
            f"{shlex.join(command)} was ended, as it took longer than {limit_s:g} s", command, TOO_LONG, tuple(lines)
        ) from error
    if status:
        stopping.pause(_LOOK_S)  # who ends a job signals each of its processes: the program may hear of it before this one
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        tail = "\n".join(list(lines)[-10:])
        raise CommandError(f"{shlex.join(command)} {how}; its last lines:\n{tail}", command, status, tuple(lines))
    return CommandResult(command, time.perf_counter() - begin, tuple(lines))


class _TakesTooLongError(Exception):
    """The program has had its time."""


def _lines(process: subprocess.Popen[str], limit_s: float | None) -> Iterator[str]:
    """Yield the lines that a program prints until it closes its output, and look between them whether its time is over."""
    printed: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        with process.stdout or contextlib.nullcontext(()) as stream:
            for line in stream:
                printed.put(line.rstrip("\n"))
        printed.put(None)

    threading.Thread(target=read, name="output", daemon=True).start()
    end = math.inf if limit_s is None else time.monotonic() + limit_s
    while True:
        stopping.ask()
        if time.monotonic() > end:
            raise _TakesTooLongError
        with contextlib.suppress(queue.Empty):
            line = printed.get(timeout=_LOOK_S)
            if line is None:
                return
            yield line


@contextmanager
def _watched() -> Iterator[Callable[[int], None]]:
    """Give a function that is told a process group, which is killed where this process ends inside the `with` block without a word.

    A shell in a session of its own waits at a pipe that only this process holds open.  PR_SET_PDEATHSIG would not do: it reaches the
    program but not what that has started, and comes when the thread ends that started it.  Where no group was told, as none was started,
    it kills nothing.
    """
    with subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            'trap "" HUP INT TERM; read -r group && [ "$group" != done ] && { read -r word || kill -KILL "-$group"; }',
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
        env={},
    ) as watcher:
        try:
            yield lambda group: _say(watcher, str(group))
        finally:
            _say(watcher, "done")


def _say(watcher: subprocess.Popen[bytes], word: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # somebody has ended it
        cast("IO[bytes]", watcher.stdin).write(f"{word}\n".encode())


def _stop(process: subprocess.Popen[str]) -> None:
    """Ask the process group to stop, then kill what is left of it, also when a second interrupt cuts the waiting short.

    The program may end before the children it started; its number stands for the group as long as one of them lives.
    """
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
