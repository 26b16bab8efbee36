"""The functions that a script or a notebook calls: arrays or a series in, results with evidence out."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
import tempfile

import numpy as np
import pytest

import tiltflow
from tiltflow.demo import write_series
from tiltflow.errors import ParameterError, UnsupportedError
from tiltflow.model import AlignedViews, Evidence
from tiltflow.recipe.engine_rules import engine_info
from tiltflow.record import read_run
from tiltflow.simulate.simulated_series import SimulatedSeries

FUNCTIONS = sorted(set(tiltflow.__all__) - {"AlignedViews", "Alignment", "TiltSeries", "__version__"})


@pytest.fixture(scope="module")
def simulated() -> SimulatedSeries:
    return tiltflow.simulate(size=160, views=17, beads=10, thickness_px=40, pixel_nm=2.0, bead_nm=16.0, hot_pixels=5)


@pytest.mark.whole
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_takes_returns_and_raises_and_its_example_runs(name, monkeypatch, tmp_path):
    function = getattr(tiltflow, name)
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text, section
    for parameter in inspect.signature(function).parameters:
        assert f"{parameter}" in text, parameter
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    examples = doctest.DocTestFinder(recurse=False).find(inspect.unwrap(function), name, globs={})
    assert sum(len(test.examples) for test in examples) > 1
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in examples:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_the_names_of_functions_stay_theirs_when_packages_of_the_same_name_are_imported():
    import tiltflow.align.fallback
    import tiltflow.reconstruct.sirt
    import tiltflow.simulate.simulated_series

    for name in FUNCTIONS:
        assert inspect.isfunction(getattr(tiltflow, name)), name


def test_importing_tiltflow_and_finding_align_loads_neither_scipy_nor_numba():
    code = """
