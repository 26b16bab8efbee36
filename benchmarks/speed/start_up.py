"""What is paid before any work: the help, the import, and a folder whose series are all done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from record import Figures
from speed.processes import Case, Cost, alternating, cost_of, run_command, simulated, with_caches

TURNS = 7
"""How often each of the short commands is run; the quickest counts, as all else that the machine does only adds."""

TINY = Case(96, 11, thickness=24, binning=1)
"""The series of which there are many: one takes seconds, and what a folder of them costs when all are done is the same."""


def empty_application(folder: Path, commands: int) -> Path:
    """Write a package that is a Typer application with commands that do nothing, started as ours is; return its folder."""
    package = folder / "empty_application"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("from empty_application.commands import app\n\napp()\n")
    body = [f'@app.command()\ndef command_{n}() -> None:\n    """Do nothing."""\n' for n in range(commands)]
    (package / "commands.py").write_text("\n\n".join(["import typer\n\napp = typer.Typer(add_completion=False)", *body]))
    return folder


def quickest(costs: Sequence[Cost]) -> Cost:
    """Return the one that took the least wall time."""
    return min(costs, key=lambda cost: cost.wall)


def show_start_up(cache: Path, root: Path, figures: Figures) -> None:
    """Print what the help and the import cost, beside an empty application and the bare interpreter."""
    from typer.main import get_command

    from tiltflow.cli import app

    commands = len(getattr(get_command(app), "commands", {}))
    ours = with_caches(cache)
    empty = ours | {"PYTHONPATH": str(empty_application(root / "empty", commands))}
    python = [sys.executable]
    runs = {
        "help": partial(cost_of, [*python, "-m", "tiltflow", "--help"], ours),
        "empty": partial(cost_of, [*python, "-m", "empty_application", "--help"], empty),
        "import": partial(cost_of, [*python, "-c", "import tiltflow"], ours),
        "bare": partial(cost_of, [*python, "-c", "pass"], ours),
    }
    cost = {name: quickest(found) for name, found in alternating(runs, TURNS).items()}
    ratio, imported = cost["help"].wall / cost["empty"].wall, cost["import"].wall - cost["bare"].wall
    print(f"`tiltflow --help`: {cost['help'].wall:.3f} s; an empty Typer application with {commands} commands: ", end="")
    print(f"{cost['empty'].wall:.3f} s; ratio {ratio:.2f}")
    print(f"`import tiltflow`: {imported:.3f} s beside the {cost['bare'].wall:.3f} s of the bare interpreter")
    figures.keep("help_of_empty", ratio, "times", 2)
    figures.keep("import", imported, "s", 2)


def all_done(folder: Path, output: Path, case: Case, cache: Path, method: str = "gold") -> Cost:
    """Return what `tiltflow run` costs where it has nothing left to do; the first run of a folder makes what is asked."""
    command = run_command(folder, output, case, method)
    cost_of(command, with_caches(cache))
    return quickest([cost_of(command, with_caches(cache)) for _ in range(3)])


def show_all_done(source: Path, case: Case, many: int, cache: Path, root: Path, figures: Figures) -> None:
    """Print what a folder costs whose series are done: one series, and `many` tiny ones."""
    folder = root / "one"
    folder.mkdir()
    (folder / source.name).symlink_to(source.resolve())
    _show_done("one series", all_done(folder, root / "one_done", case, cache), "all_done", figures)
    if many:
        folder = root / "many"
        folder.mkdir()
        content = simulated(root / "tiny.st", TINY, beads=0).read_bytes()
        for index in range(many):
            (folder / f"s{index:04d}.st").write_bytes(content)
        done = all_done(folder, root / "many_done", TINY, cache, "markerless")
        _show_done(f"{many} series", done, "all_done_many", figures)
        figures.keep("done_series", many, "series", 0)


def _show_done(what: str, cost: Cost, name: str, figures: Figures) -> None:
    print(f"all done already, {what}: {cost.wall:.2f} s, {cost.cpu:.2f} CPU s, {cost.resident_mb:.0f} MB")
    figures.keep(name, cost.wall, "s", 2)


def yardstick(root: Path) -> float:
    """Return the CPU seconds of a fixed piece of work of the kinds that a run consists of: transforms, passes over memory, Python.

    What a run takes in this measure can be compared between machines, to perhaps a tenth.
    """
    script = root / "yardstick.py"
    script.write_text(_YARDSTICK)
    return min(cost_of([sys.executable, str(script)], with_caches(root / "cache")).cpu for _ in range(5))


_YARDSTICK = """
import time

import numpy as np
from scipy import fft

views = np.random.default_rng(1).standard_normal((16, 1024, 1024)).astype(np.float32)
for view in views:
    fft.irfft2(fft.rfft2(view, workers=1), workers=1)
for _ in range(4):
    views *= 1.01
    views.mean(axis=0)
found = {}
for number in range(1_500_000):
    found[number % 1000] = found.get(number % 1000, 0) + number
"""
