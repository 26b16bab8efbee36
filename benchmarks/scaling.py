"""How a run uses cores: the serial share of every stage, what more cores would give, and what series at once give.

    python benchmarks/scaling.py [--size 1024] [--views 61] [--threads 2] [--rounds 3] [--jobs] [--record]

One simulated series is run with one thread and with several in turn, by processes that have everything compiled.  By Amdahl a stage of
which a share s is serial takes s + (1 - s) / n of its time on n cores, from which s follows; CPU seconds beside it tell waiting from
work.  With `--jobs` eight series of 512 x 512 x 41 are run each way: one after the other on one thread, several at once on all cores,
one after the other on all cores, and by several commands with a share of the series and of the cores each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

from record import Figures, add_option
from speed.in_process import Measured
from speed.processes import Case, Cost, alternating, cost_of, median, run_command, simulated, with_caches

CORES = (4, 8, 16)
SHOWN = 0.01
"""Least share of the run that a stage of its own in the table has; shares of shorter ones are noise."""
SERIES = 8
AIM_AT_ONCE = 0.55
"""Most that two series at once on two cores may take of the time of one after the other on one thread."""


@dataclass(frozen=True)
class Stage:
    """Seconds of a stage: wall and CPU on one thread, and on several."""

    name: str
    wall_1: float
    cpu_1: float
    wall_n: float
    cpu_n: float

    def serial_share(self, threads: int) -> float:
        """Return the share that one core does alone, by Amdahl, 0 to 1.

        >>> Stage("half", 2.0, 2.0, 1.5, 2.0).serial_share(2)
        0.5
        """
        if self.wall_1 <= 0:
            return 1.0
        return min(1.0, max(0.0, (threads * self.wall_n / self.wall_1 - 1) / (threads - 1)))

    def wall_on(self, cores: int, threads: int) -> float:
        """Return the seconds on so many cores, from those measured on one and on `threads`."""
        share = self.serial_share(threads)
        return self.wall_1 * (share + (1 - share) / cores)


def in_a_process(sources: Sequence[Path], output: Path, cache: Path, case: Case) -> tuple[list[Measured], float]:
    """Return what a process of its own measured of each series, and its wall time from start to end."""
    command = [sys.executable, str(Path(__file__).parent / "speed" / "in_process.py"), "--output", str(output)]
    command += [f"--{name}={getattr(case, name)}" for name in ("thickness", "binning", "threads")]
    begin = time.monotonic()
    done = subprocess.run(
        [*command, f"--began={begin}", *map(str, sources)], env=with_caches(cache), check=True, stdout=subprocess.PIPE, text=True
    )
    return [Measured(**told) for told in json.loads(done.stdout.splitlines()[-1])], time.monotonic() - begin


def stages_of(one: Sequence[Measured], several: Sequence[Measured]) -> list[Stage]:
    """Return the medians of every stage of runs with one thread and with several."""

    def medians(runs: Sequence[Measured]) -> dict[str, tuple[float, float]]:
        times = [{name: (wall, cpu) for name, wall, cpu in run.stages} for run in runs]
        middle = statistics.median
        return {name: (middle(run[name][0] for run in times), middle(run[name][1] for run in times)) for name in times[0]}

    first, then = medians(one), medians(several)
    return [Stage(name, *first[name], *then[name]) for name in first if name in then]


def merged(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages with the short ones put together, the last in the list."""
    whole = sum(stage.wall_1 for stage in stages)
    long, short = ([stage for stage in stages if (stage.wall_1 >= SHOWN * whole) == is_long] for is_long in (True, False))
    return [*long, total("all others", short)] if short else long


def total(name: str, stages: Sequence[Stage]) -> Stage:
    """Return the sum of stages."""
    return Stage(name, *(sum(getattr(stage, figure) for stage in stages) for figure in ("wall_1", "cpu_1", "wall_n", "cpu_n")))


def show_stages(stages: Sequence[Stage], threads: int, figures: Figures) -> None:
    """Print the table of the stages, and what more cores would give."""
    rows, whole = merged(stages), total("whole run", stages)
    heads = [f"{cores} cores" for cores in CORES]
    print(f"{'':20}{'1 thread':>14}{f'{threads} threads':>16}{'cores':>9}{'serial':>9}   wall on, by Amdahl")
    print(
        f"{'stage':20}{'wall':>7}{'CPU':>7}{'wall':>9}{'CPU':>7}{'busy':>9}{'share':>9}" + "".join(f"{head:>10}" for head in heads)
    )
    on = {cores: sum(row.wall_on(cores, threads) for row in rows) for cores in CORES}
    for row in rows:
        walls = "".join(f"{row.wall_on(cores, threads):10.2f}" for cores in CORES)
        print(f"{_figures(row)}{row.serial_share(threads):9.0%}{walls}")
    serial = sum(row.serial_share(threads) * row.wall_1 for row in rows) / whole.wall_1
    print(f"{_figures(whole)}{serial:9.0%}" + "".join(f"{on[cores]:10.2f}" for cores in CORES))
    print(f"times quicker than one thread: {whole.wall_1 / whole.wall_n:.2f} on {threads}, by Amdahl " + _gains(whole, on))
    figures.keep("cores_busy", whole.cpu_n / whole.wall_n, "cores", 2)
    figures.keep("serial_share", 100 * serial, "%", 0)


