"""What is kept is true: on the disk before its record says so, checked before it is kept, and made of one input."""

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.formats.identity import state_of
from tiltflow.pipeline import check_results, process
from tiltflow.pipeline import conclusion as conclusion_module
from tiltflow.pipeline.conclusion import complete
from tiltflow.pipeline.resume import look_back
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.work import Site

pytestmark = [pytest.mark.usefixtures("fake_imod"), pytest.mark.attack("changed and damaged files")]
RECIPE = make_recipe(BrtParameters(thickness=50), engine="imod")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(scratch=tmp_path / "scratch")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "B"


def made_again(output: Path) -> list[str]:
    return [step.name for step in read_record(output / "run.json").steps if not step.kept]


def append_to_the_stack(source: Path) -> str:
    with source.open("r+b") as file:
        file.seek(2000)
        file.write(b"later")
    return source.name


def write_other_angles(source: Path) -> str:
    path = source.with_suffix(".rawtlt")
    path.write_text("".join(f"{angle}\n" for angle in (-4, -2, 0, 2, 4)))
    return path.name


def add_an_mdoc(source: Path) -> str:
    path = source.with_name(f"{source.name}.mdoc")
    path.write_text("PixelSpacing = 10\n")
    return path.name


@pytest.mark.parametrize("change", [append_to_the_stack, write_other_angles, add_an_mdoc])
def test_an_input_that_changes_while_it_is_read_fails_the_series_and_nothing_is_published(small_series, site, output, change):
    names = []

    def at_the_engine(progress):
        if progress.stage == "batchruntomo" and not names:
            names.append(change(small_series))

    result = process(small_series, RECIPE, site, output=output, on_progress=at_the_engine)
    assert names
    assert not result.ok
    assert f"{small_series.with_name(names[0])} was changed while it was being read" in result.message
    assert not list(output.glob("*.mp4"))
    assert process(small_series, RECIPE, site, output=output).ok, "run again, when it is complete"


def test_a_series_is_a_success_when_its_page_stands(small_series, site, output, monkeypatch):
    on_disk = []
    write = conclusion_module.write_series_page

    def spy(folder, record, thresholds):
        on_disk.append((read_record(output / "run.json").status, record.status))
        return write(folder, record, thresholds)

    monkeypatch.setattr(conclusion_module, "write_series_page", spy)
    assert process(small_series, RECIPE, site, output=output).ok
    assert on_disk == [("running", "success")]
    assert read_record(output / "run.json").verdict is not None


def test_a_page_that_is_missing_is_made_and_nothing_else(small_series, site, output):
    first = process(small_series, RECIPE, site, output=output)
    times = {path.name: path.stat().st_mtime_ns for path in output.iterdir() if path.name not in ("run.json", "report")}
    (output / "report.html").unlink()
    assert process(small_series, RECIPE, site, output=output).assets == first.assets
    assert (output / "report.html").is_file()
    del times["report.html"]
    assert {name: (output / name).stat().st_mtime_ns for name in times} == times


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def a_chunk_of(pyramid: Path) -> Path:
    return max((path for path in pyramid.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("keyMov_B.mp4", {"gen_recon_movie"}),
        ("ave_B.mrc", {"gen_ave_mrc", "gen_recon_movie", "gen_ave_8_vol", "gen_zarr"}),
        ("B_rec.zarr", {"gen_zarr"}),
    ],
)
def test_a_byte_that_was_flipped_is_found_and_its_step_done_again(small_series, site, output, name, again):
    process(small_series, RECIPE, site, output=output)
    before = read_record(output / "run.json")
    place = output / next(entry.path for entry in before.products if Path(entry.path).parts[0].startswith(name.partition(".")[0]))
    flip_a_byte(a_chunk_of(place) if place.is_dir() else place)
    (checked,) = check_results(output)
    assert [difference.split()[0] for difference in checked.differences] == [place.relative_to(output).as_posix()]
    process(small_series, RECIPE, site, output=output)
    assert [difference.split()[0] for difference in next(check_results(output)).differences], "sizes do not show it"
    assert process(small_series, RECIPE, site, output=output, verify=True).ok
    assert next(check_results(output)).differences == ()
    assert set(made_again(output)) <= again
    assert set(made_again(output))


