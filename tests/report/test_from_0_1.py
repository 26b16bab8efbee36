"""What version 0.1 left is read: its records, their pages, and why its results are made anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tiltflow.pipeline.resume import look_back
from tiltflow.recipe import make_recipe
from tiltflow.record import read_record, read_run
from tiltflow.report import rebuild_pages
from tiltflow.work import Thresholds


@pytest.fixture
def results(data: Path, tmp_path: Path) -> Path:
    """A folder of results as 0.1 left it, of which the records are there."""
    (tmp_path / "TS_01").mkdir()
    shutil.copyfile(data / "records" / "run-0.1.json", tmp_path / "run.json")
    shutil.copyfile(data / "records" / "series-0.1.json", tmp_path / "TS_01" / "run.json")
    return tmp_path


def test_what_0_1_called_doubts_are_trust_warnings_of_the_alignment_and_of_every_attempt(results):
    found = read_record(results / "TS_01" / "run.json").alignment
    assert found.trust_warnings[0] == "14 of 15 views are not recognised by what the others predict"
    assert [len(attempt.get("trust_warnings", ())) for attempt in found.attempts] == [0, 1, 2, 1]
    assert "doubts" not in found.model_dump_json()


def test_views_left_out_count_from_1_and_those_of_older_records_are_renumbered(results):
    path = results / "TS_01" / "run.json"
    record = json.loads(path.read_text())
    record["alignment"]["excluded_views"] = {"0": "is dark", "14": "is blank"}  # as it was: the first and the last of 15
    path.write_text(json.dumps(record))
    found = read_record(path)
    assert found.alignment.excluded_views == {1: "is dark", 15: "is blank"}
    path.write_text(found.model_dump_json(by_alias=True))
    assert read_record(path).alignment.excluded_views == {1: "is dark", 15: "is blank"}, "written anew, it counts from 1"
    list(rebuild_pages(results, Thresholds()))
    assert "view 1 (is dark), view 15 (is blank)" in (results / "TS_01" / "report.html").read_text()


def test_its_pages_can_be_made_again(results):
    pages = rebuild_pages(results, Thresholds())
    assert {path.name for path in pages} >= {"index.html", "metrics.csv", "report.html"}
    text = (results / "TS_01" / "report.html").read_text()
    assert "14 of 15 views are not recognised" in text
    assert read_run(results / "run.json").series[0].name == "TS_01"


def test_its_result_is_not_kept_and_the_log_says_why(results):
    reason = look_back(results / "TS_01.st", make_recipe(), results / "TS_01").why
    assert reason is not None
    assert "it was made by tiltflow 0.1.0, which kept no steps" in reason
