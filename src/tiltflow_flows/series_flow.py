"""The flow `BRT series` inside the flow of a run: every series on the runner that the site chose.

Prefect keeps the parameters of a flow run in its database.  Those of this one are two words for the reader of the page; the recipes
(5 kB for each series) reach the tasks without it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Completed

from tiltflow import stopping
from tiltflow.delivery.layout import Layout
from tiltflow.pipeline import close_lost
from tiltflow.recipe import SeriesRecipes
from tiltflow.work import SeriesResult, Site
from tiltflow_flows.outcomes import LOST, end_in_order, mark_lost, settle, summary
from tiltflow_flows.runners import Runner
from tiltflow_flows.tasks import brt_series, tags_of


@dataclass(frozen=True, slots=True)
class Batch:
    """The series of a run: their files, the recipe of each, where and how they are processed, and who is told the result of each."""

    sources: Sequence[Path]
    recipes: SeriesRecipes
    site: Site
    layout: Layout
    told: Callable[[SeriesResult], object]


_batch: ContextVar[tuple[Batch, Runner]] = ContextVar("batch")


def process_batch(batch: Batch, runner: Runner) -> list[SeriesResult]:
    """Process the series as a flow of its own on a runner, and return their results in order."""
    token = _batch.set((batch, runner))
    try:
        process = brt_series_of_a_run.with_options(task_runner=runner.tasks)
        return cast("list[SeriesResult]", process(batch.layout.folder.name, len(batch.sources)))
    finally:
        _batch.reset(token)


def _series_of_a_run(folder: str, series: int) -> State[list[SeriesResult]]:
    get_run_logger().info("%d series of %s", series, folder)
    results = _results(*_batch.get())
    return Completed(message=summary(results), data=results)


# Prefect sends the flow along with every task; the function stays importable under its own name, so that it goes by reference.
brt_series_of_a_run = flow(name="BRT series", flow_run_name="{series} series of {folder}", validate_parameters=False)(
    _series_of_a_run
)


def _results(batch: Batch, runner: Runner) -> list[SeriesResult]:
    """Return the results of all series, in order.

    A series whose worker died is done once more when the others are done, and alone: it may have been short of memory that
    others used, or have waited for a worker that died with another series.
    """
    # Prefect ends a flow by an exception in the main thread, which waits here; the threads of the series end by the flag.
    with stopping.stoppable(passing_on=True), runner.watched():
        results = {result.source: result for result in _told(batch, _each(batch, batch.sources, runner, runner.at_once))}
        lost = [result.source for result in results.values() if result.stage == LOST]
        results |= {result.source: result for result in _told(batch, _each(batch, lost, runner, 1))}
        for result in [result for result in results.values() if result.stage == LOST]:
            results[result.source] = explained = replace(result, message=runner.explained(result.message or ""))
            close_lost(explained, batch.site.thresholds)
            batch.told(explained)
    return [results[source] for source in batch.sources]


def _told(batch: Batch, results: Iterator[SeriesResult]) -> Iterator[SeriesResult]:
    """Yield results, and tell those that are not to be done once more."""
    for result in results:
        if result.stage != LOST:
            batch.told(result)
        yield result


def _each(batch: Batch, sources: Sequence[Path], runner: Runner, at_once: int) -> Iterator[SeriesResult]:
    log = get_run_logger()
    waiting = deque(sources)
    running: dict[PrefectFuture[Any], Path] = {}
    try:
        while waiting or running:
            # No more than there are workers: Dask counts series that wait behind one that kills its worker as killed with it.
            while waiting and len(running) < at_once:
                source = waiting.popleft()
                recipe, output = batch.recipes.of(source), batch.layout.output_of(source)
                task = brt_series.with_options(tags=tags_of(recipe, runner.name))
                running[task.submit(source, recipe, batch.site, output)] = source
            future = next(as_completed(list(running)))
            source = running.pop(future)
            result = settle(future, source, batch.layout.output_of(source), runner.place_of)
            if result.stage == LOST:
                mark_lost(future, result)
            said = (result.message or result.status).removeprefix(f"{source.name}: ")
            log.log(logging.INFO if result.ok else logging.ERROR, "%s: %s", source.name, said)
            yield result
    finally:
        end_in_order(running)
