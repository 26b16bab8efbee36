"""Figures for a site's monitoring, in the format of Prometheus: what was done, how good it is, how long it took, and what waits.

They are counted from the records of results and from the outbox whenever they are asked for, so that they outlive every process and need
none that runs all the time.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiltflow.delivery.outbox import Outbox
from tiltflow.errors import FormatError, UnsupportedError
from tiltflow.record import SeriesRecord, read_record
from tiltflow.report import verdict
from tiltflow.watch import LEDGER_NAME, counts_of
from tiltflow.work import Thresholds, Trust

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

_log = logging.getLogger(__name__)


def registry_of(folders: Sequence[Path], outbox: Outbox | None, thresholds: Thresholds) -> CollectorRegistry:
    """Return a registry of Prometheus whose figures are counted when it is asked.

    Parameters
    ----------
    folders
        Results of runs, with the folders of the series directly below them or at any depth.
    outbox
        What the portal is to be told; None to leave it out.
    thresholds
        Of the verdict, where a record has none.

    Raises
    ------
    UnsupportedError
        If the library prometheus_client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise UnsupportedError("figures for Prometheus need its library: pip install 'tiltflow[metrics]'") from error

    class Collector:
        def collect(self) -> Iterator[Metric]:
            yield from _of_results(folders, thresholds)
            yield _of_sessions(folders)
            if outbox is not None:
                yield from _of_the_outbox(outbox)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return registry


def _of_results(folders: Sequence[Path], thresholds: Thresholds) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily

    series, failures = Counter({str(level): 0 for level in Trust}), Counter[str]()
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    newest = 0.0
    for record in _records(folders):
        level = verdict.from_entry(record.verdict) if record.verdict else verdict.judge(record, thresholds)
        series[str(level.level)] += 1
        if record.failure is not None:
            failures[record.failure.stage] += 1
        for stage in record.stages:
            if stage.seconds is not None:
                seconds[stage.name].append(stage.seconds)
        newest = max(newest, (record.finished or record.started).timestamp())
    counted = GaugeMetricFamily("tiltflow_series", "Series with a record, by verdict.", labels=["verdict"])
    for name, count in series.items():
        counted.add_metric([name], count)
    failed = CounterMetricFamily("tiltflow_failures", "Series without products, by the stage that failed.", labels=["stage"])
    for name, count in sorted(failures.items()):
        failed.add_metric([name], count)
    took = SummaryMetricFamily("tiltflow_stage_seconds", "Duration of the stages of the series, s.", labels=["stage"])
    for name, each in sorted(seconds.items()):
        took.add_metric([name], len(each), sum(each))
    last = GaugeMetricFamily("tiltflow_last_series_timestamp_seconds", "When the last series ended, s since 1970.", value=newest)
    yield from (counted, failed, took, last)


def _of_sessions(folders: Sequence[Path]) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    queue = GaugeMetricFamily(
        "tiltflow_watch_series", "Series of watched folders, by what they are at.", labels=["results", "state"]
    )
    for path in _below(folders, LEDGER_NAME):
        try:
            counts = counts_of(path)
        except FormatError as error:
            _log.warning("not counted: %s", error)
            continue
        for state, count in counts.items():
            queue.add_metric([str(path.parent), state.value], count)
    return queue


def _of_the_outbox(outbox: Outbox) -> Iterator[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily

    messages, now = outbox.messages("waiting", "refused"), outbox.clock()
    depth = GaugeMetricFamily("tiltflow_outbox_messages", "Messages that the portal did not take yet, by state.", labels=["state"])
    age = GaugeMetricFamily("tiltflow_outbox_oldest_seconds", "Age of the oldest of them, s; 0 if there is none.", labels=["state"])
    for state in ("waiting", "refused"):
        written = [message.written for message in messages if message.state == state]
        depth.add_metric([state], len(written))
        age.add_metric([state], now - min(written, default=now))
    open_runs = GaugeMetricFamily(
        "tiltflow_runs_unfinished", "Runs that have not told their last word.", value=len(outbox.unfinished())
    )
    yield from (depth, age, open_runs)


def _records(folders: Sequence[Path]) -> Iterator[SeriesRecord]:
    for path in _below(folders, "run.json"):
        if path.parent.name == "failed-attempt":
            continue
        try:
            yield read_record(path)
        except (FormatError, OSError) as error:
            _log.debug("not counted: %s", error)  # records of runs too


def _below(folders: Sequence[Path], name: str) -> list[Path]:
    """Return the files of a name at any depth, each once, also where one of the folders lies in another."""
    return sorted({path for folder in folders for path in folder.resolve().rglob(name)})