def _figures(row: Stage) -> str:
    busy = row.cpu_n / row.wall_n if row.wall_n > 0 else 0.0
    return f"{row.name:20}{row.wall_1:7.2f}{row.cpu_1:7.2f}{row.wall_n:9.2f}{row.cpu_n:7.2f}{busy:9.2f}"


def _gains(whole: Stage, on: dict[int, float]) -> str:
    return ", ".join(f"{whole.wall_1 / wall:.1f} on {cores}" for cores, wall in on.items())


def measure_stages(case: Case, rounds: int, root: Path, figures: Figures) -> None:
    """Run one series with one thread and with several in turn, and print the table."""
    source, cache, found = simulated(root / "gold.st", case), root / "cache", {1: [], case.threads: []}
    for turn in range(rounds + 1):
        for threads, kept in found.items():
            runs, wall = in_a_process([source], root / f"out_{threads}_{turn}", cache, replace(case, threads=threads))
            runs[0].stages.append(("end of the process", wall - runs[0].wall, 0.0))
            kept += runs if turn else []  # all is compiled in the first turn
    print(f"{case}; medians of {rounds} in turn")
    show_stages(stages_of(found[1], found[case.threads]), case.threads, figures)


def measure_jobs(case: Case, series: int, jobs: int, rounds: int, root: Path, figures: Figures) -> None:
    """Run several series each way, and print what each cost."""
    folder, cache, cores = root / "series", root / "cache", len(os.sched_getaffinity(0))
    parts = [root / f"part_{part}" for part in range(jobs)]
    for each in (folder, *parts):
        each.mkdir()
    for index in range(series):
        source = simulated(folder / f"s{index}.st", case, seed=index + 1)
        os.link(source, parts[index % jobs] / source.name)

    def command(folders: Sequence[Path], threads: int, at_once: int) -> Cost:
        return together(folders, Path(tempfile.mkdtemp(dir=root)), replace(case, threads=threads), at_once, cache)

    ways = {
        "one after the other, 1 thread": partial(command, [folder], 1, 1),
        f"{jobs} at once, all cores": partial(command, [folder], 0, jobs),
        "one after the other, all cores": partial(command, [folder], 0, 1),
        f"{jobs} commands, a share each": partial(command, parts, max(1, cores // jobs), 1),
    }
    cost_of(run_command(folder, root / "warm", replace(case, threads=cores), "gold", "--file", "s0.st"), with_caches(cache))
    costs = {name: median(each) for name, each in alternating(ways, rounds, warm_up=False).items()}
    alone, at_once, after, apart = costs.values()
    print(f"\n{series} series of {case.size} x {case.size} x {case.views} on {cores} cores")
    print(f"{'':34}{'wall s':>9}{'CPU s':>9}{'cores busy':>12}{'MB':>7}{'of the first':>14}")
    for name, cost in costs.items():
        print(
            f"{name:34}{cost.wall:9.1f}{cost.cpu:9.1f}{cost.cores_busy:12.2f}{cost.resident_mb:7.0f}{cost.wall / alone.wall:14.2f}"
        )
    print(f"{jobs} at once take {at_once.wall / after.wall:.2f} of one after the other with all cores, ", end="")
    print(f"and {at_once.wall / apart.wall:.2f} of {jobs} commands: what they lose by sharing one interpreter")
    print(
        f"aims: {jobs} at once in at most "
        + (f"{AIM_AT_ONCE} of one thread, and " if jobs == cores == 2 else "")
        + "1.00 of all cores"
    )
    for name, ratio in (("", alone), ("_of_all_cores", after), ("_of_commands", apart)):
        figures.keep(f"at_once{name}", at_once.wall / ratio.wall, "times", 2)


def together(folders: Sequence[Path], output: Path, case: Case, at_once: int, cache: Path) -> Cost:
    """Run a command for each folder, all at the same time, and return what they cost together."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(len(folders)) as pool:
        commands = [run_command(folder, output / folder.name, case, "gold", "--jobs", str(at_once)) for folder in folders]
        costs = list(pool.map(lambda command: cost_of(command, with_caches(cache)), commands))
    wall = time.perf_counter() - begin
    return Cost(wall, *(sum(figure) for figure in list(zip(*map(astuple, costs), strict=True))[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--views", type=int, default=61)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="?", const=2, default=0, metavar="AT_ONCE", help="measure series at once, too")
    parser.add_argument("--series", type=int, default=SERIES, help="series of --jobs")
    parser.add_argument("--jobs-size", type=int, default=512)
    parser.add_argument("--jobs-views", type=int, default=41)
    parser.add_argument("--jobs-only", action="store_true", help="leave the stages out")
    add_option(parser)
    a = parser.parse_args()
    if a.threads < 2:
        parser.error("--threads: a serial share needs at least 2 threads beside one")
    figures = Figures("scaling")
    with figures.printed(), tempfile.TemporaryDirectory() as folder:
        if not a.jobs_only:
            measure_stages(Case(a.size, a.views, threads=a.threads), a.rounds, Path(folder), figures)
        if a.jobs:
            case = Case(a.jobs_size, a.jobs_views, threads=a.threads)
            measure_jobs(case, a.series, a.jobs, a.rounds, Path(folder), figures)
    figures.save(a)


if __name__ == "__main__":
    main()
