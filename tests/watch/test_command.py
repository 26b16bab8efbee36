"""The command: what an operator reads in the morning, its exit status, and that the same command goes on from anywhere."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from tests.conftest import write_small_series
from tests.watch.conftest import LONG_AGO
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.pipeline import check_results
from tiltflow.watch import LEDGER_NAME, Ledger

GOOD, SOME_FAILED, USAGE, NONE_SUCCEEDED, INTERRUPTED = 0, 1, 2, 3, 130


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def tiltflow(tmp_path, monkeypatch, out):
    """Call the command in this process; scratch goes below the test's folder."""
    monkeypatch.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    runner = CliRunner()
    return lambda *folders: runner.invoke(
        app, ["watch", *map(str, folders), "-o", str(out), "--engine", "imod", "--fallback-engine", "off", "--still", "1"]
    )


@pytest.fixture
def good(folder):
    path = write_small_series(folder / "B.st")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.mark.usefixtures("fake_imod")
def test_one_line_an_event_with_the_time_and_none_of_what_stands_in_the_log_of_the_series(tiltflow, folder, good, out):
    (folder / "C.st").write_bytes(good.read_bytes()[:-1])
    result = tiltflow(folder, "--once")
    assert result.exit_code == GOOD, result.output
    events = result.stderr.splitlines()
    assert all(re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in events), result.stderr
    words = [line[21:] for line in events]
    assert words[0] == f"{folder}: is watched, priority 0; results go to {out}"
    assert words[1:5] == [
        "B.st: is whole: 5 views",
        "C.st: arrives: 4 of 5 views of its header have arrived",
        "B.st: begins",
        words[4],
    ]
    assert words[4].startswith("B.st: done: ")
    assert result.stdout.splitlines() == [f"results: {out}, report: {out / 'index.html'}"]


@pytest.mark.usefixtures("fake_imod")
def test_the_log_is_shown_by_wish(tiltflow, folder, good):
    assert "B: read done in" in tiltflow(folder, "--once", "--verbose").stderr


@pytest.mark.usefixtures("fake_imod")
def test_exit_statuses(tiltflow, folder, good, write_without_angles):
    write_without_angles(folder / "A.mrc")
    assert tiltflow(folder, "--once").exit_code == SOME_FAILED
    assert tiltflow(folder, "--once").exit_code == NONE_SUCCEEDED, "A is tried again, and nothing else was to be done"
    (folder / "A.mrc").unlink()
    assert tiltflow(folder, "--once").exit_code == GOOD
    (folder / "C.st").write_bytes(good.read_bytes()[:-1])
    os.utime(folder / "C.st", (LONG_AGO, LONG_AGO))
    (folder.parent / "other").mkdir()
    assert tiltflow(folder, "--once", "--patience", "0.0001").exit_code == GOOD, "it came a moment ago"
    time.sleep(0.5)
    assert tiltflow(folder, "--once", "--patience", "0.0001").exit_code == NONE_SUCCEEDED
    assert tiltflow(folder, "--once", "--patience", "0.0001").exit_code == GOOD, "it was told"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["{folder}/missing"], "is not a folder"),
        (["{folder}", "--priority", "other=1"], "give FOLDER=NUMBER"),
        (["{folder}", "{folder}"], "more than once"),
        (["{folder}", "--set", "comparam.tilt.tilt.RADIAL"], "RADIAL"),
        (["{folder}", "--like", "{folder}/run.json"], "--like"),
    ],
)
def test_a_wrong_request_does_nothing(tiltflow, folder, good, out, options, word):
    result = tiltflow(*(option.format(folder=folder) for option in options), "--once")
    assert result.exit_code == USAGE
    assert word in result.output
    assert not out.exists()


