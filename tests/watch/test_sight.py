"""One look at a folder: which series it has, and what counts as a change."""

from __future__ import annotations

import os

import pytest
from tests.conftest import write_small_series

from tiltflow.delivery.find_series import find_series
from tiltflow.watch import sight
from tiltflow.watch.sight import Lookout

VIEWS = "[ZValue = 0]\nTiltAngle = 0\n"


def test_a_look_finds_what_a_run_finds(folder):
    for name in ("B10.st", "B9.mrc", "B9_rec.mrc", "C.ST", "D.txt", "E.mrcs", "F.tif", "G.tif", "H.tif"):
        (folder / name).write_bytes(b"x")
    (folder / "F.tif.mdoc").write_text(VIEWS)
    (folder / "G.tif.mdoc").write_text("[FrameSet = 0]\n")
    (folder / "folder.mrc").mkdir()
    os.mkfifo(folder / "pipe.mrc")
    (folder / "to.mrc").symlink_to(folder / "B9.mrc")
    seen = [sight.path for sight in Lookout(folder).look()]
    assert [path.name for path in seen] == ["B9.mrc", "B10.st", "C.ST", "F.tif", "to.mrc"]
    assert tuple(seen) == find_series(folder, by_mdoc=True)


def test_a_link_that_leads_nowhere_has_not_arrived(folder):
    (folder / "B.mrc").symlink_to(folder / "nowhere")
    assert Lookout(folder).look() == []


@pytest.mark.parametrize("name", ["B.st", "B.st.mdoc", "B.mdoc", "B.rawtlt", "B.tlt", "B_EVN.st", "B_ODD.mrc"])
def test_each_file_that_the_series_is_read_from_is_part_of_its_identity(folder, name):
    write_small_series(folder / "B.st")
    lookout = Lookout(folder)
    (before,) = lookout.look()
    with (folder / name).open("ab") as file:
        file.write(b"0")
    (after,) = lookout.look()
    assert after.identity != before.identity
    os.utime(folder / name, (1, 1))
    (later,) = lookout.look()
    assert later.identity != after.identity


def test_a_file_of_another_series_is_not(folder):
    write_small_series(folder / "B.st")
    (before,) = Lookout(folder).look()
    (folder / "C.mdoc").write_text(VIEWS)
    (folder / "B.log").write_text("words")
    (after,) = Lookout(folder).look()
    assert after == before


def test_the_last_change_is_that_of_the_youngest_file(folder):
    os.utime(write_small_series(folder / "B.st"), (100, 100))
    (folder / "B.mdoc").write_text(VIEWS)
    os.utime(folder / "B.mdoc", (200, 200))
    (sight,) = Lookout(folder).look()
    assert sight.changed == 200.0


def test_an_mdoc_that_gets_its_first_view_makes_its_image_a_series(folder):
    (folder / "B.tif").write_bytes(b"x")
    (folder / "B.tif.mdoc").write_text("PixelSpacing = 10\n")
    lookout = Lookout(folder)
    assert lookout.look() == []
    with (folder / "B.tif.mdoc").open("a") as file:
        file.write(VIEWS)
    assert [sight.path.name for sight in lookout.look()] == ["B.tif"]


def test_a_folder_that_is_gone_is_said(folder):
    folder.rmdir()
    with pytest.raises(OSError, match="No such file"):
        Lookout(folder).look()


def test_an_mdoc_is_opened_once_and_again_when_it_has_changed(folder, monkeypatch):
    (folder / "B.tif").write_bytes(b"x")
    (folder / "B.tif.mdoc").write_text(VIEWS)
    opened, lookout = [], Lookout(folder)
    monkeypatch.setattr(sight, "describes_views", lambda mdoc: opened.append(mdoc.name) or True)
    lookout.look()
    assert [each.path.name for each in lookout.look()] == ["B.tif"]
    assert opened == ["B.tif.mdoc"]
    os.utime(folder / "B.tif.mdoc", (200, 200))
    lookout.look()
    assert opened == ["B.tif.mdoc"] * 2
