"""A failure outside of a series' steps costs that series alone, and nothing that is printed costs any."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import write_small_series
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.errors import LocationError
from tiltflow.pipeline import run
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.work import Site

pytestmark = pytest.mark.attack("places that cannot be used, and lost output")
RECIPE = make_recipe(BrtParameters(thickness=50), engine="imod")


def a_file(place: Path) -> None:
    place.write_text("")


def a_dangling_link(place: Path) -> None:
    place.symlink_to(place.with_name("nowhere") / "deeper")


def a_looping_link(place: Path) -> None:
    place.symlink_to(place)


def a_folder_with_a_record_that_is_a_folder(place: Path) -> None:
    (place / "run.json" / "x").mkdir(parents=True)


def a_folder_with_a_record_that_is_none(place: Path) -> None:
    place.mkdir()
    (place / "run.json").write_text("{")


def a_folder_with_a_log_that_is_a_folder(place: Path) -> None:
    (place / "A.log").mkdir(parents=True)


@pytest.mark.usefixtures("fake_imod")
@pytest.mark.parametrize(
    ("obstacle", "survives"),
    [
        (a_file, False),
        (a_dangling_link, False),
        (a_looping_link, False),
        (a_folder_with_a_record_that_is_a_folder, False),
        (a_folder_with_a_record_that_is_none, True),
        (a_folder_with_a_log_that_is_a_folder, False),
    ],
)
def test_where_one_series_cannot_be_written_the_other_is_done(small_series, tmp_path, obstacle, survives):
    first = small_series.with_name("A.st")
    shutil.copyfile(small_series, first)
    output = tmp_path / "out"
    output.mkdir()
    obstacle(output / "A")
    results = run([first, small_series], RECIPE, Site(scratch=tmp_path), output).results
    assert [result.ok for result in results] == [survives, True]
    if not survives:
        is_link = obstacle in (a_dangling_link, a_looping_link)
        assert ("A.st: a file could not be read or written: " in results[0].message) != is_link
        assert (f"{output / 'A'} is a symbolic link to " in results[0].message) == is_link
        assert "A" in results[0].message.partition("written: ")[2] or is_link


@pytest.mark.parametrize("where", ["output", "scratch"])
def test_where_nothing_can_be_written_no_work_begins(small_series, tmp_path, where):
    wall = tmp_path / "wall"
    wall.write_text("a file")
    places = {"output": tmp_path / "out", "scratch": tmp_path / "scratch"} | {where: wall / "inside"}
    with pytest.raises(LocationError, match=r"Nothing can be written to .*wall/inside"):
        run([small_series], RECIPE, Site(scratch=places["scratch"]), places["output"])
    asked = [
        "run",
        str(small_series.parent),
        "-o",
        str(places["output"]),
        "--workdir",
        str(places["scratch"]),
        "--engine",
        "native",
    ]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert "give a folder that can be written to" in " ".join(result.output.split())


@pytest.mark.usefixtures("fake_imod")
@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">/dev/full 2>&1", "2>&1 | :", ">&- 2>&-"])
def test_no_failure_to_print_changes_a_result(tmp_path, redirected):
    folder = tmp_path / "input"
    folder.mkdir()
    write_small_series(folder / "[red]ü.st")
    run_it = f'"{sys.executable}" -m tiltflow run "{folder}" -o "{tmp_path / "out"}" --engine imod --thickness 50'
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    ended = subprocess.run(["bash", "-c", f"set -o pipefail; {run_it} {redirected}"], env=environment, check=False)
    assert ended.returncode == 0
    assert (tmp_path / "out" / "callback.json").is_file()
    assert (tmp_path / "out" / "[red]ü" / "report.html").is_file()


@pytest.mark.parametrize(("redirected", "status"), [(">/dev/full", 1), ("| :", 0), (">&-", 0)])
def test_an_answer_that_is_lost_is_no_success(redirected, status):
    """The output is the result of such a command; a reader that left has what it wanted."""
    asked = f'set -o pipefail; "{sys.executable}" -m tiltflow directives plastic_brt {redirected}'
    ended = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False)
    assert ended.returncode == status, ended.stderr
    assert ("could not be written" in ended.stderr) == (status == 1)


@pytest.mark.usefixtures("fake_imod")
def test_a_record_of_the_run_that_cannot_be_written_costs_no_series(small_series, tmp_path):
    (tmp_path / "out" / "run.json" / "x").mkdir(parents=True)
    assert run([small_series], RECIPE, Site(scratch=tmp_path), tmp_path / "out").results[0].ok
