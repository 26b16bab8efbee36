"""What a flow publishes of a run."""

import json
from dataclasses import replace
from pathlib import Path

from tiltflow.pipeline import close_lost
from tiltflow.report import evidence_metadata, record_of, summary_markdown
from tiltflow.report.gather import describe_volume
from tiltflow.work import SeriesResult, Thresholds


def rows(text):
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


def test_the_summary_counts_verdicts_and_puts_what_needs_a_look_first(make):
    text = summary_markdown([make.record("TS_01"), make.failed("TS_99"), make.record("TS_02", error_px=1.4)])
    assert text.startswith("**3 tilt series: 1 good, 1 poor, 1 failed**")
    assert [row.split("|")[1].strip() for row in rows(text)] == [r"TS\_99", r"TS\_02", r"TS\_01"]
    assert "| 1.40 px |" in rows(text)[1]


def test_names_and_messages_can_neither_break_the_table_nor_make_markup(make):
    text = summary_markdown([make.failed(make.hostile, reason="a | b\n\n# c `d` [e](f)")])
    (row,) = rows(text)
    assert row.replace("\\|", "").count("|") == 9
    assert "<img" not in text
    assert r"\[e\]\(f\)" in row


def test_thresholds_of_the_site_hold_for_the_summary(make):
    assert "1 poor" in summary_markdown([make.record()], Thresholds(error_good_px=0.01, error_poor_px=0.05))


def test_the_summary_says_where_the_page_is():
    assert summary_markdown([], page=Path("/a_b/index.html")).endswith("The whole report: /a\\_b/index.html\n")


def test_a_series_without_a_record_is_told_by_its_result(tmp_path, make):
    lost = SeriesResult(Path("/in/TS_1.st"), "error", message="its worker died", stage="worker", output=tmp_path)
    assert record_of(lost).failure.reason == "its worker died"
    make.save(make.record("TS_1"), tmp_path)
    assert record_of(lost).status == "error", "the record of an earlier run is not this one's"
    assert record_of(replace(lost, status="success")).alignment is not None


def test_the_record_of_a_lost_series_is_closed_where_it_stood(tmp_path, make):
    record = make.record()
    record.status, record.stages[-1].status = "running", "running"
    make.save(record, tmp_path)
    lost = SeriesResult(Path(record.source), "error", message="its worker died", stage="worker", output=tmp_path)
    close_lost(lost, Thresholds())
    closed = record_of(lost)
    assert (closed.status, closed.failure.stage, closed.stages[-1].status) == ("error", "gen_zarr", "failed")
    assert closed.failure.reason == "its worker died"
    assert "its worker died" in (tmp_path / "report.html").read_text()


def test_a_lost_series_without_a_readable_record_gets_one(tmp_path):
    (tmp_path / "run.json").write_text("{")
    lost = SeriesResult(Path("/in/TS_01.mrc"), "error", stage="worker", output=tmp_path)
    close_lost(lost, Thresholds())
    closed = record_of(lost)
    assert (closed.status, closed.failure.stage, closed.failure.reason) == ("error", "worker", "its process died")


def test_the_record_of_an_earlier_run_stays_as_it_is(tmp_path, make):
    before = make.save(make.record(), tmp_path).read_text()
    close_lost(SeriesResult(Path("/in/TS_01.mrc"), "error", message="its worker died", output=tmp_path), Thresholds())
    assert (tmp_path / "run.json").read_text() == before


def test_no_series_at_all_is_said():
    assert summary_markdown([]).startswith("**0 tilt series: none**")


def test_the_evidence_for_a_portal_is_plain_json_with_the_verdict(make, measured):
    record = make.record()
    record.volume = describe_volume(measured, make.voxel_nm)
    evidence = json.loads(json.dumps(evidence_metadata(record), allow_nan=False))
    assert evidence["verdict"] == "good"
    assert (evidence["error_px"], evidence["method"], evidence["views_used"]) == (0.12, "gold", 20)
    assert evidence["reasons"][0].startswith("the estimated alignment error")
    assert evidence_metadata(make.failed())["verdict"] == "failed"
