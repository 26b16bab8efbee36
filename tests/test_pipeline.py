"""The pipeline: results, failures and records of series, with the stand-in for IMOD doing the reconstruction."""

import errno
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tiltflow import pipeline
from tiltflow.delivery.cleanup import make_scratch
from tiltflow.errors import FormatError, ParameterError, StageError, TiltflowError
from tiltflow.pipeline import Job, finish_step, forecast, process, product_step, reconstruct_step, run
from tiltflow.products.catalogue import PRODUCTS, STEPS
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder, read_record
from tiltflow.work import Site


@pytest.fixture(scope="module")
def recipe():
    return make_recipe(BrtParameters(thickness=50), engine="imod")


@pytest.fixture
def site(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Site(scratch=scratch)


def test_a_series_gets_every_product_of_the_catalogue_and_a_record(finished_run):
    result = finished_run.result.results[1]
    assert result.ok, result.message
    assert [asset.type for asset in result.assets] == [product.asset_type for product in PRODUCTS]
    record = read_record(finished_run.folder / "B" / "run.json")
    assert record.status == "success"
    assert [stage.name for stage in record.stages][-len(STEPS) - 1 :] == [*(step.name for step in STEPS), "publish"]
    assert all(stage.status == "done" and stage.seconds is not None for stage in record.stages)
    for entry in record.products:
        path = finished_run.folder / "B" / entry.path
        assert path.exists()
        assert entry.bytes > 0
        assert entry.sha256 == checksum(path)
    for name in ("B.xf", "B.tlt", "B.adoc", "B.log", "batchruntomo.log", "B_ali.mrc", "B_rec.mrc"):
        assert (finished_run.folder / "B" / name).is_file(), name


def checksum(path):
    """Return the checksum of a file or folder as the tools of the system compute it."""
    files = "find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    command = ["sh", "-c", files] if path.is_dir() else ["sha256sum", path.name]
    where = path if path.is_dir() else path.parent
    return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True).stdout.split()[0]


def test_the_record_says_what_the_work_ran_on(finished_run):
    versions = read_record(finished_run.folder / "B" / "run.json").versions
    assert versions["numpy"] == np.__version__
    assert versions["python"] == platform.python_version()
    assert {"scipy", "numba", "pillow", "av", "zarr", "system"} <= set(versions)


def test_the_record_says_where_each_value_was_read_and_why_this_engine(finished_run, recipe):
    record = read_record(finished_run.folder / "B" / "run.json")
    assert "extended header" in record.input["tilt_angles"].source
    assert record.input["axis_angle"].value == -8.0
    assert record.engine is not None
    assert record.engine.reason == "it was requested"
    assert record.recipe is not None
    assert record.recipe.digest == recipe.digest
    assert {"used", "removed"} & {row.status for row in record.recipe.directives}


def test_the_plan_stands_in_the_record_before_the_work_and_what_does_not_fit_is_refused(
    finished_run, small_series, recipe, site, tmp_path, fake_imod
):
    stages = {stage.name: stage.numbers for stage in read_record(finished_run.folder / "B" / "run.json").stages}
    assert list(stages).index("plan") < list(stages).index("batchruntomo")
    assert {"memory", "scratch", "results", "time"} == set(stages["plan"])
    assert stages["plan"]["memory"].unit == "bytes"
    assert "of memory" in (finished_run.folder / "B" / "B.log").read_text()

    fake_imod.setattr("tiltflow.engines.plan.available_memory", lambda: 1000)
    result = process(small_series, recipe, site, output=tmp_path / "C")
    assert (result.status, result.stage) == ("error", "plan")
    assert "--jobs" in (result.message or "")


