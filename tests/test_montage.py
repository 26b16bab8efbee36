"""A montage at every door: what `inspect` shows, what is refused in words, and IMOD's run of it, from its files to its page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.montages import PIECE, STEP, VIEWS, coordinates, write_pieces
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.cli.application import NONE_SUCCEEDED, SOME_FAILED
from tiltflow.errors import UnsupportedError
from tiltflow.formats.series import read_series
from tiltflow.formats.stacks import open_stack
from tiltflow.interchange.series_geometry import read_geometry
from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage.quick_look import place_pieces
from tiltflow.record import read_record
from tiltflow.report import PAGE_NAME
from tiltflow.report.facts import facts

GOOD = 0
NAMED = "setupset.copyarg.name = {{ name }}\nsetupset.copyarg.stackext = {{ stackext }}\n"
EVERY = ("header", "mdoc")


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command in this process; scratch goes below the test's folder."""
    monkeypatch.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("COLUMNS", "250")
    runner = CliRunner()
    return lambda *args: runner.invoke(app, [str(arg) for arg in args])


@pytest.fixture
def montage(tmp_path) -> Path:
    (tmp_path / "input").mkdir()
    return write_pieces(tmp_path / "input" / "M.st", coordinates(), EVERY)


def record_of(tmp_path: Path, name: str = "M"):
    return read_record(tmp_path / "out" / name / "run.json")


def shown(output: str) -> dict[str, list[str]]:
    """Return the rows of a table that was printed, by what stands first."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    return {name: rest for name, *rest in rows}


@pytest.mark.parametrize(
    ("beside", "where"),
    [(("pl", "rawtlt"), "M.pl"), (("header",), "extended header (SerialEM)"), (("mdoc",), "M.st.mdoc")],
)
def test_inspect_shows_pieces_grid_overlap_views_and_where_they_were_read(beside, where, call, tmp_path):
    result = call("inspect", write_pieces(tmp_path / "M.st", coordinates(), beside))
    assert result.exit_code == GOOD
    rows = shown(result.output)
    assert rows["montage"] == ["2 x 2 pieces", f"{where}, 5 views of 2 x 2 pieces of 32 x 32 pixels"]
    names = ("pieces", "piece size", "overlap", "views", "width", "height")
    assert [rows[name][0] for name in names] == ["20", "32 x 32 px", "8 x 8 px", "5", "56 px", "56 px"]


def test_inspect_of_an_ordinary_series_says_nothing_of_pieces(call, small_series):
    result = call("inspect", small_series)
    assert not {"montage", "pieces", "overlap"} & shown(result.output).keys()


def test_a_montage_without_the_option_is_noticed_and_done_by_imod(call, montage, tmp_path, fake_imod):
    result = call("run", montage.parent, "-o", tmp_path / "out", "--engine", "imod")
    assert result.exit_code == GOOD, result.output
    record = record_of(tmp_path)
    assert record.input["views"].value == VIEWS
    assert record.alignment is not None
    assert len(record.alignment.tilt_deg) == VIEWS
    assert "each stitched from 2 x 2 pieces of 32 x 32 pixels that overlap by 8 x 8" in facts(record)
    page = (tmp_path / "out" / "M" / PAGE_NAME).read_text()
    assert "that overlap by 8 x 8" in page
    assert any(picture.path for picture in record.pictures)
    assert "Every view was blended from 2 x 2 pieces by blendmont" in page
    with pytest.raises(UnsupportedError, match="M is a montage: its raw stack holds pieces"):
        read_geometry(tmp_path / "out" / "M")


def test_what_is_kept_of_a_failed_run_has_the_files_that_blendmont_needs(call, montage, tmp_path, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    result = call("run", montage.parent, "-o", tmp_path / "out", "--engine", "imod", "--fallback-engine", "off")
    assert result.exit_code == NONE_SUCCEEDED
    assert (tmp_path / "out" / "M" / "M.pl").is_file()
    assert (tmp_path / "out" / "M" / "M.rawtlt").is_file()


@pytest.mark.parametrize("option", [("--montage", "0"), ("--set", "setupset.copyarg.montage=0")])
@pytest.mark.parametrize("engine", ["imod", "native"])
def test_montage_0_on_pieces_is_a_question_for_that_series_only(option, engine, call, montage, tmp_path, fake_imod):
    result = call("run", montage.parent, "-o", tmp_path / "out", "--engine", engine, "--file", montage.name, *option)
    assert result.exit_code == NONE_SUCCEEDED
    record = record_of(tmp_path)
    assert record.stages[-1].name == "read"
    assert record.message is not None
    assert "is it a montage? " in record.message
    assert "leave montage out or set it to 1" in record.message


def test_the_others_of_a_folder_are_done(call, montage, tmp_path, write_series, fake_imod):
    write_series(montage.with_name("B.st"))
    result = call("run", montage.parent, "-o", tmp_path / "out", "--engine", "imod", "--montage", "0")
    assert result.exit_code == SOME_FAILED
    assert record_of(tmp_path, "B").status == "success"


def test_montage_1_without_coordinates_says_what_to_give(call, small_series, tmp_path, fake_imod):
    result = call("run", small_series.parent, "-o", tmp_path / "out", "--engine", "imod", "--montage", "1")
    assert result.exit_code == NONE_SUCCEEDED
    message = record_of(tmp_path, "B").message
    assert message is not None
    assert "B.pl: no such file" in message
    assert "Put the coordinates into B.pl" in message


def test_a_template_that_says_1_or_0_follows_the_same_rules(call, montage, tmp_path, fake_imod):
    template = tmp_path / "own.adoc"
    for value, code in ((1, GOOD), (0, NONE_SUCCEEDED)):
        template.write_text(
            f"{NAMED}setupset.copyarg.montage = {value}\nsetupset.copyarg.gold = 10\ncomparam.tilt.tilt.THICKNESS = 20\n"
        )
        out = tmp_path / f"out{value}"
        assert call("run", montage.parent, "-o", out, "--engine", "imod", "--template", template).exit_code == code


def test_a_forecast_counts_views(montage, tmp_path, write_series):
    from tiltflow.engines.native import ENGINE
    from tiltflow.recipe import make_recipe

    whole = write_series(tmp_path / "W.st", views=VIEWS, size=STEP + PIECE)
    plans = [ENGINE.plan(read_series(path), make_recipe(engine="native"), 1) for path in (montage, whole)]
    assert plans[0] == plans[1]


def test_the_picture_of_a_view_has_its_pieces_where_they_were_written(montage):
    grid = read_series(montage).montage
    assert grid is not None
    with open_stack(montage) as stack:
        frame = place_pieces(stack, grid, 2)
        np.testing.assert_array_equal(frame[:PIECE, :STEP], stack[8][:, :STEP])
        np.testing.assert_array_equal(frame[STEP:, STEP:], stack[11])
        less = PieceGrid.of_sections(np.delete(coordinates(), 11, axis=0), (PIECE, PIECE))
        hole = place_pieces(stack, less, 2)[PIECE:, PIECE:]
    assert np.ptp(hole) == 0
    assert abs(hole[0, 0] - 1000) < 5
