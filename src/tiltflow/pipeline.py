"""The one function that joins the floors: a series goes in, products and a record come out.

:func:`process` does one series, :func:`run` a list of them.  The same work is cut into steps that can run in different processes
(:func:`reconstruct_step`, :func:`product_step`, :func:`finish_step`), which is what an orchestrator wraps.  A series that fails is
a result with `status="error"`, its stage and its reason; it never costs another series anything.
"""

from __future__ import annotations

import glob
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tiltflow
from tiltflow import describe
from tiltflow.delivery.cleanup import make_scratch, remove_scratch
from tiltflow.delivery.publish import publish
from tiltflow.engines.base import EngineJob, StageProgress, silent
from tiltflow.engines.choice import choose_engine
from tiltflow.errors import CommandError, FormatError, ParameterError, TiltflowError
from tiltflow.formats.series import read_series
from tiltflow.model import Asset, AssetType, Reconstruction, SeriesResult, Site
from tiltflow.products.catalogue import STEPS, ProductContext
from tiltflow.recipe import Recipe
from tiltflow.record import (
    AlignmentEntry,
    EngineEntry,
    NumberEntry,
    ProductEntry,
    Recorder,
    RunRecord,
    RunRecorder,
    RunSeriesEntry,
    SeriesRecord,
    StageEntry,
    read_record,
)
from tiltflow.report import verdict, write_run_pages, write_series_page
from tiltflow.report.gather import gather_view, gather_volume

_log = logging.getLogger(__name__)

RECORD_NAME = "run.json"
_PRODUCTS = "products"
_FILES = ("*.log", "{name}.adoc", "{name}.xf", "{name}.tlt", "{name}.xtilt", "{name}_align.json", "{name}_fid.txt")
_LAST_LINES = 20
_VOLUMES = ("{name}_ali.mrc", "{name}_rec.mrc")

_series_name: ContextVar[str] = ContextVar("series_name", default="")


@dataclass(frozen=True, slots=True)
class Job:
    """One series to process.

    Attributes
    ----------
    source
        The stack of images.
    output
        The folder of the series: its products, files and record.
    workdir
        A scratch folder of its own.
    keep_volumes
        Whether the aligned stack and the volume are put beside the products.
    """

    source: Path
    recipe: Recipe
    site: Site
    output: Path
    workdir: Path
    keep_volumes: bool = True

    @property
    def name(self) -> str:
        """The base name."""
        return self.source.stem

    @property
    def record_path(self) -> Path:
        """Where the record of the series is kept."""
        return self.output / RECORD_NAME


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one product step made, small enough to travel between processes."""

    assets: tuple[Asset, ...]
    stage: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of every series of a run, in the order given."""

    results: tuple[SeriesResult, ...] = ()

    @property
    def failed(self) -> tuple[SeriesResult, ...]:
        """The series without products."""
        return tuple(result for result in self.results if not result.ok)


@dataclass(frozen=True, slots=True)
class SeriesProgress:
    """A word on one series: the stage it is in and the fraction of that stage done; `result` at its end."""

    name: str
    stage: str
    fraction: float
    result: SeriesResult | None = None


OnProgress = Callable[[SeriesProgress], None]


def _nobody(_progress: SeriesProgress) -> None:
    pass


def run(
    sources: Sequence[Path],
    recipe: Recipe,
    site: Site,
    output: Path,
    *,
    jobs: int = 1,
    keep_volumes: bool = True,
    redo: bool = False,
    on_progress: OnProgress = _nobody,
) -> RunResult:
    """Process every series into a folder of its own under `output`, `jobs` of them at once.

    The base names must differ, as :func:`tiltflow.delivery.layout.find_series` sees to.  A series whose earlier result is complete,
    and was made by the same recipe from the same file, is not done again unless `redo`.
    """
    stop = threading.Event()
    results: dict[Path, SeriesResult] = {}
    recorder = _start_run(sources, recipe, output, jobs)

    def report(progress: SeriesProgress) -> None:
        if stop.is_set() and progress.result is None:
            raise KeyboardInterrupt
        on_progress(progress)

    def one(source: Path) -> SeriesResult:
        result = process(
            source, recipe, site, output=output / source.stem, keep_volumes=keep_volumes, redo=redo, on_progress=report
        )
        recorder.done(result)
        return result

    with _closed(recorder, output, site):
        if jobs <= 1:
            return RunResult(tuple(one(source) for source in sources))
        with ThreadPoolExecutor(jobs) as pool:
            waiting = {pool.submit(one, source): source for source in sources}
            try:
                while waiting:
                    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        results[waiting.pop(future)] = future.result()
            except BaseException:
                stop.set()  # the series that are running stop at their next sign of progress
                for future in waiting:
                    future.cancel()
                raise
        return RunResult(tuple(results[source] for source in sources))


