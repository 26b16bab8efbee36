"""The index of a run and its table: a row for every series, sound numbers, harmless names."""

import base64
import csv
import io
import shutil

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tiltflow.errors import LocationError
from tiltflow.report import rebuild_pages, write_run_pages
from tiltflow.report.embed import Embedder
from tiltflow.report.rows import COLUMNS, row_of
from tiltflow.report.series_page import MOST_BYTES
from tiltflow.work import Thresholds

LIMITS = Thresholds()


@pytest.fixture(scope="module")
def records(tmp_path_factory, make, measured):
    """The records of a good, a poor and a failed series, and of one with a name that is up to no good."""
    folder = tmp_path_factory.mktemp("records") / "grid 7"
    for record in (make.record("TS_01"), make.record("TS_02", error_px=1.4), make.failed("TS_99"), make.record(make.hostile)):
        own = folder / record.name
        if record.name == "TS_01":
            make.files(record, own, measured)
        record.input.pop("tilt_angles")
        make.save(record, own)
    return folder


@pytest.fixture
def run_folder(records, tmp_path):
    """The run without a page."""
    return shutil.copytree(records, tmp_path / records.name)


@pytest.fixture(scope="module")
def indexed(records, tmp_path_factory):
    """The run with its index; only looked at."""
    folder = shutil.copytree(records, tmp_path_factory.mktemp("indexed") / records.name)
    write_run_pages(folder, LIMITS)
    return folder


@pytest.fixture(scope="module")
def rebuilt(records, tmp_path_factory):
    """The run with all its pages, and what was written; only looked at."""
    folder = shutil.copytree(records, tmp_path_factory.mktemp("rebuilt") / records.name)
    return folder, list(rebuild_pages(folder, LIMITS))


def rows_of(folder):
    soup = BeautifulSoup((folder / "index.html").read_text(), "html.parser")
    return soup, soup.find("table", class_="index").tbody.find_all("tr")


def test_the_index_has_a_row_for_every_series_with_its_verdict(indexed):
    soup, rows = rows_of(indexed)
    assert soup.h1.get_text() == "grid 7"
    assert [row["class"][0] for row in rows] == ["good", "good", "poor", "failed"]
    assert [badge.get_text(" ", strip=True) for badge in soup.find("ul", class_="tally").find_all("li")] == [
        "✓ 2 good",
        "✗ 1 poor",
        "✗ 1 failed",
    ]


def test_numbers_are_shown_for_people_and_sorted_by_their_value(indexed):
    poor = next(row for row in rows_of(indexed)[1] if row["class"] == ["poor"])
    error = poor.find_all("td")[4]
    assert (error["data-sort"], error.get_text(" ", strip=True)) == ("1.4", "1.40 px 1.40 nm")
    failed = next(row for row in rows_of(indexed)[1] if row["class"] == ["failed"])
    assert failed.find_all("td")[4]["data-sort"] == ""


def test_a_row_gives_every_reason_for_trouble_and_none_where_all_is_well(indexed):
    whys = {row["class"][0]: row.find_all("td")[3].get_text() for row in rows_of(indexed)[1]}
    assert whys["good"] == ""
    assert whys["poor"].count(";") >= 1
    assert "the estimated alignment error is 1.40 px" in whys["poor"]
    assert whys["failed"] == "it failed at read: the file ends in view 7 of 41"


def test_a_key_image_in_a_dark_corner_of_its_range_is_shown_bright(tmp_path):
    dark = np.random.default_rng(0).integers(20, 30, (50, 50)).astype(np.uint8)
    dark[0, 0] = 255
    Image.fromarray(dark).save(tmp_path / "key.jpg", quality=95)
    shown = Embedder(tmp_path, 10**6).picture("key.jpg", 50)
    values = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.source.split(",")[1]))), float)
    assert values.std() > 50


def test_a_row_leads_to_the_page_of_its_series_once_there_is_one(indexed, rebuilt):
    assert not any(row.a for row in rows_of(indexed)[1])
    for row in rows_of(rebuilt[0])[1]:
        target = row.a["href"]
        assert ":" not in target
        assert not set("<>\"' ") & set(target)
    assert "TS_01/report.html" in [row.a["href"] for row in rows_of(rebuilt[0])[1]]


def test_names_are_shown_as_names(rebuilt, make):
    soup, rows = rows_of(rebuilt[0])
    assert make.hostile in [row.a.get_text() for row in rows]
    assert not soup.find_all(attrs={"onerror": True})
    assert len(soup.find_all("script")) == 1


