"""Two versions side by side: the same command with the package of each checkout, in turn."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from record import Figures
from speed.processes import HERE, METHODS, Case, Cost, alternating, cost_of, median, run_command, with_caches

MOST_OF_GOLD = 1.5
"""Aim: patches and markerless take at most this of gold's time."""


@dataclass
class Side:
    """One of the two versions: its checkout, its caches, and the stages of its runs by method."""

    checkout: Path
    root: Path
    stages: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The version that the checkout says it is."""
        command = [sys.executable, "-c", "import tiltflow; print(tiltflow.__version__)"]
        told = subprocess.run(command, env=with_caches(self.root, self.checkout), check=True, stdout=subprocess.PIPE, text=True)
        return told.stdout.strip()

    def run(self, folder: Path, case: Case, method: str) -> Cost:
        """Run every series of a folder anew, and keep the seconds of the stages."""
        output = self.root / "results"
        shutil.rmtree(output, ignore_errors=True)
        cost = cost_of(run_command(folder, output, case, method), with_caches(self.root, self.checkout))
        self.stages.setdefault(method, []).append(stages_of(next(output.glob("*/run.json"))))
        return cost

    def medians(self, method: str) -> dict[str, float]:
        """Return the seconds of each stage, the median of all runs but the first."""
        runs = self.stages[method][1:]
        return {name: statistics.median(run[name] for run in runs if name in run) for name in runs[-1]}


def stages_of(record: Path) -> dict[str, float]:
    """Return the seconds of each stage from the record of a series."""
    return {stage["name"]: float(stage["seconds"]) for stage in json.loads(record.read_text(encoding="utf-8"))["stages"]}


def compare(
    other: Path, folder: Path, case: Case, methods: Sequence[str], rounds: int, root: Path, figures: Figures
) -> tuple[str, dict[str, float]]:
    """Print what the two versions take; return the name of the other and the ratios of this one to it."""
    sides = {"other": Side(other, root / "other"), "this": Side(HERE, root / "this")}
    runs = {(name, method): partial(side.run, folder, case, method) for method in methods for name, side in sides.items()}
    costs = {key: median(found) for key, found in alternating(runs, rounds).items()}
    versions = sides["other"].version, sides["this"].version
    print(
        f"{case}; medians of {rounds} in turn after one each that fills the caches; `other` is {versions[0]}, `this` {versions[1]}\n"
    )
    print(f"{'':22}{'wall s':>9}{'CPU s':>9}{'user':>8}{'system':>8}{'busy':>7}{'MB':>7}{'read MB':>9}{'written':>9}")
    ratios: dict[str, float] = {}
    for method in methods:
        before, after = costs["other", method], costs["this", method]
        for name, cost in (("other", before), ("this", after)):
            print(f"{method + ', ' + name:22}{_row(cost)}")
        ratios |= {f"{method}_wall": after.wall / before.wall, f"{method}_cpu": after.cpu / before.cpu}
        print(f"{'  this of other':22}{after.wall / before.wall:9.3f}{after.cpu / before.cpu:9.3f}")
    if "gold" in methods:
        _show_of_gold(costs, methods, figures)
    for method in methods:
        _show_stages(method, *sides.values(), costs)
    for name, ratio in ratios.items():
        figures.keep(name, ratio, "times", 3)
    figures.keep("cores_busy", costs["this", methods[0]].cores_busy, "cores", 2)
    return versions[0], ratios


def _row(cost: Cost) -> str:
    return (
        f"{cost.wall:9.2f}{cost.cpu:9.2f}{cost.user:8.2f}{cost.system:8.2f}{cost.cores_busy:7.2f}{cost.resident_mb:7.0f}"
        f"{cost.read_mb:9.0f}{cost.written_mb:9.0f}"
    )


def _show_of_gold(costs: dict[tuple[str, str], Cost], methods: Sequence[str], figures: Figures) -> None:
    gold = costs["this", "gold"]
    for method in (name for name in methods if name != "gold"):
        cost = costs["this", method]
        print(f"{method} of gold: {cost.wall / gold.wall:.2f} of its wall time, {cost.cpu / gold.cpu:.2f} of its CPU time", end="")
        print(f" (aim: at most {MOST_OF_GOLD})")
        figures.keep(f"{method}_of_gold", cost.wall / gold.wall, "times", 2)


def _show_stages(method: str, other: Side, this: Side, costs: dict[tuple[str, str], Cost]) -> None:
    """Print wall seconds of each stage as both versions recorded them, and what lies outside of all."""
    before, after = other.medians(method), this.medians(method)
    names = list(dict.fromkeys([*after, *before]))
    rows = [(name, before.get(name), after.get(name)) for name in names]
    rest = [costs[name, method].wall - sum(stages.values()) for name, stages in (("other", before), ("this", after))]
    print(f"\n{method + ', wall s of stages':32}{'other':>9}{'this':>9}{'share of this':>15}")
    for name, old, new in [*rows, ("start, report, end", *rest)]:
        share = f"{new / costs['this', method].wall:15.1%}" if new is not None else ""
        print(f"{name:32}{_seconds(old)}{_seconds(new)}{share}")


def _seconds(value: float | None) -> str:
    return f"{value:9.2f}" if value is not None else f"{'-':>9}"


def known_methods(text: str) -> list[str]:
    """Return the methods that a list with commas names.

    Raises
    ------
    ArgumentTypeError
        If one is unknown.
    """
    methods = text.split(",")
    if unknown := [name for name in methods if name not in METHODS]:
        raise argparse.ArgumentTypeError(f"no such method: {', '.join(unknown)}; there are {', '.join(METHODS)}")
    return methods
