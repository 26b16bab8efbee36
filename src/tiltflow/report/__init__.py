"""From the record to pages that say whether to trust a tomogram.

While the work goes on, :mod:`measure` and :mod:`pictures` take from the volume what the pages need, small enough to stay beside the
record.  Everything else is made from the record alone, at any time: :func:`judge` the verdict, :func:`write_series_page` and
:func:`write_run_pages` the pages, :func:`rebuild_pages` all of them again.
"""

from tiltflow.report.rebuild import rebuild_pages, record_paths
from tiltflow.report.run_pages import INDEX_NAME, METRICS_NAME, write_run_pages
from tiltflow.report.series_page import PAGE_NAME, write_series_page
from tiltflow.report.summary import evidence_metadata, record_of, summary_markdown
from tiltflow.report.verdict import judge

__all__ = [
    "INDEX_NAME",
    "METRICS_NAME",
    "PAGE_NAME",
    "evidence_metadata",
    "judge",
    "rebuild_pages",
    "record_of",
    "record_paths",
    "summary_markdown",
    "write_run_pages",
    "write_series_page",
]
