"""What happened, written down as it happens.

One `run.json` per series: the inputs and where each value was read, the recipe and its hash, every directive and its fate, the
stages with their seconds and numbers, the alignment's evidence, the products with sizes and checksums, warnings, and the failure
if there was one.  The file is rewritten whole (beside, then renamed) after every change, so a killed run leaves a readable record
that says what it was doing.  :class:`SeriesRecord` is the published schema.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tiltflow.errors import FormatError
from tiltflow.model import Quantity, StageRecord

SCHEMA = "tiltflow/series-record/1"

_log = logging.getLogger(__name__)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, ser_json_inf_nan="null")


class NumberEntry(_Entry):
    """A number with its unit; the value is null where it could not be computed."""

    value: float | int | str | None
    unit: str = ""


class StageEntry(_Entry):
    """One stage of the work."""

    name: str
    status: Literal["running", "done", "failed"] = "running"
    started: datetime
    seconds: float | None = None
    numbers: dict[str, NumberEntry] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class ValueEntry(_Entry):
    """A value of the input and where it was read."""

    value: Any
    unit: str = ""
    source: str = ""


class DirectiveEntry(_Entry):
    """A directive and its fate."""

    name: str
    value: str
    status: str
    reason: str = ""
    origin: str = ""


class ProductEntry(_Entry):
    """A file or folder among the products."""

    type: str
    path: str
    bytes: int
    sha256: str | None = None
    metadata: dict[str, Any] | None = None


class EngineEntry(_Entry):
    """Which engine did the work, and why that one."""

    name: str
    version: str
    reason: str


class RecipeEntry(_Entry):
    """The recipe: `digest` is equal when the result must be."""

    template: str
    digest: str
    parameters: dict[str, Any]
    directives: list[DirectiveEntry] = Field(default_factory=list)


class FailureEntry(_Entry):
    """Why a series has no products."""

    stage: str
    reason: str
    last_lines: list[str] = Field(default_factory=list)


class SeriesRecord(_Entry):
    """Everything known of the work on one series; angles in degrees, other units with each number."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_by_name=True, ser_json_inf_nan="null")

    record_schema: str = Field(default=SCHEMA, alias="schema")
    name: str
    source: str
    source_bytes: int | None = None
    source_modified: datetime | None = None
    status: Literal["running", "success", "error"] = "running"
    message: str | None = None
    tiltflow: str
    started: datetime
    finished: datetime | None = None
    engine: EngineEntry | None = None
    input: dict[str, ValueEntry] = Field(default_factory=dict)
    recipe: RecipeEntry | None = None
    stages: list[StageEntry] = Field(default_factory=list)
    alignment: dict[str, Any] | None = None
    products: list[ProductEntry] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    failure: FailureEntry | None = None

    def stage_records(self) -> tuple[StageRecord, ...]:
        """Return what each stage did."""
        return tuple(
            StageRecord(
                name=entry.name,
                seconds=entry.seconds or 0.0,
                status=entry.status,
                numbers={
                    key: Quantity(number.value, number.unit) for key, number in entry.numbers.items() if number.value is not None
                },
                notes=tuple(entry.notes),
            )
            for entry in self.stages
        )


def read_record(path: Path) -> SeriesRecord:
    """Return the record in a `run.json`.

    Raises
    ------
    FormatError
        If the file is not a record of this schema.
    """
    try:
        return SeriesRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise FormatError(f"{path} is not a record of a tiltflow run ({error.error_count()} problems): {error}") from error


class StageNotes:
    """Takes down the numbers and notes of the stage that is running."""

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


class Recorder:
    """Keeps the record of one series on disk, up to date at every moment.

    Parameters
    ----------
    path
        The `run.json` to write.
    record
        What is known at the start.
    """

    def __init__(self, path: Path, record: SeriesRecord) -> None:
        self.path = path
        self.record = record
        self.save()

    @classmethod
    def start(cls, path: Path, source: Path, version: str) -> Recorder:
        """Return a recorder for work that begins now."""
        record = SeriesRecord(name=source.stem, source=str(source), tiltflow=version, started=datetime.now(UTC))
        try:
            status = source.stat()
        except OSError:
            pass  # the reader says what is wrong with the file
        else:
            record.source_bytes = status.st_size
            record.source_modified = datetime.fromtimestamp(status.st_mtime, UTC)
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path, record)

    @classmethod
    def resume(cls, path: Path) -> Recorder:
        """Return a recorder that goes on with the record in a file: the next step, perhaps on another machine."""
        return cls(path, read_record(path))

    def save(self) -> None:
        """Write the record beside its place, then rename it."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        beside.write_text(self.record.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8")
        beside.replace(self.path)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageNotes]:
        """Time a stage; whatever leaves by an exception is recorded as failed."""
        entry = StageEntry(name=name, started=datetime.now(UTC))
        self.record.stages.append(entry)
        self.save()
        begin = time.perf_counter()
        try:
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

    def fail(self, stage: str, reason: str, last_lines: Sequence[str] = ()) -> None:
        """Record why the series has no products."""
        self.record.status = "error"
        self.record.message = reason
        self.record.failure = FailureEntry(stage=stage, reason=reason, last_lines=list(last_lines))
        self.record.finished = datetime.now(UTC)
        self.save()

    def succeed(self) -> None:
        """Record that all is done."""
        self.record.status = "success"
        self.record.finished = datetime.now(UTC)
        self.save()

    def failed_stage(self) -> str | None:
        """Return the name of the last stage that failed."""
        return next((entry.name for entry in reversed(self.record.stages) if entry.status == "failed"), None)


def _plain(value: Any) -> Any:
    """Return a plain Python number for a NumPy one."""
    return value.item() if hasattr(value, "item") else value
