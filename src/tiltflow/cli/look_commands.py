"""Commands that look at series, directives and results, and process nothing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

import typer

from tiltflow.cli.application import NONE_SUCCEEDED, SOME_FAILED, folder_of, usage_errors
from tiltflow.cli.command_list import commands
from tiltflow.cli.options import Engine, Overrides, takes_options
from tiltflow.errors import TiltflowError
from tiltflow.recipe.engine_rules import AUTO
from tiltflow.recipe.parameters import BrtParameters


@commands.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Tilt series to look at.")],
) -> None:
    """Show the tilt angles, pixel size and tilt axis of a series, and where each was read."""
    from tiltflow import console

    failed = 0
    for file in files:
        try:
            _inspect(file)
        except TiltflowError as error:
            failed += 1
            console.err.print(f"error: {error}", style="red", markup=False)
    if failed:
        raise typer.Exit(NONE_SUCCEEDED if failed == len(files) else SOME_FAILED)


@commands.command()
@takes_options
def directives(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of directives, or plastic_brt or cryo_brt.")],
    *,
    parameters: BrtParameters,
    overrides: Overrides = None,
    engine: Engine = None,
) -> None:
    """Show for each directive whether it is used, ignored, refused or unknown, and why, without running anything."""
    from tiltflow import console
    from tiltflow.recipe import report_directives

    with usage_errors():
        report = report_directives(parameters, file, overrides or [], engine or AUTO)
    console.show_rows(
        [(row.name, row.value, row.status, row.reason) for row in report.rows], ("directive", "value", "status", "why")
    )
    for problem in report.problems:
        console.out.print(f"! {problem.message} ({problem.where})", style="yellow", markup=False)
    for fault in report.faults:
        console.out.print(f"! {fault}", style="red", markup=False)
    if report.wrong:
        console.err.print(f"{len(report.wrong)} of {len(report.rows)} directives cannot be used", style="red")
    if report.wrong or report.faults:
        raise typer.Exit(SOME_FAILED)


@commands.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results of `tiltflow run`, or the folder of one series in them.")],
) -> None:
    """Make the pages and metrics.csv again from the records, without the data."""
    from tiltflow import console
    from tiltflow.report import rebuild_pages
    from tiltflow.settings import load_site

    console.set_up_logging(verbose=False)
    with usage_errors():
        for path in rebuild_pages(folder_of(folder), load_site().thresholds):
            console.out.print(str(path), markup=False)


def _inspect(file: Path) -> None:
    from tiltflow import console, describe
    from tiltflow.formats.series import read_series

    series = read_series(file)
    console.out.print(f"{file}", style="bold", markup=False)
    rows = []
    for name, entry in describe.series(series).items():
        rows.append((name.replace("_", " "), _brief(entry.value, entry.unit), entry.source))
    console.show_rows(rows, ("quantity", "value", "read from"))
    for problem in series.problems:
        console.out.print(f"! {problem.message} ({problem.where})", style="yellow", markup=False)


def _brief(value: Any, unit: str) -> str:
    """Return a value as text; for a list its range and length."""
    if isinstance(value, list):
        text = f"{value[0]:g} to {value[-1]:g}, {len(value)} values" if value else "none"
        steps = {round(b - a, 2) for a, b in itertools.pairwise(value)}
        text += f", step {steps.pop():g}" if len(steps) == 1 else ""
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".strip()