def test_a_run_is_forecast_from_the_series_that_are_still_to_be_done(small_series, recipe, site, tmp_path, fake_imod):
    other = Path(shutil.copy(small_series, small_series.with_name("C.st")))
    bad = small_series.with_name("A.mrc")
    bad.write_text("this is no image")
    out = tmp_path / "out"
    expected = forecast([bad, small_series, other], recipe, site, out, jobs=2)
    assert expected is not None
    assert expected.line.startswith("2 series to do: up to 0.")
    assert expected.shortages == ()
    run([small_series], recipe, site, out)
    left = forecast([small_series, other], recipe, site, out)
    assert left is not None
    assert left.line.startswith("1 series to do")
    assert forecast([bad], recipe, site, out) is None

    fake_imod.setattr("tiltflow.pipeline.resource_forecast.available_memory", lambda: 1000)
    fake_imod.setattr("tiltflow.pipeline.resource_forecast.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 1000))
    short = forecast([small_series, other], recipe, site, out, redo=True)
    assert short is not None
    assert ["memory" in short.shortages[0], "scratch" in short.shortages[1], "results" in short.shortages[2]] == [True] * 3


def test_scratch_is_gone_after_success_and_after_failure_unless_it_is_kept(small_series, recipe, site, tmp_path, fake_imod):
    process(small_series, recipe, site, output=tmp_path / "B")
    assert not list(site.scratch.iterdir())
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    process(small_series, recipe, site, output=tmp_path / "C")
    assert not list(site.scratch.iterdir())
    process(small_series, recipe, Site(scratch=site.scratch, keep_workdir=True), output=tmp_path / "D")
    assert len(list(site.scratch.iterdir())) == 1


def test_scratch_holds_no_products_and_nothing_hidden_is_left_beside_the_results(small_series, recipe, site, tmp_path, fake_imod):
    kept = Site(scratch=site.scratch, keep_workdir=True)
    process(small_series, recipe, kept, output=tmp_path / "B")
    (work,) = site.scratch.iterdir()
    names = {product.asset_type: product.file_name("B", 5) for product in PRODUCTS}
    assert not {path.name for path in work.rglob("*")} & set(names.values())
    assert all((tmp_path / "B" / name).exists() for name in names.values())
    assert not list((tmp_path / "B").glob(".*"))
    fake_imod.setattr("tiltflow.products.movies.make_section_movie", lambda *_a, **_k: 1 / 0)
    assert not process(small_series, recipe, site, output=tmp_path / "C").ok
    assert not list((tmp_path / "C").glob(".*"))


def test_a_failed_series_has_stage_reason_and_logs_but_no_products(small_series, recipe, site, tmp_path, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    result = process(small_series, recipe, site, output=tmp_path / "B")
    assert (result.status, result.stage, result.assets) == ("error", "batchruntomo", ())
    assert result.message is not None
    assert "NO SEED POINTS FOUND" in result.message
    assert (tmp_path / "B" / "batchruntomo.log").is_file()
    record = read_record(tmp_path / "B" / "run.json")
    assert record.failure is not None
    assert record.failure.last_lines
    assert not list((tmp_path / "B").glob("*.mp4"))


def test_one_bad_series_costs_the_others_nothing(small_series, recipe, site, tmp_path, fake_imod):
    good = [small_series, *(Path(shutil.copy(small_series, small_series.with_name(f"{name}.st"))) for name in "CD")]
    bad = small_series.with_name("A.mrc")
    bad.write_text("this is no image")
    result = run([bad, *good], recipe, site, tmp_path / "out", jobs=2)
    assert [one.status for one in result.results] == ["error", "success", "success", "success"]
    assert [one.source for one in result.results] == [bad, *good]
    assert result.failed[0].stage == "read"
    assert "A.mrc" in (result.failed[0].message or "")


def test_each_log_speaks_of_its_own_series_also_when_several_run_at_once(small_series, recipe, site, tmp_path, fake_imod):
    other = Path(shutil.copy(small_series, small_series.with_name("other.st")))
    run([small_series, other], recipe, site, tmp_path / "out", jobs=2)
    log = (tmp_path / "out" / "B" / "B.log").read_text()
    assert "B: " in log
    assert "other" not in log


def test_a_finished_series_is_not_done_again_until_something_changed(small_series, recipe, site, tmp_path, fake_imod):
    first = process(small_series, recipe, site, output=tmp_path / "B")
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")  # whatever is done now, fails
    assert process(small_series, recipe, site, output=tmp_path / "B") == first
    assert not process(small_series, recipe, site, output=tmp_path / "B", redo=True).ok
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "good")
    assert process(small_series, recipe, site, output=tmp_path / "B").ok
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    other = make_recipe(BrtParameters(thickness=51), engine="imod")
    assert not process(small_series, other, site, output=tmp_path / "B").ok


def test_a_finished_series_is_done_again_when_its_products_or_its_input_changed(small_series, recipe, site, tmp_path, fake_imod):
    process(small_series, recipe, site, output=tmp_path / "B")
    (tmp_path / "B" / "keyMov_B.mp4").unlink()
    assert pipeline.look_back(small_series, recipe, tmp_path / "B").result is None
    process(small_series, recipe, site, output=tmp_path / "B")
    assert pipeline.look_back(small_series, recipe, tmp_path / "B").result is not None
    with small_series.open("ab") as file:
        file.write(b"more")
    assert pipeline.look_back(small_series, recipe, tmp_path / "B").result is None


def test_the_steps_give_what_process_gives_when_they_are_run_apart(small_series, recipe, site, tmp_path, fake_imod):
    job = Job(small_series, recipe, site, tmp_path / "B", make_scratch(small_series, site.scratch), keep_volumes=False)
    reconstruct_step(job)
    result = finish_step(job, [product_step(job, step.name) for step in STEPS])
    assert result.ok
    assert len(result.assets) == len(PRODUCTS)
    assert not (tmp_path / "B" / "B_rec.mrc").exists()


def test_a_failed_product_step_is_named(small_series, recipe, site, tmp_path, fake_imod):
    job = Job(small_series, recipe, site, tmp_path / "B", make_scratch(small_series, site.scratch))
    reconstruct_step(job)
    made = product_step(job, "gen_tilt_movie")
    result = finish_step(job, [made], StageError("the volume is blank"), "gen_ave_mrc")
    assert (result.status, result.stage, result.message) == ("error", "gen_ave_mrc", "the volume is blank")
    assert not (tmp_path / "B" / "tiltMov_B.mp4").exists()


def test_a_product_step_is_in_the_record_while_it_works_and_when_it_fails(small_series, recipe, site, tmp_path, fake_imod):
    job = Job(small_series, recipe, site, tmp_path / "B", make_scratch(small_series, site.scratch))
    reconstruct_step(job)
    seen = []
    product_step(job, "gen_tilt_movie", lambda *_: seen.append(read_record(job.record_path).stages[-1]))
    assert {(stage.name, stage.status) for stage in seen} == {("gen_tilt_movie", "running")}
    (job.workdir / "B_rec.mrc").write_bytes(b"no volume")
    with pytest.raises(TiltflowError) as failure:
        product_step(job, "gen_ave_mrc")
    last = read_record(job.record_path).stages[-1]
    assert (last.name, last.status) == ("gen_ave_mrc", "failed")
    assert finish_step(job, [], failure.value).stage == "gen_ave_mrc"


def test_an_unknown_product_step_is_refused_with_the_known_ones(small_series, recipe, site, tmp_path):
    job = Job(small_series, recipe, site, tmp_path / "B", tmp_path)
    with pytest.raises(ParameterError, match=r"'gen_gold'.*gen_tilt_movie"):
        product_step(job, "gen_gold")


def test_an_unexpected_exception_is_recorded_as_a_defect(small_series, recipe, site, tmp_path):
    job = Job(small_series, recipe, site, tmp_path / "B", make_scratch(small_series, site.scratch))
    result = finish_step(job, [], KeyError("rotation"), "gen_thumbs")
    assert "defect of tiltflow" in (result.message or "")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StageError("no beads"), ""),
        (FormatError("cut short"), ""),
        (OSError(28, "No space left on device"), ""),
        (MemoryError(), ""),
        (KeyError("rotation"), "defect"),
        (ZeroDivisionError(), "defect"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_nobody_expected_is_of_the_kind_defect(error, kind, small_series, recipe, site, tmp_path):
    job = Job(small_series, recipe, site, tmp_path / "B", make_scratch(small_series, site.scratch))
    finish_step(job, [], error, "gen_thumbs")
    failure = read_record(tmp_path / "B" / "run.json").failure
    assert failure is not None
    assert (failure.error, failure.kind) == (type(error).__name__, kind)


def test_an_interrupt_is_recorded_and_raised_again(small_series, recipe, site, tmp_path):
    job = Job(small_series, recipe, site, tmp_path / "B", make_scratch(small_series, site.scratch))
    with pytest.raises(KeyboardInterrupt):
        finish_step(job, [], KeyboardInterrupt())
    record = read_record(tmp_path / "B" / "run.json")
    assert "interrupted" in (record.message or "")
    assert record.failure is not None
    assert record.failure.kind == "interrupted"
    assert not job.workdir.exists()


def test_progress_names_the_stages_and_ends_with_the_result(small_series, recipe, site, tmp_path, fake_imod):
    words = []
    process(small_series, recipe, site, output=tmp_path / "B", on_progress=words.append)
    assert "batchruntomo" in {word.stage for word in words}
    assert {step.name for step in STEPS} <= {word.stage for word in words}
    assert words[-1].result is not None


def full(*_args, **_options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_with_the_stage_that_ran_a_path_and_what_to_do(small_series, recipe, site, tmp_path, monkeypatch):
    job = Job(small_series, recipe, site, tmp_path / "B", make_scratch(small_series, site.scratch))
    recorder = Recorder.start(job.record_path, small_series, "1")
    with recorder.stage("align: patches"):
        pass
    monkeypatch.setattr("tiltflow.record.steps.write_text", full)  # what is left cannot be kept either: the first reason stays
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.output / "B_align.npz"))
    result = finish_step(job, [], error)
    assert result.stage == "align: patches"
    message = result.message or ""
    assert message.startswith(f"no room for {job.output / 'B_align.npz'} (No space left on device): ")
    assert re.search(r" [kMG]B are free there; make room and run the same command again$", message)
    assert any("is not kept" in warning for warning in read_record(job.record_path).warnings)


