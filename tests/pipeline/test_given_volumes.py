"""Products of aligned stacks and volumes that another program made."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tiltflow.demo import write_series
from tiltflow.errors import LocationError
from tiltflow.formats.mrc import MrcWriter
from tiltflow.pipeline import process
from tiltflow.pipeline.given_volumes import find_given, process_given
from tiltflow.pipeline.standing import set_aside
from tiltflow.products.catalogue import PRODUCTS
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder, read_record
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site, Trust

RECIPE = make_recipe(BrtParameters(gold=20, thickness=60), engine="native")


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A finished run, whose volumes stand for those of any program."""
    folder = tmp_path_factory.mktemp("whole")
    write_series(folder / "B.st", simulate(SimulationParams(size=192, views=21, beads=12, thickness_px=50, pixel_nm=2, bead_nm=20)))
    assert process(folder / "B.st", RECIPE, Site(scratch=folder / "scratch", threads=2), output=folder / "out").ok
    return folder / "out"


def archive(folder, whole, names, place="."):
    target = folder / "archive" / place
    target.mkdir(parents=True, exist_ok=True)
    for here, there in names.items():
        shutil.copy(whole / here, target / there)
    return folder / "archive"


MODERN = {"B_ali.mrc": "B_ali.mrc", "B_rec.mrc": "B_rec.mrc"}
OLD = {"B_ali.mrc": "B.ali", "B_rec.mrc": "B.rec", "B.xf": "B.xf", "B.tlt": "B.tlt"}


@pytest.mark.whole
@pytest.mark.parametrize(
    ("names", "place"), [(MODERN, "."), (OLD, "."), (OLD, "B")], ids=["modern names", "old names", "a folder for each data set"]
)
def test_a_folder_of_results_becomes_products_a_record_and_a_page(tmp_path, whole, names, place):
    folder = archive(tmp_path, whole, names, place)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (given,) = find_given(folder)
    result = process_given(given, RECIPE, Site(scratch=tmp_path / "scratch", threads=2), output=tmp_path / "out")
    assert result.ok, result.message
    record = read_record(tmp_path / "out" / "run.json")
    assert {asset.type for asset in result.assets} == {product.asset_type for product in PRODUCTS}
    for product in PRODUCTS:
        name = product.file_name("B", 21)
        if name.endswith((".jpg", ".mrc")):
            assert (tmp_path / "out" / name).read_bytes()[1024:] == (whole / name).read_bytes()[1024:], name
    assert (tmp_path / "out" / "report.html").is_file()
    assert not (tmp_path / "out" / "B_rec.mrc").exists()
    assert record.engine is None
    assert record.verdict.level is Trust.DOUBTFUL
    if names is OLD:
        np.testing.assert_allclose(record.alignment.tilt_deg, np.loadtxt(whole / "B.tlt"), atol=1e-2)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    again = process_given(given, RECIPE, Site(scratch=tmp_path / "scratch", threads=2), output=tmp_path / "out")
    kept = {step.name: step.kept for step in read_record(tmp_path / "out" / "run.json").steps}
    assert again.ok
    assert [name for name, taken in kept.items() if not taken] == ["given volumes"]


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["B_ali.mrc", "B_rec.mrc"], [("B", "B_ali.mrc", "B_rec.mrc", "B_rec.mrc")]),
        (["B.ali", "B.rec", "B.st"], [("B", "B.ali", "B.rec", "B.st")]),
        (["B.ali", "B_rec.mrc", "B.mrc"], [("B", "B.ali", "B_rec.mrc", "B.mrc")]),
        (["B.ali", "B_ali.mrc", "B.rec", "B_rec.mrc"], [("B", "B_ali.mrc", "B_rec.mrc", "B_rec.mrc")]),
        (["B.ali", "B_full.rec", "B.rec"], [("B", "B.ali", "B.rec", "B.rec")]),
        (
            ["x/B.ali", "x/B.rec", "A_ali.mrc", "A_rec.mrc"],
            [("A", "A_ali.mrc", "A_rec.mrc", "A_rec.mrc"), ("B", "x/B.ali", "x/B.rec", "x/B.rec")],
        ),
        (["B.ali", "A.rec", "A.ali", "C.rec"], [("A", "A.ali", "A.rec", "A.rec")]),
        ([".hidden/B.ali", ".hidden/B.rec", "A.ali", "A.rec"], [("A", "A.ali", "A.rec", "A.rec")]),
    ],
)
def test_which_files_belong_together(tmp_path, files, found):
    touch(tmp_path, *files)

    def relative(each):
        return (each.name, *(str(path.relative_to(tmp_path)) for path in (each.aligned, each.volume, each.source)))

    assert [relative(each) for each in find_given(tmp_path)] == found


