"""The whole run, from a series on disk to its products and report: seconds and share of each stage, memory, compilation.

    python benchmarks/whole_run.py [--size 1024] [--views 61] [--thickness 120] [--binning 4] [--threads 2] [--series FILE] [--record]

A simulated series with gold beads is run twice, each time by a process of its own as `tiltflow run` would: first with nothing compiled,
neither kernels nor Python's own files, then with what the first has left.  CPU seconds are those of the process between the ends of two
stages, as wall time depends on what else is running.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numba.core import event

from record import Figures, add_option

IMOD_WALL = 51.0
"""Seconds that batchruntomo (IMOD 4.8.2) alone took for the default series on 2 cores, without any product."""


@dataclass
class Measured:
    """What one process took; `stages` are names, wall seconds and CPU seconds."""

    stages: list[tuple[str, float, float]] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    resident_mb: float = 0.0
    compiled: int = 0
    compile_seconds: float = 0.0
    verdict: str = ""


class _CompileClock(event.Listener):
    """Counts the functions that numba compiles, and the CPU seconds of the threads that do, callers and callees once."""

    def __init__(self) -> None:
        self.compiled, self.seconds = 0, 0.0
        self._depth, self._since = 0, 0.0

    def on_start(self, _event: Any) -> None:
        """Hear of a beginning; numba's lock lets one thread compile at a time."""
        self._since = time.thread_time() if self._depth == 0 else self._since
        self.compiled, self._depth = self.compiled + 1, self._depth + 1

    def on_end(self, _event: Any) -> None:
        """Hear of an end."""
        self._depth -= 1
        self.seconds += time.thread_time() - self._since if self._depth == 0 else 0.0


