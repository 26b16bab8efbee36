"""The record of a series: on disk at every moment, valid, and able to go on."""

import errno
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tiltflow.errors import FormatError
from tiltflow.record import (
    SCHEMA,
    NumberEntry,
    Recorder,
    RunRecord,
    RunRecorder,
    RunSeriesEntry,
    SeriesRecord,
    read_record,
    read_run,
)
from tiltflow.work import Quantity, SeriesResult, StageRecord, Trust, Verdict


@pytest.fixture
def recorder(tmp_path):
    source = tmp_path / "B.st"
    source.write_bytes(b"12345")
    return Recorder.start(tmp_path / "out" / "run.json", source, "9.9")


def test_a_record_is_on_disk_from_the_start_and_says_it_is_running(recorder):
    record = read_record(recorder.path)
    assert (record.status, record.name, record.source_bytes, record.tiltflow) == ("running", "B", 5, "9.9")


def test_a_killed_run_leaves_a_record_that_says_what_it_was_doing(recorder):
    with recorder.stage("coarse alignment"):
        record = read_record(recorder.path)
    assert record.stages[-1].name == "coarse alignment"
    assert record.stages[-1].status == "running"


def test_a_finished_stage_has_its_time_numbers_and_notes(recorder):
    with recorder.stage("views") as notes:
        notes.number("views_used", np.int64(40))
        notes.number("shift", np.float32(0.5), "px")
        notes.numbers({"size": Quantity(3, "bytes")})
        notes.note("one view was dark")
    stage = read_record(recorder.path).stages[0]
    assert stage.status == "done"
    assert stage.seconds is not None
    assert stage.numbers == {
        "views_used": NumberEntry(value=40),
        "shift": NumberEntry(value=0.5, unit="px"),
        "size": NumberEntry(value=3, unit="bytes"),
    }
    assert stage.notes == ["one view was dark"]


def test_a_stage_left_by_an_exception_is_failed(recorder):
    with pytest.raises(RuntimeError), recorder.stage("solve"):
        raise RuntimeError
    assert read_record(recorder.path).stages[0].status == "failed"
    assert recorder.failed_stage() == "solve"


def test_a_stage_that_the_work_went_on_without_is_not_where_it_failed(recorder):
    with pytest.raises(RuntimeError), recorder.stage("align: gold"):
        raise RuntimeError
    time.sleep(0.01)
    with recorder.stage("align: patches"):
        pass
    assert recorder.failed_stage() is None
    with pytest.raises(RuntimeError), recorder.stage("check"), recorder.stage("plan"):
        raise RuntimeError
    assert recorder.failed_stage() == "plan"


def test_numbers_that_are_not_finite_become_null_in_the_file(recorder):
    with recorder.stage("axis") as notes:
        notes.number("axis_angle_from_data", float("nan"), "deg")
    text = recorder.path.read_text()
    assert json.loads(text)["stages"][0]["numbers"]["axis_angle_from_data"]["value"] is None


def test_another_process_can_go_on_with_the_record(recorder):
    with recorder.stage("read"):
        pass
    other = Recorder.resume(recorder.path)
    with other.stage("products"):
        pass
    other.succeed()
    record = read_record(recorder.path)
    assert [stage.name for stage in record.stages] == ["read", "products"]
    assert record.status == "success"
    assert record.finished is not None


def test_a_failure_keeps_stage_reason_and_last_lines(recorder):
    recorder.fail("reconstruction", "the disk is full", ["line 1", "line 2"])
    failure = read_record(recorder.path).failure
    assert failure is not None
    assert (failure.stage, failure.reason, failure.last_lines) == ("reconstruction", "the disk is full", ["line 1", "line 2"])


def test_a_warning_is_kept_once(recorder):
    recorder.warn("angles disagree")
    recorder.warn("angles disagree")
    assert read_record(recorder.path).warnings == ["angles disagree"]


def test_no_partial_file_stays_beside_the_record(recorder):
    recorder.succeed()
    assert [path.name for path in recorder.path.parent.iterdir()] == ["run.json"]


def test_the_file_names_its_schema_and_unknown_fields_are_refused(recorder):
    content = json.loads(recorder.path.read_text())
    assert content["schema"] == SCHEMA
    with pytest.raises(ValidationError):
        SeriesRecord.model_validate({**content, "surprise": 1})