def process(
    source: Path,
    recipe: Recipe,
    site: Site,
    *,
    output: Path,
    keep_volumes: bool = True,
    redo: bool = False,
    on_progress: OnProgress = _nobody,
) -> SeriesResult:
    """Align, reconstruct and make every product of one series; expected failures come back as a result."""
    name = source.stem
    with _logged(output, name):
        result = None if redo else earlier_result(source, recipe, output)
        if result is None:
            job = Job(source, recipe, site, output, make_scratch(source, site.scratch), keep_volumes)
            result = _work(job, on_progress)
        else:
            _log.info("%s: already done with this recipe, nothing to do", name)
    on_progress(SeriesProgress(name, result.stage or "done", 1.0, result))
    return result


def _work(job: Job, on_progress: OnProgress) -> SeriesResult:
    outcomes: list[StepOutcome] = []
    error: BaseException | None = None
    stage: str | None = None

    def report(stage: str, fraction: float) -> None:
        on_progress(SeriesProgress(job.name, stage, fraction))

    try:
        reconstruct_step(job, report)
        for step in STEPS:
            stage = step.name
            outcomes.append(product_step(job, stage, report))
    except BaseException as caught:  # noqa: BLE001  the boundary: finish_step records it, and raises again what must not be held back
        error = caught
    return finish_step(job, outcomes, error, stage)


def reconstruct_step(job: Job, progress: StageProgress = silent) -> Reconstruction:
    """Read the series, let the engine align and reconstruct it, and record everything on the way.

    Raises
    ------
    TiltflowError
        With the reason, if the series cannot be processed.
    """
    recorder = Recorder.start(job.record_path, job.source, tiltflow.__version__)
    recorder.record.recipe = describe.recipe(job.recipe)
    with recorder.stage("read") as notes:
        series = read_series(job.source, job.recipe.hints)
        recorder.record.input = describe.series(series)
        for problem in series.problems:
            notes.warn(f"{problem.message} ({problem.where})")
        notes.number("views", series.shape[0])
    with recorder.stage("picture"), _harmless(recorder, "the picture of the raw series"):
        gather_view(recorder, series, job.output)
    with recorder.stage("check"):
        engine, reason = choose_engine(job.recipe.engine)
        recorder.record.engine = EngineEntry(name=engine.name, version=engine.version, reason=reason)
        _log.info("%s: engine %s, because %s", job.name, engine.name, reason)
        work = EngineJob(
            series,
            job.recipe.for_engine(engine.name).for_series(series.pixel_size_angstrom),
            job.site,
            job.workdir,
            recorder,
            progress,
        )
        recorder.record.recipe = describe.recipe(work.recipe)
        for problem in work.recipe.report.problems:
            recorder.warn(f"{problem.message} ({problem.where})")
        engine.check(work)
    result = engine.reconstruct(work)
    if result.alignment is not None:
        recorder.record.alignment = AlignmentEntry.model_validate(describe.alignment(result.alignment, series))
        recorder.save()
    with recorder.stage("measure"), _harmless(recorder, "the measure of the volume"):
        gather_volume(recorder, result.volume, job.output, threads=job.site.threads)
    return result


