"""The end of the work on a series: what is kept, what is said, and what an earlier run left."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import tiltflow
from tiltflow import describe
from tiltflow.delivery.publish import publish, staging_folder
from tiltflow.errors import CommandError, FormatError, TiltflowError
from tiltflow.model import Asset, AssetType, SeriesResult, Thresholds
from tiltflow.pipeline.job import RECORD_NAME, Job, StepOutcome
from tiltflow.recipe import Recipe
from tiltflow.record import FailureKind, ProductEntry, Recorder, SeriesRecord, read_record
from tiltflow.report import verdict, write_series_page
from tiltflow.report.previews import write_previews

_log = logging.getLogger(__name__)

_FILES = (
    "*.log",
    "{name}.adoc",
    "{name}.xf",
    "{name}.tlt",
    "{name}.xtilt",
    "{name}_align.json",
    "{name}_local.json",
    "{name}_fid.txt",
)
_VOLUMES = ("{name}_ali.mrc", "{name}_rec.mrc", "{name}_rec_even.mrc", "{name}_rec_odd.mrc")
_LAST_LINES = 20


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
        and record.recipe.requested == recipe.digest
        and record.source == str(source)
        and record.source_bytes == status.st_size
        and record.source_modified == datetime.fromtimestamp(status.st_mtime, UTC)
        and all((output / product.path).exists() for product in record.products)
    )
    return result_of(record, output) if same else None


def resume(job: Job) -> Recorder:
    """Return the recorder of the series; a new one if the work failed before it could write any."""
    try:
        return Recorder.resume(job.record_path)
    except (OSError, FormatError):
        return Recorder.start(job.record_path, job.source, tiltflow.__version__)


def conclude(recorder: Recorder, thresholds: Thresholds) -> None:
    """Judge the result, and write the page of the series."""
    with as_extra(recorder, "the small copies of the movies"):
        write_previews(recorder.path.parent, recorder.record)
    with as_extra(recorder, "the report"):
        recorder.record.verdict = verdict.entry(verdict.judge(recorder.record, thresholds), thresholds)
        recorder.save()
        write_series_page(recorder.path.parent, recorder.record, thresholds)


def close_lost(result: SeriesResult, thresholds: Thresholds) -> None:
    """Close the record of a series whose process died before it could: the stage it was in is the one that failed."""
    if result.output is None:
        return
    path = result.output / RECORD_NAME
    try:
        if read_record(path).status != "running":
            return  # of an earlier run: this one died before it began
        recorder = Recorder.resume(path)
    except (OSError, FormatError):
        recorder = Recorder.start(path, result.source, tiltflow.__version__)
    at_work = next((entry for entry in reversed(recorder.record.stages) if entry.status == "running"), None)
    if at_work is not None:
        at_work.status = "failed"
    recorder.fail(at_work.name if at_work else result.stage or "start", result.message or "its process died")
    conclude(recorder, thresholds)


@contextmanager
def as_extra(recorder: Recorder, what: str) -> Iterator[None]:
    """Do what only tells of a result: if it fails, the result stands and a warning says so."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the boundary: no report is worth a series
        _log.debug("%s: %s", recorder.record.name, what, exc_info=error)
        recorder.warn(f"{what} could not be made ({type(error).__name__}: {error})")


def last_lines(job: Job, error: BaseException) -> list[str]:
    """Return the end of what the failed program printed, or else of the log of the series."""
    if isinstance(error.__cause__, CommandError):
        return list(error.__cause__.last_lines[-_LAST_LINES:])
    try:
        lines = (job.output / f"{job.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return lines[-_LAST_LINES:]


def failure_kind(error: BaseException) -> FailureKind:
    """Return whether a series failed because it was interrupted, or by an error that nobody expected."""
    if not isinstance(error, Exception):
        return "interrupted"
    return "" if isinstance(error, (TiltflowError, OSError, MemoryError)) else "defect"


def reason(job: Job, error: BaseException) -> str:
    """Return why the series failed, in words for its owner; what nobody expected is logged with its traceback."""
    if isinstance(error, TiltflowError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{job.source.name}: not enough memory ({error}); run fewer series at once (--jobs) or bin the aligned stack"
    if isinstance(error, OSError):
        return f"{job.source.name}: the system refused a file: {error}"
    if failure_kind(error) == "interrupted":
        return f"interrupted ({type(error).__name__}); run the same command again to do this series"
    _log.error("%s: unexpected error", job.name, exc_info=error)
    return f"{type(error).__name__}: {error}. This is a defect of tiltflow, not of your data; the log has the details"


def files_to_keep(job: Job, patterns: Sequence[str] = _FILES) -> list[Path]:
    """Return what the engine left in the work folder and a user wants to keep, of failures too."""
    return sorted({path for pattern in patterns for path in job.workdir.glob(pattern.format(name=glob.escape(job.name)))})


def products_folder(job: Job) -> Path:
    """Return where the products are made: hidden beside their place, so that they need no room in the work folder."""
    return staging_folder(job.output, job.workdir.name)


def publish_products(job: Job, outcomes: Sequence[StepOutcome]) -> list[ProductEntry]:
    """Put products and volumes into the folder of the series, all or none, and return their entries."""
    assets = [asset for outcome in outcomes for asset in outcome.assets]
    tops = sorted({Path(asset.path).parts[0] for asset in assets})
    volumes = files_to_keep(job, _VOLUMES) if job.keep_volumes else []
    publish([*(products_folder(job) / top for top in tops), *volumes], job.output)
    return [describe.product(asset, job.output) for asset in assets]


def result_of(record: SeriesRecord, output: Path) -> SeriesResult:
    """Return the result that a record tells of."""
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
