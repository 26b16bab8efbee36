"""The page of a series is written while the next series is worked on, and is what it would be without that."""

import logging
import os
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tiltflow import beside
from tiltflow.pipeline import run
from tiltflow.pipeline.lock import LOCK_NAME
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record, read_run
from tiltflow.report import PAGE_NAME
from tiltflow.work import Site

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems' libraries do not allow copies of a process")

_copies: list[int] = []
os.register_at_fork(after_in_parent=lambda: _copies.append(os.getpid()))


@pytest.fixture
def copies(monkeypatch):
    """The copies of this process that were made, which is allowed from now on."""
    _copies.clear()
    monkeypatch.setattr(beside, "_ours", True)
    return _copies


@pytest.fixture
def three(small_series, fake_imod, tmp_path):
    """Three series, of which C is no image, and what runs them one after the other."""
    sources = [small_series, *(Path(shutil.copy(small_series, small_series.with_name(f"{name}.st"))) for name in "CD")]
    sources[1].write_text("this is no image")
    (tmp_path / "scratch").mkdir()
    recipe = make_recipe(BrtParameters(thickness=50), engine="imod")

    def start(threads, names="BCD", **more):
        chosen = [source for source in sources if source.stem in names]
        return run(chosen, recipe, Site(scratch=tmp_path / "scratch", threads=threads), tmp_path / f"out{threads}", **more)

    return start


@pytest.fixture
def two(three, small_series):
    """As `three`, without C."""
    small_series.with_name("C.st").unlink()
    return partial(three, names="BD")


def test_a_copy_writes_the_page_of_each_series_but_the_last(three, copies, caplog):
    seen = {1: [], 2: []}
    in_turn = three(1, on_progress=seen[1].append)
    assert not copies
    besides = three(2, on_progress=seen[2].append)
    assert len(copies) == 1  # of B: C has failed, and D is the last
    assert [(one.source, one.status, one.stage, one.assets) for one in in_turn.results] == [
        (one.source, one.status, one.stage, one.assets) for one in besides.results
    ]
    assert [one.verdict is None for one in besides.results] == [one.verdict is None for one in in_turn.results]
    folders = [{path.relative_to(one.page.parent) for path in one.page.parent.rglob("*")} for one in (in_turn, besides)]
    assert folders[0] == folders[1]
    for name in "BCD":
        told = [[(word.stage, word.result is None) for word in seen[threads] if word.name == name] for threads in (1, 2)]
        assert told[0] == told[1]
    record = read_run(besides.page.with_name("run.json"))
    assert [(entry.name, entry.status) for entry in record.series] == [("B", "success"), ("C", "error"), ("D", "success")]


def test_a_series_is_done_when_its_page_stands(three, copies, tmp_path):
    folder = tmp_path / "out2" / "B"
    seen = []

    def look(word):
        page, held, record = (folder / PAGE_NAME).exists(), (folder / LOCK_NAME).exists(), folder / "run.json"
        seen.append((word.name, word.result is not None, page, held, record.exists() and read_record(record).status))

    three(2, on_progress=look)
    assert len(copies) == 1
    ends = [each for each in seen if each[:2] == ("B", True)]
    assert ends == [("B", True, True, False, "success")]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_said_while_a_page_is_written_is_said_and_logged(three, copies, tmp_path, caplog, threads):
    (tmp_path / f"out{threads}" / "B" / PAGE_NAME).mkdir(parents=True)  # no page can be written there
    with caplog.at_level(logging.INFO, "tiltflow"):
        results = three(threads).results
    assert len(copies) == threads - 1
    assert results[0].ok
    said = [line for line in caplog.messages if "the report could not be made" in line]
    assert len(said) == 1
    assert said[0] in (tmp_path / f"out{threads}" / "B" / "B.log").read_text()
    assert said[0] not in (tmp_path / f"out{threads}" / "D" / "D.log").read_text()
    assert "D: publish done" in (tmp_path / f"out{threads}" / "D" / "D.log").read_text()


def test_a_run_that_is_interrupted_leaves_no_page_behind(three, copies, tmp_path):
    told = []

    def interrupt(word):
        if word.result is not None:
            told.append(word.name)
        if word.name == "C":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        three(2, on_progress=interrupt)
    folder = tmp_path / "out2" / "B"
    assert len(copies) == 1
    assert "B" in told
    assert (folder / PAGE_NAME).exists()
    assert not (folder / LOCK_NAME).exists()
    assert read_record(folder / "run.json").status == "success"
    entries = {entry.name: entry.status for entry in read_run(tmp_path / "out2" / "run.json").series}
    assert entries["B"] == "success"


def test_what_goes_wrong_when_a_series_is_told_ends_the_run_and_is_no_failure_of_the_next(three, copies, tmp_path):
    """The listener is told of B while C is worked on, or before; C is what it would be, and the run ends with the error."""

    def fail(word):
        if word.name == "B" and word.result is not None:
            raise RuntimeError("the listener is gone")

    with pytest.raises(RuntimeError, match="the listener is gone"):
        three(2, on_progress=fail)
    assert len(copies) == 1
    assert read_record(tmp_path / "out2" / "B" / "run.json").status == "success"
    assert "is a text file" in read_record(tmp_path / "out2" / "C" / "run.json").message
    assert not (tmp_path / "out2" / "B" / LOCK_NAME).exists()
    assert not (tmp_path / "out2" / "C" / LOCK_NAME).exists()


def test_what_the_pages_of_the_run_say_is_not_in_the_log_of_the_series_that_is_worked_on(two, copies, tmp_path, caplog):
    foreign = tmp_path / "out2" / "X"
    foreign.mkdir(parents=True)
    (foreign / "run.json").write_text("{}")

    def wait(word):
        if word.name == "D" and word.result is None:
            time.sleep(0.2)  # so that the page of B stands when D has more to say

    with caplog.at_level(logging.DEBUG, "tiltflow"):
        two(2, on_progress=wait)
    assert len(copies) == 1
    assert any("left out of the report" in line for line in caplog.messages)
    assert "left out of the report" not in (tmp_path / "out2" / "D" / "D.log").read_text()
