"""Which earlier results are kept, and what is said of those that are not: a table of cases, one for each rule."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import tiltflow
from tiltflow import describe
from tiltflow.formats.identity import identity_of
from tiltflow.pipeline import look_back, process
from tiltflow.pipeline.step_book import note_identity, step_numbers
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder, read_record
from tiltflow.work import Asset, AssetType, Site

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
        found = look_back(self.source, recipe, self.output)
        return found.result, found.why


@pytest.fixture
def earlier(tmp_path):
    source, output = tmp_path / "B.st", tmp_path / "out" / "B"
    source.write_bytes(b"raw images")
    (output / "B_rec.zarr").mkdir(parents=True)
    (output / "B_rec.zarr" / "0").write_bytes(b"chunks")
    (output / "tiltMov_B.mp4").write_bytes(b"movie")
    (output / "B_rec.mrc").write_bytes(b"volume")
    recorder = Recorder.start(output / "run.json", source, tiltflow.__version__)
    recorder.record.versions = describe.versions()
    note_identity(recorder.record, identity_of(source))
    recorder.record.step_numbers = step_numbers()
    recorder.record.recipe = describe.recipe(RECIPE, requested=RECIPE)
    recorder.record.products = [
        describe.product(Asset(AssetType.TILT_MOVIE, "tiltMov_B.mp4"), output),
        describe.product(Asset(AssetType.NEUROGLANCER_ZARR, "B_rec.zarr"), output),
    ]
    recorder.record.files = [describe.file_entry(output / "B_rec.mrc", output)]
    recorder.succeed()
    return Earlier(source, output, recorder)


def test_what_is_complete_and_made_from_this_file_by_this_recipe_is_kept_without_a_word(earlier):
    result, why = earlier.asked()
    assert why is None
    assert result is not None
    assert (result.ok, [asset.path for asset in result.assets]) == (True, ["tiltMov_B.mp4", "B_rec.zarr"])


def made_by_0_1(earlier):
    earlier.record.tiltflow, earlier.record.step_numbers = "0.1.0", {}


def a_step_has_changed(earlier):
    earlier.record.step_numbers = {**step_numbers(), "alignment": 0, "gen_zarr": 0}


def a_step_is_new(earlier):
    earlier.record.step_numbers = {name: number for name, number in step_numbers().items() if name != "positioning"}


def no_recipe(earlier):
    earlier.record.recipe = None


def another_recipe_was_requested(earlier):
    earlier.record.recipe = describe.recipe(RECIPE, requested=OTHER)


def the_stack_has_another_size(earlier):
    times = earlier.source.stat()
    earlier.source.write_bytes(b"raw images, and more")
    os.utime(earlier.source, ns=(times.st_atime_ns, times.st_mtime_ns))


def the_stack_was_replaced_by_one_of_the_same_size_and_time(earlier):
    times = earlier.source.stat()
    other = earlier.source.with_name("other")
    other.write_bytes(b"RAW IMAGES")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(earlier.source)


def the_stack_was_rewritten_in_place_with_its_old_time(earlier):
    times = earlier.source.stat()
    with earlier.source.open("r+b") as file:
        file.write(b"RAW")
    os.utime(earlier.source, ns=(times.st_atime_ns, times.st_mtime_ns))


def the_angles_beside_it_are_new(earlier):
    earlier.source.with_suffix(".rawtlt").write_text("0\n")


def an_mdoc_beside_it_is_new(earlier):
    earlier.source.with_name("B.st.mdoc").write_text("")


def the_stack_was_rewritten_with_as_many_bytes(earlier):
    earlier.source.write_bytes(b"RAW IMAGES")
    os.utime(earlier.source, (0, 0))


def the_stack_is_gone(earlier):
    earlier.source.unlink()


def a_product_was_cut(earlier):
    earlier.product("tiltMov_B.mp4").write_bytes(b"")


def a_product_is_missing(earlier):
    earlier.product("tiltMov_B.mp4").unlink()


def a_folder_is_missing(earlier):
    (earlier.product("B_rec.zarr") / "0").unlink()
    earlier.product("B_rec.zarr").rmdir()


def a_chunk_is_missing(earlier):
    (earlier.product("B_rec.zarr") / "0").unlink()


def the_volume_is_missing(earlier):
    earlier.product("B_rec.mrc").unlink()


CHANGED = "the stack, or a file beside it, has changed since"
CASES = [
    (made_by_0_1, "it was made by tiltflow 0.1.0, which kept no steps"),
    (a_step_has_changed, f"these steps have changed since tiltflow {tiltflow.__version__}: alignment, gen_zarr"),
    (a_step_is_new, f"these steps have changed since tiltflow {tiltflow.__version__}: positioning"),
    (no_recipe, "the recipe differs"),
    (another_recipe_was_requested, "the recipe differs"),
    (the_stack_has_another_size, CHANGED),
    (the_stack_was_replaced_by_one_of_the_same_size_and_time, CHANGED),
    (the_stack_was_rewritten_in_place_with_its_old_time, CHANGED),
    (the_stack_was_rewritten_with_as_many_bytes, CHANGED),
    (the_angles_beside_it_are_new, CHANGED),
    (an_mdoc_beside_it_is_new, CHANGED),
    (a_product_is_missing, "tiltMov_B.mp4 is missing"),
    (a_product_was_cut, "tiltMov_B.mp4 has 0 bytes instead of 5"),
    (a_folder_is_missing, "B_rec.zarr is missing"),
    (a_chunk_is_missing, "B_rec.zarr has 0 bytes instead of 6"),
    (the_volume_is_missing, "B_rec.mrc is missing"),
]


@pytest.mark.parametrize(
    "other", [{"tiltflow": "0.0.9"}, {"versions": {"commit": "0123456789"}}], ids=["another version", "another commit"]
)
def test_the_version_is_recorded_and_not_compared(earlier, other):
    for name, value in other.items():
        setattr(earlier.record, name, value)
    assert earlier.asked()[1] is None


def touched(earlier):
    earlier.source.touch()


def copied_with_its_results(earlier):
    place = earlier.source.with_name("archive") / "B.st"
    place.parent.mkdir()
    shutil.copyfile(earlier.source, place)
    earlier.source.unlink()
    earlier.source = place


@pytest.mark.parametrize("change", [touched, copied_with_its_results])
def test_an_input_is_its_contents_wherever_and_from_when_it_is(earlier, change):
    change(earlier)
    result, why = earlier.asked()
    assert (why, result.source) == (None, earlier.source)


def test_a_stack_that_is_gone_is_no_reason_to_keep_a_result(earlier):
    earlier.source.unlink()
    assert earlier.asked() == (None, f"{earlier.source}: cannot be read: No such file or directory")


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
    missing = "tiltMov_B.mp4 is missing; B_rec.zarr is missing"
    assert earlier.asked(OTHER)[1] == f"the recipe differs; {missing}"
    a_step_is_new(earlier)
    steps = f"these steps have changed since tiltflow {tiltflow.__version__}: positioning"
    assert earlier.asked()[1] == f"{steps}; {missing}"


@pytest.mark.parametrize("status", ["running", "error"])
def test_work_that_did_not_end_well_is_done_again_without_a_reason(earlier, status):
    earlier.record.status = status
    assert earlier.asked(OTHER) == (None, None)


def test_where_nothing_was_made_there_is_nothing_to_say(earlier, tmp_path):
    found = look_back(earlier.source, RECIPE, tmp_path / "new")
    assert (found.result, found.why, found.answers) == (None, None, True)


@pytest.mark.parametrize("text", ["{", "{}", '{"schema": "tiltflow/series-record/9"}'])
def test_a_record_that_cannot_be_read_is_kept_by_nobody_and_said(earlier, text):
    earlier.recorder.path.write_text(text)
    assert look_back(earlier.source, RECIPE, earlier.output).result is None
    assert look_back(earlier.source, RECIPE, earlier.output).why == f"the record in {earlier.output} cannot be read"


def test_the_log_of_the_series_and_the_caller_hear_why_a_complete_result_is_made_anew(small_series, tmp_path, fake_imod):
    site, output = Site(scratch=tmp_path), tmp_path / "B"
    process(small_series, RECIPE, site, output=output)
    assert "done again" not in (output / "B.log").read_text()
    recorder = Recorder(output / "run.json", read_record(output / "run.json"))
    recorder.record.tiltflow, recorder.record.step_numbers = "0.0.9", {**step_numbers(), "gen_thumbs": 0}
    recorder.save()
    words = []
    assert process(small_series, RECIPE, site, output=output, on_progress=words.append).ok
    why = "done again: these steps have changed since tiltflow 0.0.9: gen_thumbs"
    assert f"B: {why}" in (output / "B.log").read_text()
    assert [word.note for word in words if word.note] == [why]
    assert read_record(output / "run.json").tiltflow == tiltflow.__version__
    assert process(small_series, RECIPE, site, output=output, redo=True).ok
    assert "done again" not in (output / "B.log").read_text(), "it was asked for"


def test_what_was_not_made_of_the_volume_for_want_of_room_is_made_by_the_next_run(earlier):
    """Pictures are made on the side, and cost no result; other warnings are no reason."""
    earlier.record.warnings.append("views: view 3 is left out")
    kept, why = earlier.asked()
    assert kept is not None
    earlier.record.warnings.append("the statistics of the volume could not be made (OSError: [Errno 28] No space left on device)")
    kept, why = earlier.asked()
    assert kept is None
    assert why == "the statistics of the volume, and its pictures, were not made"
