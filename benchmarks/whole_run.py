"""The whole run, from a series on disk to its products and report: seconds and share of each stage, memory, compilation, start-up.

    python benchmarks/whole_run.py [--size 1024] [--views 61] [--thickness 120] [--binning 4] [--threads 2] [--series FILE]
                                   [--done 100] [--record]
    python benchmarks/whole_run.py --against CHECKOUT [--methods gold,patches,markerless] [--rounds 3] [--record]
    python benchmarks/whole_run.py --imod [--rounds 3] [--record]

A simulated series with gold beads is run by processes of their own, as `tiltflow run` would: first with nothing compiled, neither
kernels nor Python's own files, then with what the first has left, then a second one in the same process.  CPU seconds are those of the
process between the ends of two stages, as wall time depends on what else is running.  `--done` adds what a folder of so many tiny series
costs that are all done.

With `--against` the command, from its call to its end, is run in turn with the package of another checkout, and with `--imod` in turn
with batchruntomo and the documented commands for the products.  With `--record` the ratios of the standard case, the one without
any options of size, go into the history of the releases (`docs/figures/speed_history.json`); where one is worse than in its last entry,
this is said.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from record import Figures, add_option
from scaling import in_a_process
from speed import beside_imod, versions
from speed.history import BASE, keep_release, tell_regressions
from speed.in_process import Measured
from speed.processes import Case, put_series
from speed.start_up import show_all_done, show_start_up, yardstick
from tiltflow.version import __version__

IMOD_WALL = 51.0
"""Seconds that batchruntomo (IMOD 4.8.2) alone took for the default series on 2 cores, without any product."""

LONGER_FIRST = 8.0
"""Aim: the first run ever takes at most so many seconds more than a later one."""


def show(first: Measured, then: Measured, second: Measured) -> None:
    """Print the table of the stages."""
    print(
        f"{'stage':24}{'first, wall':>12}{'CPU':>8}{'then, wall':>12}{'CPU':>8}{'share of CPU':>14}{'second, wall':>14}{'CPU':>8}"
    )
    once, again = ({name: (wall, cpu) for name, wall, cpu in run.stages} for run in (first, second))
    for name, wall, cpu in then.stages:
        row = f"{name:24}{_pair(once.get(name))}{_pair((wall, cpu))}{cpu / then.cpu:14.1%}"
        print(f"{row}  {_pair(again[name])}" if name in again else row)
    wholes = [_pair((run.wall, run.cpu)) for run in (first, then, second)]
    print(f"{'whole run':24}{wholes[0]}{wholes[1]}{'s':>14}  {wholes[2]}")
    print(
        f"{'peak resident memory':24}{first.resident_mb:12.0f}{'':8}{then.resident_mb:12.0f}{'':8}{'MB':>14}{second.resident_mb:14.0f}"
    )
    print(
        f"compilation: {first.compiled} functions in {first.compile_seconds:.1f} CPU s at first, {then.compiled} after that, ",
        end="",
    )
    print(f"{second.compiled} for a second series of a process")
    longer = first.wall - then.wall, first.cpu - then.cpu
    print(
        f"the first run ever: {longer[0]:.1f} s and {longer[1]:.1f} CPU s more than a later one (aim: at most {LONGER_FIRST:.0f})"
    )


def _pair(seconds: tuple[float, float] | None) -> str:
    return f"{seconds[0]:12.2f}{seconds[1]:8.2f}" if seconds else f"{'-':>12}{'-':>8}"


def measure(source: Path, case: Case, done: int, root: Path, figures: Figures) -> dict[str, float]:
    """Print the stages and what is paid before any work, and return the ratio to the yardstick."""
    cache = root / "cache"
    twin = root / f"twin_{source.name}"
    twin.symlink_to(source.resolve())
    (first,), first_wall = in_a_process([source], root / "first", cache, case)
    (then,), then_wall = in_a_process([source], root / "then", cache, case)
    for run, wall in ((first, first_wall), (then, then_wall)):
        run.stages.append(("end of the process", wall - run.wall, 0.0))
    (_, second), _ = in_a_process([source, twin], root / "both", cache, case)
    print(case)
    show(first, then, second)
    show_start_up(cache, root, figures)
    show_all_done(source, case, done, cache, root, figures)
    in_yardsticks = then.cpu / yardstick(root)
    print(f"CPU time in yardsticks: {in_yardsticks:.1f}")
    print(f"verdict: {then.verdict}; batchruntomo alone, quoted: {IMOD_WALL:.0f} s; ratio {IMOD_WALL / then.wall:.1f}")
    figures.keep("batchruntomo", IMOD_WALL, "s", 0)
    for name, run in (("first", first), ("later", then), ("second", second)):
        figures.keep(name, run.wall, "s")
    return {"cpu_yardsticks": in_yardsticks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--views", type=int, default=61)
    parser.add_argument("--thickness", type=int, default=120)
    parser.add_argument("--binning", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--series", type=Path, default=None, help="a series to run instead of a simulated one")
    parser.add_argument(
        "--done", type=int, default=0, metavar="N", help="run a folder of N tiny series, and again when all are done"
    )
    parser.add_argument("--against", type=Path, default=None, metavar="CHECKOUT", help="run another version in turn")
    parser.add_argument("--methods", type=versions.known_methods, default=["gold"], help="of --against: gold,patches,markerless")
    parser.add_argument("--rounds", type=int, default=3, help="of --against and --imod")
    parser.add_argument("--imod", action="store_true", help="run batchruntomo and the documented commands in turn")
    add_option(parser)
    a = parser.parse_args()
    if a.against and not (a.against / "src" / "tiltflow").is_dir():
        parser.error(f"--against {a.against}: no checkout of tiltflow, which has src/tiltflow")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source, case = put_series(root / "series", Case(a.size, a.views, a.thickness, a.binning, a.threads), a.series)
        if not (a.against or a.imod):
            run_one(a, "whole_run", case, lambda figures: measure(source, case, a.done, root, figures))
        if a.against:
            run_one(a, "versions", case, lambda figures: against(a, source, case, root, figures))
        if a.imod:
            run_one(a, "beside_imod", case, lambda figures: beside_imod.compare(source, case, a.rounds, root / "imod", figures))


def run_one(asked: argparse.Namespace, name: str, case: Case, work: Callable[[Figures], dict[str, float]]) -> None:
    """Do one of the comparisons, say whether a ratio is worse than before, and record it if asked: the standard case in the history."""
    figures = Figures(name if case.size == Case().size else f"{name}_{case.size}", script="whole_run")
    with figures.printed():
        ratios = work(figures)
    if ratios:
        tell_regressions(ratios, str(case))
    figures.save(asked)
    if asked.record and ratios and case == Case() and asked.series is None:
        keep_release(__version__, ratios, str(case))


def against(asked: argparse.Namespace, source: Path, case: Case, root: Path, figures: Figures) -> dict[str, float]:
    """Compare with another checkout; return the ratios for the history, which knows those to version 0.1 alone."""
    other, ratios = versions.compare(asked.against.resolve(), source.parent, case, asked.methods, asked.rounds, root, figures)
    if not other.startswith(BASE):
        print(f"\nthe history keeps ratios to {BASE}, not to {other}")
    return ratios if other.startswith(BASE) else {}


if __name__ == "__main__":
    main()
