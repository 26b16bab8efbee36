"""A series whose first engine fails or aligns poorly: what is used, what the record, the log and the callback say, what is left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiltflow.delivery import callback, layout
from tiltflow.demo import write_series
from tiltflow.formats.transforms import read_transforms
from tiltflow.pipeline import process
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.report import evidence_metadata
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

PARAMS = SimulationParams(size=192, views=21, beads=12, thickness_px=50, pixel_nm=2, bead_nm=20)
ASKED = BrtParameters(gold=20, thickness=60)


@pytest.fixture(scope="session")
def beads(tmp_path_factory):
    """A series with gold that the native engine aligns well."""
    path = tmp_path_factory.mktemp("beads") / "B.st"
    write_series(path, simulate(PARAMS))
    return path


@pytest.fixture
def work(beads, tmp_path, fake_imod):
    """Return the function that processes the series with a stand-in of IMOD that behaves as told."""

    def process_it(behaviour, *, engine="auto", fallback_engine="native", site=None, **parameters):
        fake_imod.setenv("FAKE_BATCHRUNTOMO", behaviour)
        asked = replace(ASKED, **parameters)
        (tmp_path / "scratch").mkdir(exist_ok=True)
        output = tmp_path / "out" / "B"
        made = make_recipe(asked, engine=engine, fallback_engine=fallback_engine)
        result = process(beads, made, site or Site(scratch=tmp_path / "scratch", threads=2), output=output)
        return result, read_record(output / "run.json"), output

    return process_it


def test_a_series_that_imod_gave_up_is_done_by_the_fallback_engine(work, beads, tmp_path):
    result, record, output = work("abort")
    assert result.ok
    assert (record.engine.name, record.status, record.message) == ("native", "success", None)
    assert [(each.name, each.outcome) for each in record.engine_attempts] == [("imod", "failed"), ("native", "used")]
    assert "ERROR: BEADTRACK - NO SEED POINTS FOUND" in record.engine_attempts[0].said
    assert "NO SEED POINTS FOUND" in record.engine.reason
    assert any("NO SEED POINTS FOUND" in text and "tiltflow's own engine does it" in text for text in record.warnings)
    assert "NO SEED POINTS FOUND" in (output / "B.log").read_text()
    assert "NO SEED POINTS FOUND" in (output / "report.html").read_text()
    assert (output / "batchruntomo.log").is_file()
    assert not list((tmp_path / "scratch").iterdir())
    evidence = evidence_metadata(record)
    assert [each["engine"] for each in evidence["engines"]] == ["imod", "native"]
    body = callback.build_callback([result], layout.plain_layout(beads.parent, tmp_path / "out"), {result.source: evidence})
    (sent,) = body.model_dump(mode="json")["files"]
    assert (sent["status"], sent["message"]) == ("success", None)
    assert sent["imageSet"][0]["imageMetadata"]["engines"][0]["outcome"] == "failed"


def test_without_a_fallback_engine_a_failure_is_a_failure(work):
    result, record, _ = work("abort", fallback_engine="off")
    assert not result.ok
    assert record.failure.stage == "batchruntomo"
    assert record.engine_attempts == []


def test_an_alignment_that_the_audit_finds_poor_is_replaced(work):
    result, record, output = work("good")  # its transforms leave the views where they are
    assert result.ok
    assert record.engine.name == "native"
    first, second = record.engine_attempts
    assert (first.outcome, second.outcome) == ("not used", "used")
    assert first.error_px > 1 > second.error_px
    assert any("the alignment by IMOD is poor" in text for text in record.warnings)
    assert any("the alignment by tiltflow's own engine is used" in text for text in record.warnings)
    assert abs(read_transforms(output / "B_imod.xf")[:, :, 2]).max() == 0
    assert abs(read_transforms(output / "B.xf")[:, :, 2]).max() > 1
    assert {product.type for product in record.products} >= {"tiltMovie", "neuroglancerZarr"}


def test_what_the_audit_cannot_measure_is_doubtful_and_stays(work):
    result, record, _ = work("good", fiducialless=1)  # the stand-in's angles are not those of the series
    assert result.ok
    assert (record.engine.name, record.engine_attempts) == ("imod", [])
    assert record.verdict.level == "doubtful"
    reason = record.verdict.reasons[0]
    assert reason.startswith("nothing measures its error: patches estimate the alignment error at")
    assert "matching views with projections cannot be trusted" in reason


def test_with_the_audit_off_nothing_is_poor(work, tmp_path):
    site = Site(scratch=tmp_path / "scratch", engine_options={"imod_audit": False})
    result, record, _ = work("good", site=site)
    assert result.ok
    assert (record.engine.name, record.engine_attempts) == ("imod", [])
    assert record.alignment.error_px is None


def test_best_has_both_engines_work(work):
    _, record, _ = work("good", engine="best", fallback_engine="off")
    assert [each.name for each in record.engine_attempts] == ["imod", "native"]
    assert record.engine.name == "native"


def test_best_with_one_engine_is_that_engine(work, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    _, record, _ = work("good", engine="best")
    assert (record.engine.name, record.engine_attempts) == ("native", [])


def test_when_both_engines_fail_both_are_quoted(work, tmp_path, write_series, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    source = write_series(tmp_path / "N.st", views=3, size=32)
    every_view_dark = ["runtime.Preprocessing.any.darkExcludeRatio=9"]
    recipe = make_recipe(ASKED, fallback_engine="native", overrides=every_view_dark)
    result = process(source, recipe, Site(scratch=tmp_path), output=tmp_path / "out" / "N")
    record = read_record(tmp_path / "out" / "N" / "run.json")
    assert not result.ok
    assert "NO SEED POINTS FOUND" in record.message
    assert "tiltflow's own engine, which was to do it instead, failed too: " in record.message
    assert [each.outcome for each in record.engine_attempts] == ["failed", "failed"]


def test_what_the_fallback_engine_cannot_do_leaves_the_failure(work):
    result, record, _ = work("abort", tracking_method=2)
    assert not result.ok
    assert "NO SEED POINTS FOUND" in record.message
    assert any("cannot do it instead" in text for text in record.warnings)
    assert record.engine.name == "imod"
