"""The end of the work on a series: the verdict and the page, and the result from a record."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from tiltflow.disk import sync, sync_folder
from tiltflow.errors import FormatError
from tiltflow.formats.identity import Identity
from tiltflow.pipeline.failure import optional
from tiltflow.pipeline.job import RECORD_NAME
from tiltflow.pipeline.standing import recover, stands
from tiltflow.pipeline.step_book import frame_stacks_of, unfinished_folder
from tiltflow.record import Recorder, SeriesRecord, read_record
from tiltflow.report import PAGE_NAME, verdict, write_series_page
from tiltflow.report.pictures import FOLDER as PICTURES
from tiltflow.report.previews import write_previews
from tiltflow.version import __version__
from tiltflow.work import Asset, AssetType, SeriesResult, Thresholds


def conclude(recorder: Recorder, thresholds: Thresholds, *, threads: int = 1) -> None:
    """Judge the result, and write the report of the series."""
    with optional(recorder, "the small copies of the movies"):
        write_previews(recorder.path.parent, recorder.record, threads=threads)
    with optional(recorder, "the report"):
        recorder.record.verdict = verdict.entry(verdict.judge(recorder.record, thresholds), thresholds)
        recorder.save()
        write_series_page(recorder.path.parent, recorder.record, thresholds)
        folder = recorder.path.parent
        sync(path for path in (folder / PICTURES, folder / PAGE_NAME) if path.exists())
        sync_folder(folder)


def complete(result: SeriesResult, output: Path, identity: Identity, thresholds: Thresholds) -> SeriesResult:
    """Return a result that is kept, brought up to date: where its stack is now, and what an interrupted run did not come to.

    Parameters
    ----------
    result
        It names the stack where that is now.
    identity
        Of the stack that the result was compared with: nothing is written of a stack that nobody looked at.
    """
    shutil.rmtree(unfinished_folder(output), ignore_errors=True)
    path, source = output / RECORD_NAME, result.source
    record = read_record(path)
    moved = record.source != str(source)
    frames = frame_stacks_of(identity)
    as_it_was = record.source_state == identity.state and record.frame_stacks == frames
    if not moved and as_it_was and (output / PAGE_NAME).is_file():
        return result
    record.frame_stacks = frames
    record.source, record.source_state = str(source), identity.state
    record.source_bytes, record.source_modified = identity.state[1], datetime.fromtimestamp(identity.state[2] / 1e9, UTC)
    recorder = Recorder(path, record)
    if moved or not (output / PAGE_NAME).is_file():
        conclude(recorder, thresholds)
    return result_of(record, output)


def close_lost(result: SeriesResult, thresholds: Thresholds) -> SeriesResult:
    """Close the record of a series whose process died, and return the result with the stage that was running, which has failed."""
    if result.output is None:
        return result
    if stands(result.output) is not None:
        recover(result.output, thresholds, result.message or "its process died")
    path = result.output / RECORD_NAME
    try:
        if read_record(path).status != "running":
            return result  # the record of an earlier run: this one died before it began
        recorder = Recorder.resume(path)
    except (OSError, FormatError):
        recorder = Recorder.start(path, result.source, __version__)
    at_work = next((entry for entry in reversed(recorder.record.stages) if entry.status == "running"), None)
    if at_work is not None:
        at_work.status = "failed"
    recorder.fail(at_work.name if at_work else result.stage or "start", result.message or "its process died")
    conclude(recorder, thresholds)
    return result_of(recorder.record, result.output)


def result_of(record: SeriesRecord, output: Path) -> SeriesResult:
    """Return the result from a record."""
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
