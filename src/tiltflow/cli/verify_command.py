"""The command that compares results with their checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiltflow.cli.application import SOME_FAILED, folder_of, usage_errors
from tiltflow.cli.command_list import commands


@commands.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results of `tiltflow run`, or the folder of one series in them.")],
) -> None:
    """Read every product, volume and file of the results, and compare it with the size and the checksum in its record."""
    from tiltflow import console
    from tiltflow.pipeline import check_results

    damaged = 0
    with usage_errors():
        for checked in check_results(folder_of(folder)):
            damaged += bool(checked.differences)
            console.out.print(f"{checked.name}: {checked.summary}", markup=False)
            for difference in checked.differences:
                console.out.print(f"  {difference}", style="red", markup=False)
    if damaged:
        console.out.print(
            f"{damaged} series damaged: `tiltflow run --verify` makes again what is wrong, and only that", markup=False
        )
        raise typer.Exit(SOME_FAILED)
