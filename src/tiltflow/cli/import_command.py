"""The command that takes in an alignment of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiltflow.cli.application import begin_work, status_of, stoppable, usage_errors
from tiltflow.cli.command_list import commands
from tiltflow.cli.options import WHERE, Overrides


@commands.command("import")
def import_alignment(
    series: Annotated[Path, typer.Argument(metavar="SERIES", help="The stack of raw views that the alignment is of.")],
    alignment: Annotated[
        Path,
        typer.Option(
            "--alignment",
            metavar="FILE|FOLDER",
            help="The alignment: .xf with .tlt (IMOD), .aln (AreTomo), .star (RELION 5), .xml (Warp), or the folder that holds it under "
            "the base name of the series.",
            rich_help_panel=WHERE,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the results: one folder a series.", rich_help_panel=WHERE)
    ],
    *,
    gold: Annotated[int, typer.Option("--gold", help="Diameter of the gold beads, nm, to audit by; 0 for none.")] = 10,
    overrides: Overrides = None,
) -> None:
    """Write the alignment of another program as .xf, .tlt and .xtilt, measured by the images, without reconstructing."""
    begin_work(verbose=False)
    from tiltflow import console
    from tiltflow.delivery.find_series import find_series
    from tiltflow.formats.find_alignment import check_alignment_path
    from tiltflow.pipeline import import_alignment as take_in
    from tiltflow.pipeline.import_alignment import import_recipe
    from tiltflow.report.series_page import PAGE_NAME
    from tiltflow.settings import load_site
    from tiltflow.work import SeriesResult

    with usage_errors():
        source = find_series(series.parent, series.name)[0]
        check_alignment_path(alignment, [source.stem])
        recipe, site = import_recipe(alignment, gold, overrides or []), load_site()
    folder = output / source.stem
    with stoppable(), console.progress_display(1) as on_progress:
        result: SeriesResult = take_in(source, recipe, site, folder, on_progress=on_progress)
    console.show_closing_table([result])
    console.out.print(f"results: {folder}, report: {folder / PAGE_NAME}", markup=False)
    raise typer.Exit(status_of((result,)))
