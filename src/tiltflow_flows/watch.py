"""The flow that watches folders of a share and processes what arrives, as `tiltflow watch` does.

What is whole, what waits and what is done again is decided by :mod:`tiltflow.watch`; here a series is a task on the runner of the site,
and news goes to the log of the flow run.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from tiltflow import stopping
from tiltflow.delivery.layout import Layout, resolve_input
from tiltflow.errors import ParameterError, TiltflowError
from tiltflow.pipeline import OnProgress, SeriesProgress, close_lost
from tiltflow.recipe import BrtParameters, Recipe, make_recipe
from tiltflow.settings import load_settings
from tiltflow.watch import News, Outcome, Plan, Rules, Watched, watch
from tiltflow.work import SeriesResult, Site
from tiltflow_flows.outcomes import LOST, end_in_order, mark_lost, settle
from tiltflow_flows.runners import Runner, choose_runner
from tiltflow_flows.tasks import brt_series, tags_of
from tiltflow_flows.templates import site_template

_LEVELS = {"plain": logging.INFO, "good": logging.INFO, "warning": logging.WARNING, "failure": logging.ERROR}
_HOUR_S = 3600.0


@flow(name="watch", flow_run_name="watch {file_share} {input_dirs}")
def watch_flow(
    file_share: str,
    input_dirs: list[str],
    parameters: dict[str, int] | None = None,
    adoc_template: str = "plastic_brt",
    priorities: list[int] | None = None,
    newest_first: bool = False,
    still_s: float = 60.0,
    patience_h: float = 24.0,
    every_s: float = 15.0,
    once: bool = False,
    until_idle_h: float | None = None,
) -> dict[str, Any]:
    """Process every tilt series that arrives in folders of a share, until the flow run is cancelled or nothing new comes.

    Parameters
    ----------
    file_share, input_dirs
        The folders: `<mount of file_share>/Projects/<input_dir>` each; results go to the same places in `Assets`.
    parameters
        Those of :class:`tiltflow.recipe.BrtParameters` that are not to have their defaults, by name.
    adoc_template
        The template of the directives: `plastic_brt`, `cryo_brt`, or the name of one in the site's `template_folders`.
    priorities
        One number a folder: the series of a higher one have their turn first.
    newest_first, still_s, patience_h, every_s, once, until_idle_h
        As the options of `tiltflow watch`; hours where it says `_h`.

    Returns
    -------
    dict
        How many series this session did, how many failed or were given up, and the pages of the results.

    Raises
    ------
    TiltflowError
        If the request is wrong, or the session ends and all of its series failed.
    """
    settings = load_settings()
    at_once = settings.workers
    layouts = [resolve_input(settings.mounts, file_share, folder) for folder in input_dirs]
    if len({layout.output for layout in layouts}) != len(input_dirs) or not input_dirs:
        raise ParameterError(f"input_dirs: {input_dirs} are not one or more different folders; give each once")
    if priorities is not None and len(priorities) != len(layouts):
        raise ParameterError(f"priorities: {len(priorities)} numbers for {len(layouts)} folders; give one a folder")
    for layout in layouts:
        layout.check_target(layout.output)
        layout.refuse_projects(settings.scratch or Path(tempfile.gettempdir()), "The scratch folder")
    try:
        asked = BrtParameters(**(parameters or {}))
    except TypeError as error:
        raise ParameterError(f"parameters: {error}") from error
    runner = choose_runner(settings, at_once, lambda _threads: [])  # what will come is not known
    plan = Plan(
        folders=_watched(layouts, priorities or [0] * len(layouts)),
        output=Path(os.path.commonpath([layout.output for layout in layouts])),
        recipes=make_recipe(asked, site_template(adoc_template, settings), **settings.recipe_defaults),
        site=runner.site,
        jobs=at_once,
        rules=Rules(still_s=still_s, patience_s=patience_h * _HOUR_S),
        every_s=every_s,
        newest_first=newest_first,
        once=once,
        until_idle_s=None if until_idle_h is None else until_idle_h * _HOUR_S,
        here=False,
    )
    token = _session.set((plan, runner))
    try:
        outcome = watch_session.with_options(task_runner=runner.tasks)(len(layouts))
    finally:
        _session.reset(token)
    if outcome.failed and not outcome.done:
        raise TiltflowError(f"None of {outcome.failed} series succeeded; see {', '.join(map(str, outcome.pages))}")
    return {"done": outcome.done, "failed": outcome.failed, "pages": [str(page) for page in outcome.pages]}


_session: ContextVar[tuple[Plan, Runner]] = ContextVar("session")
"""What the flow below follows: Prefect keeps the parameters of a flow in its database, and recipes are long."""


@flow(name="watch session", flow_run_name="{folders} folders", validate_parameters=False)
def watch_session(folders: int) -> Outcome:
    """Follow a plan on the runner of this flow, which the caller chooses."""
    log = get_run_logger()
    log.info("%d folders are watched", folders)
    plan, runner = _session.get()

    def tell(news: News) -> None:
        log.log(_LEVELS[news.weight], "%s: %s", news.about, news.words)

    with stopping.stoppable(passing_on=True), runner.watched():
        return watch(plan, tell, work=partial(_on_the_runner, runner))


def _watched(layouts: Sequence[Layout], priorities: Sequence[int]) -> tuple[Watched, ...]:
    return tuple(
        Watched(layout.folder, layout.output, priority, layout.share) for layout, priority in zip(layouts, priorities, strict=True)
    )


def _on_the_runner(
    runner: Runner, source: Path, recipe: Recipe, site: Site, *, output: Path, on_progress: OnProgress
) -> SeriesResult:
    """Return the result of a series that is processed as a task; its progress is that of the tasks."""
    task = brt_series.with_options(tags=tags_of(recipe, runner.name)).submit(source, recipe, site, output)
    try:
        result = settle(task, source, output, runner.place_of)
    finally:
        end_in_order([task])
    if result.stage == LOST:
        mark_lost(task, result)
        result = replace(result, message=runner.explained(result.message or ""))
        close_lost(result, site.thresholds)
    on_progress(SeriesProgress(source.stem, result.stage or "done", 1.0, result))
    return result
