"""Names of series: all are carried that a folder can bear, and the others are refused in words, each alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tiltflow.delivery.body import build_callback
from tiltflow.delivery.find_series import find_series
from tiltflow.delivery.layout import plain_layout
from tiltflow.delivery.names import why_unusable
from tiltflow.errors import LocationError
from tiltflow.pipeline import run
from tiltflow.pipeline.one_series import RUN_FILES
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.work import Site

pytestmark = pytest.mark.attack("names of series")

REFUSED = [
    ("...mrc", "nothing but dots is left"),
    ("..mrc", "nothing but dots is left"),
    ("run.json.mrc", "the name of a file of the run"),
    ("callback.json.st", "the name of a file of the run"),
    ("INDEX.html.mrc", "the name of a file of the run"),
    ("metrics.csv.mrc", "the name of a file of the run"),
    ("a\nb.mrc", "a control character"),
    ("a\x7f.mrc", "a control character"),
    ("a\udce4.mrc", "is not UTF-8 text"),
    (f"{'a' * 251}.mrc", "a file system takes 255"),
    (f"{'ä' * 120}.mrc", "a file system takes 255"),
]
CARRIED = [
    *("-rf.mrc", "a b.mrc", "ä ö.st", "$(touch x).mrc", "`x`;&|.mrc", "a'b\"c.st", "[red].mrc", "*.mrc", ".hidden.mrc", "a.b.mrc"),
    f"{'a' * 200}.mrc",
]


@pytest.mark.parametrize(("name", "why"), REFUSED, ids=[ascii(name)[:20] for name, _ in REFUSED])
def test_a_name_that_no_folder_can_bear_is_refused(name: str, why: str) -> None:
    assert why in why_unusable(Path("in") / name, RUN_FILES)


@pytest.mark.parametrize("name", CARRIED, ids=lambda name: name[:20])
def test_every_other_name_is_carried(name: str) -> None:
    assert why_unusable(Path("in") / name, RUN_FILES) == ""


@pytest.mark.usefixtures("fake_imod")
def test_a_series_of_such_a_name_fails_alone_and_writes_nothing(small_series: Path, tmp_path: Path) -> None:
    names = ["...mrc", "..mrc", "run.json.mrc", "a\udce4.mrc", "B.st"]
    for name in names[:-1]:
        shutil.copyfile(small_series, small_series.with_name(name))
    sources = find_series(small_series.parent)
    assert {path.name for path in sources} == set(names)
    output = tmp_path / "deep" / "out"
    results = run(sources, make_recipe(BrtParameters(thickness=50), engine="imod"), Site(scratch=tmp_path), output).results
    assert {result.source.name for result in results if result.ok} == {"B.st"}
    assert {entry.name for entry in output.iterdir()} <= {"B", "run.json", "index.html", "metrics.csv"}
    assert {entry.name for entry in output.parent.iterdir()} == {"out"}
    body = build_callback(results, plain_layout(small_series.parent, output))
    assert sorted(file.status for file in body.files) == ["error"] * 4 + ["success"]


def test_only_files_are_series(small_series: Path) -> None:
    folder = small_series.parent
    os.mkfifo(folder / "pipe.mrc")
    (folder / "folder.mrc").mkdir()
    (folder / "loop.mrc").symlink_to(folder / "loop.mrc")
    (folder / "nowhere.mrc").symlink_to(folder / "gone")
    (folder / "link.mrc").symlink_to(small_series)
    assert [path.name for path in find_series(folder)] == ["B.st", "link.mrc", "loop.mrc", "nowhere.mrc"]
    for name in ("pipe.mrc", "folder.mrc"):
        with pytest.raises(LocationError, match="is no file of images: it is a folder, a pipe or a device"):
            find_series(folder, name)