def test_a_folder_without_any_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "B.ali", "B_full.rec")
    with pytest.raises(
        LocationError, match=r"no aligned stack together with a volume: NAME\{_ali.mrc,.ali\} with NAME\{_rec.mrc,.rec\}"
    ):
        find_given(tmp_path)


def test_two_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "x/B.ali", "x/B.rec", "y/B.ali", "y/B.rec")
    with pytest.raises(LocationError, match="same name"):
        find_given(tmp_path)
    assert find_given(tmp_path / "x")[0].name == "B"


def test_one_can_be_named(tmp_path):
    touch(tmp_path, "A.ali", "A.rec", "B.ali", "B.rec")
    assert [each.name for each in find_given(tmp_path, "B")] == ["B"]
    with pytest.raises(LocationError, match="C"):
        find_given(tmp_path, "C")


def test_a_volume_that_cannot_be_read_is_a_failure_with_its_reason(tmp_path):
    touch(tmp_path / "in", "B.ali", "B.rec")
    (given,) = find_given(tmp_path / "in")
    result = process_given(given, RECIPE, Site(scratch=tmp_path / "scratch"), output=tmp_path / "out")
    assert not result.ok
    assert "B.ali" in result.message
    assert result.stage == "read"


def stacks(folder, seed):
    """A small aligned stack and a volume."""
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed)
    for name, shape in (("B_ali.mrc", (5, 64, 64)), ("B_rec.mrc", (8, 64, 64))):
        with MrcWriter(folder / name, shape, np.dtype(np.int16), pixel_size_angstrom=10.0) as out:
            for image in noise.normal(0, 100, shape).astype(np.int16):
                out.write(image)
    return find_given(folder)[0]


@pytest.mark.parametrize("changed", [True, False], ids=["other volumes", "the same volumes"])
def test_an_earlier_result_stands_and_it_is_said_whether_it_is_of_these_volumes(tmp_path, changed):
    given, out, site = stacks(tmp_path / "archive", 1), tmp_path / "out", Site(scratch=tmp_path / "scratch")
    assert process_given(given, RECIPE, site, output=out).ok
    before = {path: path.read_bytes() for path in out.rglob("*") if path.suffix in (".mp4", ".jpg", ".mrc")}
    if changed:
        stacks(tmp_path / "archive", 2)

    def fail(progress):
        if progress.stage == "gen_zarr" and progress.result is None:
            raise RuntimeError("a defect")

    result = process_given(given, RECIPE, site, output=out, redo=True, on_progress=fail)
    assert not result.ok
    assert "is kept unchanged" in result.message
    assert ("it was made from another request or another input" in result.message) == changed
    assert {path: path.read_bytes() for path in before} == before
    told = read_record(out / "run.json").failed_attempt
    assert (told.stage, told.answered) == ("gen_zarr", not changed)
    assert process_given(given, RECIPE, site, output=out).ok
    assert read_record(out / "run.json").failed_attempt is None


def test_an_earlier_result_comes_back_after_a_kill_and_a_link_for_it_is_refused(tmp_path):
    given, out, site = stacks(tmp_path / "archive", 1), tmp_path / "out", Site(scratch=tmp_path / "scratch")
    assert process_given(given, RECIPE, site, output=out).ok
    set_aside(out)
    Recorder.start(out / "run.json", given.source, "1", name="B")  # and there it was killed

    def fail(progress):
        assert progress.result is not None or read_record(out / "run.json").status != "success", "it is at work"
        if progress.stage == "gen_zarr" and progress.result is None:
            raise RuntimeError("a defect")

    assert not process_given(given, RECIPE, site, output=out, redo=True, on_progress=fail).ok
    assert read_record(out / "run.json").status == "success"
    (tmp_path / "link").symlink_to(out)
    assert "is a symbolic link" in process_given(given, RECIPE, site, output=tmp_path / "link").message
