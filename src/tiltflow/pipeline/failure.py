"""Failures: their kind, the reason in words, the last lines of the log, and steps that may fail without costing the result."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiltflow.disk import NO_SPACE, no_room
from tiltflow.errors import CommandError, TiltflowError
from tiltflow.pipeline.job import Job
from tiltflow.record import FailureKind, Recorder, SeriesRecord
from tiltflow.work import SeriesResult

_log = logging.getLogger(__name__)

_LAST_LINES = 20


def failure_kind(error: BaseException) -> FailureKind:
    """Return whether a series failed because it was interrupted, or by an unexpected error."""
    if not isinstance(error, Exception):
        return "interrupted"
    return "" if isinstance(error, (TiltflowError, OSError, MemoryError)) else "defect"


def reason(source: Path, error: BaseException, *places: Path) -> str:
    """Return why the series failed, in words for its owner; an unexpected error is logged with its traceback.

    `places` are the folders that its work writes to.
    """
    if isinstance(error, TiltflowError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{source.name}: not enough memory ({error}); run fewer series at once (--jobs) or bin the aligned stack"
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return no_room(error, *places)
    if isinstance(error, OSError):
        return f"{source.name}: a file could not be read or written: {error}"
    if failure_kind(error) == "interrupted":
        return f"interrupted ({str(error) or type(error).__name__}); run the same command again to do this series"
    _log.error("%s: unexpected error", source.stem, exc_info=error)
    return f"{type(error).__name__}: {error}. This is a defect of tiltflow, not of your data; the log has the details"


def last_lines(job: Job, error: BaseException) -> list[str]:
    """Return the last lines that the failed program printed, or else those of the log of the series."""
    if isinstance(error.__cause__, CommandError):
        return list(error.__cause__.last_lines[-_LAST_LINES:])
    try:
        lines = (job.output / f"{job.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return lines[-_LAST_LINES:]


def outside_of_the_work(source: Path, output: Path | None, error: Exception) -> SeriesResult:
    """Return the result of a series whose work could not begin or end: no log, no record, no scratch folder."""
    message = reason(source, error, *([output] if output is not None else []))
    return SeriesResult(source=source, status="error", message=message, stage="start", output=output)


VOLUME_STATISTICS = "the statistics of the volume"
"""They come with its pictures."""
_UNMADE = "could not be made"


def unmade(record: SeriesRecord, what: str) -> bool:
    """Return whether a step that the result does not depend on failed, so that the next run may make up for it."""
    return any(warning.startswith(f"{what} {_UNMADE}") for warning in record.warnings)


@contextmanager
def kept_if_possible(recorder: Recorder) -> Iterator[None]:
    """Keep what failed work left: if that fails too, on a full disk for instance, a warning is recorded, and the first reason stays."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the boundary: what cannot be kept costs this series alone
        recorder.warn(f"what the failed work left is not kept ({error})")


@contextmanager
def optional(recorder: Recorder, what: str) -> Iterator[None]:
    """Run a step that the result does not depend on: if it fails, a warning is recorded."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the boundary: no report is worth a series
        _log.debug("%s: %s", recorder.record.name, what, exc_info=error)
        recorder.warn(f"{what} {_UNMADE} ({type(error).__name__}: {error})")