def test_a_ledger_of_a_newer_version_is_refused(tiltflow, folder, out):
    assert tiltflow(folder, "--once").exit_code == GOOD
    connection = sqlite3.connect(out / LEDGER_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    result = tiltflow(folder, "--once")
    assert result.exit_code == USAGE
    assert "was written by a newer tiltflow (format 99 of the ledger" in result.output


def test_a_table_that_is_wrong_is_refused_before_any_work(tiltflow, folder, good, out):
    (folder / "series.csv").write_text("name,thick\nB,60\n")
    result = tiltflow(folder, "--once")
    assert result.exit_code == USAGE
    assert "series.csv:1, column 2" in result.output


class Started:
    """The command in a process of its own."""

    def __init__(self, folder, out, *options):
        scratch = folder.parent / "scratch"
        asked = ["--engine", "native", "--thickness", "32", "--still", "1", "--every", "0.2", "--workdir", scratch]
        command = [sys.executable, "-m", "tiltflow", "watch", folder, "-o", out, *asked, *options]
        self.process = subprocess.Popen(
            [str(word) for word in command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr))
        self._reader.start()

    def wait_for(self, *words):
        while not any(word in line for line in list(self.said) for word in words):
            assert self.process.poll() is None, "".join(self.said)
            time.sleep(0.02)

    def end(self, number=None):
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(timeout=60)
        self._reader.join()
        self.process.stderr.close()
        return status


def test_a_second_session_is_refused_with_status_2_and_a_signal_ends_the_first_in_order(folder, out):
    first = Started(folder, out)
    first.wait_for("waiting for more; no series yet")
    second = Started(folder, out)
    assert second.end() == USAGE
    (said,) = [line for line in second.said if "error" in line]
    assert f"of another session (process {first.process.pid} on " in said
    assert "waiting for its end" not in "".join(second.said)
    assert first.end(signal.SIGTERM) == INTERRUPTED
    assert any("interrupted: run the same command again to continue" in line for line in first.said)
    third = Started(folder, out, "--once")
    assert third.end() == GOOD


@pytest.mark.whole
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_leaves_the_series_to_the_same_command(folder, good, out, number):
    session = Started(folder, out)
    session.wait_for("B.st: begins")
    time.sleep(0.3)
    assert session.end(number) == INTERRUPTED
    assert list((folder.parent / "scratch").iterdir()) == []
    again = Started(folder, out, "--once")
    assert again.end() == GOOD, again.said
    assert any("B.st: begins\n" in line for line in again.said), "an interrupted try counts as none"
    (checked,) = check_results(out)
    assert checked.differences == ()


@pytest.mark.whole
@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_while_series_arrive_it_loses_nothing_and_does_nothing_twice(folder, out, tmp_path, seed):
    content = write_small_series(tmp_path / "whole.st").read_bytes()
    moments, names = random.Random(seed), ["A.st", "B.st", "C.st", "D.st"]

    def microscope():
        for name in names:
            with (folder / name).open("wb") as file:
                for start in range(0, len(content), 9000):
                    file.write(content[start : start + 9000])
                    file.flush()
                    time.sleep(0.15)

    arriving = threading.Thread(target=microscope)
    arriving.start()
    told: list[str] = []
    done: dict[str, int] = {}
    for _ in range(4):
        session = Started(folder, out)
        session.wait_for(": begins", "waiting for more; 4 done")
        time.sleep(moments.uniform(0.0, 3.0))
        session.end(signal.SIGKILL)
        told += session.said
        for name in names:
            record = out / name.removesuffix(".st") / "run.json"
            if f"{name}: done" in "".join(told):
                assert done.setdefault(name, record.stat().st_mtime_ns) == record.stat().st_mtime_ns
    arriving.join()
    time.sleep(1.1)
    last = Started(folder, out, "--until-idle", "0")
    assert last.end() == GOOD, last.said
    told += last.said
    with Ledger(out / LEDGER_NAME, out) as ledger:
        found = {path.name: entry for path, entry in ledger.entries().items()}
    assert {name: entry.state.value for name, entry in found.items()} == dict.fromkeys(names, "done")
    assert [checked.differences for checked in check_results(out)] == [()] * 4
    for name in names:
        assert sum(f"{name}: done: " in line for line in told) == 1, "".join(told)
    for name, made in done.items():
        assert (out / name.removesuffix(".st") / "run.json").stat().st_mtime_ns == made
    assert not [path for path in out.rglob(".tiltflow-*") if path.name != LEDGER_NAME]
    assert list((folder.parent / "scratch").iterdir()) == []
