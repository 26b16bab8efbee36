"""The work on one series in steps that may run in different processes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tiltflow import describe, stopping
from tiltflow.atomic_write import atomic_write
from tiltflow.delivery.cleanup import remove_scratch
from tiltflow.delivery.publish import publish
from tiltflow.disk import copy_file
from tiltflow.engines.stitching import OFFSETS, read_offsets
from tiltflow.errors import FormatError, InputChangedError, ParameterError
from tiltflow.formats.identity import identity_of, require_same
from tiltflow.formats.series import read_series
from tiltflow.freed_memory import give_back_freed_memory
from tiltflow.model import LEAST_VIEWS, Progress, Reconstruction, TiltSeries
from tiltflow.observer import StageProgress, silent_progress
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.pipeline.conclusion import conclude, result_of
from tiltflow.pipeline.engine_work import align_and_reconstruct, align_only
from tiltflow.pipeline.exports import make_exports
from tiltflow.pipeline.failure import VOLUME_STATISTICS, failure_kind, kept_if_possible, last_lines, optional, reason
from tiltflow.pipeline.given_files import entries_of_given_files
from tiltflow.pipeline.job import ALL_PARTS, RECORD_NAME, Job, StepOutcome
from tiltflow.pipeline.publication import files_to_keep, products_folder, products_url, publish_products
from tiltflow.pipeline.standing import FAILED_FOLDER, attempt_of, keep_attempt, let_go, message_of, put_back, stands, still_whole
from tiltflow.pipeline.step_book import MEASURE, MEASURE_NUMBER, keys_of_inputs, note_identity, step_numbers, steps_of
from tiltflow.products.catalogue import STEPS, ProductContext, Source
from tiltflow.record import Recorder, Steps
from tiltflow.report.gather import gather_seam, gather_view, gather_volume
from tiltflow.version import __version__
from tiltflow.work import Asset, AssetType, SeriesResult

_log = logging.getLogger(__name__)


def reconstruct_step(job: Job, progress: StageProgress = silent_progress) -> Reconstruction | None:
    """Read the series, let the engine align and reconstruct it, and record everything on the way; None if it is only to be aligned.

    Raises
    ------
    TiltflowError
        With the reason, if the series cannot be processed.
    """
    recorder = begin_record(job, progress)
    recorder.record.recipe = describe.recipe(job.recipe, requested=job.recipe)
    with recorder.stage("read") as notes:
        identity = identity_of(job.source, frames={} if job.recipe.halves else None)
        note_identity(recorder.record, identity)
        recorder.record.given_files = entries_of_given_files(job.recipe, recorder.record.name)
        series = _enough(read_series(job.source, job.recipe.hints))
        recorder.record.input = describe.series(series)
        for problem in series.problems:
            notes.warn(f"{problem.message} ({problem.where})")
        notes.number("views", series.shape[0])
        if series.montage is not None:
            notes.number("pieces", series.montage.sections)
    with recorder.stage("picture"), optional(recorder, "the picture of the raw series"):
        gather_view(recorder, series, job.output)
    give_back_freed_memory()  # what the picture took lies beneath all that follows, which does not fit into it
    steps = steps_of(job, recorder)
    with one_thread_for_algebra():
        if "reconstruction" not in job.parts:
            align_only(job, series, recorder, steps, recorder.record.source_key)
            require_same(job.source, identity)
            return None
        result = align_and_reconstruct(job, series, recorder, steps, recorder.record.source_key)
    _picture_of_seam(job, series, recorder)
    require_same(job.source, identity)
    measure(job, recorder, steps, result.volume)
    return result


def _picture_of_seam(job: Job, series: TiltSeries, recorder: Recorder) -> None:
    """Put a picture of the worst seam of a montage beside the record, if its pieces were found."""
    path = job.workdir / f"{job.name}{OFFSETS}"
    if series.montage is not None and path.exists():
        with optional(recorder, "the picture of the worst seam"):
            gather_seam(recorder, series, read_offsets(path), job.recipe.xrays, job.output)


def _enough(series: TiltSeries) -> TiltSeries:
    """Return the series if it has views enough for a tomogram.

    Raises
    ------
    ParameterError
        If it does not, or too many are excluded.
    """
    views, left = len(series.included), int(series.included.sum())
    if left < LEAST_VIEWS:
        name = series.path.name
        has = f"{name} has {views}" if left == views else f"{left} of the {views} views of {name} would be left: exclude fewer"
        raise ParameterError(f"a tomogram needs at least {LEAST_VIEWS} views, and {has}")
    return series


def begin_record(job: Job, progress: StageProgress) -> Recorder:
    """Return the recorder of work that begins now."""
    recorder = Recorder.start(job.record_path, job.source, __version__, name=job.name)
    recorder.on_progress = progress
    recorder.record.versions = describe.versions()
    recorder.record.step_numbers = step_numbers()
    recorder.record.parts = list(job.parts)
    return recorder


def measure(job: Job, recorder: Recorder, steps: Steps, volume: Path) -> None:
    """Take the statistics of the volume, and its pictures."""
    step = steps.begin(MEASURE, MEASURE_NUMBER, keys_of_inputs(steps, recorder, (Source.VOLUME,)))
    if step.kept is not None:
        for name, path in step.files.items():
            _bring_picture(path, job.output / name)
        return
    before = len(recorder.record.pictures)
    with recorder.stage("measure"), optional(recorder, VOLUME_STATISTICS):
        gather_volume(recorder, volume, job.output, threads=job.site.threads)
        pictures = recorder.record.pictures[before:]
        found = recorder.record.model_dump(mode="json", include={"volume"}) | {
            "pictures": [picture.model_dump(mode="json") for picture in pictures]
        }
        steps.made(step, {picture.path: job.output / picture.path for picture in pictures}, found)


def _bring_picture(path: Path, place: Path) -> None:
    """Copy a picture that was taken over to its place, if it is elsewhere: with an attempt that failed."""
    if not (place.exists() and place.samefile(path)):
        with atomic_write(place) as partial:
            copy_file(path, partial)


def product_step(job: Job, step_name: str, progress: StageProgress = silent_progress) -> StepOutcome:
    """Make the products of one step of the catalogue from the engine's files in the work folder.

    Raises
    ------
    ParameterError
        If the catalogue has no such step.
    TiltflowError
        If the product cannot be made from these data, with the reason.
    """
    step = next((step for step in STEPS if step.name == step_name), None)
    if step is None:
        raise ParameterError(f"There is no product step {step_name!r}; there are {', '.join(step.name for step in STEPS)}")
    folder = products_folder(job)
    recorder = Recorder.resume(job.record_path)  # one that cannot be read ends the series: its steps stand in it
    steps = steps_of(job, recorder)
    context = ProductContext(
        name=job.name,
        aligned=job.workdir / f"{job.name}_ali.mrc",
        volume=job.workdir / f"{job.name}_rec.mrc",
        folder=folder,
        threads=job.site.threads,
        layout=job.recipe.pyramid,
        url=products_url(job),
    )
    kept = steps.begin(step.name, step.number, keys_of_inputs(steps, recorder, step.reads), step.settings(context))
    if kept.kept is not None:
        kept.bring(folder)
        return StepOutcome(tuple(_asset(each) for each in kept.kept.found["assets"]))
    folder.mkdir(parents=True, exist_ok=True)
    with recorder.stage(step.name) as notes:
        made = step.make(context, lambda fraction: progress(step.name, fraction))
        notes.numbers(made.numbers)
        for text in made.notes:
            notes.note(text)
    tops = {Path(asset.path).parts[0] for asset in made.assets}.union(pattern.format(name=job.name) for pattern in step.beside)
    described = [{"type": str(asset.type), "path": asset.path, "metadata": asset.metadata} for asset in made.assets]
    steps.made(kept, {top: folder / top for top in sorted(tops)}, {"assets": described})
    return StepOutcome(tuple(made.assets))


def _asset(described: Mapping[str, Any]) -> Asset:
    return Asset(AssetType(described["type"]), described["path"], described["metadata"])


def finish_step(
    job: Job, outcomes: Iterable[StepOutcome], error: BaseException | None = None, stage: str | None = None
) -> SeriesResult:
    """Publish the results (products only after a success, logs always), remove the scratch folder, write the page and close the record.

    Parameters
    ----------
    job, outcomes
        The series and what its product steps made.
    error, stage
        What went wrong and in which product step.  An unexpected exception is logged with its traceback and recorded as a defect
        of tiltflow; an interrupt is recorded, then raised again.

    Raises
    ------
    BaseException
        The interrupt.
    """
    end = publish_step(job, outcomes, error, stage)
    return end() if isinstance(end, Conclusion) else end


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What is left to do of a series when its products stand: its verdict, its page and the end of its record.

    All that it changes are files in the folder of the series, so that a copy of this process can do it.
    """

    job: Job
    recorder: Recorder

    def __call__(self, _progress: Progress | None = None) -> SeriesResult:
        """Do it, and return the result; work that is asked to end is ended with it."""
        with stopping.closing():
            # A success is one when its page stands: until then the record on disk says that the work goes on.
            with self.recorder.held():
                self.recorder.succeed()
                conclude(self.recorder, self.job.site.thresholds, threads=self.job.site.threads)
            let_go(self.job.output)
            return result_of(self.recorder.record, self.job.output)


