"""The summary of a run, as an artifact of the flow run in Prefect."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from tiltflow.record import SeriesRecord
from tiltflow.report import summary_markdown
from tiltflow.work import Thresholds

ARTIFACT_KEY = "tilt-series"

_log = logging.getLogger(__name__)


def publish_summary(records: Sequence[SeriesRecord], thresholds: Thresholds, page: Path) -> None:
    """Publish a table of all series with the path of their report; a server that does not accept it is a warning."""
    try:
        create_markdown_artifact(
            summary_markdown(records, thresholds, page),
            key=ARTIFACT_KEY,
            description="Whether to trust each tomogram of the run, the most doubtful first.",
        )
    except Exception:  # noqa: BLE001  the boundary: no report is worth a run
        _log.warning("the summary could not be published; it is in %s", page, exc_info=True)