def product_step(job: Job, step_name: str, progress: StageProgress = silent) -> StepOutcome:
    """Make the products of one step of the catalogue from the engine's files in the work folder.

    Raises
    ------
    ParameterError
        If the catalogue has no such step.
    TiltflowError
        If these data give no such product, with the reason.
    """
    step = next((step for step in STEPS if step.name == step_name), None)
    if step is None:
        raise ParameterError(f"There is no product step {step_name!r}; there are {', '.join(step.name for step in STEPS)}")
    folder = job.workdir / _PRODUCTS
    folder.mkdir(exist_ok=True)
    context = ProductContext(
        name=job.name,
        aligned=job.workdir / f"{job.name}_ali.mrc",
        volume=job.workdir / f"{job.name}_rec.mrc",
        folder=folder,
        threads=job.site.threads,
    )
    begin, started = time.perf_counter(), datetime.now(UTC)
    made = step.make(context, lambda fraction: progress(step.name, fraction))
    entry = StageEntry(name=step.name, started=started, status="done", notes=list(made.notes))
    entry.numbers = {key: NumberEntry(value=number.value, unit=number.unit) for key, number in made.numbers.items()}
    entry.seconds = round(time.perf_counter() - begin, 3)
    _log.info("%s: %s done in %.1f s", job.name, step.name, entry.seconds)
    return StepOutcome(tuple(made.assets), entry.model_dump(mode="json"))


def finish_step(
    job: Job, outcomes: Iterable[StepOutcome], error: BaseException | None = None, stage: str | None = None
) -> SeriesResult:
    """Publish what there is (products only of a success, logs always), close the record, remove the scratch folder.

    Parameters
    ----------
    job, outcomes
        The series and what its product steps made.
    error, stage
        What went wrong and in which product step.  An unexpected exception is logged with its traceback and recorded as a defect
        of tiltflow; an interrupt is recorded, then raised again.
    """
    outcomes = list(outcomes)
    recorder = _resume(job)
    recorder.record.stages += [StageEntry.model_validate(outcome.stage) for outcome in outcomes]
    try:
        publish(_files(job, _FILES), job.output)
        if error is None:
            stage = "publish"
            recorder.record.products = _publish_products(job, outcomes)
            recorder.succeed()
    except (TiltflowError, OSError) as failure:
        error = failure
    if error is not None:
        recorder.fail(
            recorder.failed_stage() or stage or "start", _reason(job, error), _last_lines(job, error), error=type(error).__name__
        )
    if job.site.keep_workdir:
        _log.info("%s: scratch folder kept: %s", job.name, job.workdir)
    else:
        remove_scratch(job.workdir)
    _conclude(job, recorder)
    if error is not None and not isinstance(error, Exception):
        raise error
    return _result(recorder.record, job.output)


def earlier_result(source: Path, recipe: Recipe, output: Path) -> SeriesResult | None:
    """Return the result that stands in `output` if it is complete and was made from this very file by this very recipe."""
    path = output / RECORD_NAME
    if not path.is_file():
        return None
    try:
        record = read_record(path)
        status = source.stat()
    except (FormatError, OSError):
        return None
    same = (
        record.status == "success"
        and record.tiltflow == tiltflow.__version__
        and record.recipe is not None
        and record.recipe.digest == recipe.digest
        and record.source == str(source)
        and record.source_bytes == status.st_size
        and record.source_modified == datetime.fromtimestamp(status.st_mtime, UTC)
        and all((output / product.path).exists() for product in record.products)
    )
    return _result(record, output) if same else None


def _resume(job: Job) -> Recorder:
    """Return the recorder of the series; a new one if the work failed before it could write any."""
    try:
        return Recorder.resume(job.record_path)
    except (OSError, FormatError):
        return Recorder.start(job.record_path, job.source, tiltflow.__version__)


def _conclude(job: Job, recorder: Recorder) -> None:
    """Judge the result, and write the page of the series."""
    with _harmless(recorder, "the report"):
        recorder.record.verdict = verdict.entry(verdict.judge(recorder.record, job.site.thresholds), job.site.thresholds)
        recorder.save()
        write_series_page(job.output, recorder.record, job.site.thresholds)


