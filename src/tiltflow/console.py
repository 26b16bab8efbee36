"""Output of the command line: progress while it works, tables when it is done.

In a terminal rich draws them; in a pipe or a log every message is one plain line.
"""

from __future__ import annotations

import json
import logging
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tiltflow import stopping
from tiltflow.pipeline import OnProgress, SeriesProgress
from tiltflow.pipeline.log import is_of_a_series
from tiltflow.report import verdict
from tiltflow.work import SeriesResult

err = Console(stderr=True, highlight=False)
err.soft_wrap = not err.is_terminal  # a log has no width: what somebody looks for in it stands in one line
out = Console(highlight=False, soft_wrap=True)


class _JsonLines(logging.Formatter):
    """A line of the log as one object: time, level, logger, message, and the traceback of a defect."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)


def set_up_logging(*, verbose: bool, as_json: bool = False, of_series: bool = True) -> None:
    """Send tiltflow's log to standard error: through rich in a terminal, as plain lines elsewhere, or as JSON.

    Parameters
    ----------
    verbose
        Whether every line is shown.
    as_json
        Whether a line is an object of JSON.
    of_series
        Whether lines on single series are shown too, which stand in their own log files in any case.
    """
    logger = logging.getLogger("tiltflow")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    handler: logging.Handler
    if as_json:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JsonLines())
        handler.setLevel(logging.DEBUG if verbose else logging.INFO)
    elif err.is_terminal:
        handler = RichHandler(console=err, show_path=False, markup=False, rich_tracebacks=False)
        handler.setLevel(logging.DEBUG if verbose else logging.WARNING)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
        handler.setLevel(logging.DEBUG if verbose else logging.INFO)
    if not of_series and not verbose:
        handler.addFilter(lambda record: not is_of_a_series(record))
    logger.handlers = [handler]
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines show the whole address, which may hold a secret


@contextmanager
def silent_log() -> Iterator[None]:
    """Let tiltflow's log say nothing inside a `with` block."""
    logger = logging.getLogger("tiltflow")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def progress_display(count: int) -> Iterator[OnProgress]:
    """Give a function that shows the progress of `count` series: bars in a terminal, a line a series elsewhere."""
    if not err.is_terminal:
        yield _Lines(count)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        _StageColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        yield _Bars(count, progress)


class _StageColumn(TextColumn):
    """The stage, or that the work is asked to end: the bars are drawn over what a signal's handler writes."""

    def render(self, task: Task) -> Text:
        return Text(stopping.STOPPING) if stopping.asked() else super().render(task)


class _Lines:
    """One line when a series is done."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._done = 0
        self._lock = threading.Lock()

    def __call__(self, news: SeriesProgress) -> None:
        if news.result is None:
            return
        with self._lock:
            self._done += 1
            print(f"[{self._done}/{self._count}] {headline(news.result)}", file=sys.stderr, flush=True)


class _Bars:
    """A bar for the run, and one for each running series."""

    def __init__(self, count: int, progress: Progress) -> None:
        self._progress = progress
        self._all = progress.add_task("all series", total=count, stage="")
        self._series: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __call__(self, news: SeriesProgress) -> None:
        with self._lock:
            if news.name not in self._series:
                self._series[news.name] = self._progress.add_task(news.name, total=1.0, stage="")
            if news.result is None:
                self._progress.update(self._series[news.name], completed=news.fraction, stage=news.stage)
                return
            self._progress.remove_task(self._series.pop(news.name))
            self._progress.advance(self._all)
            self._progress.console.print(headline(news.result), style="red" if not news.result.ok else None, markup=False)


def headline(result: SeriesResult) -> str:
    """Return one line on a series that is done."""
    if not result.ok:
        first = (result.message or "no reason recorded").splitlines()[0]
        return f"{result.source.name}: FAILED at {result.stage}: {first}"
    seconds = sum(stage.seconds for stage in result.stages)
    made = f"{len(result.assets)} products in {seconds:.1f} s"
    if result.verdict is None:
        return f"{result.source.name}: {made}"
    return f"{result.source.name}: {verdict.headline(result.verdict)}; {made}"


def show_closing_table(results: Sequence[SeriesResult]) -> None:
    """Print how many series succeeded, and for each failed one the stage and the whole reason."""
    failed = [result for result in results if not result.ok]
    out.print(f"{len(results) - len(failed)} of {len(results)} series succeeded")
    if not failed:
        return
    if out.is_terminal:
        table = Table("series", "stage", "reason", title="failed", title_justify="left", show_lines=True)
        for result in failed:
            table.add_row(result.source.name, result.stage or "", result.message or "")
        out.print(table, soft_wrap=False)
        return
    for result in failed:
        print(f"FAILED  {result.source.name}  stage: {result.stage}")
        print(textwrap.indent(result.message or "", "        "))


def show_places(output: Path, page: Path | None) -> None:
    """Print where the results are and, if it was written, the page of all of them."""
    report = page or "not written; `tiltflow report` makes it when the reason above is gone"
    out.print(f"results: {output}, report: {report}", markup=False)


def show_rows(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """Print a table: drawn in a terminal, aligned plain text elsewhere."""
    if out.is_terminal:
        table = Table(*header)
        for row in rows:
            table.add_row(*row)
        out.print(table, soft_wrap=False)
        return
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
