"""What Slurm says of a run's jobs: whether they can run at all, what they wait for, and why one ended.

Every question is a load on the controller that all users share, so that the jobs of a run are asked about together, and at most every
30 s whoever wants to know.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltflow import command, stopping
from tiltflow.errors import CommandError, SettingsError
from tiltflow.settings import SlurmSettings

ASK_EVERY_S = 30.0
_LOOK_S = 0.5
JOB_NAME = "tiltflow"
_LIMIT_S = 60.0
"""A controller that is busy answers within seconds; one that is away for longer is asked again later."""

NEVER = frozenset(
    {
        "AccountNotAllowed",
        "BadConstraints",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionConfig",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSNotAllowed",
    }
)
"""Slurm's reasons of jobs that wait for what does not come: no node or no right would do (`squeue`'s manual, "JOB REASON CODES")."""
_NEVER_OF_A_JOB = re.compile(r"(Assoc|QOS)(Max|Grp)\w*PerJob\w*")
_SEE = "see its log in slurm.shared_folder"
_WHY = {
    "TIMEOUT": "its time was over: raise slurm.walltime",
    "OUT_OF_MEMORY": "it was out of memory: raise slurm.memory",
    "NODE_FAIL": "its node failed",
    "PREEMPTED": "a job of higher priority took its place",
    "CANCELLED": "it was cancelled",
    "DEADLINE": "its deadline was over",
    "BOOT_FAIL": "its node did not start",
    "FAILED": "its worker ended with an error, for lack of memory for instance; see its log in slurm.shared_folder",
}
"""Slurm's states of jobs that ended before their work (`squeue`'s manual, "JOB STATE CODES"), in words."""
_GOING_ON = frozenset({"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "STAGE_OUT", "STOPPED"})


@dataclass(frozen=True, slots=True)
class JobState:
    """What Slurm says of a job, in its own words."""

    state: str
    nodes: str
    reason: str

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.state in ("PENDING", "CONFIGURING", "REQUEUED")

    @property
    def ended(self) -> bool:
        """Whether it has ended, however."""
        return self.state not in _GOING_ON

    @property
    def can_never_run(self) -> bool:
        """Whether it asks for what no node has, or its owner may not have."""
        return self.reason in NEVER or _NEVER_OF_A_JOB.fullmatch(self.reason) is not None

    @property
    def told(self) -> bool:
        """Whether Slurm gives a reason."""
        return self.reason not in ("", "None")

    def __str__(self) -> str:
        if self.waits:
            return f"waits ({self.reason if self.told else 'until Slurm has looked at it'})"
        return f"{self.state.lower().replace('_', ' ')}{f' on {self.nodes}' if self.nodes else ''}"


class SlurmJobs:
    """The jobs of one run, by the names of their Dask workers.

    Attributes
    ----------
    refused
        Why Slurm refused a job, in its words; empty where it did not.

    Parameters
    ----------
    report
        Called with a line on all jobs whenever it changes.
    """

    def __init__(self, report: Callable[[str], object], *, ask_every_s: float = ASK_EVERY_S) -> None:
        self.refused = ""
        self._report = report
        self._ask_every_s = ask_every_s
        self._jobs: list[tuple[str, str]] = []
        self._states: Mapping[str, JobState] = {}
        self._asked = -ask_every_s
        self._told = ""
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect sends the runner along with every task; a worker asks Slurm nothing.
        return SlurmJobs, (str,)

    @property
    def ids(self) -> tuple[str, ...]:
        """The numbers of all jobs, in the order of their submission."""
        return tuple(job for _, job in self._jobs)

    def submitted(self, worker: str, job: str) -> None:
        """Note that a worker was submitted as a job."""
        self._jobs.append((worker, job))

    def states(self) -> Mapping[str, JobState]:
        """Return the state of each job as it was at most 30 s ago; without those that Slurm has forgotten."""
        with self._lock:
            if self._jobs and time.monotonic() - self._asked >= self._ask_every_s:
                self._asked = time.monotonic()
                answer = _ask()
                if answer is not None:
                    # Of a job that has ended Slurm forgets after some minutes what happened.
                    self._states = {**self._states, **{job: state for job, state in answer.items() if job in self.ids}}
                    self._tell()
            return self._states

    def place_of(self, worker: str) -> str:
        """Return the job of a worker, in words; after its end another of the same name may have taken its place, which has not ended."""
        jobs = [job for name, job in self._jobs if name == worker]
        ended = [job for job in jobs if job in self._states and self._states[job].ended]
        return f"Slurm job {[*jobs[-1:], *ended][-1]}" if jobs else "its worker"

    def explained(self, message: str) -> str:
        """Return the message of a series that was lost with what Slurm says of its job; waits for two of its answers at most."""
        found = re.search(r"Slurm job (\d+)", message)
        if found is None:
            return message
        job, end = found[1], time.monotonic() + 2 * self._ask_every_s + _LOOK_S
        while not ((state := self.states().get(job)) and state.ended) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        if state is None or not state.ended:
            return f"{message} Slurm knows of no end of the job: most likely it was short of memory (slurm.memory); {_SEE}."
        reason = f", {state.reason}" if state.told else ""
        return f"{message} Slurm says of it: {state.state}{reason}: {_WHY.get(state.state, _SEE)}."

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ask Slurm now and then inside a `with` block, so that the page of the run says what it waits for."""
        over = threading.Event()

        def watch() -> None:
            with contextlib.suppress(stopping.Interrupted):
                while not over.wait(_LOOK_S):
                    self.states()

        context = copy_context()  # Prefect's, for the log and the page of this flow run
        thread = threading.Thread(target=context.run, args=(watch,), name="slurm", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(_LIMIT_S)

    def _tell(self) -> None:
        known = [f"job {job} {self._states[job]}" for job in self.ids if job in self._states and not self._states[job].ended]
        self.note("; ".join(known) or "no job")

    def note(self, line: str) -> None:
        """Report a line, if it is not the last one."""
        if line != self._told:
            self._told = line
            self._report(line)


def require_possible(slurm: SlurmSettings, cores: int, memory_bytes: int) -> None:
    """Refuse a job that no node of the partition could ever run, whatever state the nodes are in now.

    Raises
    ------
    SettingsError
        With what is asked for, and what the largest node has.
    """
    nodes = _nodes(slurm.partition)
    if not nodes:
        where = f"the partition {slurm.partition!r}" if slurm.partition else "Slurm's default partition"
        raise SettingsError(f"Slurm refuses the job: {where} has no nodes or is unknown. Check the setting slurm.partition.")
    most_cores, most_memory = max(node[0] for node in nodes), max(node[1] for node in nodes)
    if all(node[0] < cores or node[1] < memory_bytes for node in nodes):
        raise SettingsError(
            f"Slurm refuses the job: no node has the {cores} cores and {memory_bytes / 2**30:.1f} GiB of memory that a job asks for; "
            f"the largest have {most_cores} cores and {most_memory / 2**30:.1f} GiB. Lower slurm.cores or slurm.memory."
        )


def refusal(error: BaseException) -> str:
    """Return what sbatch said when it refused a job."""
    lines = [line.split("sbatch: error:", 1)[1].strip() for line in str(error).splitlines() if "sbatch: error:" in line]
    return " ".join(lines) or str(error)


def passes(error: BaseException) -> bool:
    """Return whether sbatch refuses a job only for the time being: its partition is closed, or the controller is down."""
    return any(words in str(error) for words in ("Required partition not available", "Unable to contact slurm controller"))


def _nodes(partition: str | None) -> list[tuple[int, int]]:
    """Return cores and bytes of memory of each kind of node, also of those that are drained or down."""
    # CPUs and memory, with + where they differ between nodes; `*` marks the default partition.
    asked = ["--noheader", "--exact", "--format=%P|%c|%m", *([f"--partition={partition}"] if partition else [])]
    try:
        lines = command.run("sinfo", asked, cwd=Path.cwd(), limit_s=_LIMIT_S).last_lines
    except CommandError as error:
        raise SettingsError(f"Slurm does not answer: {' '.join(error.last_lines) or error}") from error
    rows = [line.split("|") for line in lines if line.count("|") == 2]
    rows = rows if partition else [row for row in rows if row[0].endswith("*")] or rows
    return [(int(cores.rstrip("+")), int(memory.rstrip("+")) << 20) for _, cores, memory in rows]


def _ask() -> dict[str, JobState] | None:
    """Return what Slurm says of all jobs of this user that bear our name; None where it does not answer."""
    asked = ["--me", f"--name={JOB_NAME}", "--states=all", "--noheader", "--format=%i|%T|%N|%r"]
    lines: list[str] = []
    with contextlib.suppress(CommandError):
        command.run("squeue", asked, cwd=Path.cwd(), on_line=lines.append, limit_s=_LIMIT_S)
        rows = [line.split("|", 3) for line in lines if line.count("|") >= 3]
        return {job: JobState(state, nodes, reason) for job, state, nodes, reason in rows}
    return None
