"""What a run shows on its page in Prefect: the summary of its series, and what its Slurm jobs wait for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from tiltflow.record import SeriesRecord
from tiltflow.report import summary_markdown
from tiltflow.work import Thresholds

ARTIFACT_KEY = "tilt-series"
JOBS_KEY = "slurm-jobs"

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


def report_jobs(size: object) -> Callable[[str], None]:
    """Return the function that shows a line on the Slurm jobs of a run, each of a size, in its log and as an artifact of it."""
    log = get_run_logger()

    def report(line: str) -> None:
        log.info("Slurm (each %s): %s", size, line)
        try:
            rows = "\n".join(f"* {job}" for job in line.split("; "))
            create_markdown_artifact(
                f"Each job has {size}.\n\n{rows}\n", key=JOBS_KEY, description="What Slurm says of the run's jobs."
            )
        except Exception:  # noqa: BLE001  the boundary: no report is worth a run
            _log.warning("the state of the Slurm jobs could not be shown", exc_info=True)

    return report