def test_whichever_file_is_damaged_it_is_found_and_made_again(small_series, site, output):
    process(small_series, RECIPE, site, output=output)
    record = read_record(output / "run.json")
    paths = [entry.path for entry in (*record.products, *record.files)]
    assert {"B.adoc", "batchruntomo.log", "report/slice_xy.jpg"} <= set(paths)
    for path in paths:
        place = output / path
        flip_a_byte(a_chunk_of(place) if place.is_dir() else place)
        assert process(small_series, RECIPE, site, output=output, verify=True).ok
        record = read_record(output / "run.json")
        assert {entry.path for entry in (*record.products, *record.files)} == set(paths), f"after {path}"
        assert next(check_results(output)).differences == (), path


def of_another_specimen(source: Path) -> bytes:
    """Overwrite a stack by one of the same size, and return what it held."""
    held = source.read_bytes()
    with source.open("r+b") as file:
        file.seek(1024)
        file.write(held[1024:][::-1])
    return held


@pytest.mark.parametrize("put_back_in_time", [False, True])
def test_what_was_made_of_an_input_that_changed_is_never_taken_over(small_series, site, output, put_back_in_time):
    """The trap: the steps' keys are those of the input before, and it may be put back."""
    recipe = make_recipe(BrtParameters(thickness=50, fiducialless=1), engine="native", fallback=False)
    clean = process(small_series, recipe, site, output=output.with_name("clean") / "B")
    assert clean.ok, clean.message
    held = []

    def meddle(progress):
        if progress.stage == "x-rays" and not held:
            held.append(of_another_specimen(small_series))
        elif progress.stage == "reconstruction" and put_back_in_time:
            small_series.write_bytes(held[0])

    result = process(small_series, recipe, site, output=output, on_progress=meddle)
    assert not result.ok
    assert "was changed while it was being read" in result.message
    assert not (output / "B.xf").exists()
    small_series.write_bytes(held[0])
    assert process(small_series, recipe, site, output=output).ok
    assert (output / "B.xf").read_bytes() == (output.with_name("clean") / "B" / "B.xf").read_bytes()


def test_a_stack_that_changes_after_it_was_compared_is_not_vouched_for(small_series, site, output):
    process(small_series, RECIPE, site, output=output)
    judged = look_back(small_series, RECIPE, output)
    of_another_specimen(small_series)
    complete(judged.result, output, judged.identity, site.thresholds)
    assert look_back(small_series, RECIPE, output).result is None


NAMED_FILES = {
    "runtime.Tiltflow.any.defocusFile": (
        "".join(f"{view} {{0}}000 {{0}}000 0 0 0.5 9\n" for view in range(1, 6)),
        ("runtime.AlignedStack.any.correctCTF=1", "setupset.copyarg.voltage=300", "setupset.copyarg.pixel=1"),
    ),
    "comparam.mtffilter.mtffilter.DoseWeightingFile": (
        "{0}\n" * 5,
        ("runtime.AlignedStack.any.filterStack=1", "comparam.mtffilter.mtffilter.TypeOfDoseFile=1"),
    ),
    "comparam.mtffilter.mtffilter.MtfFile": ("0 1\n0.5 0.{0}\n", ("runtime.AlignedStack.any.filterStack=1",)),
}
"""Directives that name a file: what it holds, and what makes the file count."""


