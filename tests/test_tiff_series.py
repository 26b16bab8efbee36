"""TIFF tilt series through the command: which of a folder are taken, what is made of them, and what the record says."""

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.record import read_record

pytestmark = pytest.mark.whole

GOOD, USAGE, NONE_SUCCEEDED = 0, 2, 3


@pytest.fixture
def tiltflow(tmp_path, monkeypatch):
    monkeypatch.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    runner = CliRunner()
    return lambda *args: runner.invoke(app, [str(arg) for arg in args])


@pytest.fixture
def folder(tmp_path, rng):
    """A folder with a TIFF series, its `.mdoc`, and a TIFF that is none."""
    folder = tmp_path / "input"
    folder.mkdir()
    views = rng.normal(1000, 50, (5, 64, 64)).astype(np.int16)
    tifffile.imwrite(folder / "B.tif", views, imagej=True, metadata={"axes": "ZYX", "unit": "nm"}, resolution=(1, 1))
    sections = [f"[ZValue = {z}]\nTiltAngle = {tilt}" for z, tilt in enumerate((-40, -20, 0, 20, 40))]
    text = "\n".join(["PixelSpacing = 10", "[T =     Tilt axis angle = -8.0, binning = 1]", *sections])
    (folder / "B.tif.mdoc").write_text(text)
    tifffile.imwrite(folder / "overview.tif", np.zeros((32, 32), np.uint8), photometric="minisblack")
    return folder


def test_a_tiff_with_an_mdoc_gets_its_products_and_a_record_that_names_the_container(tiltflow, folder, tmp_path, fake_imod):
    result = tiltflow("run", folder, "--output", tmp_path / "out", "--engine", "imod")
    assert result.exit_code == GOOD, result.output
    assert "1 of 1 series succeeded" in result.output
    record = read_record(tmp_path / "out" / "B" / "run.json")
    assert record.input["container"].value == "TIFF (ImageJ)"
    assert record.input["tilt_angles"].value == [-40, -20, 0, 20, 40]
    assert record.source == str(folder / "B.tif")
    assert any(picture.name == "zero_tilt" for picture in record.pictures)
    files = json.loads((tmp_path / "out" / "callback.json").read_text())["files"]
    assert [each["primaryFilePath"] for each in files] == ["B.tif"]
    assert (tmp_path / "out" / "B" / "tiltMov_B.mp4").is_file()
    assert {path.name for path in folder.iterdir()} == {"B.tif", "B.tif.mdoc", "overview.tif"}


def test_a_tiff_without_an_mdoc_is_taken_by_name(tiltflow, folder, tmp_path, fake_imod):
    (folder / "B.tif.mdoc").unlink()
    refused = tiltflow("run", folder, "--output", tmp_path / "out", "--engine", "imod")
    assert refused.exit_code == USAGE
    assert "B.tif is taken only" in refused.output.replace("\n", " ")
    angles = ["--set", "setupset.copyarg.firstinc=-40,20"]
    result = tiltflow("run", folder, "--output", tmp_path / "out", "--engine", "imod", "--file", "B.tif", *angles)
    assert result.exit_code == GOOD, result.output


def test_inspect_says_what_a_tiff_is_and_where_its_values_were_read(tiltflow, folder):
    result = tiltflow("inspect", folder / "B.tif")
    assert result.exit_code == GOOD
    assert "TIFF (ImageJ)" in result.output
    assert "TIFF header agrees" in result.output


def test_a_tiff_that_is_no_tilt_series_fails_in_words(tiltflow, folder, tmp_path):
    tifffile.imwrite(folder / "B.tif", np.zeros((5, 64, 64, 3), np.uint8), photometric="rgb")
    result = tiltflow("run", folder, "--output", tmp_path / "out", "--engine", "native")
    assert result.exit_code == NONE_SUCCEEDED
    assert "stage: read" in result.output
    assert "is in colour (RGB, 3 samples a pixel)" in result.output.replace("\n", " ")
