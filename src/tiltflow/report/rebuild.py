"""Pages made anew from the records and the small files beside them, without the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tiltflow.errors import FormatError, LocationError
from tiltflow.record import SCHEMA, read_record
from tiltflow.report.run_pages import RECORD_NAME, write_run_pages
from tiltflow.report.series_page import write_series_page
from tiltflow.work import Thresholds


def rebuild_pages(folder: Path, thresholds: Thresholds) -> Iterator[Path]:
    """Write the pages of a run's folder, or of one series', and yield the path of each when it is done.

    Raises
    ------
    LocationError
        If there is no record in the folder nor in the folders in it.
    """
    own = _series_record(folder / RECORD_NAME)
    for path in record_paths(folder):
        try:
            record = read_record(path)
        except FormatError:
            if own:
                raise
            continue  # the index says so
        yield write_series_page(path.parent, record, thresholds)
    if not own:
        yield from write_run_pages(folder, thresholds)


def record_paths(folder: Path) -> list[Path]:
    """Return the paths of the series' records in a run's folder, or of the one in a series'.

    Raises
    ------
    LocationError
        If there is none.
    """
    paths = [folder / RECORD_NAME] if _series_record(folder / RECORD_NAME) else sorted(folder.glob(f"*/{RECORD_NAME}"))
    if not paths:
        raise LocationError(
            f"{folder} holds no {RECORD_NAME}, nor does a folder in it: give the folder that a run was told to write"
        )
    return paths


def _series_record(path: Path) -> bool:
    return path.is_file() and f'"{SCHEMA}"' in path.read_text(encoding="utf-8", errors="replace")
