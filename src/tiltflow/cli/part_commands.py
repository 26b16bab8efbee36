"""Commands that do a part of the work alone: the alignment, the reconstruction, the products."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiltflow.cli.application import EXIT_STATUSES, begin_work, folder_of, status_of, stoppable, usage_errors
from tiltflow.cli.command_list import commands
from tiltflow.cli.options import (
    WHERE,
    Alignment,
    CallbackUrl,
    FolderOptions,
    Output,
    Redo,
    Threads,
    TokenFile,
    Verbose,
    Workdir,
    takes_options,
)

if TYPE_CHECKING:
    from tiltflow.pipeline.job import Part


@commands.command()
@takes_options
def align(*, asked: FolderOptions) -> None:
    """Align every tilt series in a folder, without reconstructing; tiltflow run goes on from there."""
    _do(("alignment",), asked)


@commands.command()
@takes_options
def reconstruct(*, asked: FolderOptions, alignment: Alignment = None) -> None:
    """Reconstruct every tilt series in a folder, from a given alignment or from one that is made or there already; no products."""
    _do(("alignment", "reconstruction"), asked, alignment)


def _do(parts: tuple[Part, ...], asked: FolderOptions, alignment: Path | None = None) -> None:
    """Do parts of the work on a folder, and exit with the status."""
    begin_work(verbose=asked.verbose, log_json=asked.log_json)
    from tiltflow import console
    from tiltflow.pipeline import prepare, require_places
    from tiltflow.pipeline import run as run_series
    from tiltflow.recipe import make_recipe
    from tiltflow.settings import load_settings, site_from

    with usage_errors():
        settings = load_settings(scratch=asked.scratch, threads=asked.threads, engine=asked.engine)
        recipe = make_recipe(
            asked.parameters, asked.template, asked.overrides or (), alignment=alignment, **settings.recipe_defaults
        )
        made = prepare(folder_of(asked.input_dir), recipe, file=asked.file, per_series=asked.per_series)
        for remark in made.remarks:
            console.err.print(f"! {remark.message}", style="yellow", markup=False)
        site = site_from(settings, asked.jobs)
        require_places(asked.output, site)
    with stoppable(), console.progress_display(len(made.sources)) as on_progress:
        done = run_series(
            made.sources,
            made.recipes,
            site,
            asked.output,
            jobs=asked.jobs,
            redo=asked.redo,
            parts=parts,
            on_progress=on_progress,
        )
    console.show_closing_table(done.results)
    console.show_places(asked.output, done.page)
    raise typer.Exit(status_of(done.results))


@commands.command(epilog=EXIT_STATUSES)
def products(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder with NAME_ali.mrc and NAME_rec.mrc, or NAME.ali and NAME.rec, of any program; or with such folders in it.",
        ),
    ],
    output: Output,
    name: Annotated[str | None, typer.Option("--name", help="Only this base name.", rich_help_panel=WHERE)] = None,
    *,
    threads: Threads = None,
    redo: Redo = False,
    callback_url: CallbackUrl = None,
    token_file: TokenFile = None,
    workdir: Workdir = None,
    verbose: Verbose = False,
) -> None:
    """Make movies, pictures, pyramid, page and callback of aligned stacks and volumes that any program made."""
    begin_work(verbose=verbose)
    from tiltflow import console
    from tiltflow.cli.telling import following, plan_of_given, portal_of, tell
    from tiltflow.delivery import layout
    from tiltflow.pipeline import require_places
    from tiltflow.pipeline.given_volumes import find_given, process_all_given
    from tiltflow.recipe import make_recipe
    from tiltflow.settings import load_settings, site_from

    with usage_errors():
        settings = load_settings(scratch=workdir.resolve() if workdir else None, threads=threads)
        site, recipe = site_from(settings), make_recipe(pyramid=settings.pyramid)
        given = find_given(folder_of(folder), name)
        plan = plan_of_given(output, (each.name for each in given))
        portal = portal_of(settings, callback_url, token_file, plan)
        require_places(output, site)
    with stoppable():
        places = layout.plain_layout(folder, output, swap_volume_types=settings.swap_volume_types)
        evidence = settings.evidence_in_callback
        with (
            console.progress_display(len(given)) as show,
            following(portal, places, show, evidence=evidence, plan=plan) as on_progress,
        ):
            done = process_all_given(given, recipe, site, output, redo=redo, on_progress=on_progress)
        status = tell(done.results, places, output, portal, evidence=evidence)
    console.show_closing_table(done.results)
    console.show_places(output, done.page)
    raise typer.Exit(status)