class _StageClock(logging.Handler):
    """Takes the time whenever a stage says that it is done."""

    def __init__(self, stages: list[tuple[str, float, float]]) -> None:
        super().__init__(logging.INFO)
        self._stages = stages
        self._last = time.perf_counter(), 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if " done in " in str(record.msg) and isinstance(record.args, tuple):
            self.lap(str(record.args[1]))

    def lap(self, name: str) -> None:
        now = time.perf_counter(), time.process_time()
        self._stages.append((name, now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now


def run_here(source: Path, output: Path, thickness: int, binning: int, threads: int) -> Measured:
    """Do what `tiltflow run` does, and return what it took."""
    measured = Measured()
    clock = _StageClock(measured.stages)
    from tiltflow.pipeline import run
    from tiltflow.recipe import BrtParameters, make_recipe
    from tiltflow.work import Site

    compiling = _CompileClock()
    event.register("numba:compile", compiling)
    logging.getLogger("tiltflow").setLevel(logging.INFO)
    logging.getLogger("tiltflow").addHandler(clock)
    recipe = make_recipe(
        BrtParameters(gold=10, thickness=thickness),
        overrides=[f"runtime.AlignedStack.any.binByFactor={binning}"],
        engine="native",
    )
    clock.lap("start and imports")
    result = run([source], recipe, Site(threads=threads), output).results[0]
    clock.lap("report")
    if not result.ok:
        raise SystemExit(result.message)
    measured.cpu = time.process_time()
    measured.resident_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured.compiled, measured.compile_seconds = compiling.compiled, compiling.seconds
    measured.verdict = result.verdict.level if result.verdict else ""
    return measured


def in_a_process(arguments: argparse.Namespace, source: Path, output: Path, cache: Path) -> Measured:
    """Return what a process of its own measured."""
    command = [sys.executable, __file__, "--child", str(source), str(output)]
    command += [f"--{name}={getattr(arguments, name)}" for name in ("thickness", "binning", "threads")]
    begin = time.perf_counter()
    done = subprocess.run(command, env=with_caches(cache), check=True, stdout=subprocess.PIPE, text=True)
    wall = time.perf_counter() - begin
    measured = Measured(**json.loads(done.stdout.splitlines()[-1]), wall=wall)
    name, _, cpu = measured.stages[0]
    measured.stages[0] = name, wall - sum(stage[1] for stage in measured.stages[1:]), cpu
    return measured


def start_up(cache: Path) -> tuple[float, float]:
    """Return the wall and the CPU seconds of `tiltflow --help`, the quickest of three."""
    measured = []
    for _ in range(3):
        before, begin = os.times(), time.perf_counter()
        command = [sys.executable, "-m", "tiltflow", "--help"]
        subprocess.run(command, env=with_caches(cache), check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        measured.append((time.perf_counter() - begin, cpu))
    return min(measured)


def with_caches(cache: Path) -> dict[str, str]:
    """Return the environment of a process that keeps what it compiles in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    caches = {"NUMBA_CACHE_DIR": str(cache / "numba"), "PYTHONPYCACHEPREFIX": str(cache / "python")}
    return {**environment, **caches, "OPENBLAS_NUM_THREADS": "1"}


def show(first: Measured, second: Measured, help_seconds: tuple[float, float]) -> None:
    """Print the table."""
    print(f"{'stage':24}{'first, wall':>12}{'CPU':>8}{'then, wall':>12}{'CPU':>8}{'share of CPU':>14}")
    once = {name: (wall, cpu) for name, wall, cpu in first.stages}
    for name, wall, cpu in second.stages:
        print(f"{name:24}{once[name][0]:12.2f}{once[name][1]:8.2f}{wall:12.2f}{cpu:8.2f}{cpu / second.cpu:14.1%}")
    print(f"{'whole run':24}{first.wall:12.2f}{first.cpu:8.2f}{second.wall:12.2f}{second.cpu:8.2f}{'s':>14}")
    print(f"{'peak resident memory':24}{first.resident_mb:12.0f}{'':8}{second.resident_mb:12.0f}{'':8}{'MB':>14}")
    print(f"compilation: {first.compiled} functions in {first.compile_seconds:.1f} CPU s at first, {second.compiled} after that")
    print(f"start-up: `tiltflow --help` takes {help_seconds[0]:.2f} s, {help_seconds[1]:.2f} CPU s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--views", type=int, default=61)
    parser.add_argument("--thickness", type=int, default=120)
    parser.add_argument("--binning", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--series", type=Path, default=None, help="a series to run instead of a simulated one")
    add_option(parser)
    parser.add_argument("--child", nargs=2, type=Path, default=None, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        measured = asdict(run_here(*a.child, a.thickness, a.binning, a.threads))
        print(json.dumps({name: value for name, value in measured.items() if name != "wall"}))
        return
    figures = Figures("whole_run")
    figures.keep("batchruntomo", IMOD_WALL, "s", 0)
    with figures.printed(), tempfile.TemporaryDirectory() as folder:
        source = a.series or simulated(Path(folder) / "gold.st", a.size, a.views, a.threads)
        print(f"{source.name}, thickness {a.thickness}, aligned binning {a.binning}, {a.threads} threads")
        cache = Path(folder) / "cache"
        runs = [in_a_process(a, source, Path(folder) / output, cache) for output in ("first", "second")]
        show(*runs, start_up(cache))
        print(f"verdict: {runs[1].verdict}; batchruntomo alone, quoted: {IMOD_WALL:.0f} s; ratio {IMOD_WALL / runs[1].wall:.1f}")
        figures.keep("first", runs[0].wall, "s")
        figures.keep("later", runs[1].wall, "s")
    figures.save(a)


def simulated(path: Path, size: int, views: int, threads: int) -> Path:
    """Write a simulated series."""
    from tiltflow.demo import write_series
    from tiltflow.simulate.parameters import SimulationParams
    from tiltflow.simulate.simulated_series import simulate

    write_series(path, simulate(SimulationParams(size=size, views=views), threads=threads))
    return path


if __name__ == "__main__":
    main()