@pytest.mark.parametrize(
    ("directive", "engine"),
    [*((name, "native") for name in NAMED_FILES), *((name, "imod") for name in NAMED_FILES if "Tiltflow" not in name)],
)
def test_a_file_that_a_directive_names_decides_whether_a_result_is_kept(small_series, site, output, tmp_path, directive, engine):
    content, beside = NAMED_FILES[directive]
    path = tmp_path / "named.txt"
    path.write_text(content.format(3))
    recipe = make_recipe(
        BrtParameters(thickness=50, fiducialless=1), overrides=[f"{directive}={path}", *beside], engine=engine, fallback=False
    )
    first = process(small_series, recipe, site, output=output)
    assert first.ok, first.message
    (entry,) = read_record(output / "run.json").given_files
    assert (entry.path, entry.bytes) == (str(path), len(content.format(3)))
    assert look_back(small_series, recipe, output).why is None
    path.write_text(content.format(3))
    assert look_back(small_series, recipe, output).why is None, "written again, with the same contents"
    path.write_text(content.format(4))
    judged = look_back(small_series, recipe, output)
    assert (judged.why, judged.answers) == ("named.txt has changed since", False)
    assert process(small_series, recipe, site, output=output).ok
    assert {"aligned stack", "reconstruction"} <= set(made_again(output)) or "engine" in made_again(output)
    assert "alignment" not in made_again(output)
    assert look_back(small_series, recipe, output).why is None
    path.unlink()
    assert "a file that a directive names cannot be read" in look_back(small_series, recipe, output).why


def test_a_kept_result_is_of_the_stack_where_it_is_now(small_series, site, output):
    process(small_series, RECIPE, site, output=output)
    moved = small_series.with_name("moved") / "B.st"
    moved.parent.mkdir()
    small_series.rename(moved)
    kept = process(moved, RECIPE, site, output=output)
    record = read_record(output / "run.json")
    assert (kept.source, record.source, record.source_state) == (moved, str(moved), state_of(moved))
    assert str(moved) in (output / "report.html").read_text()


@pytest.mark.parametrize("name", ["B_rec.mrc", "B_ali.mrc", "B.xf", "B.tlt", "B_rec.zarr", "tiltMov_B.mp4", "report"])
def test_what_is_missing_is_made_again_and_named(small_series, site, output, name):
    process(small_series, RECIPE, site, output=output)
    place = output / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert process(small_series, RECIPE, site, output=output).ok
    assert name in (output / "B.log").read_text().partition("done again: ")[2]
    assert next(check_results(output)).differences == ()


def test_the_command_names_what_is_damaged(small_series, tmp_path):
    asked = ["run", str(small_series.parent), "-o", str(tmp_path / "out"), "--engine", "imod", "--thickness", "50"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    whole = CliRunner().invoke(app, ["verify", str(tmp_path / "out")])
    assert whole.exit_code == 0
    assert "are as they were written" in whole.output
    (tmp_path / "out" / "B" / "keyMov_B.mp4").write_bytes(b"")
    damaged = CliRunner().invoke(app, ["verify", str(tmp_path / "out")])
    assert damaged.exit_code == 1
    assert "keyMov_B.mp4 has 0 bytes instead of" in damaged.output
    assert CliRunner().invoke(app, [*asked, "--verify"]).exit_code == 0
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "out")]).exit_code == 0


def test_everything_is_on_the_disk_before_the_record_says_so(small_series, site, output, monkeypatch):
    synced, said = {}, []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        status = os.fstat(descriptor)
        synced[status.st_ino] = (status.st_size, status.st_mtime_ns)
        fsync(descriptor)

    def noted_replace(source, target):
        if Path(target).name == "run.json" and '"status": "success"' in Path(source).read_text():
            said.append((dict(synced), Path(source).stat().st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    assert process(small_series, RECIPE, site, output=output).ok
    on_disk, record = said[0]
    assert record in on_disk
    entries = read_record(output / "run.json")
    places = [output / entry.path for entry in (*entries.products, *entries.files)]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()]
    assert len(files) > 10
    for file in [*files, output / "report.html", output / "B_steps.json"]:
        status = file.stat()
        assert on_disk.get(status.st_ino) == (status.st_size, status.st_mtime_ns), file.name
    assert output.stat().st_ino in on_disk
