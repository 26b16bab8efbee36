"""The steps of a series as Prefect tasks, under their established names.

The work, and the order of its steps, is that of :mod:`tiltflow.pipeline`; the products are those of its one catalogue.  A series is
a task in which the tasks of its steps are called: it runs in one place, its scratch folder with it, and a step that fails ends this
series alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import prefect.runtime
from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from tiltflow import pipeline, stopping
from tiltflow.delivery.body import CallbackBody, write_callback
from tiltflow.errors import CallbackDelayError
from tiltflow.model import Reconstruction
from tiltflow.pipeline import Job, SeriesProgress, StepOutcome, StepRunner
from tiltflow.products.catalogue import STEPS, ProductStep
from tiltflow.recipe import Recipe
from tiltflow.work import SeriesResult, Site
from tiltflow_flows.logs import show_on_the_page
from tiltflow_flows.outcomes import LOST

P = ParamSpec("P")
R = TypeVar("R")


def _run_name() -> str:
    """Name a task run after its step and its series."""
    parameters = prefect.runtime.task_run.parameters
    job: Job | None = parameters.get("job")
    series = job.name if job is not None else Path(parameters["source"]).stem
    return f"{prefect.runtime.task_run.task_name} {series}"


def _as_task(function: Callable[P, R], name: str, description: str) -> Task[P, R]:
    # The functions stay importable under their own names, so that Dask sends them to its workers by reference.
    return task(name=name, description=description, task_run_name=_run_name, cache_policy=NO_CACHE, persist_result=False)(function)


def tags_of(recipe: Recipe, runner: str) -> set[str]:
    """Return the tags of the task of a series, by which Prefect can limit how many run at once.

    The tasks of its steps have none: with a limit of one they would wait for the series that waits for them.
    """
    return {"tiltflow", f"tiltflow-engine-{recipe.engine}", f"tiltflow-runner-{runner}"}


def _reconstruct(job: Job) -> Reconstruction | None:
    return pipeline.reconstruct_step(job)


def _make_products(job: Job, step_name: str) -> StepOutcome:
    return pipeline.product_step(job, step_name)


def _finish(job: Job, outcomes: Sequence[StepOutcome], error: BaseException | None, stage: str | None) -> SeriesResult:
    return pipeline.finish_step(job, outcomes, error, stage)


def _product_task(step: ProductStep) -> Task[[Job, str], StepOutcome]:
    return _as_task(_make_products, step.name, step.description)


def _make_products_as_task(job: Job, step_name: str) -> StepOutcome:
    return PRODUCT_TASKS[step_name](job, step_name)


def _process_series(source: Path, recipe: Recipe, site: Site, output: Path) -> SeriesResult | State[SeriesResult]:
    log = get_run_logger()
    show_on_the_page()

    def log_note(progress: SeriesProgress) -> None:
        if progress.note:
            log.info("%s: %s", source.name, progress.note)

    steps = StepRunner(run_brt, _make_products_as_task, cleanup_files)
    try:
        stopping.ask()
        result = pipeline.process(source, recipe, site, output=output, redo=site.keep_workdir, on_progress=log_note, runner=steps)
    except stopping.Interrupted as why:
        lost = _ended_in_worker(source, output, why)
        if lost is None:
            raise
        result = lost
    return result if result.ok else Failed(message=result.message, data=result)


def _ended_in_worker(source: Path, output: Path, why: stopping.Interrupted) -> SeriesResult | None:
    """Return the result of a series that was asked to end in a Dask worker; None in the flow's own process, which ends too.

    An interrupt that leaves a task takes its worker along, so that nobody would hear of the series.
    """
    if "distributed.worker" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return None
    job = os.environ.get("SLURM_JOB_ID")
    where = f"Slurm job {job}" if job else "its worker"
    message = f"{source.name}: {where} was asked to end ({why}) before the series was done."
    return SeriesResult(source=source, status="error", message=message, stage=LOST, output=output)


def _send_callback(body: CallbackBody, path: Path, tell: Callable[[], object] | None) -> str:
    """Keep the callback, and tell the portal, if there is one; return why it is not told yet, empty if it is."""
    log = get_run_logger()
    write_callback(body, path)
    log.info("the callback is kept in %s", path)
    if tell is None:
        log.info("the callback is not sent: %s", body.model_dump_json())
        return ""
    try:
        tell()
    except CallbackDelayError as error:
        log.warning("the portal is not told yet; the callback waits in the outbox: %s", error)
        return str(error)
    log.info("the portal accepted the callback")
    return ""


run_brt = _as_task(_reconstruct, "run_brt", "Align and reconstruct a series, by IMOD's batchruntomo or the native engine.")
PRODUCT_TASKS = {step.name: _product_task(step) for step in STEPS}
cleanup_files = _as_task(_finish, "cleanup_files", "Publish products and logs, close the record, remove the scratch folder.")
brt_series = _as_task(_process_series, "brt_series", "One series from its raw images to published products.")
callback = task(
    name="callback",
    description="Send the callback with all files and assets to the portal's API.",
    cache_policy=NO_CACHE,
    persist_result=False,
)(_send_callback)
