"""What the caller of a run hears while it goes on, and what the pages and the record tell by then."""

from pathlib import Path

import pytest

from tiltflow.pipeline import process, run
from tiltflow.pipeline.failure import last_lines
from tiltflow.pipeline.job import Job
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.work import Site

RECIPE = make_recipe(BrtParameters(thickness=50), engine="imod")


@pytest.fixture
def no_images(tmp_path) -> list[Path]:
    """Two files that fail as soon as they are read."""
    paths = [tmp_path / "A.mrc", tmp_path / "B.mrc"]
    for path in paths:
        path.write_text("this is no image")
    return paths


def test_the_last_word_on_a_series_is_its_stage_all_of_it_and_the_result(small_series, no_images, tmp_path, fake_imod):
    for source, stage in ((small_series, "done"), (no_images[0], "read")):
        words, output = [], tmp_path / "out" / source.stem
        result = process(source, RECIPE, Site(scratch=tmp_path), output=output, on_progress=words.append)
        assert (words[-1].name, words[-1].stage, words[-1].fraction, words[-1].result) == (source.stem, stage, 1.0, result)
        assert all(word.result is None and 0 <= word.fraction <= 1 for word in words[:-1])
    words = []
    kept = process(small_series, RECIPE, Site(scratch=tmp_path), output=tmp_path / "out" / "B", on_progress=words.append)
    assert [(word.stage, word.fraction, word.result) for word in words] == [("done", 1.0, kept)]


def test_a_series_that_is_done_again_begins_with_the_reason(small_series, tmp_path, fake_imod):
    site, other = Site(scratch=tmp_path), make_recipe(BrtParameters(thickness=51), engine="imod")
    process(small_series, RECIPE, site, output=tmp_path / "B")
    words = []
    process(small_series, other, site, output=tmp_path / "B", on_progress=words.append)
    assert (words[0].stage, words[0].fraction, words[0].note) == ("start", 0.0, "done again: the recipe differs")


def test_the_pages_of_a_run_are_there_when_its_first_series_is_done(no_images, tmp_path):
    output, index = tmp_path / "out", []

    def look(word):
        index.append((word.name, (output / "index.html").exists()))

    assert len(run(no_images, RECIPE, Site(scratch=tmp_path), output, on_progress=look).failed) == 2
    assert {there for name, there in index if name == "A"} == {False}
    assert {there for name, there in index if name == "B"} == {True}


def test_what_is_odd_in_the_input_is_a_warning_in_the_record(small_series, tmp_path, fake_imod):
    small_series.with_suffix(".st.mdoc").write_text(
        "PixelSpacing = 10\n[T = TiltAxisAngle = up]\n\n[ZValue = 0]\nTiltAngle = much\n"
    )
    process(small_series, RECIPE, Site(scratch=tmp_path), output=tmp_path / "B")
    warnings = read_record(tmp_path / "B" / "run.json").warnings
    assert any("TiltAngle = 'much' is not understood and left out (" in text for text in warnings), warnings


@pytest.mark.parametrize(("written", "kept"), [(0, 0), (3, 3), (20, 20), (21, 20)])
def test_a_failure_keeps_the_last_twenty_lines_of_the_log(tmp_path, written, kept):
    (tmp_path / "B.log").write_text("".join(f"line {number}\n" for number in range(written)))
    job = Job(tmp_path / "B.st", RECIPE, Site(), tmp_path, tmp_path)
    assert last_lines(job, ValueError("x")) == [f"line {number}" for number in range(written - kept, written)]
