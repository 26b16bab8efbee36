"""The IMOD engine against a stand-in batchruntomo that keeps the documented contract."""

import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import tifffile

from tiltflow.engines.base import EngineJob
from tiltflow.engines.imod import ImodEngine
from tiltflow.engines.imod.stack_copy import copy_stack, safe_name
from tiltflow.errors import EngineError, SettingsError, UnsupportedError
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.formats.series import read_series
from tiltflow.pipeline import process
from tiltflow.recipe import BrtParameters, make_recipe, render_adoc
from tiltflow.record import Recorder
from tiltflow.work import Site


@pytest.fixture
def job(small_series, tmp_path):
    workdir = tmp_path / "work"
    workdir.mkdir()
    recorder = Recorder.start(tmp_path / "out" / "run.json", small_series, "test")
    recipe = make_recipe(BrtParameters(gold=15, thickness=120), engine="imod")
    return EngineJob(read_series(small_series), recipe, Site(engine_options={"imod_cpus": "3", "imod_gpu": "1"}), workdir, recorder)


def test_a_good_run_gives_the_four_files_and_the_evidence_of_its_logs(job, fake_imod):
    result = ImodEngine().reconstruct(job)
    assert open_mrc(result.volume).shape == (12, 16, 16)
    assert open_mrc(result.aligned).shape == (5, 16, 16)
    assert result.alignment is not None
    evidence = result.alignment.evidence
    assert evidence.residual_mean_px == pytest.approx(0.5)  # 0.5 nm at 1 nm a pixel
    assert evidence.residual_sd_px == pytest.approx(0.25)
    assert evidence.residual_weighted_mean_px == pytest.approx(0.45)
    assert evidence.leave_out_px == pytest.approx(0.6)
    assert (evidence.measurements, evidence.unknowns) == (1254, 124)
    np.testing.assert_allclose(result.alignment.tilt_deg, -60 + 3 * np.arange(5))


def test_batchruntomo_is_called_as_the_contract_says(job, fake_imod):
    ImodEngine().reconstruct(job)
    assert (job.workdir / "arguments.log").read_text() == "-di B.adoc -cp 3 -gpu 1"
    directives = (job.workdir / "B.adoc").read_text()
    assert "setupset.copyarg.gold = 15" in directives
    assert "comparam.tilt.tilt.THICKNESS = 120" in directives
    assert f"setupset.datasetDirectory = {job.workdir}" in directives


def test_the_input_is_left_alone_and_side_files_travel_with_the_copy(job, fake_imod, small_series):
    before = small_series.read_bytes()
    small_series.with_name("B.st.mdoc").write_text("[ZValue = 0]\n")
    ImodEngine().reconstruct(job)
    assert small_series.read_bytes() == before
    assert (job.workdir / "B.st.mdoc").is_file()
    assert {path.name for path in small_series.parent.iterdir()} == {"B.st", "B.st.mdoc"}


def tiff_job(job, path):
    """Return the job for the same views in a TIFF, with an `.mdoc` that knows more than the file."""
    with open_mrc(job.series.path) as stack:
        views = np.stack([stack[view] for view in range(5)])
    tifffile.imwrite(path, views[:, ::-1], photometric="minisblack")
    sections = [f"[ZValue = {z}]\nTiltAngle = {tilt}" for z, tilt in enumerate(job.series.tilt_deg)]
    text = "\n".join(["PixelSpacing = 10", "[T =     Tilt axis angle = -7.5, binning = 1]", *sections])
    path.with_name(f"{path.name}.mdoc").write_text(text)
    return replace(job, series=read_series(path)), views


def test_of_a_tiff_imod_gets_an_mrc_copy_that_tells_all_that_is_known(job, fake_imod, tmp_path):
    job, views = tiff_job(job, tmp_path / "B.tif")
    result = ImodEngine().reconstruct(job)
    assert result.volume.name == "B_rec.mrc"
    assert "setupset.copyarg.stackext = st" in (job.workdir / "B.adoc").read_text()
    copy = read_series(job.workdir / "B.st")
    assert (copy.pixel_size_angstrom, copy.axis_angle_deg, copy.container) == (10, -7.5, "MRC")
    np.testing.assert_allclose(copy.tilt_deg, job.series.tilt_deg)
    with open_mrc(copy.path) as stack:
        np.testing.assert_array_equal(np.stack([stack[view] for view in range(5)]), views)
        assert stack.header.extended is not None
        np.testing.assert_allclose(stack.header.extended.tilt_deg, job.series.tilt_deg)
        assert stack.pixel_size_angstrom == (10, 10)
        assert any("Tilt axis angle = -7.50" in label for label in stack.labels)
    assert (job.workdir / "B.st.mdoc").is_file()
    assert not (job.workdir / "B.tif").exists()


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        ("uint8", "uint8"),
        ("int8", "int8"),
        ("uint16", "uint16"),
        ("int32", "float32"),
        ("float64", "float32"),
        ("float16", "float32"),
    ],
)
def test_the_copy_for_imod_has_a_type_that_imod_knows(job, tmp_path, stored, kept):
    path = tmp_path / "B.tif"
    views = np.arange(5 * 6 * 4).reshape(5, 6, 4).astype(stored)
    tifffile.imwrite(path, views[:, ::-1], photometric="minisblack")
    path.with_suffix(".rawtlt").write_text("-40\n-20\n0\n20\n40\n")
    with open_mrc(copy_stack(read_series(path), job.workdir)) as stack:
        assert stack.dtype == kept
        np.testing.assert_array_equal(stack.read_block(), views.astype(kept))


