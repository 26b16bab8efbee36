"""What eTomo needs is published on request, and after a failure by itself."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.engines.imod import ENGINE as IMOD
from tiltflow.engines.native import ENGINE as NATIVE
from tiltflow.pipeline import process
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.work import Site

ALWAYS = {"B.adoc", "B.xf", "B.tlt", "B.log", "batchruntomo.log", "align.log", "arguments.log"}
FOR_ETOMO = {"B.fid", "B.seed", "B.resid", "B.3dmod", "B.prexg", "B.rawtlt", "B.edf", "align.com", "tilt.com", "track.com"}
COPIES = {"B.st", "B_xray.st.gz", "B_fixed.st", "B.preali", "B_full_rec.mrc"}
"""Of the raw stack, or larger than all that is published."""


def published(source, tmp_path, **options):
    site = Site(scratch=tmp_path, engine_options=options)
    result = process(source, make_recipe(BrtParameters(thickness=50), engine="imod"), site, output=tmp_path / "out")
    return result, {path.name for path in (tmp_path / "out").iterdir()}


def test_a_success_publishes_none_of_it(small_series, tmp_path, fake_imod):
    result, files = published(small_series, tmp_path)
    assert result.ok, result.message
    assert files >= {*ALWAYS, "B_ali.mrc", "B_rec.mrc", "taSolution.log"}
    assert not files & FOR_ETOMO


def test_a_success_publishes_it_on_request(small_series, tmp_path, fake_imod):
    result, files = published(small_series, tmp_path, keep_imod=True)
    assert result.ok, result.message
    assert files >= {*ALWAYS, *FOR_ETOMO, "B_ali.mrc", "B_rec.mrc"}
    assert not files & COPIES


def test_a_failure_publishes_what_there_is_by_itself(small_series, tmp_path, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    result, files = published(small_series, tmp_path)
    assert not result.ok
    assert files >= {"B.adoc", "batchruntomo.log", "B.seed", "B.edf", "align.com"}
    assert not files & COPIES
    assert "B.fid" not in files  # it was not made


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("no_beads_fails", {"autofidseed.log", "B.prexg", "B.rawtlt", "B.seed", "autofidseed.com"}),
        ("cryo_gold_fails", {"align.log", "autofidseed.log", "B.fid", "B.seed", "B.prexg", "B.rawtlt", "align.com"}),
    ],
)
def test_a_failure_of_imod_4_can_be_looked_into(write_series, tmp_path, fake_imod, run, expected):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", f"replay:{run}")
    result, files = published(write_series(tmp_path / "B.mrc", views=41, size=32), tmp_path)
    assert not result.ok
    assert files >= expected
    assert not files & COPIES


@pytest.mark.parametrize(("asked", "kept"), [([], False), (["--keep-imod"], True)])
def test_the_command_has_an_option_for_it(small_series, tmp_path, fake_imod, asked, kept):
    fake_imod.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    result = CliRunner().invoke(app, ["run", str(small_series.parent), "-o", str(tmp_path / "out"), "--engine", "imod", *asked])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "B" / "B.fid").exists() == kept


def test_the_setting_does_the_same(small_series, tmp_path, fake_imod):
    fake_imod.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    fake_imod.setenv("TILTFLOW_KEEP_IMOD", "true")
    result = CliRunner().invoke(app, ["run", str(small_series.parent), "-o", str(tmp_path / "out"), "--engine", "imod"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "B" / "B.fid").exists()


@pytest.mark.parametrize(
    ("options", "failed", "kept"),
    [({}, False, False), ({"keep_imod": False}, False, False), ({"keep_imod": True}, False, True), ({}, True, True)],
)
def test_the_engine_says_which_files_are_kept(options, failed, kept):
    patterns = IMOD.files_to_keep(options, failed=failed)
    assert ("{name}.fid" in patterns, "*.com" in patterns) == (kept, kept)
    assert "{name}.adoc" in patterns
    assert NATIVE.files_to_keep(options, failed=failed) == ()