def test_the_only_script_is_the_one_that_the_policy_names(indexed):
    soup, _ = rows_of(indexed)
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert "script-src 'sha256-" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_a_series_with_pictures_has_a_small_one_in_its_row(indexed):
    pictures = [row.img["src"] for row in rows_of(indexed)[1] if row.img]
    assert len(pictures) == 1
    assert pictures[0].startswith("data:image/jpeg;base64,")
    assert len(pictures[0]) < 8000


def test_the_table_has_the_same_series_and_a_column_for_every_number(run_folder, make):
    _, path = write_run_pages(run_folder, LIMITS)
    with path.open(newline="") as file:
        rows = {row["series"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"TS_01", "TS_02", "TS_99", make.hostile}
    assert set(rows["TS_01"]) == set(COLUMNS)
    assert float(rows["TS_02"]["error_px"]) == 1.4
    assert rows["TS_02"]["verdict"] == "poor"
    assert float(rows["TS_01"]["thickness_nm"]) == pytest.approx(96, abs=12)
    assert rows["TS_99"]["error_px"] == ""
    assert rows["TS_99"]["why"].startswith("it failed at read")
    assert (rows["TS_01"]["views_used"], rows["TS_01"]["views_left_out"]) == ("20", "1")


def test_a_broken_record_costs_the_others_nothing(run_folder, caplog):
    (run_folder / "TS_50").mkdir()
    (run_folder / "TS_50" / "run.json").write_text("{")
    write_run_pages(run_folder, LIMITS)
    assert len(rows_of(run_folder)[1]) == 4
    assert "TS_50" in caplog.text


def test_two_hundred_series_make_a_page_that_opens_at_once(tmp_path, make, measured):
    first = tmp_path / "TS_000"
    record = make.files(make.record("TS_000"), first, measured)
    text = record.model_dump_json(by_alias=True)
    pictures = {path.name: path.read_bytes() for path in (first / "report").iterdir()}
    for number in range(200):
        folder = tmp_path / f"TS_{number:03d}"
        (folder / "report").mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(text.replace("TS_000", folder.name))
        (folder / "report" / "slice_xy.jpg").write_bytes(pictures["slice_xy.jpg"])
    index, _ = write_run_pages(tmp_path, LIMITS)
    assert index.stat().st_size < MOST_BYTES
    soup, rows = rows_of(tmp_path)
    assert len(rows) == 200
    assert all(row.img["loading"] == "lazy" for row in rows)
    assert len(list(soup.descendants)) < 20_000


def test_all_pages_of_a_run_are_made_from_the_records(rebuilt):
    folder, written = rebuilt
    assert len([path for path in written if path.name == "report.html"]) == 4
    assert written[-2:] == [folder / "index.html", folder / "metrics.csv"]
    assert all(path.is_file() for path in written)


def test_the_page_of_one_series_is_made_from_its_folder(run_folder):
    assert list(rebuild_pages(run_folder / "TS_01", LIMITS)) == [run_folder / "TS_01" / "report.html"]
    assert not (run_folder / "index.html").exists()


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(LocationError, match=r"holds no run\.json"):
        list(rebuild_pages(tmp_path, LIMITS))


def test_thresholds_of_today_judge_records_of_yesterday(run_folder):
    write_run_pages(run_folder, Thresholds(error_good_px=0.01, error_poor_px=0.05))
    assert [row["class"][0] for row in rows_of(run_folder)[1]] == ["poor", "poor", "poor", "failed"]


def test_the_table_has_what_the_alignment_did(make):
    record = make.record()
    found = record.alignment
    found.x_axis_tilt_deg, found.shift_rms_px, found.shift_max_px = 1.25, 6.5, 14.0
    found.rotation_deg = [84.25 if used else 10.0 for used in found.included]
    found.tilt_deg = [tilt + 2.5 if used else 0.0 for tilt, used in zip(np.linspace(-60, 60, 21), found.included, strict=True)]
    names = ("tilt_axis_deg", "x_axis_tilt_deg", "tilt_offset_deg", "shift_rms_px", "shift_max_px")
    values = row_of(record, LIMITS, "").metrics()
    assert [values[name] for name in names] == [84.25, 1.25, 2.5, 6.5, 14.0]
    assert [row_of(make.failed(), LIMITS, "").metrics()[name] for name in names] == [None] * 5


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1"])
def test_a_name_is_no_formula_in_the_table(make, tmp_path, name):
    folder = tmp_path / "B"
    folder.mkdir()
    record = make.failed()
    record.name = name
    (folder / "run.json").write_text(record.model_dump_json(by_alias=True))
    write_run_pages(tmp_path, LIMITS)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert f"'{name}" in row.values()
    assert name not in row.values()
