"""The index of a run: a row a series, and the same columns as `metrics.csv`."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tiltflow.atomic_write import write_text
from tiltflow.errors import FormatError
from tiltflow.record import RunRecord, SeriesRecord, read_record, read_run
from tiltflow.report.embed import Embedded, Embedder
from tiltflow.report.render import render
from tiltflow.report.rows import COLUMNS, Row, Value, row_of
from tiltflow.report.series_page import MOST_BYTES, PAGE_NAME
from tiltflow.work import AssetType, Thresholds, Trust

INDEX_NAME = "index.html"
METRICS_NAME = "metrics.csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
RECORD_NAME = "run.json"

_ROW_BYTES = 1500
_THUMBNAIL_SIDE = 96
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A row with what only a page has: its picture, and where it leads."""

    row: Row
    page: str | None
    picture: Embedded | None


def write_run_pages(folder: Path, thresholds: Thresholds) -> tuple[Path, Path]:
    """Write `index.html` and `metrics.csv` of all series below a run's folder; return their paths."""
    rows, run = collect(folder, thresholds), _run(folder)
    metrics = _write_metrics(folder / METRICS_NAME, rows)
    embedder = Embedder(folder, MOST_BYTES - _ROW_BYTES * len(rows))
    index = render(
        "index.html",
        folder / INDEX_NAME,
        rows=[_index_row(row, folder, embedder) for row in rows],
        tally={level: count for level in Trust if (count := Counter(row.verdict.level for row in rows)[level])},
        run=run,
        not_begun=sum(not (folder / entry.record).is_file() for entry in run.series) if run else 0,
        title=folder.resolve().name,
        seconds=sum(row.seconds for row in rows),
        metrics=METRICS_NAME,
    )
    return index, metrics


def collect(folder: Path, thresholds: Thresholds) -> list[Row]:
    """Return the row of every series that has a record in a folder of its own below `folder`, by name."""
    rows = []
    for path in sorted(folder.glob(f"*/{RECORD_NAME}")):
        try:
            record = read_record(path)
        except FormatError as error:
            _log.warning("left out of the report: %s", error)
            continue
        rows.append(row_of(record, thresholds, path.parent.name))
    return rows


def _run(folder: Path) -> RunRecord | None:
    try:
        return read_run(folder / RECORD_NAME)
    except (OSError, FormatError):
        return None


def _index_row(row: Row, folder: Path, embedder: Embedder) -> IndexRow:
    page = f"{quote(row.folder)}/{PAGE_NAME}" if (folder / row.folder / PAGE_NAME).is_file() else None
    for path in _candidates(row.record):
        picture = embedder.picture(f"{row.folder}/{path}", _THUMBNAIL_SIDE)
        if picture is not None:
            return IndexRow(row, page, picture)
    return IndexRow(row, page, None)


def _candidates(record: SeriesRecord) -> list[str]:
    """Return pictures that stand for a series, the most telling first."""
    made = {picture.name: picture.path for picture in record.pictures}
    thumbnails = [product.path for product in record.products if product.type == AssetType.THUMBNAIL]
    return (
        [made[name] for name in ("slice_xy",) if name in made]
        + thumbnails
        + [made[name] for name in ("zero_tilt",) if name in made]
    )


def _write_metrics(path: Path, rows: list[Row]) -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(COLUMNS))
    writer.writeheader()
    writer.writerows({name: as_cell(value) for name, value in row.metrics().items()} for row in rows)
    write_text(path, text.getvalue(), errors="replace")
    return path


def as_cell(value: Value) -> Value:
    """Return a value as a cell of a table that spreadsheets open: they take text that begins as a formula does for one, and do it.

    >>> as_cell("=cmd()"), as_cell(-1.5), as_cell("B")
    ("'=cmd()", -1.5, 'B')
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