@contextmanager
def _harmless(recorder: Recorder, what: str) -> Iterator[None]:
    """Do what only tells of a result: if it fails, the result stands and a warning says so."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the boundary: no report is worth a series
        _log.debug("%s: %s", recorder.record.name, what, exc_info=error)
        recorder.warn(f"{what} could not be made ({type(error).__name__}: {error})")


def _start_run(sources: Sequence[Path], recipe: Recipe, output: Path, jobs: int) -> RunRecorder:
    series = [RunSeriesEntry(name=path.stem, source=str(path), record=f"{path.stem}/{RECORD_NAME}") for path in sources]
    record = RunRecord(
        tiltflow=tiltflow.__version__,
        started=datetime.now(UTC),
        jobs=jobs,
        template=recipe.template,
        digest=recipe.digest,
        series=series,
    )
    return RunRecorder(output / RECORD_NAME, record)


@contextmanager
def _closed(recorder: RunRecorder, output: Path, site: Site) -> Iterator[None]:
    """Close the record of a run and write its pages, however it ends."""
    try:
        yield
        recorder.close("done")
    except BaseException:
        recorder.close("interrupted")
        raise
    finally:
        try:
            write_run_pages(output, site.thresholds)
        except Exception:  # noqa: BLE001  the boundary: no report is worth a run
            _log.warning("the index of %s could not be written", output, exc_info=True)


def _last_lines(job: Job, error: BaseException) -> list[str]:
    """Return the end of what the failed program printed, or else of the log of the series."""
    if isinstance(error.__cause__, CommandError):
        return list(error.__cause__.last_lines[-_LAST_LINES:])
    try:
        lines = (job.output / f"{job.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return lines[-_LAST_LINES:]


def _reason(job: Job, error: BaseException) -> str:
    if isinstance(error, TiltflowError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{job.source.name}: not enough memory ({error}); run fewer series at once (--jobs) or bin the aligned stack"
    if isinstance(error, OSError):
        return f"{job.source.name}: the system refused a file: {error}"
    if not isinstance(error, Exception):
        return f"interrupted ({type(error).__name__}); run the same command again to do this series"
    _log.error("%s: unexpected error", job.name, exc_info=error)
    return f"{type(error).__name__}: {error}. This is a defect of tiltflow, not of your data; the log has the details"


def _files(job: Job, patterns: Sequence[str]) -> list[Path]:
    """Return what the engine left in the work folder and a user wants to keep."""
    return sorted({path for pattern in patterns for path in job.workdir.glob(pattern.format(name=glob.escape(job.name)))})


def _publish_products(job: Job, outcomes: Sequence[StepOutcome]) -> list[ProductEntry]:
    assets = [asset for outcome in outcomes for asset in outcome.assets]
    tops = sorted({Path(asset.path).parts[0] for asset in assets})
    volumes = _files(job, _VOLUMES) if job.keep_volumes else []
    publish([*(job.workdir / _PRODUCTS / top for top in tops), *volumes], job.output)
    return [describe.product(asset, job.output) for asset in assets]


def _result(record: SeriesRecord, output: Path) -> SeriesResult:
    return SeriesResult(
        source=Path(record.source),
        status="success" if record.status == "success" else "error",
        message=record.message,
        stage=record.failure.stage if record.failure else None,
        assets=tuple(Asset(AssetType(entry.type), entry.path, entry.metadata) for entry in record.products),
        stages=record.stage_records(),
        output=output,
        verdict=verdict.from_entry(record.verdict) if record.verdict else None,
    )


@contextmanager
def _logged(output: Path, name: str) -> Iterator[None]:
    """Send what is logged while a series is processed to a file of its own, also when several are processed at once."""
    output.mkdir(parents=True, exist_ok=True)
    token = _series_name.set(name)
    handler = logging.FileHandler(output / f"{name}.log", mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    handler.addFilter(lambda _record: _series_name.get() == name)
    logger = logging.getLogger("tiltflow")
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)  # what is printed elsewhere is for the handlers there to decide
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        _series_name.reset(token)
