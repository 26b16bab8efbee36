"""Recorders: they keep records on disk while the work goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel

from tiltflow import stopping
from tiltflow.atomic_write import write_text
from tiltflow.disk import NO_SPACE
from tiltflow.observer import StageProgress, silent_progress
from tiltflow.record.as_json import as_json
from tiltflow.record.reading import read_record
from tiltflow.record.schema import (
    FailureEntry,
    FailureKind,
    NumberEntry,
    RunRecord,
    RunSeriesEntry,
    SeriesRecord,
    StageEntry,
)
from tiltflow.work import Quantity, SeriesResult

_log = logging.getLogger(__name__)

_behind: dict[Path, BaseModel] = {}
"""Records that could not be written for lack of space, as they should be on disk; a warning was logged for each."""


class StageNotes:
    """Records the numbers and notes of the running stage; an observer of a stage (:mod:`tiltflow.observer`)."""

    def __init__(self, entry: StageEntry, recorder: Recorder) -> None:
        self._entry = entry
        self._recorder = recorder

    def number(self, name: str, value: float | str | None, unit: str = "") -> None:
        """Record a number with its unit."""
        self._entry.numbers[name] = NumberEntry(value=_plain(value), unit=unit)

    def numbers(self, quantities: Mapping[str, Quantity]) -> None:
        """Record several numbers."""
        for name, quantity in quantities.items():
            self.number(name, quantity.value, quantity.unit)

    def note(self, text: str) -> None:
        """Record a sentence that explains what was done."""
        self._entry.notes.append(text)

    def warn(self, text: str) -> None:
        """Record a warning: of this stage, and of the series."""
        self._recorder.warn(f"{self._entry.name}: {text}")

    def progress(self, fraction: float) -> None:
        """Pass on the fraction of the stage that is done; the work may be asked to end there."""
        stopping.ask()
        self._recorder.on_progress(self._entry.name, fraction)


class Recorder:
    """Keeps the record of one series on disk, up to date at every moment; an observer (:mod:`tiltflow.observer`).

    Parameters
    ----------
    path
        The `run.json` to write.
    record
        What is known at the start.
    on_progress
        Receives the running stage and the fraction of it that is done, 0 to 1.
    """

    def __init__(self, path: Path, record: SeriesRecord, on_progress: StageProgress = silent_progress) -> None:
        self.path = path
        self.record = record
        self.on_progress = on_progress
        self._held = False
        self.save()

    @classmethod
    def start(cls, path: Path, source: Path, version: str, *, name: str = "") -> Self:
        """Return a recorder for work that begins now; the series is named after its source, if no other name is given."""
        record = SeriesRecord(name=name or source.stem, source=str(source), tiltflow=version, started=datetime.now(UTC))
        try:
            status = source.stat()
        except OSError:
            pass  # the reader reports what is wrong with the file
        else:
            record.source_bytes = status.st_size
            record.source_modified = datetime.fromtimestamp(status.st_mtime, UTC)
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path, record)

    @classmethod
    def resume(cls, path: Path) -> Self:
        """Return a recorder that continues the record in a file: the next step, perhaps on another machine.

        Where a full disk holds an old state of it, that which this process last had goes on.

        Raises
        ------
        FormatError
            If the file is not a record.
        OSError
            If it cannot be read.
        """
        newest = _behind.get(path)
        return cls(path, newest if isinstance(newest, SeriesRecord) else read_record(path))

    def save(self, *, durable: bool = False) -> None:
        """Write the record to a hidden file, then rename it; with `durable` so that it outlives a power cut."""
        if not self._held:
            _write(self.path, self.record, durable=durable)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Write nothing inside the `with` block, and all at its end: until then the record on disk says that the work goes on.

        After an exception nothing is written.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.save(durable=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageNotes]:
        """Time a stage; one that ends by an exception is recorded as failed.  The work may be asked to end before it begins."""
        entry = StageEntry(name=name, started=datetime.now(UTC))
        self.record.stages.append(entry)
        self.save()
        begin = time.perf_counter()
        try:
            stopping.ask()
            yield StageNotes(entry, self)
            entry.status = "done"
        finally:
            if entry.status != "done":
                entry.status = "failed"
            entry.seconds = round(time.perf_counter() - begin, 3)
            self.save()
        headline = next(
            (
                f", {key} {number.value:.4g} {number.unit}".rstrip()
                for key, number in entry.numbers.items()
                if isinstance(number.value, (int, float))
            ),
            "",
        )
        _log.info("%s: %s done in %.1f s%s", self.record.name, name, entry.seconds, headline)

    def warn(self, text: str) -> None:
        """Record a warning once, and log it."""
        if text not in self.record.warnings:
            self.record.warnings.append(text)
            _log.warning("%s: %s", self.record.name, text)
            self.save()

    def fail(self, stage: str, reason: str, last_lines: Sequence[str] = (), *, error: str = "", kind: FailureKind = "") -> None:
        """Record why the series has no products; `error` is the name of the exception's class."""
        self.record.status = "error"
        self.record.message = reason
        self.record.failure = FailureEntry(stage=stage, reason=reason, error=error, kind=kind, last_lines=list(last_lines))
        self.record.finished = datetime.now(UTC)
        self.save(durable=True)

    def succeed(self) -> None:
        """Record that all is done."""
        self.record.status = "success"
        self.record.finished = datetime.now(UTC)
        self.save(durable=True)

    def last_stage(self) -> str | None:
        """Return the name of the stage that began last: what fails between two stages fails after it."""
        return self.record.stages[-1].name if self.record.stages else None

    def failed_stage(self) -> str | None:
        """Return the name of the last stage that failed, unless the work went on without it."""
        stages = self.record.stages
        failed = next((entry for entry in reversed(stages) if entry.status == "failed"), None)
        if failed is None:
            return None
        end = failed.started + timedelta(seconds=failed.seconds or 0.0)
        return None if any(entry.started > end for entry in stages) else failed.name


