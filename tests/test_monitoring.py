"""Figures for Prometheus, as its own parser reads them."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("prometheus_client", reason="needs the extra [metrics]")

from prometheus_client.parser import text_string_to_metric_families

from tiltflow.cli import app
from tiltflow.delivery.outbox import Outbox, RunEntry
from tiltflow.pipeline import run
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.work import Site


def values(text: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and labels."""
    families = text_string_to_metric_families(text)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


@pytest.fixture
def results(small_series: Path, tmp_path: Path, fake_imod: Any) -> Path:
    """Results of a series that is done and one that failed, in a folder of the share."""
    (small_series.with_name("empty.st")).touch()
    sources = [small_series, small_series.with_name("empty.st")]
    site, output = Site(scratch=tmp_path / "scratch"), tmp_path / "Assets" / "Lab" / "Session"
    run(sources, make_recipe(BrtParameters(thickness=50), engine="imod"), site, output)
    return tmp_path / "Assets"


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.setenv("TILTFLOW_STATE", str(tmp_path / "state"))
    outbox = Outbox(tmp_path / "state", clock=lambda: time.time() - 1000)
    outbox.begin(RunEntry(run="r1", about="r1", url="https://portal.example"))
    outbox.put("r1", "running", "r1", "{}")
    outbox.put("r1", "result", "r1", "{}")
    return outbox


def test_what_is_done_how_good_it_is_how_long_it_took_and_what_waits(results: Path, outbox: Outbox) -> None:
    outbox.refused(outbox.messages()[0], 1, "no", "")
    printed = CliRunner().invoke(app, ["metrics", str(results)])
    assert printed.exit_code == 0, printed.output
    found = values(printed.stdout)
    record = read_record(results / "Lab" / "Session" / "B" / "run.json")
    assert record.verdict is not None
    assert found["tiltflow_series", record.verdict.level] == 1
    assert found["tiltflow_series", "failed"] == 1
    assert sum(value for (name, *_), value in found.items() if name == "tiltflow_series") == 2
    assert found["tiltflow_failures_total", "read"] == 1
    took = {stage.name: stage.seconds for stage in record.stages}
    assert found["tiltflow_stage_seconds_count", "gen_zarr"] == 1
    assert found["tiltflow_stage_seconds_sum", "gen_zarr"] == pytest.approx(took["gen_zarr"])
    assert (found["tiltflow_outbox_messages", "waiting"], found["tiltflow_outbox_messages", "refused"]) == (1, 1)
    assert found["tiltflow_outbox_oldest_seconds", "waiting"] == pytest.approx(1000, abs=60)
    assert found["tiltflow_runs_unfinished",] == 1
    assert found["tiltflow_last_series_timestamp_seconds",] == pytest.approx(time.time(), abs=600)


def test_a_record_counts_once_and_those_of_failed_attempts_do_not(results: Path, outbox: Outbox) -> None:
    series = results / "Lab" / "Session" / "B"
    shutil.copytree(series, series / "failed-attempt", ignore=shutil.ignore_patterns("failed-attempt"))
    found = values(CliRunner().invoke(app, ["metrics", str(results), str(results / "Lab")]).stdout)
    assert sum(value for (name, *_), value in found.items() if name == "tiltflow_series") == 2


def test_what_a_watched_folder_waits_for(small_series: Path, tmp_path: Path, fake_imod: Any, outbox: Outbox) -> None:
    (small_series.with_name("C.st")).write_bytes(small_series.read_bytes()[:3000])
    output = tmp_path / "Assets" / "Session"
    watched = [
        "watch",
        str(small_series.parent),
        "-o",
        str(output),
        "--engine",
        "imod",
        "--thickness",
        "50",
        "--still",
        "0",
        "--once",
    ]
    assert CliRunner().invoke(app, watched).exit_code in (0, 1)
    found = values(CliRunner().invoke(app, ["metrics", str(tmp_path / "Assets")]).stdout)
    counted = {labels[-1]: value for (name, *labels), value in found.items() if name == "tiltflow_watch_series"}
    assert counted == {"growing": 1, "whole": 0, "running": 0, "done": 1, "failed": 0, "skipped": 0}
    shutil.copytree(output, tmp_path / "Assets" / "Other")
    both = CliRunner().invoke(app, ["metrics", *(str(tmp_path / "Assets" / name) for name in ("Session", "Other"))]).stdout
    lines = [line.rpartition(" ")[0] for line in both.splitlines() if line.startswith("tiltflow_watch_series{")]
    assert len(set(lines)) == len(lines) == 2 * len(counted), "Prometheus takes no sample twice"
    (output / ".tiltflow-watch.sqlite").write_bytes(b"no ledger" * 1000)
    assert "tiltflow_watch_series" not in {name for name, *_ in values(CliRunner().invoke(app, ["metrics", str(output)]).stdout)}


def test_a_file_for_the_textfile_collector_is_written_in_one_go(results: Path, outbox: Outbox, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["metrics", str(results), "--textfile", str(tmp_path / "t.prom")]).exit_code == 0
    assert values((tmp_path / "t.prom").read_text())["tiltflow_series", "failed"] == 1
    assert not list(tmp_path.glob(".tiltflow-*"))


def test_they_are_served_until_it_is_asked_to_end(outbox: Outbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tiltflow", "metrics", "--serve", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"serving http://127.0.0.1:{port}/metrics\n"
        for waiting in (2, 3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                assert values(answer.read().decode())["tiltflow_outbox_messages", "waiting"] == waiting
            outbox.put("r1", "final", "r1", "{}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
