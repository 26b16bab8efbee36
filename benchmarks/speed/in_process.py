"""Runs series one after the other in one process, and prints as JSON what each took: stages, seconds, memory, compilation.

    python benchmarks/speed/in_process.py --began SECONDS --output FOLDER [--thickness 120] [--binning 4] [--threads 2] SERIES...

`whole_run.py` and `scaling.py` start it; `--began` is the monotonic clock when they did.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Measured:
    """What one series took; `stages` are names, wall seconds and CPU seconds."""

    stages: list[tuple[str, float, float]] = field(default_factory=list)
    resident_mb: float = 0.0
    compiled: int = 0
    compile_seconds: float = 0.0
    verdict: str = ""

    @property
    def wall(self) -> float:
        """Seconds of all stages."""
        return sum(stage[1] for stage in self.stages)

    @property
    def cpu(self) -> float:
        """CPU seconds of all stages."""
        return sum(stage[2] for stage in self.stages)


class _CompileClock:
    """Counts the functions that numba compiles, and the CPU seconds of the threads that do, callers and callees once.

    It is a `numba.core.event.Listener`, registered as one when numba is loaded.
    """

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

    def notify(self, event: Any) -> None:
        """Hear of either."""
        (self.on_start if event.is_start else self.on_end)(event)


class _StageClock(logging.Handler):
    """Takes the time whenever a stage says that it is done."""

    def __init__(self, began: float) -> None:
        super().__init__(logging.INFO)
        self.stages: list[tuple[str, float, float]] = []
        self._last = began, 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if " done in " in str(record.msg) and isinstance(record.args, tuple):
            self.lap(str(record.args[1]))

    def lap(self, name: str) -> None:
        now = time.monotonic(), time.process_time()
        self.stages.append((name, now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now


def run_here(sources: list[Path], output: Path, began: float, thickness: int, binning: int, threads: int) -> list[Measured]:
    """Do what `tiltflow run` does with each series, and return what it took."""
    clock, compiling = _StageClock(began), _CompileClock()
    from tiltflow.pipeline import run
    from tiltflow.recipe import BrtParameters, make_recipe
    from tiltflow.work import Site

    logging.getLogger("tiltflow").setLevel(logging.INFO)
    logging.getLogger("tiltflow").addHandler(clock)
    recipe = make_recipe(
        BrtParameters(gold=10, thickness=thickness),
        overrides=[f"runtime.AlignedStack.any.binByFactor={binning}"],
        engine="native",
    )
    from numba.core import event  # the work would load it later

    event.Listener.register(_CompileClock)
    event.register("numba:compile", compiling)
    clock.lap("start and imports")
    found = []
    for source in sources:
        before = compiling.compiled, compiling.seconds
        result = run([source], recipe, Site(threads=threads), output).results[0]
        clock.lap("report")
        if not result.ok:
            raise SystemExit(result.message)
        verdict = result.verdict.level if result.verdict else ""
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        compiled = compiling.compiled - before[0], compiling.seconds - before[1]
        found.append(Measured(clock.stages, resident, *compiled, verdict))
        clock.stages = []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--began", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--thickness", type=int, default=120)
    parser.add_argument("--binning", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("series", type=Path, nargs="+")
    a = parser.parse_args()
    from tiltflow.beside import this_process_is_ours

    this_process_is_ours()  # as it is in the command itself
    print(
        json.dumps([asdict(each) for each in run_here(a.series, a.output, a.began, a.thickness, a.binning, a.threads)]), flush=True
    )
    os._exit(0)  # without taking every object apart, as the command ends


if __name__ == "__main__":
    main()