def test_the_copy_for_imod_has_the_counts_that_the_stack_stores_as_signed_numbers(job, tmp_path, rng):
    counts = rng.normal(32768, 3000, (5, 64, 64)).astype("uint16")
    path = tmp_path / "B.mrc"
    with MrcWriter(path, counts.shape, np.int16, pixel_size_angstrom=10, is_stack=True) as out:
        out.write(counts.view(np.int16))
    path.with_suffix(".rawtlt").write_text("-40\n-20\n0\n20\n40\n")
    with open_mrc(copy_stack(read_series(path), job.workdir)) as stack:
        assert stack.dtype == np.uint16
        np.testing.assert_array_equal(stack.read_block(), counts)


def test_names_of_older_imod_become_the_modern_ones(job, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "old-names")
    assert ImodEngine().reconstruct(job).volume.name == "B_rec.mrc"


@pytest.mark.parametrize("behaviour", ["abort", "abort-status-0"])
def test_a_failure_quotes_imods_own_lines_and_names_the_step(job, fake_imod, behaviour):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", behaviour)
    with pytest.raises(EngineError) as caught:
        ImodEngine().reconstruct(job)
    message = str(caught.value)
    assert "ERROR: BEADTRACK - NO SEED POINTS FOUND" in message
    assert "ABORT SET" in message
    assert "step 5, after eraser.com" in message
    assert "B.st" in message


def test_files_alone_are_no_success(job, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "silent")
    with pytest.raises(EngineError, match="without reporting that it completed"):
        ImodEngine().reconstruct(job)


def test_success_in_words_without_a_volume_is_no_success(job, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "no-volume")
    with pytest.raises(EngineError, match=r"B_rec\.mrc is missing; there are: .*B_ali\.mrc"):
        ImodEngine().reconstruct(job)


def test_a_volume_that_ends_too_soon_is_no_success(job, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "broken-volume")
    with pytest.raises(EngineError, match=r"B_rec\.mrc cannot be read"):
        ImodEngine().reconstruct(job)


def test_a_batchruntomo_that_takes_too_long_is_ended_and_the_step_and_the_limit_are_named(job, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "hang")
    slow = replace(job, site=replace(job.site, engine_options={"imod_limit_s": "1"}))
    ImodEngine().check(slow)
    with pytest.raises(EngineError, match=r"was ended after 1 s, .*imod_limit_s.* on B\.st at .*step 5"):
        ImodEngine().reconstruct(slow)


@pytest.mark.parametrize("limit", ["soon", "0", "-1", "inf", "nan"])
def test_a_limit_that_is_no_time_is_refused_before_any_work(job, fake_imod, limit):
    with pytest.raises(SettingsError, match="imod_limit_s"):
        ImodEngine().check(replace(job, site=replace(job.site, engine_options={"imod_limit_s": limit})))


NAMES = ["a b", "$(touch pwned)", "x; touch pwned", "it's", '"quoted"', "-rf", "..x", "ö", "`id`", "a&b|c", "*"]


@pytest.mark.parametrize("stem", NAMES)
def test_imod_sees_only_safe_names_and_the_results_have_the_true_one(small_series, tmp_path, fake_imod, stem):
    source = small_series.rename(small_series.with_name(f"{stem}.st"))
    source.with_name(f"{stem}.st.mdoc").write_text("[ZValue = 0]\n")
    result = process(source, make_recipe(BrtParameters(thickness=50), engine="imod"), Site(scratch=tmp_path), output=tmp_path / "o")
    assert result.ok, result.message
    assert {f"{stem}.xf", f"{stem}.tlt", f"{stem}.adoc", f"{stem}_rec.mrc", f"ave_{stem}.mrc"} <= {
        path.name for path in (tmp_path / "o").iterdir()
    }
    directives = (tmp_path / "o" / f"{stem}.adoc").read_text()
    (name,) = re.findall(r"^setupset.copyarg.name = (.*)$", directives, re.MULTILINE)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name)
    assert name == safe_name(stem)


@pytest.mark.parametrize("given", ["name", "datasetDirectory", "both", "neither"])
def test_a_template_sets_neither_name_nor_folder(small_series, tmp_path, given):
    text = resources.files("tiltflow.templates").joinpath("plastic_brt.adoc").read_text()
    for directive, word in (("setupset.copyarg.name", "name"), ("setupset.datasetDirectory", "datasetDirectory")):
        value = f"{directive}=/elsewhere" if given in (word, "both") else "" if given == "neither" else None
        if value is not None:
            text = re.sub(rf"^{re.escape(directive)} *=.*$", value, text, flags=re.MULTILINE)
    template = tmp_path / "mine.adoc"
    template.write_text(text)
    recipe = make_recipe(BrtParameters(thickness=50), template, engine="imod")
    rendered = render_adoc(recipe, name="B", stackext="st", dataset_directory="/scratch/B-1")
    assert "elsewhere" not in rendered
    assert "setupset.copyarg.name = B\n" in rendered
    assert "setupset.datasetDirectory = /scratch/B-1\n" in rendered


def test_a_killed_batchruntomo_is_told_with_its_signal(job, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "killed")
    with pytest.raises(EngineError, match="step 5"):
        ImodEngine().reconstruct(job)


def test_an_error_that_imod_got_over_is_a_warning(job, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "error-but-completed")
    ImodEngine().reconstruct(job)
    assert any("robust fitting failed" in warning for warning in job.recorder.record.warnings)


def test_the_log_is_kept_as_it_is_printed(job, fake_imod):
    ImodEngine().reconstruct(job)
    assert "Reached step 14" in (job.workdir / "batchruntomo.log").read_text()


def test_the_version_is_read_from_the_installation(fake_imod):
    assert ImodEngine().version == "IMOD 4.12.99"


def test_without_imod_the_engine_refuses_before_any_work(job, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UnsupportedError, match="batchruntomo is not on the PATH"):
        ImodEngine().check(job)
