"""Runs whose process is gone: what they finished is told, what they left is closed, and the living are left alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tiltflow.delivery.body import build_callback
from tiltflow.delivery.layout import plain_layout
from tiltflow.delivery.outbox import Outbox, RunEntry
from tiltflow.errors import TiltflowError
from tiltflow.owner import new_token
from tiltflow.pipeline import RunPlan, close_dead_run, close_dead_runs, dead_run_like, run
from tiltflow.pipeline.conclusion import result_of
from tiltflow.pipeline.dead_runs import GRACE_S, commands_of_dead_runs
from tiltflow.pipeline.lock import folder_lock
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import SeriesRecord, read_record, read_run
from tiltflow.record.as_json import as_json
from tiltflow.work import Site, Thresholds

pytestmark = pytest.mark.usefixtures("fake_imod")
URL = "https://portal.example/api"
RECIPE = make_recipe(BrtParameters(thickness=50), engine="imod")


@pytest.fixture(scope="module")
def dead() -> str:
    """The token of a process that is gone."""
    code = "from tiltflow.owner import new_token; print(new_token())"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


class Case:
    """A folder of three series, of which a run did the first, was at the second, and had not begun the third."""

    def __init__(self, source: Path, root: Path) -> None:
        self.root, self.out = root, root / "out"
        self.sources = [source.with_name(f"{name}.st") for name in "ABC"]
        for path in self.sources:
            if path != source:
                shutil.copyfile(source, path)
        self.outbox = Outbox(root / "state")
        self.site = Site(scratch=root / "scratch")

    def begin(self, owner: str, **more: Any) -> None:
        plan = RunPlan(
            layout=plain_layout(self.sources[0].parent, self.out),
            digests=dict.fromkeys(self.sources, RECIPE.digest),
            output=self.out,
            evidence=False,
            command=more.pop("command", ("tiltflow", "run")),
            folder=str(self.root),
        )
        entry = {"run": "r1", "about": "in", "url": URL, "plan": plan.as_json(), "owner": owner}
        self.outbox.begin(RunEntry(**(entry | more)))

    def work(self) -> None:
        """Do the first series and die in the second."""
        run(self.sources[:1], RECIPE, self.site, self.out)
        record = read_run(self.out / "run.json")
        entries = [
            record.series[0].model_copy(update={"name": s.stem, "source": str(s), "record": f"{s.stem}/run.json"})
            for s in self.sources
        ]
        for entry in entries[1:]:
            entry.status = "waiting"
        record = record.model_copy(update={"series": entries, "status": "running", "finished": None})
        (self.out / "run.json").write_text(as_json(record))
        (self.out / "B").mkdir()
        begun = SeriesRecord(name="B", source=str(self.sources[1]), tiltflow="0", started=datetime.now(UTC))
        (self.out / "B" / "run.json").write_text(as_json(begun))

    def close(self, **more: Any) -> list[Any]:
        return close_dead_runs(self.outbox, Thresholds(), self.site.scratch, **more)

    @property
    def told(self) -> list[Any]:
        return [json.loads(message.body) for message in self.outbox.messages()]


@pytest.fixture
def case(small_series: Path, tmp_path: Path) -> Case:
    return Case(small_series, tmp_path)


def test_what_a_dead_run_finished_is_told_and_what_it_left_is_closed(case: Case, dead: str) -> None:
    case.begin(dead)
    case.work()
    (closed,) = case.close()
    assert closed.words == "1 of 3 series were done when its process died"
    assert closed.again is not None
    assert closed.again.line == f"cd {case.root} && tiltflow run"
    callback, final = case.told
    assert [(file["title"], file["status"]) for file in callback["files"]] == [("A", "success"), ("B", "error"), ("C", "error")]
    assert "its process died" in callback["files"][1]["message"]
    assert callback["files"][0]["imageSet"][0]["assets"]
    assert final == {"status": "error"}
    assert json.loads((case.out / "callback.json").read_text()) == callback
    assert read_record(case.out / "B" / "run.json").status == "error"
    record = read_run(case.out / "run.json")
    assert (record.status, [entry.status for entry in record.series]) == ("interrupted", ["success", "error", "error"])
    assert (case.out / "index.html").is_file()
    assert case.close() == []
    assert case.outbox.unfinished() == []


def test_a_run_that_had_done_everything_is_a_success(case: Case, dead: str) -> None:
    case.begin(dead)
    run(case.sources, RECIPE, case.site, case.out)
    (closed,) = case.close()
    assert closed.again is None
    assert case.told[-1] == {"status": "success"}
    assert [file["status"] for file in case.told[0]["files"]] == ["success"] * 3


def test_results_that_were_written_down_before_it_died_are_not_told_again(case: Case, dead: str) -> None:
    case.begin(dead)
    run(case.sources, RECIPE, case.site, case.out)
    case.outbox.put("r1", "result", "in", '{"files": "as the run told them"}')
    case.close()
    assert case.told == [{"files": "as the run told them"}, {"status": "success"}]


def test_series_that_were_told_one_by_one_are_not_told_again(case: Case, dead: str) -> None:
    case.begin(dead)
    case.work()
    done = replace(result_of(read_record(case.out / "A" / "run.json"), case.out / "A"), source=case.sources[0])
    body = build_callback([done], plain_layout(case.sources[0].parent, case.out))
    case.outbox.put("r1", "result", "A.st", body.model_dump_json())
    case.close()
    assert [[file["title"] for file in body["files"]] for body in case.told[:-1]] == [["A"], ["B"], ["C"]]


def test_an_earlier_result_of_another_request_is_not_told_as_that_of_the_dead_run(case: Case, dead: str) -> None:
    run(case.sources, RECIPE, case.site, case.out)
    other = make_recipe(BrtParameters(thickness=60), engine="imod").digest
    case.begin(dead)
    plan = case.outbox.unfinished()[0].plan
    plan["series"][str(case.sources[2])] = other
    time.sleep(0.01)
    case.outbox.begin(RunEntry(run="r1", about="in", url=URL, plan=plan, owner=dead))
    case.close()
    assert [file["status"] for file in case.told[0]["files"]] == ["success", "success", "error"]


@pytest.mark.parametrize(
    ("command", "silent_s", "closed"),
    [
        (("tiltflow", "run"), 0.0, True),
        ((), GRACE_S - 60, False),
        ((), GRACE_S + 60, True),
    ],
    ids=["a command", "a flow that died just now", "a flow that nobody restarted"],
)
def test_a_flow_that_died_is_left_to_its_orchestrator_for_a_while(
    small_series: Path, tmp_path: Path, dead: str, command: tuple[str, ...], silent_s: float, closed: bool
) -> None:
    case = Case(small_series, tmp_path)
    now = time.time()
    case.outbox.clock = lambda: now
    case.begin(dead, command=command)
    case.outbox.clock = lambda: now + silent_s
    assert bool(case.close()) is closed


@pytest.mark.parametrize(("owner", "silent_h", "closed"), [("living", 1000, False), ("foreign", 5, False), ("foreign", 7, True)])
def test_the_living_are_left_alone_and_those_elsewhere_as_long_as_they_are_heard_of(
    case: Case, owner: str, silent_h: float, closed: bool
) -> None:
    now = time.time()
    case.outbox.clock = lambda: now
    token = new_token()
    case.begin(token if owner == "living" else "0" * 8 + token[8:])
    case.outbox.clock = lambda: now + silent_h * 3600
    assert bool(case.close()) is closed


def test_a_run_is_left_alone_while_another_works_on_one_of_its_series(
    case: Case, dead: str, caplog: pytest.LogCaptureFixture
) -> None:
    case.begin(dead)
    case.work()
    caplog.set_level("INFO")
    with folder_lock(case.out / "B", print):
        assert case.close() == []
    assert "another run works on it" in caplog.text
    assert len(case.close()) == 1


def test_runs_that_tell_nobody_are_closed_too_and_nothing_is_sent(case: Case, dead: str) -> None:
    case.begin(dead, url=None)
    case.work()
    assert len(case.close()) == 1
    assert case.told == []
    assert read_record(case.out / "B" / "run.json").status == "error"


def test_one_whose_results_cannot_be_found_out_ends_as_an_error_and_does_not_stop_the_others(case: Case, dead: str) -> None:
    case.outbox.begin(RunEntry(run="r0", about="nonsense", url=URL, plan={"command": ["x"]}, owner=dead))
    case.begin(dead)
    case.work()
    case.sources[2].unlink()
    closed = case.close()
    assert [each.entry.run for each in closed] == ["r0", "r1"]
    assert "cannot be found out" in closed[0].words
    assert case.told[0] == {"status": "error"}
    assert len(case.told) == 3


def test_series_that_are_links_out_of_the_folder_are_closed_like_others(case: Case, dead: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "A.st"
    raw.parent.mkdir()
    case.sources[0].rename(raw)
    case.sources[0].symlink_to(raw)
    case.begin(dead)
    case.work()
    (closed,) = case.close()
    assert [result.ok for result in closed.results] == [True, False, False]


def test_a_folder_of_results_that_is_gone_leaves_no_run_open(case: Case, dead: str) -> None:
    case.begin(dead)
    case.out.parent.joinpath("out").write_text("a file now")
    assert len(case.close()) == 1
    assert case.told[-1] == {"status": "error"}
    assert case.outbox.unfinished() == []


def test_results_of_an_earlier_time_do_not_count_as_told(case: Case, dead: str) -> None:
    case.begin(dead)
    case.outbox.put("r1", "result", "in", '{"files": "as the first attempt told them"}')
    case.outbox.put("r1", "final", "in", '{"status": "error"}')
    case.begin(dead)
    case.work()
    case.close()
    assert [file["title"] for file in case.told[2]["files"]] == ["A", "B", "C"]
    assert len(case.told) == 4


@pytest.mark.parametrize("done", [True, False])
def test_a_run_that_was_cancelled_tells_its_results_if_it_has_any(case: Case, dead: str, done: bool) -> None:
    case.begin(dead)
    if done:
        case.work()
    (entry,) = case.outbox.unfinished()
    close_dead_run(case.outbox, entry, Thresholds(), even_if_nothing_was_done=False)
    assert [sorted(body) for body in case.told] == ([["files"]] if done else []) + [["status"]]


def test_a_run_that_another_process_takes_up_meanwhile_is_left_to_it(case: Case, dead: str) -> None:
    case.begin(dead)
    case.work()
    (entry,) = case.outbox.unfinished()
    assert case.outbox.claim(entry)
    with pytest.raises(TiltflowError, match="taken it up"):
        close_dead_run(case.outbox, entry, Thresholds())
    assert case.told == []


def test_one_that_died_before_its_plan_was_made_ends_as_an_error(case: Case, dead: str) -> None:
    case.outbox.begin(RunEntry(run="r0", about="in", url=URL, owner=dead))
    case.outbox.put("r0", "running", "in", '{"status":"running"}')
    case.close(grace_s=-1)
    assert case.told == [{"status": "running"}, {"status": "error"}]


def test_remains_of_the_dead_are_removed_from_scratch_and_results(case: Case, dead: str) -> None:
    case.begin(dead)
    case.work()
    left = [case.root / "scratch" / f"B-{dead}", case.out / "B" / f".tiltflow-{dead}.mrc"]
    left[0].mkdir(parents=True)
    (left[0] / ".tiltflow-scratch").touch()
    left[1].touch()
    case.close()
    assert not [path for path in left if path.exists()]


@pytest.mark.parametrize("other", ["url", "token", "output", "series", ""])
def test_the_same_request_goes_on_in_the_place_of_a_dead_run_once(case: Case, dead: str, other: str) -> None:
    case.begin(dead)
    assert [entry.run for entry, _ in commands_of_dead_runs(case.outbox)] == ["r1"]
    wanted = case.outbox.unfinished()[0]
    changed = {
        "url": {"url": "https://other.example"},
        "token": {"token": SecretStr("another")},
        "output": {"plan": wanted.plan | {"output": "/other"}},
        "series": {"plan": wanted.plan | {"series": {}}},
        "": {},
    }
    wanted = replace(wanted, **changed[other])
    assert dead_run_like(case.outbox, wanted) == (None if other else "r1")
    assert dead_run_like(case.outbox, wanted) is None, "it is this process's now"
    assert len(commands_of_dead_runs(case.outbox)) == bool(other)
