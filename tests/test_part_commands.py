"""The commands that do a part of the work: what each leaves, what the next takes over, and its exit status."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from tiltflow.cli import NONE_SUCCEEDED, USAGE_ERROR, app
from tiltflow.demo import write_series
from tiltflow.recipe.engine_rules import engine_info
from tiltflow.record import read_record
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate


@pytest.fixture
def tiltflow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TILTFLOW_ENGINE", "native")
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("series")
    write_series(place / "B.st", simulate(SimulationParams(size=192, views=21, beads=12, thickness_px=50, pixel_nm=2, bead_nm=20)))
    return place


@pytest.mark.whole
def test_alignment_reconstruction_and_all_the_rest_one_after_the_other(tiltflow, folder, tmp_path):
    out, asked = tmp_path / "out", ("--gold", 20, "--thickness", 60)
    assert tiltflow("align", folder, "-o", out, *asked).exit_code == 0
    names = {path.name for path in (out / "B").iterdir()}
    assert {"B.xf", "B.tlt", "B.xtilt", "B_align.npz", "report.html"} <= names
    assert not names & {"B_ali.mrc", "B_rec.mrc", "tiltMov_B.mp4"}
    assert tiltflow("reconstruct", folder, "-o", out, *asked).exit_code == 0
    assert (out / "B" / "B_rec.mrc").is_file()
    assert not (out / "B" / "tiltMov_B.mp4").exists()
    assert tiltflow("run", folder, "-o", out, *asked).exit_code == 0
    kept = {step.name: step.kept for step in read_record(out / "B" / "run.json").steps}
    assert kept["alignment"]
    assert kept["reconstruction"]
    assert not kept["gen_zarr"]
    assert (out / "callback.json").is_file()


@pytest.mark.whole
def test_a_reconstruction_from_a_given_alignment(tiltflow, folder, tmp_path):
    assert tiltflow("align", folder, "-o", tmp_path / "a", "--gold", 20).exit_code == 0
    given = tmp_path / "given"
    given.mkdir()
    for suffix in (".xf", ".tlt", ".xtilt"):
        shutil.copy(tmp_path / "a" / "B" / f"B{suffix}", given)
    asked = ("--gold", 20, "--thickness", 60, "--alignment", given)
    result = tiltflow("reconstruct", folder, "-o", tmp_path / "b", *asked)
    assert result.exit_code == 0, result.output
    record = read_record(tmp_path / "b" / "B" / "run.json")
    before = read_record(tmp_path / "a" / "B" / "run.json")
    assert record.given_alignment.program == "IMOD"
    assert record.alignment.x_axis_tilt_deg == pytest.approx(before.alignment.x_axis_tilt_deg, abs=0.01)
    assert record.alignment.error_px < 0.3
    other = (given / "B.tlt").read_text().splitlines()
    (given / "B.tlt").write_text("\n".join([f"{float(other[0]) + 0.5:.2f}", *other[1:]]) + "\n")
    tiltflow("reconstruct", folder, "-o", tmp_path / "b", *asked)
    assert not read_record(tmp_path / "b" / "B" / "run.json").steps[0].kept


@pytest.mark.whole
def test_products_of_an_archive(tiltflow, folder, tmp_path):
    assert tiltflow("reconstruct", folder, "-o", tmp_path / "a", "--gold", 20, "--thickness", 60).exit_code == 0
    archive = tmp_path / "archive"
    archive.mkdir()
    shutil.move(tmp_path / "a" / "B" / "B_ali.mrc", archive / "B.ali")
    shutil.move(tmp_path / "a" / "B" / "B_rec.mrc", archive / "B.rec")
    result = tiltflow("products", archive, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (told,) = json.loads((tmp_path / "out" / "callback.json").read_text())["files"]
    assert told["status"] == "success"
    assert len(told["imageSet"][0]["assets"]) == 7
    assert (tmp_path / "out" / "index.html").is_file()
    assert "B_neuroglancer.json" in {path.name for path in (tmp_path / "out" / "B").iterdir()}


def test_what_cannot_be_done_is_a_status_and_words(tiltflow, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    result = tiltflow("products", empty, "-o", tmp_path / "out")
    assert result.exit_code == USAGE_ERROR
    assert "no aligned stack together with a volume" in " ".join(result.output.split())
    (empty / "B.mrc").write_text("no image")
    assert tiltflow("align", empty, "-o", tmp_path / "out").exit_code == NONE_SUCCEEDED
    assert tiltflow("align", tmp_path / "none", "-o", tmp_path / "out").exit_code == USAGE_ERROR


@pytest.mark.parametrize("command", ["align", "reconstruct", "run"])
def test_what_the_engine_cannot_follow_is_refused_before_any_work(tiltflow, folder, tmp_path, monkeypatch, command):
    monkeypatch.setenv("TILTFLOW_ENGINE", "auto")
    monkeypatch.setattr(engine_info("imod"), "available", lambda: "")
    result = tiltflow(command, folder, "-o", tmp_path / "out", "--set", "comparam.tilt.tilt.XTILTFILE=a")
    assert result.exit_code == USAGE_ERROR
    assert "XTILTFILE" in result.output
    assert not (tmp_path / "out").exists()
