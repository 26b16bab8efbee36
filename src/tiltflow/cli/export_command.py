"""The command that writes results for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiltflow.cli.application import NONE_SUCCEEDED, SOME_FAILED, folder_of, usage_errors
from tiltflow.cli.command_list import commands
from tiltflow.errors import TiltflowError
from tiltflow.interchange.targets import target_names


@commands.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results of `tiltflow run`, or the folder of one series in them.")],
    to: Annotated[
        list[str], typer.Option("--to", metavar="|".join(target_names()), help="The program that is to read them; may be repeated.")
    ],
) -> None:
    """Write the alignment of finished series for other programs, from their records: DIR/B/export/NAME."""
    from tiltflow import console
    from tiltflow.interchange.export import collect_exports, export_series, series_folders
    from tiltflow.interchange.targets import find_target

    console.set_up_logging(verbose=False)
    with usage_errors():
        for name in to:
            find_target(name)
        series = series_folders(folder_of(folder))
    failed, done = 0, []
    for one in series:
        try:
            for made in export_series(one, dict.fromkeys(to)):
                console.out.print(f"{made.target}: {made.folder}", markup=False, soft_wrap=True)
                for remark in made.remarks:
                    console.err.print(f"! {one.name}: {remark}", style="yellow", markup=False)
            done.append(one)
        except TiltflowError as error:
            failed += 1
            console.err.print(f"error: {error}", style="red", markup=False)
    if done and series != [folder]:
        with usage_errors():
            for collected in collect_exports(folder, dict.fromkeys(to), done):
                console.out.print(f"{collected.target}, all series: {collected.folder}", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(NONE_SUCCEEDED if failed == len(series) else SOME_FAILED)
