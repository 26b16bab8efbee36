"""The command that processes a folder."""

from __future__ import annotations

import typer

from tiltflow.cli.application import EXIT_STATUSES, begin_work, folder_of, stoppable, usage_errors
from tiltflow.cli.command_list import commands
from tiltflow.cli.options import (
    Alignment,
    CallbackUrl,
    Export,
    FallbackEngine,
    FolderOptions,
    KeepWorkdir,
    Like,
    NoWait,
    TokenFile,
    Verify,
    takes_options,
)
from tiltflow.cli.recipes import recipes_asked


@commands.command(epilog=EXIT_STATUSES)
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
    keep_workdir: KeepWorkdir = False,
    like: Like = None,
    engine_options: dict[str, bool | None],
) -> None:
    """Align, reconstruct and make the products of every tilt series in a folder."""
    begin_work(verbose=asked.verbose, log_json=asked.log_json)
    from tiltflow import console
    from tiltflow.cli.telling import following, plan_of, portal_of, tell
    from tiltflow.delivery.layout import plain_layout
    from tiltflow.pipeline import forecast, prepare, require_free, require_places
    from tiltflow.pipeline import run as run_series
    from tiltflow.settings import load_settings, site_from

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
        asked_for = recipes_asked(context, asked, settings, like, alignment)
        made = prepare(folder, asked_for, file=asked.file, per_series=asked.per_series)
        sources, recipes = made.sources, made.recipes
        for remark in made.remarks:
            console.err.print(f"! {remark.message}", style="yellow", markup=False)
        if recipes.own:
            console.err.print(f"settings of their own: {', '.join(recipes.own)}", markup=False)
        layout = plain_layout(folder, asked.output, swap_volume_types=settings.swap_volume_types)
        evidence = settings.evidence_in_callback
        plan = plan_of(layout, asked.output, recipes, sources, evidence=evidence)
        portal = portal_of(settings, callback_url, token_file, plan)
        site = site_from(settings, asked.jobs)
        require_places(asked.output, site)
        if no_wait:
            require_free(sources, asked.output)
        if expected := forecast(sources, recipes, site, asked.output, jobs=asked.jobs, redo=asked.redo):
            console.err.print(expected.line, markup=False)
            for shortage in expected.shortages:
                console.err.print(f"! {shortage}", style="yellow", markup=False)
            if expected.advice:
                console.err.print(expected.advice, markup=False)
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
