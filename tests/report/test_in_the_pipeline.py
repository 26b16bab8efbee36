"""Reports of real runs of the pipeline, with the stand-in for IMOD doing the reconstruction."""

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from bs4 import BeautifulSoup
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.console import headline
from tiltflow.pipeline import process, run
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record, read_run
from tiltflow.work import Site, Trust

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"


@pytest.fixture(scope="module")
def recipe():
    return make_recipe(BrtParameters(thickness=50), engine="imod")


@pytest.fixture
def site(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Site(scratch=scratch)


def test_a_run_leaves_a_page_for_every_series_an_index_a_table_and_a_record(finished_run):
    result, folder = finished_run.result, finished_run.folder
    record = read_record(folder / "B" / "run.json")
    assert not [warning for warning in record.warnings if "could not be made" in warning]
    assert {picture.name for picture in record.pictures} == {"zero_tilt", "slice_xy", "slice_xz", "slice_yz"}
    assert record.volume is not None
    soup = BeautifulSoup((folder / "B" / "report.html").read_text(), "html.parser")
    assert "good" in soup.find("section", class_="verdict")["class"] or record.verdict.level is not Trust.GOOD
    assert len(soup.find_all("video")) == 2
    failed = BeautifulSoup((folder / "A" / "report.html").read_text(), "html.parser")
    assert "It failed at read" in failed.find("section", class_="verdict").get_text(" ", strip=True)
    index = BeautifulSoup((folder / "index.html").read_text(), "html.parser")
    assert [row.a["href"] for row in index.find("table").tbody.find_all("tr")] == ["A/report.html", "B/report.html"]
    with (folder / "metrics.csv").open(newline="") as file:
        assert [row["series"] for row in csv.DictReader(file)] == ["A", "B"]
    kept = read_run(folder / "run.json")
    assert (kept.status, [(entry.name, entry.status) for entry in kept.series]) == ("done", [("A", "error"), ("B", "success")])
    assert [entry.verdict for entry in kept.series] == [one.verdict.level for one in result.results]


@pytest.mark.parametrize("sound", [True, False])
def test_a_file_whose_name_is_up_to_no_good_is_harmless(small_series, recipe, site, tmp_path, fake_imod, make, sound):
    source = small_series.rename(small_series.with_name(f"{make.hostile}.mrc"))
    if not sound:
        source.write_text("this is no image")
    assert run([source], recipe, site, tmp_path / "out").results[0].ok == sound
    for page in (tmp_path / "out" / make.hostile / "report.html", tmp_path / "out" / "index.html"):
        soup = BeautifulSoup(page.read_text(), "html.parser")
        assert make.hostile in soup.get_text()
        assert not soup.find_all(attrs={"onerror": True})
        assert all(image["src"].startswith("data:image/") for image in soup.find_all("img"))
    with (tmp_path / "out" / "metrics.csv").open(newline="") as file:
        assert [row["series"] for row in csv.DictReader(file)] == [make.hostile]


def test_the_verdict_rests_on_the_figures_that_imod_logged(finished_run):
    record = read_record(finished_run.folder / "B" / "run.json")
    assert record.verdict.numbers["leave-out error"].value == pytest.approx(0.6)
    assert record.verdict.numbers["residual"].value == pytest.approx(0.5)


def test_the_line_of_a_series_has_the_verdict_its_worst_reason_and_two_figures(finished_run):
    failed, done = finished_run.result.results
    worst = f"B.st: {done.verdict.level.upper()}: {done.verdict.reasons[0]}"
    assert headline(done).startswith(f"{worst} (leave-out error 0.60 px, residual 0.50 px); ")
    assert headline(failed).startswith("A.mrc: FAILED at read")


def test_records_keep_to_the_published_schemas(finished_run):
    for name, path in (("series-record", "A/run.json"), ("series-record", "B/run.json"), ("run-record", "run.json")):
        schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(json.loads((finished_run.folder / path).read_text()), schema, cls=jsonschema.Draft202012Validator)


def test_the_schema_refuses_what_is_no_record(finished_run):
    schema = json.loads((SCHEMAS / "series-record.schema.json").read_text())
    record = json.loads((finished_run.folder / "B" / "run.json").read_text())
    for wrong in ({**record, "surprise": 1}, {**record, "status": "great"}, {**record, "stages": [{"name": 1}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_the_end_of_the_log_is_kept_for_a_failure_of_our_own(finished_run):
    record = read_record(finished_run.folder / "A" / "run.json")
    assert record.failure.error == "FormatError"
    soup = BeautifulSoup((finished_run.folder / "A" / "report.html").read_text(), "html.parser")
    assert "interrupted transfer" in soup.get_text()


def test_the_index_grows_while_the_run_goes_on(small_series, recipe, site, tmp_path, fake_imod):
    other = Path(shutil.copy(small_series, small_series.with_name("C.st")))
    seen = []

    def watch(progress):
        if progress.name == "C" and progress.result is None and not seen:
            seen.append(BeautifulSoup((tmp_path / "out" / "index.html").read_text(), "html.parser"))

    run([small_series, other], recipe, site, tmp_path / "out", on_progress=watch)
    assert [row.a.get_text() for row in seen[0].find("table").tbody.find_all("tr")] == ["B"]
    assert "not finished, 1 not started" in seen[0].header.get_text()


def test_a_report_that_cannot_be_written_costs_the_series_nothing(small_series, recipe, site, tmp_path, fake_imod):
    (tmp_path / "B" / "report.html").mkdir(parents=True)
    (tmp_path / "B" / "report").write_text("in the way")
    result = process(small_series, recipe, site, output=tmp_path / "B")
    assert result.ok
    warnings = read_record(tmp_path / "B" / "run.json").warnings
    for what in ("the picture of the raw series", "the statistics of the volume", "the report"):
        assert any(warning.startswith(f"{what} could not be made") for warning in warnings)


def test_an_index_that_cannot_be_written_costs_the_run_nothing(small_series, recipe, site, tmp_path, fake_imod, caplog):
    (tmp_path / "out" / "index.html").mkdir(parents=True)
    assert not run([small_series], recipe, site, tmp_path / "out").failed
    assert "the index" in caplog.text


def test_a_result_that_stands_keeps_its_verdict(small_series, recipe, site, tmp_path, fake_imod):
    first = process(small_series, recipe, site, output=tmp_path / "B")
    assert first.verdict is not None
    assert process(small_series, recipe, site, output=tmp_path / "B").verdict == first.verdict


def test_the_command_makes_the_pages_again_by_the_thresholds_of_the_site(finished_run, tmp_path, monkeypatch):
    folder = shutil.copytree(finished_run.folder, tmp_path / "out", ignore=shutil.ignore_patterns("*.zarr", "*.mrc"))
    for page in (folder / "index.html", folder / "B" / "report.html"):
        page.unlink()
    monkeypatch.setenv("TILTFLOW_VERDICT_LEAVE_OUT_GOOD_PX", "0.1")
    monkeypatch.setenv("TILTFLOW_VERDICT_LEAVE_OUT_POOR_PX", "0.2")
    result = CliRunner().invoke(app, ["report", str(folder)])
    assert result.exit_code == 0, result.output
    assert str(folder / "B" / "report.html") in result.output
    soup = BeautifulSoup((folder / "B" / "report.html").read_text(), "html.parser")
    assert "poor" in soup.find("section", class_="verdict")["class"]
    assert len(soup.find_all("img")) >= 5


def test_the_command_refuses_a_folder_without_records(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no run.json" in " ".join(result.stderr.split())
