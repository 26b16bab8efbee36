"""Series at once: processes of their own that end with the run, and cost no more than their series when they die."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tiltflow.errors import FormatError
from tiltflow.pipeline import run
from tiltflow.pipeline.lock import LOCK_NAME
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record, read_run
from tiltflow.work import Site

PATIENCE_S = 120.0


@pytest.fixture
def several(small_series, fake_imod, tmp_path):
    """Three series, of which B hangs in IMOD as long as there is a file `hanging`, and what runs them with two at once."""
    sources = [small_series, *(Path(shutil.copy(small_series, small_series.with_name(f"{name}.st"))) for name in "CD")]
    program = tmp_path / "imod" / "bin" / "batchruntomo"
    hang = f'case "$*" in *B.adoc*) [ -e {tmp_path}/hanging ] && export FAKE_BATCHRUNTOMO=hang;; esac\nexec'
    program.write_text(program.read_text().replace("exec", hang, 1))
    (tmp_path / "scratch").mkdir()
    recipe = make_recipe(BrtParameters(thickness=50), engine="imod")

    def start(jobs, **more):
        return run(sources, recipe, Site(scratch=tmp_path / "scratch"), tmp_path / f"out{jobs}", jobs=jobs, **more)

    return sources, start


def until(found):
    """Return what is found, as soon as it is."""
    deadline = time.monotonic() + PATIENCE_S
    while not (result := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def hangs_in(folder):
    """Return the number of the process that works on a series which hangs in IMOD; 0 before it does."""
    try:
        if [stage.name for stage in read_record(folder / "run.json").stages][-1:] != ["batchruntomo"]:
            return 0
        return int(re.search(r"process (\d+)", (folder / LOCK_NAME).read_text())[1])
    except (OSError, FormatError, TypeError):
        return 0


def is_gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def what_was_done(caplog):
    """Return the stages that were logged as done, and forget the log."""
    lines = sorted(line.partition(" done in ")[0] for line in caplog.messages if " done in " in line)
    caplog.clear()
    return lines


def test_series_at_once_give_what_they_give_one_after_the_other(several, caplog):
    sources, start = several
    sources[1].write_text("this is no image")
    seen, lines = {1: [], 2: []}, {}
    with caplog.at_level(logging.INFO, "tiltflow"):
        one = start(1, on_progress=seen[1].append)
        lines[1] = what_was_done(caplog)
        two = start(2, on_progress=seen[2].append)
        lines[2] = what_was_done(caplog)
    assert [(each.source, each.status, each.stage, each.assets) for each in one.results] == [
        (each.source, each.status, each.stage, each.assets) for each in two.results
    ]
    assert [each.ok for each in two.results] == [True, False, True]
    folders = [{path.relative_to(each.page.parent) for path in each.page.parent.rglob("*")} for each in (one, two)]
    assert folders[0] == folders[1]
    for name in "BCD":
        told = [[(each.stage, each.result is None) for each in seen[jobs] if each.name == name] for jobs in (1, 2)]
        assert told[0] == told[1]
    assert lines[1] == lines[2]
    record = read_run(two.page.with_name("run.json"))
    assert (record.status, record.jobs, [entry.status for entry in record.series]) == ("done", 2, ["success", "error", "success"])


def struck(start, folder, number):
    """Return the results of two at once when the process that B hangs in has got a signal: B alone has failed."""
    (folder / "hanging").touch()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(start, 2)
        os.kill(until(lambda: hangs_in(folder / "out2" / "B")), number)
        results = future.result(PATIENCE_S).results
    assert [each.ok for each in results] == [False, True, True]
    return results


def test_a_process_that_is_killed_costs_its_series_alone_and_leaves_nothing(several, tmp_path):
    results = struck(several[1], tmp_path, signal.SIGKILL)
    assert results[0].stage == "batchruntomo"
    assert "was killed (SIGKILL)" in results[0].message
    record = read_record(tmp_path / "out2" / "B" / "run.json")
    assert (record.status, record.failure.stage) == ("error", "batchruntomo")
    assert not list((tmp_path / "scratch").iterdir())
    assert not (tmp_path / "out2" / "B" / LOCK_NAME).exists()


def test_a_process_that_somebody_else_asks_to_end_records_it(several, tmp_path):
    results = struck(several[1], tmp_path, signal.SIGTERM)
    assert "was asked to end (SIGTERM)" in results[0].message
    assert read_record(tmp_path / "out2" / "B" / "run.json").failure.kind == "interrupted"


@pytest.mark.parametrize(("ended_by", "status", "kind"), [(signal.SIGTERM, 130, "interrupted"), (signal.SIGKILL, -9, None)])
def test_the_processes_end_with_the_run(several, tmp_path, ended_by, status, kind):
    sources, _ = several
    (tmp_path / "hanging").touch()
    command = [
        sys.executable,
        "-m",
        "tiltflow",
        "run",
        sources[0].parent,
        "-o",
        tmp_path / "out",
        "--engine",
        "imod",
        "--jobs",
        "2",
    ]
    with subprocess.Popen(
        [*map(str, command), "--workdir", str(tmp_path / "scratch"), "--thickness", "50"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        worker = until(lambda: hangs_in(tmp_path / "out" / "B"))
        process.send_signal(ended_by)
        assert process.wait(PATIENCE_S) == status
    until(lambda: is_gone(worker))
    record = read_record(tmp_path / "out" / "B" / "run.json")
    assert (record.failure.kind if record.failure else None) == kind
    if kind is not None:
        assert not list((tmp_path / "scratch").iterdir())