def test_a_file_that_is_no_record_is_named(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"status": "great"}')
    with pytest.raises(FormatError, match=r"run\.json is not a record"):
        read_record(path)


def test_a_file_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("{")
    with pytest.raises(FormatError, match=r"run\.json is not JSON"):
        read_record(path)


def test_a_file_name_that_is_not_utf8_survives(tmp_path):
    source = tmp_path / os.fsdecode(b"caf\xe9.mrc")
    recorder = Recorder.start(tmp_path / "out" / "run.json", source, "9.9")
    recorder.warn(f"{source.name} is odd")
    assert Path(read_record(recorder.path).source) == source


def test_the_record_of_a_run_follows_its_series(tmp_path):
    entries = [RunSeriesEntry(name=name, source=f"/in/{name}.st", record=f"{name}/run.json") for name in "AB"]
    record = RunRecord(tiltflow="9.9", started=datetime.now(UTC), template="plastic_brt", digest="0", series=entries)
    recorder = RunRecorder(tmp_path / "run.json", record)
    assert [entry.status for entry in read_run(recorder.path).series] == ["waiting", "waiting"]
    stage = StageRecord("read", 1.5)
    recorder.done(SeriesResult(Path("/in/A.st"), "success", stages=(stage, stage), verdict=Verdict(Trust.GOOD)))
    recorder.done(SeriesResult(Path("/in/B.st"), "error", message="no angles"))
    recorder.close("done")
    read = read_run(recorder.path)
    assert [(entry.status, entry.verdict, entry.seconds) for entry in read.series] == [
        ("success", "good", 3.0),
        ("error", None, 0.0),
    ]
    assert read.status == "done"
    assert read.finished is not None


def test_a_series_that_comes_later_or_again_is_expected_by_the_record_of_a_run(tmp_path):
    recorder = RunRecorder(tmp_path / "run.json", RunRecord(tiltflow="9.9", started=datetime.now(UTC), template="t", digest="0"))
    a, b = (RunSeriesEntry(name=name, source=f"/in/{name}.st", record=f"{name}/run.json") for name in "AB")
    recorder.expect(a)
    recorder.done(SeriesResult(Path("/in/A.st"), "success"))
    recorder.expect(b)
    assert [(entry.name, entry.status) for entry in read_run(recorder.path).series] == [("A", "success"), ("B", "waiting")]
    recorder.expect(a.model_copy(update={"status": "waiting"}))
    assert [(entry.name, entry.status) for entry in read_run(recorder.path).series] == [("B", "waiting"), ("A", "waiting")]


def test_a_series_record_is_no_run_record(recorder):
    with pytest.raises(FormatError, match="is not the record of a tiltflow run"):
        read_run(recorder.path)


def test_a_full_disk_leaves_the_record_behind_until_there_is_room(tmp_path, monkeypatch, caplog):
    recorder = Recorder.start(tmp_path / "run.json", tmp_path / "B.st", "1")

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tiltflow.atomic_write.write_bytes", full)
        recorder.warn("first")
        recorder.warn("second")
    assert read_record(tmp_path / "run.json").warnings == []
    assert sum("make room there" in line for line in caplog.messages) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    recorder.warn("third")
    assert read_record(tmp_path / "run.json").warnings == ["first", "second", "third"]


def test_a_record_that_may_not_be_written_is_an_error(tmp_path, monkeypatch):
    recorder = Recorder.start(tmp_path / "run.json", tmp_path / "B.st", "1")

    def denied(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tiltflow.atomic_write.write_bytes", denied)
    with pytest.raises(PermissionError):
        recorder.warn("first")


def test_work_goes_on_from_the_newest_record_also_where_a_full_disk_holds_an_older_one(tmp_path, monkeypatch):
    recorder = Recorder.start(tmp_path / "run.json", tmp_path / "B.st", "1")

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tiltflow.atomic_write.write_bytes", full)
        with recorder.stage("align"):
            pass
        assert read_record(tmp_path / "run.json").stages == []
        assert Recorder.resume(tmp_path / "run.json").last_stage() == "align"
    assert Recorder.resume(tmp_path / "run.json").last_stage() == "align"
    assert read_record(tmp_path / "run.json").stages[0].status == "done"
