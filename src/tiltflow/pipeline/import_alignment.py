"""Taking in the alignment of a series that another program made, without a volume: our files of it, and a record with its audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tiltflow import describe
from tiltflow.delivery.cleanup import make_scratch
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native import ENGINE
from tiltflow.engines.native.given_alignment import import_alignment as take_in
from tiltflow.formats.series import read_series
from tiltflow.model import SeriesResult, Site
from tiltflow.observer import StageProgress, silent_progress
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.pipeline.failure import optional
from tiltflow.pipeline.job import Job
from tiltflow.pipeline.log import series_log
from tiltflow.pipeline.steps import finish_step
from tiltflow.recipe import BrtParameters, Recipe
from tiltflow.recipe.make import draft_recipe
from tiltflow.record import EngineEntry, Recorder
from tiltflow.report.gather import gather_view
from tiltflow.version import __version__


def import_alignment(
    source: Path, recipe: Recipe, site: Site, output: Path, *, progress: StageProgress = silent_progress
) -> SeriesResult:
    """Write the alignment that a recipe gives of a series as `B.xf`, `B.tlt`, `B.xtilt` and `B_align.json`, with record and page.

    Parameters
    ----------
    source
        The stack.
    recipe
        Names the alignment; its engine is one that can use it.
    site
        Threads and thresholds of the verdict.
    output
        The folder of the series.
    progress
        Receives the running stage and the fraction of it that is done.

    Returns
    -------
    SeriesResult
        An expected failure is a result with its stage and reason.

    Raises
    ------
    LocationError, ResourceError
        If no scratch folder can be made.
    """
    with series_log(output, source.stem):
        job = Job(source, recipe, site, output, make_scratch(source, site.scratch), keep_volumes=False)
        error: BaseException | None = None
        try:
            _take_in(job, progress)
        except BaseException as caught:  # noqa: BLE001  the boundary: finish_step records it, and re-raises an interrupt
            error = caught
        return finish_step(job, (), error)


def import_recipe(alignment: Path, gold_nm: int, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe for taking in an alignment: no directive needs to tell a thickness.

    Raises
    ------
    DirectiveError, ParameterError
        If a directive is unknown or malformed, or a value is out of range.
    """
    drafted = draft_recipe(BrtParameters(gold=gold_nm), overrides=overrides, engine=ENGINE.name, volume=False)
    drafted.report.check()
    return replace(drafted, alignment=alignment)


def _take_in(job: Job, progress: StageProgress) -> None:
    recorder = Recorder.start(job.record_path, job.source, __version__)
    recorder.on_progress = progress
    recorder.record.versions = describe.versions()
    recorder.record.engine = EngineEntry(name=ENGINE.name, version=ENGINE.version, reason="the alignment was imported")
    # No run asks for this, so that none takes the record for the result of its recipe.
    recorder.record.recipe = describe.recipe(job.recipe, requested=job.recipe).model_copy(update={"requested": ""})
    with recorder.stage("read") as notes:
        series = read_series(job.source, job.recipe.hints)
        recorder.record.input = describe.series(series)
        for problem in series.problems:
            notes.warn(f"{problem.message} ({problem.where})")
        notes.number("views", series.shape[0])
    with recorder.stage("picture"), optional(recorder, "the picture of the raw series"):
        gather_view(recorder, series, job.output)
    recipe = job.recipe.for_series(series.pixel_size_angstrom)
    with one_thread_for_algebra():
        take_in(EngineJob(series, recipe, job.site, job.workdir, recorder))
