"""The demonstration: a series is simulated and processed, and what was found stands beside the truth."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tiltflow.cli import app
from tiltflow.ctf.history import exposure_history
from tiltflow.ctf.requests import ExposureRequest
from tiltflow.demo import write_mdoc, write_series
from tiltflow.formats.series import read_series
from tiltflow.record import read_record
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("COLUMNS", "300")
    return lambda *options: CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "demo"), *options])


def test_the_mdoc_of_a_simulated_series_tells_exposures_order_voltage_and_defocus(tmp_path: Path) -> None:
    series = simulate(SimulationParams(size=64, views=7, max_tilt_deg=9, regime="cryo", pixel_nm=0.5, beads=0, thickness_px=20))
    write_series(tmp_path / "B.st", series)
    write_mdoc(tmp_path / "B.st.mdoc", series, exposure=2.5, defocus_um=3.5, voltage_kv=200.0)
    read = read_series(tmp_path / "B.st")
    assert not read.problems
    assert (read.voltage_kv, read.target_defocus_nm, read.pixel_size_angstrom, read.axis_angle_deg) == (200.0, 3500.0, 5.0, -8.0)
    known = exposure_history(read, ExposureRequest(weight="if known"))
    assert not isinstance(known, str)
    assert not known.assumed
    assert series.nominal_deg[known.order].tolist() == [0, 3, -3, 6, -6, 9, -9]
    assert known.before[known.order].tolist() == (2.5 * np.arange(7)).tolist()
    assert known.each.tolist() == [2.5] * 7


def test_the_times_of_the_mdoc_tell_the_same_order_as_its_exposures(tmp_path: Path) -> None:
    series = simulate(SimulationParams(size=64, views=5, regime="cryo", beads=0, thickness_px=20))
    write_series(tmp_path / "B.st", series)
    mdoc = tmp_path / "B.st.mdoc"
    write_mdoc(mdoc, series, exposure=3, defocus_um=3.5, voltage_kv=300)
    told = read_series(tmp_path / "B.st").exposure_before
    mdoc.write_text(re.sub(r"PriorRecordDose.*\n", "", mdoc.read_text()))
    assert told is not None
    timed = read_series(tmp_path / "B.st").exposure_before
    assert timed is not None
    assert timed.tolist() == told.tolist()


@pytest.mark.whole
def test_the_cryo_demo_tells_defocus_hand_and_alignment_beside_the_truth(demo: Callable[..., Result], tmp_path: Path) -> None:
    done = demo("--cryo", "--size", "384", "--views", "21")
    assert done.exit_code == 0, done.output
    error = re.search(r"True error of the alignment: (\S+) px", done.output)
    mean = re.search(r"Defocus, mean of the views: (\d+) nm found \(± (\d+) nm\), (\d+) nm in truth", done.output)
    median = re.search(r"Defocus, median of the views: (\d+) nm found, (\d+) nm in truth", done.output)
    assert error is not None
    assert mean is not None
    assert median is not None
    assert float(error[1]) < 0.2
    assert int(mean[1]) == pytest.approx(int(mean[3]), abs=4 * int(mean[2]))
    assert int(median[1]) == pytest.approx(int(median[2]), abs=60)
    assert "Hand of its gradient: -1 found, -1 in truth." in done.output
    record = read_record(tmp_path / "demo" / "results" / "cryo" / "run.json")
    assert record.ctf is not None
    assert record.exposure is not None
    assert (record.ctf.applied, record.exposure.applied, record.exposure.order_assumed) == (True, True, False)
    assert record.ctf.voltage_source == "cryo.st.mdoc (Voltage)"
    assert (tmp_path / "demo" / "results" / "cryo" / "cryo.defocus").is_file()


@pytest.mark.whole
def test_the_plain_demo_is_a_plastic_section_without_an_mdoc(demo: Callable[..., Result], tmp_path: Path) -> None:
    done = demo("--size", "192", "--views", "21")
    assert done.exit_code == 0, done.output
    assert "a plastic section with gold beads" in done.output
    assert "Defocus" not in done.output
    assert [path.name for path in (tmp_path / "demo" / "input").iterdir()] == ["demo.st"]
    results = tmp_path / "demo" / "results"
    for name, path in (("page", results / "demo" / "report.html"), ("index", results / "index.html")):
        assert re.search(rf"^\W*{name}\W+{re.escape(str(path))}", done.output, re.MULTILINE)
        assert path.is_file()
    record = read_record(tmp_path / "demo" / "results" / "demo" / "run.json")
    assert (record.ctf, record.exposure) == (None, None)
