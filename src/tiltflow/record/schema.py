"""The published schema of a series' `run.json`: entries whose names carry their units, or that have a unit beside them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tiltflow.errors import FormatError
from tiltflow.model import Quantity, StageRecord

SCHEMA = "tiltflow/series-record/1"


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
