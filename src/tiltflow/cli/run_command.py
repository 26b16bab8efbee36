"""The command that processes a folder."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from tiltflow.cli.application import app, folder_of, stoppable, usage_errors
from tiltflow.cli.options import (
    HOW,
    WHERE,
    Alignment,
    CallbackUrl,
    Engine,
    Export,
    FallbackEngine,
    File,
    InputFolder,
    Jobs,
    Output,
    Overrides,
    PerSeries,
    Redo,
    Template,
    Threads,
    TokenFile,
    Verbose,
    Workdir,
    takes_parameters,
)
from tiltflow.errors import ParameterError
from tiltflow.recipe.parameters import PARAMETERS, BrtParameters


@app.command()
@takes_parameters
def run(
    context: typer.Context,
    input_dir: InputFolder,
    output: Output,
    file: File = None,
    *,
    parameters: BrtParameters,
    template: Template = "plastic_brt",
    overrides: Overrides = None,
    engine: Engine = None,
    fallback_engine: FallbackEngine = None,
    alignment: Alignment = None,
    jobs: Jobs = 1,
    threads: Threads = None,
    redo: Redo = False,
    export: Export = None,
    callback_url: CallbackUrl = None,
    token_file: TokenFile = None,
    workdir: Workdir = None,
    keep_workdir: Annotated[bool, typer.Option("--keep-workdir", help="Keep the scratch folders.", rich_help_panel=WHERE)] = False,
    per_series: PerSeries = None,
    like: Annotated[
        Path | None,
        typer.Option(
            "--like",
            metavar="run.json",
            help="Template, parameters, directives, engine and given alignment of an earlier run, from its record.",
            rich_help_panel=HOW,
        ),
    ] = None,
    engine_options: dict[str, bool | None],
    verbose: Verbose = False,
) -> None:
    """Align, reconstruct and make the products of every tilt series in a folder."""
    from tiltflow import console
    from tiltflow.cli.telling import tell
    from tiltflow.delivery import layout
    from tiltflow.delivery.portal import Portal
    from tiltflow.pipeline import forecast, prepare
    from tiltflow.pipeline import run as run_series
    from tiltflow.recipe import make_recipe
    from tiltflow.recipe.like import recipes_like
    from tiltflow.report import INDEX_NAME
    from tiltflow.settings import load_settings, load_token, site_from

    console.set_up_logging(verbose=verbose)
    with usage_errors():
        settings = load_settings(
            scratch=workdir.resolve() if workdir else None,
            keep_workdir=keep_workdir or None,
            threads=threads,
            engine=engine,
            fallback_engine=fallback_engine,
            export=export or None,
            **engine_options,
        )
        if like is not None:
            _refuse_beside_like(context)
            made = prepare(folder_of(input_dir), recipes_like(like, alignment), file=file)
        else:
            recipe = make_recipe(parameters, template, overrides or (), alignment=alignment, **settings.recipe_defaults)
            made = prepare(folder_of(input_dir), recipe, file=file, per_series=per_series)
        sources, recipes = made.sources, made.recipes
        for remark in made.remarks:
            console.err.print(f"! {remark.message}", style="yellow", markup=False)
        if recipes.own:
            console.err.print(f"settings of their own: {', '.join(recipes.own)}", markup=False, soft_wrap=True)
        portal = Portal(callback_url, load_token(token_file), settings.callback_patience_s) if callback_url else None
        site = site_from(settings, jobs)
        if expected := forecast(sources, recipes, site, output, jobs=jobs, redo=redo):
            console.err.print(expected.line, markup=False, soft_wrap=True)
            for shortage in expected.shortages:
                console.err.print(f"! {shortage}", style="yellow", markup=False, soft_wrap=True)
    with stoppable(), portal.following() if portal else nullcontext(), console.progress_display(len(sources)) as on_progress:
        results = run_series(sources, recipes, site, output, jobs=jobs, redo=redo, on_progress=on_progress).results
    console.show_closing_table(results)
    console.out.print(f"results: {output}, report: {output / INDEX_NAME}", markup=False)
    raise typer.Exit(tell(results, layout.plain_layout(input_dir, output), output, portal, evidence=settings.evidence_in_callback))


def _refuse_beside_like(context: typer.Context) -> None:
    """Raise if an option is given that the record decides.

    Raises
    ------
    ParameterError
        With the option.
    """
    decided = {*PARAMETERS, "template", "overrides", "engine", "fallback_engine", "per_series"}
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in decided and source is not None and source.name == "COMMANDLINE":
            raise ParameterError(f"{option.opts[0]} and --like cannot both be given: the record decides it; leave one of them out")
