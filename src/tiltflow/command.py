"""Running a program: the one place in tiltflow that starts a process."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiltflow.errors import CommandError

_log = logging.getLogger(__name__)

SECRETS = frozenset({"TILTFLOW_TOKEN"})
"""Variables that no program we start gets to see."""
_GRACE_S = 5.0
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


def run(program: str | Path, args: Sequence[str], *, cwd: Path, on_line: Callable[[str], None] | None = None) -> CommandResult:
    """Run a program to its end, passing on each line as it is printed (standard output and error together).

    The program gets a process group of its own; an interrupt here asks the whole group to stop, then kills it.

    Raises
    ------
    CommandError
        If the program is missing or ends with a status other than 0.
    """
    path = shutil.which(program)
    command = (str(program), *args)
    if path is None:
        raise CommandError(f"{program} is not on the PATH: install it, or put its folder on the PATH", command, 127)
    _log.info("running %s in %s", shlex.join(command), cwd)
    begin = time.perf_counter()
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
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
    if process.stdout is None:  # it is a pipe: see above
        raise CommandError(f"{program} was started without a pipe", command, 126)
    try:
        with process.stdout as stream:
            for line in stream:
                lines.append(line.rstrip("\n"))
                if on_line:
                    on_line(lines[-1])
        status = process.wait()
    except BaseException:
        _stop(process)
        raise
    if status:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        tail = "\n".join(list(lines)[-10:])
        raise CommandError(f"{shlex.join(command)} {how}; its last lines:\n{tail}", command, status, tuple(lines))
    return CommandResult(command, time.perf_counter() - begin, tuple(lines))


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
