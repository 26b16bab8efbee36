"""Links that somebody planted where we write: nothing behind them changes, and inputs are only ever read."""

import os
import tempfile
from pathlib import Path

import pytest

from tiltflow.errors import LocationError
from tiltflow.pipeline import process, require_places, run
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.work import Site

pytestmark = [pytest.mark.usefixtures("fake_imod"), pytest.mark.attack("links planted where results go")]
RECIPE = make_recipe(BrtParameters(thickness=50), engine="imod")
RAW = b"raw images that nobody can take again"

FILES = [
    "B/B.log",
    "B/run.json",
    "B/report.html",
    "B/B_steps.json",
    "B/B_rec.mrc",
    "B/B_ali.mrc",
    "B/B.xf",
    "B/B.adoc",
    "B/batchruntomo.log",
    "B/tiltMov_B.mp4",
    "B/B_neuroglancer.json",
    "B/report/zero_tilt.jpg",
    "B/report/recMovie.mp4",
    "B/B_rec.zarr",
    "run.json",
    "index.html",
    "metrics.csv",
]
FOLDERS = ["B", "B/report", "B/export", "B/failed-attempt", "B/.tiltflow-earlier", "B/.tiltflow-staging-unfinished"]


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def projects(tmp_path):
    folder = tmp_path / "share" / "Projects" / "Lab"
    (folder / "inner").mkdir(parents=True)
    (folder / "raw.mrc").write_bytes(RAW)
    return folder


@pytest.mark.parametrize("how", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_whatever_file_of_ours_is_a_link_what_it_leads_to_stays(small_series, tmp_path, projects, how):
    out, before = tmp_path / "out", tree(projects)
    for name in FILES:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        how(projects / "raw.mrc", out / name)
    results = run([small_series], RECIPE, Site(scratch=tmp_path / "scratch", export=("imod",)), out).results
    assert tree(projects) == before
    assert results[0].ok, results[0].message
    assert not [name for name in FILES if (out / name).is_symlink()]


def test_the_lock_is_no_link(small_series, tmp_path, projects):
    out, before = tmp_path / "out", tree(projects)
    (out / "B").mkdir(parents=True)
    (out / "B" / ".tiltflow-lock").symlink_to(projects / "raw.mrc")
    assert not run([small_series], RECIPE, Site(scratch=tmp_path / "scratch"), out).results[0].ok
    assert tree(projects) == before


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_on_the_way_that_is_a_link_is_refused_before_the_first_write(small_series, tmp_path, projects, name):
    out, before = tmp_path / "out" / "B", tree(projects)
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    place.symlink_to(projects / "inner")
    result = process(small_series, RECIPE, Site(scratch=tmp_path / "scratch"), output=out)
    assert not result.ok
    assert f"{place} is a symbolic link to {projects / 'inner'}" in result.message
    assert tree(projects) == before


@pytest.mark.parametrize("what", ["results", "scratch", "TMPDIR", "a link to it"])
def test_nothing_is_written_under_projects(small_series, tmp_path, projects, monkeypatch, what):
    before, link = tree(projects), tmp_path / "link"
    link.symlink_to(projects / "inner")
    output = {"results": projects / "out", "a link to it": link / "out"}.get(what, tmp_path / "out")
    scratch = {"scratch": projects / "scratch", "TMPDIR": None}.get(what, tmp_path / "scratch")
    if what == "TMPDIR":
        monkeypatch.setattr(tempfile, "tempdir", str(projects / "inner"))
    site = Site(scratch=scratch, mounts={"lab": tmp_path / "share"})
    with pytest.raises(LocationError, match="where nothing is ever written"):
        require_places(output, site)
    result = process(small_series, RECIPE, site, output=output / "B")
    assert not result.ok
    assert "where nothing is ever written" in result.message
    assert tree(projects) == before