def test_a_full_disk_that_names_no_file_is_told_with_a_folder_of_the_work(small_series, recipe, site, tmp_path):
    job = Job(small_series, recipe, site, tmp_path / "B", make_scratch(small_series, site.scratch))
    result = finish_step(job, [], OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "gen_zarr")
    assert result.stage == "gen_zarr"
    assert any(f"no room for {folder} (" in (result.message or "") for folder in (job.output, job.workdir))


def test_a_page_that_cannot_be_written_is_said_once_and_never_named(
    small_series, recipe, site, tmp_path, fake_imod, monkeypatch, caplog
):
    monkeypatch.setattr(sys.modules["tiltflow.pipeline.run"], "write_run_pages", full)
    result = run([small_series], recipe, site, tmp_path / "out")
    assert result.page is None
    said = [record for record in caplog.records if "could not be written" in record.message and record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "make room and run the same command again" in said[0].message


def test_a_run_names_the_page_that_it_wrote(finished_run):
    assert finished_run.result.page == finished_run.folder / "index.html"


@pytest.mark.parametrize(
    ("views", "skip", "said"),
    [
        (5, "1-3", "a tomogram needs at least 3 views, and 2 of the 5 views of B.st would be left: exclude fewer"),
        (2, "", "a tomogram needs at least 3 views, and B.st has 2"),
        (5, "1-2", None),
    ],
)
def test_views_too_few_for_a_tomogram_are_refused_before_the_work(views, skip, said, write_series, site, tmp_path, fake_imod):
    source = write_series(tmp_path / "B.st", views)
    overrides = (f"setupset.copyarg.skip={skip}",) if skip else ()
    asked = make_recipe(BrtParameters(thickness=50), engine="imod", overrides=overrides)
    result = process(source, asked, site, output=tmp_path / "out" / "B")
    if said is None:
        assert result.ok, result.message
        return
    assert (result.stage, result.message) == ("read", said)
    assert [stage.name for stage in read_record(tmp_path / "out" / "B" / "run.json").stages] == ["read"]
