"""A redo that fails: the earlier result stands whole with its record, and the failure is told; or all of it is gone."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from tiltflow.delivery import publish as publish_module
from tiltflow.delivery.callback import build_callback
from tiltflow.delivery.layout import plain_layout
from tiltflow.owner import new_token
from tiltflow.pipeline import check_results, process, reconstruct_step, run
from tiltflow.pipeline.conclusion import close_lost
from tiltflow.pipeline.job import Job
from tiltflow.pipeline.standing import FAILED_FOLDER, note_replacing, recover, set_aside
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record, read_run
from tiltflow.report import write_run_pages
from tiltflow.work import Site

RECIPE = make_recipe(BrtParameters(thickness=50), engine="imod", fallback_engine="off")
OTHER = make_recipe(BrtParameters(thickness=60), engine="imod", fallback_engine="off")


@pytest.fixture
def site(tmp_path):
    return Site(scratch=tmp_path / "scratch")


@pytest.fixture
def output(tmp_path, small_series, site, fake_imod):
    output = tmp_path / "out" / "B"
    assert process(small_series, RECIPE, site, output=output).ok
    return output


def held(output: Path) -> dict[str, bytes]:
    """What the earlier result has, but for its log, its record and its page, which tell of the attempt."""
    told = {"B.log", "run.json", "report.html", "B_steps.json"}
    files = (path for path in output.rglob("*") if path.is_file() and FAILED_FOLDER not in path.parts)
    return {str(path.relative_to(output)): path.read_bytes() for path in files if path.name not in told}


def of_the_record(output: Path) -> dict:
    return {name: value for name, value in json.loads((output / "run.json").read_text()).items() if name != "failed_attempt"}


def the_engine_gives_up(monkeypatch):
    monkeypatch.setenv("FAKE_BATCHRUNTOMO", "abort")


def fail_at(stage, error):
    def report(progress):
        if progress.stage == stage and progress.result is None:
            raise error

    return lambda _monkeypatch: report


def the_disk_is_full_at_publication(monkeypatch):
    def full(_paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(publish_module, "sync", full)


def a_rename_fails_half_way(monkeypatch):
    swap = publish_module._swap_in
    count = []

    def broken(fresh, place, old):
        count.append(place)
        if len(count) == 6:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        swap(fresh, place, old)

    monkeypatch.setattr(publish_module, "_swap_in", broken)


def another_recipe(_source):
    return OTHER, "the recipe differs"


def another_input(source):
    data = source.read_bytes()
    source.write_bytes(data[:1024] + data[1024:][::-1])
    return RECIPE, "the stack, or a file beside it, has changed since"


def the_same_again(_source):
    return RECIPE, ""


CASES = [
    (the_engine_gives_up, "batchruntomo", another_recipe),
    (the_engine_gives_up, "batchruntomo", another_input),
    (fail_at("gen_recon_movie", RuntimeError("a defect")), "gen_recon_movie", another_input),
    (fail_at("gen_zarr", KeyboardInterrupt()), "gen_zarr", another_recipe),
    (the_disk_is_full_at_publication, "publish", the_same_again),
    (a_rename_fails_half_way, "publish", another_input),
]


@pytest.mark.parametrize(("failure", "stage", "asked"), CASES, ids=[f"{case[1]}-{case[2].__name__}" for case in CASES])
def test_the_earlier_result_stands_and_the_failure_is_told(small_series, site, output, asked, failure, stage):
    before, record = held(output), of_the_record(output)
    recipe, why = asked(small_series)
    result = None
    with pytest.MonkeyPatch.context() as monkeypatch:
        on_progress = failure(monkeypatch) or (lambda _progress: None)
        try:
            result = process(small_series, recipe, site, output=output, on_progress=on_progress, redo=not why)
        except KeyboardInterrupt:
            assert stage == "gen_zarr"
    now = held(output)
    assert {name: now.get(name) for name in before} == before
    assert {name for name in now if not name.startswith(".tiltflow-staging-unfinished")} == set(before)
    assert of_the_record(output) == record
    assert next(check_results(output)).differences == ()
    told = read_record(output / "run.json").failed_attempt
    assert told is not None
    assert (told.stage, told.why_again, told.answered) == (stage, why, not why)
    page = (output / "report.html").read_text()
    assert "A newer attempt failed" in page
    assert ("not what was asked for" in page) == bool(why)
    attempt = read_record(output / told.record)
    assert (attempt.status, attempt.products) == ("error", [])
    assert (output / FAILED_FOLDER / "report.html").is_file()
    if result is not None:
        assert not result.ok
        assert "is kept unchanged" in result.message
    done = process(small_series, recipe, site, output=output, redo=not why)
    assert done.ok, done.message
    assert not (output / FAILED_FOLDER).exists()
    assert read_record(output / "run.json").failed_attempt is None
    assert "A newer attempt failed" not in (output / "report.html").read_text()
    assert next(check_results(output)).differences == ()
    assert not list(output.glob(".*"))


def test_record_index_and_callback_of_the_run_say_that_it_failed(small_series, site, output, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    results = run([small_series], OTHER, site, output.parent).results
    entry = read_run(output.parent / "run.json").series[0]
    assert entry.status == "error"
    assert "is kept unchanged; it was made from another request or another input" in entry.message
    assert "a newer attempt, of " in (output.parent / "index.html").read_text()
    body = build_callback(results, plain_layout(small_series.parent, output.parent))
    assert (body.files[0].status, body.files[0].image_set[0].assets) == ("error", ())
    assert "is kept unchanged" in body.files[0].message


def killed(source, recipe, site, output):
    """Leave what a run leaves that is killed when its volume is there."""
    scratch = site.scratch / "killed"
    scratch.mkdir(parents=True)
    set_aside(output)
    reconstruct_step(Job(source, recipe, site, output, scratch))
    shutil.rmtree(scratch)


@pytest.mark.parametrize("found_by", ["the next run", "the flow"])
def test_a_run_that_was_killed_leaves_the_earlier_result_to_the_next(small_series, site, output, found_by):
    before, record = held(output), of_the_record(output)
    killed(small_series, OTHER, site, output)
    assert read_record(output / "run.json").status == "running"
    if found_by == "the flow":
        result = process(small_series.with_name("nothing.st"), RECIPE, site, output=output.with_name("nothing"))
        close_lost(
            result.__class__(small_series, "error", message="its worker died", stage="worker", output=output), site.thresholds
        )
    else:
        assert process(small_series, RECIPE, site, output=output).ok, "which keeps it"
    now = held(output)
    assert {name: now.get(name) for name in before} == before
    assert of_the_record(output) == record
    assert read_record(output / "run.json").failed_attempt.reason.startswith("its ")


def test_a_result_of_which_a_part_was_replaced_is_gone(small_series, site, output):
    products = [output / Path(entry.path).parts[0] for entry in read_record(output / "run.json").products]
    killed(small_series, OTHER, site, output)
    note_replacing(output)
    movie = output / "tiltMov_B.mp4"
    movie.write_bytes(movie.read_bytes()[::-1])
    recover(output, site.thresholds)
    assert not [path for path in products if path.exists()]
    assert read_record(output / "run.json").status == "running"
    assert process(small_series, OTHER, site, output=output).ok
    assert next(check_results(output)).differences == ()


def test_a_result_of_which_nothing_was_replaced_yet_stands(small_series, site, output):
    before = held(output)
    killed(small_series, OTHER, site, output)
    note_replacing(output)
    recover(output, site.thresholds)
    assert {name: held(output).get(name) for name in before} == before


def test_a_result_of_which_a_folder_was_taken_away_and_not_yet_replaced_is_gone(small_series, site, output):
    """A folder cannot be replaced in one go; what a killed run had put aside is removed with its staging."""
    killed(small_series, OTHER, site, output)
    note_replacing(output)
    shutil.rmtree(output / "B_rec.zarr")
    recover(output, site.thresholds)
    assert read_record(output / "run.json").status == "running"
    assert not (output / "tiltMov_B.mp4").exists()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"edited")], ids=["gone", "edited"])
def test_what_was_not_whole_before_is_not_taken_for_replaced(small_series, site, output, damage):
    damage(output / "B.xf")
    before = held(output)
    killed(small_series, OTHER, site, output)
    note_replacing(output)
    recover(output, site.thresholds)
    assert {name: held(output).get(name) for name in before} == before
    assert read_record(output / "run.json").status == "success"


def test_a_run_that_is_killed_right_after_its_success_leaves_no_older_failure(small_series, site, output, fake_imod):
    with pytest.MonkeyPatch.context() as monkeypatch:
        the_engine_gives_up(monkeypatch)
        process(small_series, OTHER, site, output=output)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("tiltflow.pipeline.steps.let_go", lambda _output: None)
        assert process(small_series, OTHER, site, output=output).ok
    assert (output / FAILED_FOLDER).exists()
    recover(output, site.thresholds)
    assert not (output / FAILED_FOLDER).exists()
    assert not (output / ".tiltflow-earlier").exists()


def test_a_run_that_is_killed_before_it_begins_leaves_the_word_on_an_older_failure(small_series, site, output, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    process(small_series, OTHER, site, output=output)
    set_aside(output)
    recover(output, site.thresholds)
    assert (output / read_record(output / "run.json").failed_attempt.record).is_file()
    assert not (output / ".tiltflow-earlier").exists()


def test_where_the_earlier_result_cannot_be_set_aside_no_scratch_is_left(small_series, site, output, monkeypatch):
    before = held(output)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tiltflow.pipeline.standing.copy_file", full)
    assert not process(small_series, OTHER, site, output=output).ok
    assert list(site.scratch.iterdir()) == []
    assert held(output) == before


def test_scratch_of_a_killed_run_goes_also_where_the_next_one_keeps_all_results(small_series, site, output):
    place, pid, _, random = new_token().split("-")
    left = site.scratch / f"B-{place}-{pid}-1-{random}"
    left.mkdir()
    (left / ".tiltflow-scratch").touch()
    assert run([small_series], RECIPE, site, output.parent).results[0].ok
    assert list(site.scratch.iterdir()) == []


def test_that_products_are_replaced_is_noted_before_the_first_is(small_series, site, output, monkeypatch):
    noted = []

    def spy(paths, place):
        noted.append((place / ".tiltflow-earlier" / "replacing").is_file())
        return publish_module.publish(paths, place)

    monkeypatch.setattr("tiltflow.pipeline.publication.publish", spy)
    assert process(small_series, OTHER, site, output=output).ok
    assert noted == [True]


def test_a_page_is_written_of_a_run_whose_result_stands(small_series, site, output, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    process(small_series, OTHER, site, output=output)
    index, _ = write_run_pages(output.parent, site.thresholds)
    assert index.read_text().count("<tr class") == 1, "the attempt is no series of its own"


def test_an_earlier_result_stands_also_where_nothing_of_the_attempt_can_be_noted(
    small_series, site, output, fake_imod, monkeypatch
):
    before = held(output)
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tiltflow.record.steps.write_text", full)
    result = process(small_series, OTHER, site, output=output)
    assert result.stage == "batchruntomo"
    assert "the earlier result" in (result.message or "")
    assert held(output) == before
    assert read_record(output / "run.json").status == "success"