def publish_step(
    job: Job, outcomes: Iterable[StepOutcome], error: BaseException | None = None, stage: str | None = None
) -> SeriesResult | Conclusion:
    """Do what :func:`finish_step` does, but for what is left to do after a success."""
    outcomes = list(outcomes)
    recorder = _recorder_of(job)
    steps = steps_of(job, recorder)
    try:
        if error is None:
            with recorder.stage("publish") as notes:
                files = files_to_keep(job, recorder.record, failed=False)
                recorder.record.products, recorder.record.files = publish_products(job, recorder.record, outcomes, steps, files)
                notes.number("published", sum(product.bytes for product in recorder.record.products), "bytes")
            with stopping.closing():
                make_exports(job, recorder)
                steps.settle(finished=job.parts == ALL_PARTS)
    except BaseException as failure:  # noqa: BLE001  the boundary: what cannot be published costs this series alone
        error = failure
    with stopping.closing():
        if error is not None:
            return _fail(job, recorder, steps, error, stage)
        _remove_work(job, keep_products=False)
    return Conclusion(job, recorder)


def _fail(job: Job, recorder: Recorder, steps: Steps, error: BaseException, stage: str | None) -> SeriesResult:
    """Close the record of a failure, and keep what helps to understand it: beside an earlier result that stands, in a folder of its own.

    Raises
    ------
    BaseException
        The interrupt.
    """
    files = files_to_keep(job, recorder.record, failed=True)
    if isinstance(error, InputChangedError):
        files = [path for path in files if path.suffix == ".log"]  # the rest was made of no input that there is
        with kept_if_possible(recorder):
            steps.discard()
    earlier = stands(job.output) if still_whole(job.output) else None
    if earlier is not None:
        recorder.path = keep_attempt(job.output, files) / RECORD_NAME
        with kept_if_possible(recorder):
            steps.settle(finished=False, folder=FAILED_FOLDER)
    else:
        with kept_if_possible(recorder):
            steps.replacing(path.name for path in files)
            publish(files, job.output)
            steps.settle(finished=False)
    with recorder.held():
        recorder.fail(
            recorder.failed_stage() or stage or recorder.last_stage() or "start",
            reason(job.source, error, job.output, job.workdir),
            last_lines(job, error),
            error=type(error).__name__,
            kind=failure_kind(error),
        )
        # What an interrupted run has finished is where the next one finds it.
        _remove_work(job, keep_products=failure_kind(error) == "interrupted")
        conclude(recorder, job.site.thresholds)
    result = result_of(recorder.record, job.output)
    if earlier is not None:
        put_back(job.output, attempt_of(recorder.record, job.why_again, answered=job.answered), job.site.thresholds)
        result = replace(result, message=message_of(result.message or "", earlier, answered=job.answered))
    if not isinstance(error, Exception):
        raise error
    return result


def _remove_work(job: Job, *, keep_products: bool) -> None:
    if job.site.keep_workdir:
        _log.info("%s: scratch folder kept: %s", job.name, job.workdir)
    else:
        remove_scratch(job.workdir)
    if not keep_products:
        shutil.rmtree(products_folder(job), ignore_errors=True)


def _recorder_of(job: Job) -> Recorder:
    """Return the recorder of the series; a new one if the work failed before it could write any."""
    try:
        return Recorder.resume(job.record_path)
    except (OSError, FormatError):
        return Recorder.start(job.record_path, job.source, __version__)
