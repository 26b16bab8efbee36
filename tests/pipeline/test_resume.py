"""Which earlier results are kept, and what is said of those that are not: a table of cases, one for each rule."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

import tiltflow
from tiltflow import describe
from tiltflow.model import Site
from tiltflow.pipeline import earlier_result, process, why_not_kept
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import ProductEntry, Recorder, read_record
from tiltflow.version import build

RECIPE = make_recipe(BrtParameters(thickness=50), engine="imod")
OTHER = make_recipe(BrtParameters(thickness=51), engine="imod")


@dataclass
class Earlier:
    """A stack and the complete result of an earlier run; no rule speaks against keeping it, until a case changes one thing."""

    source: Path
    output: Path
    recorder: Recorder

    @property
    def record(self):
        return self.recorder.record

    def product(self, name):
        return self.output / name

    def asked(self, recipe=RECIPE):
        self.recorder.save()
        return earlier_result(self.source, recipe, self.output), why_not_kept(self.source, recipe, self.output)


@pytest.fixture
def earlier(tmp_path):
    source, output = tmp_path / "B.st", tmp_path / "out" / "B"
    source.write_bytes(b"raw images")
    (output / "B_rec.zarr").mkdir(parents=True)
    (output / "tiltMov_B.mp4").write_bytes(b"movie")
    recorder = Recorder.start(output / "run.json", source, tiltflow.__version__)
    recorder.record.versions = describe.versions()
    recorder.record.recipe = describe.recipe(RECIPE, requested=RECIPE)
    recorder.record.products = [
        ProductEntry(type="tiltMovie", path="tiltMov_B.mp4", bytes=5),
        ProductEntry(type="neuroglancerZarr", path="B_rec.zarr", bytes=0),
    ]
    recorder.succeed()
    return Earlier(source, output, recorder)


def test_what_is_complete_and_made_from_this_file_by_this_recipe_is_kept_without_a_word(earlier):
    result, why = earlier.asked()
    assert why is None
    assert result is not None
    assert (result.ok, [asset.path for asset in result.assets]) == (True, ["tiltMov_B.mp4", "B_rec.zarr"])


def made_by_another_version(earlier):
    earlier.record.tiltflow = "0.0.9"


def made_by_another_commit(earlier):
    earlier.record.versions = {**earlier.record.versions, "commit": "0123456789"}


def no_recipe(earlier):
    earlier.record.recipe = None


def another_recipe_was_requested(earlier):
    earlier.record.recipe = describe.recipe(RECIPE, requested=OTHER)


def made_from_another_file(earlier):
    earlier.record.source = "/elsewhere/B.st"


def the_stack_has_another_size(earlier):
    earlier.record.source_bytes += 1


def the_stack_was_written_since(earlier):
    earlier.record.source_modified -= timedelta(microseconds=1)


def the_stack_was_rewritten_with_as_many_bytes(earlier):
    earlier.source.write_bytes(b"RAW IMAGES")
    os.utime(earlier.source, (0, 0))


def the_stack_is_gone(earlier):
    earlier.source.unlink()


def a_product_is_missing(earlier):
    earlier.product("tiltMov_B.mp4").unlink()


def a_folder_is_missing(earlier):
    earlier.product("B_rec.zarr").rmdir()


THIS = f"commit {build()}" if build() else "an installed tiltflow"
CASES = [
    (made_by_another_version, f"it was made by tiltflow 0.0.9, this is {tiltflow.__version__}"),
    (made_by_another_commit, f"it was made by commit 0123456789, this is {THIS}"),
    (no_recipe, "the recipe differs"),
    (another_recipe_was_requested, "the recipe differs"),
    (made_from_another_file, "it was made from another file, /elsewhere/B.st"),
    (the_stack_has_another_size, "the stack has changed since"),
    (the_stack_was_written_since, "the stack has changed since"),
    (the_stack_was_rewritten_with_as_many_bytes, "the stack has changed since"),
    (the_stack_is_gone, "the stack cannot be read: No such file or directory"),
    (a_product_is_missing, "products are missing: tiltMov_B.mp4"),
    (a_folder_is_missing, "products are missing: B_rec.zarr"),
]


@pytest.mark.parametrize(("change", "why"), CASES, ids=[change.__name__ for change, _ in CASES])
def test_a_result_that_is_not_what_the_work_would_give_now_is_not_kept_and_the_reason_is_said(earlier, change, why):
    change(earlier)
    assert earlier.asked() == (None, why)


def test_the_recipe_that_was_asked_for_decides_not_what_an_engine_made_of_it(earlier):
    earlier.record.recipe = describe.recipe(OTHER, requested=RECIPE)
    assert earlier.asked()[1] is None
    assert earlier.asked(OTHER) == (None, "the recipe differs")


def test_all_reasons_are_said_at_once(earlier):
    a_product_is_missing(earlier)
    a_folder_is_missing(earlier)
    missing = "products are missing: tiltMov_B.mp4, B_rec.zarr"
    assert earlier.asked(OTHER)[1] == f"the recipe differs; {missing}"
    made_by_another_version(earlier)
    assert earlier.asked()[1] == f"it was made by tiltflow 0.0.9, this is {tiltflow.__version__}; {missing}"


def test_nothing_is_said_of_the_recipe_of_another_version_which_cannot_be_compared(earlier):
    made_by_another_version(earlier)
    assert earlier.asked(OTHER)[1] == f"it was made by tiltflow 0.0.9, this is {tiltflow.__version__}"


@pytest.mark.parametrize("status", ["running", "error"])
def test_work_that_did_not_end_well_is_done_again_without_a_reason(earlier, status):
    earlier.record.status = status
    assert earlier.asked(OTHER) == (None, None)


def test_where_nothing_was_made_there_is_nothing_to_say(earlier, tmp_path):
    assert earlier_result(earlier.source, RECIPE, tmp_path / "new") is None
    assert why_not_kept(earlier.source, RECIPE, tmp_path / "new") is None


@pytest.mark.parametrize("text", ["{", "{}", '{"schema": "tiltflow/series-record/9"}'])
def test_a_record_that_cannot_be_read_is_kept_by_nobody_and_said(earlier, text):
    earlier.recorder.path.write_text(text)
    assert earlier_result(earlier.source, RECIPE, earlier.output) is None
    assert why_not_kept(earlier.source, RECIPE, earlier.output) == f"the record in {earlier.output} cannot be read"


def test_the_log_of_the_series_and_the_caller_hear_why_a_complete_result_is_made_anew(small_series, tmp_path, fake_imod):
    site, output = Site(scratch=tmp_path), tmp_path / "B"
    process(small_series, RECIPE, site, output=output)
    assert "done again" not in (output / "B.log").read_text()
    recorder = Recorder(output / "run.json", read_record(output / "run.json"))
    recorder.record.tiltflow = "0.0.9"
    recorder.save()
    words = []
    assert process(small_series, RECIPE, site, output=output, on_progress=words.append).ok
    why = f"done again: it was made by tiltflow 0.0.9, this is {tiltflow.__version__}"
    assert f"B: {why}" in (output / "B.log").read_text()
    assert [word.note for word in words if word.note] == [why]
    assert read_record(output / "run.json").tiltflow == tiltflow.__version__
    assert process(small_series, RECIPE, site, output=output, redo=True).ok
    assert "done again" not in (output / "B.log").read_text(), "it was asked for"