class RunRecorder:
    """Keeps the record of a run on disk; series may report from several threads.

    Attributes
    ----------
    page
        The page of the run as it ended; None until it is written, and where it cannot be.
    """

    def __init__(self, path: Path, record: RunRecord) -> None:
        self.path = path
        self.record = record
        self.page: Path | None = None
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._save()

    def expect(self, entry: RunSeriesEntry) -> None:
        """Record that a series is to be done which was not known when the run began, or that is done again."""
        with self._lock:
            others = [each for each in self.record.series if each.source != entry.source]
            self.record.series = [*others, entry]
            self._save()

    def done(self, result: SeriesResult) -> None:
        """Record the result of one series."""
        with self._lock:
            for entry in self.record.series:
                if entry.source == str(result.source):
                    entry.status = "success" if result.ok else "error"
                    entry.message = result.message
                    entry.verdict = result.verdict.level if result.verdict else None
                    entry.seconds = round(sum(stage.seconds for stage in result.stages), 3)
            self._save()

    def close(self, status: Literal["done", "interrupted"]) -> None:
        """Record that the run is over."""
        with self._lock:
            self.record.status = status
            self.record.finished = datetime.now(UTC)
            self._save()

    def _save(self) -> None:
        """Write the record; one that cannot be written is a warning, since every series has a record of its own."""
        try:
            _write(self.path, self.record, durable=True)
        except OSError as error:
            if self.path not in _behind:
                _log.warning("%s: is not up to date, as it cannot be written: %s", self.path, error.strerror)
            _behind[self.path] = self.record


def _write(path: Path, record: BaseModel, *, durable: bool = False) -> None:
    text = as_json(record)
    try:
        write_text(path, text + "\n", durable=durable)
        _behind.pop(path, None)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        # The work may still succeed, or will report why not; the record is written as soon as there is room.
        if path not in _behind:
            _log.warning("%s: is not up to date, as it cannot be written: %s; make room there", path, error.strerror)
        _behind[path] = record


def _plain(value: Any) -> Any:
    """Return a plain Python number for a NumPy one."""
    return value.item() if hasattr(value, "item") else value
