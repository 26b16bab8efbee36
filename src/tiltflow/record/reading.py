"""Reads records, those of earlier versions too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tiltflow.errors import FormatError
from tiltflow.record.schema import RunRecord, SeriesRecord


def read_record(path: Path) -> SeriesRecord:
    """Return the record in a `run.json`.

    Raises
    ------
    FormatError
        If the file is not a record of this schema.
    """
    try:
        return SeriesRecord.model_validate(_views_from_1(_read(path)))
    except ValidationError as error:
        raise FormatError(f"{path} is not a record of a tiltflow run ({error.error_count()} problems): {error}") from error


def read_run(path: Path) -> RunRecord:
    """Return the record of a run in a `run.json`.

    Raises
    ------
    FormatError
        If the file is not a record of this schema.
    """
    try:
        return RunRecord.model_validate(_read(path))
    except ValidationError as error:
        raise FormatError(f"{path} is not the record of a tiltflow run ({error.error_count()} problems): {error}") from error


def _views_from_1(record: Any) -> Any:
    """Return a record with its views numbered from 1; before `views_counted_from` was written, views left out counted from 0."""
    alignment = record.get("alignment") if isinstance(record, dict) else None
    if (
        not isinstance(alignment, dict)
        or "views_counted_from" in alignment
        or not isinstance(alignment.get("excluded_views"), dict)
    ):
        return record
    counted = {int(view) + 1 if str(view).isdecimal() else view: why for view, why in alignment["excluded_views"].items()}
    return record | {"alignment": alignment | {"excluded_views": counted}}


def _read(path: Path) -> Any:
    """Return what a JSON file holds, names that are not UTF-8 included."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not JSON: {error}") from error
