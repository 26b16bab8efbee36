"""What a flow publishes of a run: a table in Markdown, and the evidence of a series as the portal may show it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tiltflow.errors import FormatError
from tiltflow.record import FailureEntry, SeriesRecord, read_record
from tiltflow.report.render import MARKS, time_text
from tiltflow.report.rows import Row, row_of
from tiltflow.report.run_pages import RECORD_NAME
from tiltflow.version import __version__
from tiltflow.work import SeriesResult, Thresholds, Trust

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~-])")

_EVIDENCE = (
    "method",
    "error_px",
    "error_nm",
    "residual_px",
    "residual_nm",
    "leave_out_px",
    "leave_out_nm",
    "tracks",
    "views_used",
    "views_left_out",
    "thickness_nm",
    "contrast",
)


def record_of(result: SeriesResult) -> SeriesRecord:
    """Return the record of a series that is done; where there is none that agrees, what the result itself tells."""
    if result.output is not None:
        try:
            record = read_record(result.output / RECORD_NAME)
        except (OSError, FormatError):
            pass
        else:
            if record.status == result.status:
                return record
    reason = result.message or result.status
    return SeriesRecord(
        name=result.source.stem,
        source=str(result.source),
        status="error",
        message=reason,
        tiltflow=__version__,
        started=datetime.now(UTC),
        failure=FailureEntry(stage=result.stage or "start", reason=reason),
    )


def summary_markdown(records: Sequence[SeriesRecord], thresholds: Thresholds | None = None, page: Path | None = None) -> str:
    """Return a table of all series, those that need a look first, how many of each verdict there are, and where the page is."""
    rows = [row_of(record, thresholds or Thresholds(), "") for record in records]
    counts = Counter(row.verdict.level for row in rows)
    tally = ", ".join(f"{counts[level]} {level}" for level in Trust if counts[level])
    lines = [
        f"**{len(rows)} tilt series: {tally or 'none'}**",
        "",
        "| series | verdict | why | error | residual | leave-out | thickness | time |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [_line(row) for row in sorted(rows, key=lambda row: row.urgency)]
    if page is not None:
        lines += ["", f"The whole report: {_escaped(str(page))}"]
    return "\n".join(lines) + "\n"


def evidence_metadata(record: SeriesRecord) -> dict[str, Any]:
    """Return the verdict and the figures of a series, as a portal may keep them with an image; plain JSON."""
    row = row_of(record, Thresholds(), "")
    verdict = record.verdict or row.verdict
    metrics = {name: value for name, value in row.metrics().items() if name in _EVIDENCE and value is not None}
    attempts = [
        {"engine": each.name, "outcome": each.outcome, "error_px": each.error_px, "said": each.said}
        for each in record.engine_attempts
    ]
    engines = {"engines": attempts} if attempts else {}
    return {"verdict": str(verdict.level), "reasons": list(verdict.reasons), **metrics, **engines}


def _line(row: Row) -> str:
    values = row.metrics()
    cells = [
        _escaped(row.record.name),
        f"{MARKS[row.verdict.level]} {row.verdict.level}",
        _escaped(row.why),
        *(_length(values[f"{name}_px"]) for name in ("error", "residual", "leave_out")),
        f"{values['thickness_nm']:.0f} nm" if isinstance(values["thickness_nm"], float) else "",
        time_text(row.seconds),
    ]
    return "| " + " | ".join(cells) + " |"


def _length(value: object) -> str:
    return f"{value:.2f} px" if isinstance(value, (int, float)) else ""


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line; tags of HTML included."""
    one_line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", one_line)
