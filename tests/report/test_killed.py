"""A run that is killed with SIGKILL in the middle: what it leaves on disk, and the pages that are made of it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from bs4 import BeautifulSoup
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.errors import FormatError
from tiltflow.record import read_record, read_run

pytestmark = pytest.mark.whole

PATIENCE_S = 120.0


@pytest.fixture
def killed(small_series, tmp_path, fake_imod):
    """The folder of a run whose process was killed while the first of two series was being reconstructed."""
    (small_series.parent / "C.st").write_bytes(small_series.read_bytes())
    folder = tmp_path / "out"
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "hang")
    fake_imod.setenv("TILTFLOW_SCRATCH", str(tmp_path))
    command = [sys.executable, "-m", "tiltflow", "run", str(small_series.parent), "-o", str(folder), "--engine", "imod"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while not _is_in(folder, "batchruntomo"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return folder


def _is_in(folder, stage):
    try:
        stages = read_record(folder / "B" / "run.json").stages
    except (OSError, FormatError):
        return False
    return bool(stages) and stages[-1].name == stage


def page(path):
    return BeautifulSoup(path.read_text(), "html.parser")


def test_a_killed_run_leaves_records_whose_pages_say_where_it_ended(killed, small_series, fake_imod):
    record = read_record(killed / "B" / "run.json")
    assert (record.status, record.stages[-1].status) == ("running", "running")
    assert record.input["views"].value == 5
    assert record.recipe is not None
    assert read_run(killed / "run.json").status == "running"

    result = CliRunner().invoke(app, ["report", str(killed)])
    assert result.exit_code == 0, result.output
    series = page(killed / "B" / "report.html")
    verdict = series.find("section", class_="verdict")
    assert "unfinished" in verdict["class"]
    assert "the record ends in the stage batchruntomo" in verdict.get_text()
    assert "run the same command again" in series.get_text()
    assert [image["alt"] for image in series.find_all("img")] == [record.pictures[0].caption]
    index = page(killed / "index.html")
    assert [row["class"] for row in index.find("table").tbody.find_all("tr")] == [["unfinished"]]
    assert "1 not started" in index.header.get_text()

    fake_imod.setenv("FAKE_BATCHRUNTOMO", "good")
    again = CliRunner().invoke(app, ["run", str(small_series.parent), "-o", str(killed), "--engine", "imod"])
    assert again.exit_code == 0, again.output
    assert [row["class"] for row in page(killed / "index.html").find("table").tbody.find_all("tr")] != [["unfinished"]]
    assert [entry.status for entry in read_run(killed / "run.json").series] == ["success", "success"]