import sys, tiltflow
tiltflow.align, tiltflow.run
heavy = {"numpy", "scipy", "numba", "matplotlib", "av", "zarr", "pydantic", "prefect"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_from_a_file_to_a_volume_in_ten_lines(simulated, tmp_path):
    path = tmp_path / "TS_01.st"
    write_series(path, simulated)
    series = tiltflow.read(path, exclude_views=(3,))
    alignment = tiltflow.align(series, method="gold", gold_nm=16)
    aligned = tiltflow.apply(series, alignment, binning=2)
    volume = tiltflow.reconstruct(aligned, alignment, thickness=80)
    assert alignment.method == "gold"
    assert simulated.error_of(alignment).rms_px < 0.3
    assert alignment.evidence.excluded_views == {2: "is left out by the request"}
    assert aligned.images.shape == (17, 80, 80)
    assert aligned.pixel_size_angstrom == 40.0
    assert volume.shape == (40, 80, 80)


@pytest.mark.whole
def test_a_file_and_its_arrays_give_the_same_alignment(simulated, tmp_path):
    path = tmp_path / "TS_01.st"
    write_series(path, simulated)
    from_file = tiltflow.align(tiltflow.read(path), "coarse", threads=1)
    asked = {"tilt_deg": simulated.nominal_deg, "axis_angle_deg": -8.0, "pixel_size_angstrom": 20.0}
    from_arrays = tiltflow.align(simulated.images, "coarse", threads=1, **asked)
    np.testing.assert_allclose(from_file.transforms, from_arrays.transforms, atol=1e-4)


def test_beads_of_the_truth_lie_where_the_volume_shows_them(simulated):
    """Darkest where a bead is, at its x, y and height: the volume is neither mirrored nor upside down."""
    truth = simulated.truth
    alignment = tiltflow.Alignment(truth.transforms(), truth.true_deg, np.ones(17, bool), "gold")
    volume = tiltflow.reconstruct(tiltflow.apply(simulated.series, alignment), alignment, thickness=100)
    nz, ny, nx = volume.shape
    for x, y, z in truth.beads_px:
        at = [int(np.floor(c + n / 2)) for c, n in ((z, nz), (y, ny), (x, nx))]
        if min(at) < 3 or any(a > n - 4 for a, n in zip(at, volume.shape, strict=True)):
            continue
        box = volume[tuple(slice(a - 2, a + 3) for a in at)]
        assert box.min() < np.percentile(volume, 0.5)


def test_an_alignment_shows_itself_in_a_line():
    given = (np.zeros((3, 2, 3)), np.zeros(3), np.array([True, False, True]))
    assert repr(tiltflow.Alignment(*given, "coarse")) == "<Alignment by coarse: 2 of 3 views>"
    evidence = Evidence(error_px=0.254, leave_out_px=0.5, trust_warnings=("few beads", "far off"))
    shown = "<Alignment by gold: 2 of 3 views, estimated error 0.25 px, leave-out error 0.50 px, 2 trust warnings>"
    assert repr(tiltflow.Alignment(*given, "gold", evidence=evidence)) == shown


@pytest.mark.whole
def test_a_levelled_alignment_carries_the_thickness_of_the_specimen():
    simulated = tiltflow.simulate(size=256, views=21, beads=12, two_surfaces=True, thickness_px=60, pitch_deg=3)
    alignment = tiltflow.align(simulated.series, "coarse", threads=1)
    with pytest.raises(ParameterError, match="How thick shall the volume be"):
        tiltflow.reconstruct(np.zeros((21, 8, 8), np.float32), alignment)
    specimen = tiltflow.locate_specimen(simulated.series, alignment)
    levelled = specimen.level(alignment, margin=20)
    assert levelled.thickness == pytest.approx(specimen.thickness + 20, abs=1)
    volume = tiltflow.reconstruct(np.zeros((21, 8, 8), np.float32), levelled)
    assert volume.shape == (levelled.thickness, 8, 8)


@pytest.mark.whole
def test_sirt_and_a_given_array_to_write_into(simulated):
    alignment = tiltflow.align(simulated.series, "coarse")
    aligned = tiltflow.apply(simulated.series, alignment, binning=4)
    out = np.empty((10, 40, 40), np.float32)
    assert tiltflow.reconstruct(aligned, alignment, thickness=40, method="sirt", iterations=2, out=out) is out
    with pytest.raises(ParameterError, match=r"out is \(9, 40, 40\) float32, and the volume \(10, 40, 40\)"):
        tiltflow.reconstruct(aligned, alignment, thickness=40, out=out[:9])


ALIGNED = tiltflow.Alignment(np.tile(np.eye(2, 3), (3, 1, 1)), np.zeros(3), np.ones(3, bool), "by hand")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: tiltflow.align("TS_01.st"), r"'TS_01\.st' is the name of a file: give tiltflow\.read\("),
        (lambda: tiltflow.align(np.zeros((3, 8, 8)), gold_nm=0), "Beads have a diameter above 0 nm, not 0; without gold"),
        (
            lambda: tiltflow.reconstruct(tiltflow.simulate(size=32, views=3, beads=0).series, ALIGNED, thickness=8),
            r"is a tilt series, and aligned views were expected: give tiltflow\.apply",
        ),
        (lambda: tiltflow.align(np.zeros((3, 8, 8))), "needs tilt_deg= and pixel_size_angstrom="),
        (lambda: tiltflow.align(np.zeros((8, 8)), tilt_deg=[0], pixel_size_angstrom=1), r"has the shape \(8, 8\)"),
        (lambda: tiltflow.align(np.zeros((3, 8, 8)), tilt_deg=[0, 1], pixel_size_angstrom=1), "2 tilt angles for 3 views"),
        (lambda: tiltflow.simulate(sizee=64), "simulate\\(\\) has no 'sizee'"),
        (lambda: tiltflow.read("B.st", rotation=3), "read\\(\\) knows no hint 'rotation'"),
        (
            lambda: tiltflow.reconstruct(
                AlignedViews(np.zeros((1, 8, 8), np.float32)),
                tiltflow.Alignment(np.zeros((1, 2, 3)), np.zeros(1), np.ones(1, bool), "gold"),
                thickness=4,
                method="fbp",
            ),
            "choose wbp or sirt",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(call, says):
    with pytest.raises(ParameterError, match=says):
        call()


def test_a_run_takes_a_tiff_with_its_mdoc_as_the_command_does(tmp_path):
    (tmp_path / "B.tif").write_text("no images")
    (tmp_path / "B.tif.mdoc").write_text("[ZValue = 0]")
    (result,) = tiltflow.run(tmp_path, tmp_path / "results", engine="native", thickness=60).results
    assert (result.source.name, result.status, result.stage) == ("B.tif", "error", "read")


def test_a_run_takes_the_engine_of_the_settings_unless_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TILTFLOW_ENGINE", "native")
    (tmp_path / "B.st").write_text("no images")
    for engine, expected in ((None, "native"), ("auto", "auto")):
        out = tmp_path / f"results-{engine}"
        tiltflow.run(tmp_path, out, engine=engine, thickness=60)
        assert read_run(out / "run.json").request.engine == expected


def test_a_run_refuses_what_no_engine_here_can_follow_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_info("imod"), "available", lambda: "")
    (tmp_path / "B.st").write_text("no images")
    with pytest.raises(UnsupportedError, match="XTILTFILE"):
        tiltflow.run(tmp_path, tmp_path / "results", directives={"comparam.tilt.tilt.XTILTFILE": "a"})
    assert not (tmp_path / "results").exists()
