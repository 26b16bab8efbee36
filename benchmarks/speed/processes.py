"""What a process costs from its start to its end: wall time, CPU time with that of its children, memory, and bytes read and written."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

HERE = Path(__file__).parents[2]
"""The checkout that this script belongs to."""

METHODS: dict[str, tuple[str, ...]] = {"gold": (), "patches": ("--tracking-method", "1"), "markerless": ("--fiducialless",)}
"""How series are aligned, and the options of `tiltflow run` for it."""


@dataclass(frozen=True, slots=True)
class Case:
    """The series that is run, and how: sizes in pixels; with 0 threads tiltflow takes all cores."""

    size: int = 1024
    views: int = 61
    thickness: int = 120
    binning: int = 4
    threads: int = 2

    def __str__(self) -> str:
        return (
            f"{self.size} x {self.size} x {self.views}, thickness {self.thickness}, aligned binning {self.binning}, "
            f"{self.threads} {'thread' if self.threads == 1 else 'threads'}"
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took: seconds, and megabytes (its largest resident set; what it read and wrote by calls of the system)."""

    wall: float
    user: float
    system: float
    resident_mb: float
    read_mb: float = 0.0
    written_mb: float = 0.0

    @property
    def cpu(self) -> float:
        """CPU seconds, of the process and of the system for it."""
        return self.user + self.system

    @property
    def cores_busy(self) -> float:
        """CPU seconds for each second of wall time."""
        return self.cpu / self.wall


def cost_of(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path | None = None) -> Cost:
    """Run a command to its end and return what it cost; one that fails ends the benchmark with its last words."""
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command], env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        wall = time.perf_counter() - begin
        read, written = _bytes_moved(process.pid)  # as long as nobody has asked for its status
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{said.read()[-3000:].decode()}")
    return Cost(wall, used.ru_utime, used.ru_stime, used.ru_maxrss / 1024, read / 1e6, written / 1e6)


def _bytes_moved(pid: int) -> tuple[int, int]:
    """Return the bytes that a process has read and written; zeros where the system does not tell."""
    with contextlib.suppress(OSError):
        told = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return int(told["rchar"]), int(told["wchar"])
    return 0, 0


def median(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure by itself."""
    return Cost(*(statistics.median(each) for each in zip(*map(astuple, costs), strict=True)))


def alternating(runs: Mapping[str, Callable[[], Cost]], rounds: int, *, warm_up: bool = True) -> dict[str, list[Cost]]:
    """Return the costs of runs that take turns, so that what else the machine does falls on all of them; a first turn is not counted."""
    if warm_up:
        for run in runs.values():
            run()
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            costs[name].append(run())
    return costs


def with_caches(cache: Path, checkout: Path | None = None) -> dict[str, str]:
    """Return the environment of a process that keeps what it compiles in a folder, with the package of a checkout if one is given."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"NUMBA_CACHE_DIR": str(cache / "numba"), "PYTHONPYCACHEPREFIX": str(cache / "python")}
    if checkout is not None:
        environment["PYTHONPATH"] = str(checkout / "src")
    return environment | {"OPENBLAS_NUM_THREADS": "1", "XDG_STATE_HOME": str(cache / "state")}


def run_command(folder: Path, output: Path, case: Case, method: str = "gold", *more: str) -> list[str]:
    """Return the command that does all series of a folder, as a user would give it."""
    command = [sys.executable, "-m", "tiltflow", "run", str(folder), "-o", str(output), "--engine", "native"]
    command += ["--gold", "10", "--thickness", str(case.thickness)]
    threads = ["--threads", str(case.threads)] if case.threads else []
    return [*command, *threads, "--set", f"runtime.AlignedStack.any.binByFactor={case.binning}", *METHODS[method], *more]


def put_series(folder: Path, case: Case, given: Path | None = None) -> tuple[Path, Case]:
    """Make a folder with one series, simulated unless a file is given; return it, and the case with the sizes that it has."""
    from tiltflow.formats.mrc import open_mrc

    folder.mkdir()
    if given is None:
        return simulated(folder / "gold.st", case), case
    source = folder / given.name
    source.symlink_to(given.resolve())
    with open_mrc(source) as file:
        views, _, size = file.shape
    return source, replace(case, size=size, views=views)


def simulated(path: Path, case: Case, seed: int = 1, beads: int | None = None) -> Path:
    """Write a simulated series."""
    from tiltflow.demo import write_series
    from tiltflow.simulate.parameters import SimulationParams
    from tiltflow.simulate.simulated_series import simulate

    few = {} if beads is None else {"beads": beads}
    params = SimulationParams(size=case.size, views=case.views, seed=seed, **few)
    write_series(path, simulate(params, threads=max(case.threads, 1)))
    return path
