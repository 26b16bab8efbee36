"""The command that processes a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiltflow.cli.application import EXIT_STATUSES, app, begin_work, folder_of, stoppable, usage_errors
from tiltflow.cli.options import (
    HOW,
    WHERE,
    Alignment,
    CallbackUrl,
    Export,
    FallbackEngine,
    FolderOptions,
    NoWait,
    TokenFile,
    Verify,
    takes_options,
)
from tiltflow.errors import ParameterError
from tiltflow.recipe.parameters import PARAMETERS


@app.command(epilog=EXIT_STATUSES)
@takes_options
def run(
    context: typer.Context,
    *,
    asked: FolderOptions,
    fallback_engine: FallbackEngine = None,
    alignment: Alignment = None,
    export: Export = None,
    callback_url: CallbackUrl = None,
    token_file: TokenFile = None,
    verify: Verify = False,
    no_wait: NoWait = False,
    keep_workdir: Annotated[bool, typer.Option("--keep-workdir", help="Keep the scratch folders.", rich_help_panel=WHERE)] = False,
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
) -> None:
    """Align, reconstruct and make the products of every tilt series in a folder."""
    from tiltflow import console
    from tiltflow.cli.telling import following, plan_of, portal_of, tell
    from tiltflow.delivery.layout import plain_layout
    from tiltflow.pipeline import forecast, prepare, require_free, require_places
    from tiltflow.pipeline import run as run_series
    from tiltflow.recipe import make_recipe
    from tiltflow.recipe.like import recipes_like
    from tiltflow.settings import load_settings, site_from

    begin_work(verbose=asked.verbose, log_json=asked.log_json)
    with usage_errors():
        settings = load_settings(
            scratch=asked.scratch,
            keep_workdir=keep_workdir or None,
            threads=asked.threads,
            engine=asked.engine,
            fallback_engine=fallback_engine,
            export=export or None,
            **engine_options,
        )
        folder = folder_of(asked.input_dir)
        if like is not None:
            _refuse_beside_like(context)
            made = prepare(folder, recipes_like(like, alignment), file=asked.file)
        else:
            recipe = make_recipe(
                asked.parameters, asked.template, asked.overrides or (), alignment=alignment, **settings.recipe_defaults
            )
            made = prepare(folder, recipe, file=asked.file, per_series=asked.per_series)
        sources, recipes = made.sources, made.recipes
        for remark in made.remarks:
            console.err.print(f"! {remark.message}", style="yellow", markup=False)
        if recipes.own:
            console.err.print(f"settings of their own: {', '.join(recipes.own)}", markup=False)
        portal = portal_of(settings, callback_url, token_file, asked.output)
        site = site_from(settings, asked.jobs)
        require_places(asked.output, site)
        if no_wait:
            require_free(sources, asked.output)
        if expected := forecast(sources, recipes, site, asked.output, jobs=asked.jobs, redo=asked.redo):
            console.err.print(expected.line, markup=False)
            for shortage in expected.shortages:
                console.err.print(f"! {shortage}", style="yellow", markup=False)
    layout, evidence = (
        plain_layout(folder, asked.output, swap_volume_types=settings.swap_volume_types),
        settings.evidence_in_callback,
    )
    plan = plan_of(layout, asked.output, recipes, sources, evidence=evidence)
    with stoppable():
        with (
            console.progress_display(len(sources)) as show,
            following(portal, layout, show, evidence=evidence, plan=plan) as on_progress,
        ):
            made_of_all = run_series(
                sources,
                recipes,
                site,
                asked.output,
                jobs=asked.jobs,
                redo=asked.redo,
                verify=verify,
                wait_for_others=not no_wait,
                on_progress=on_progress,
            )
        results = made_of_all.results
        status = tell(results, layout, asked.output, portal, evidence=evidence)
    console.show_closing_table(results)
    console.show_places(asked.output, made_of_all.page)
    raise typer.Exit(status)


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
