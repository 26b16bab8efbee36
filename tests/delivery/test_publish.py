"""Files and folders arrive in full or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from tiltflow.delivery import publish as module
from tiltflow.delivery.publish import publish, publish_text, staging_folder
from tiltflow.disk import size_bytes
from tiltflow.errors import DeliveryError, ResourceError
from tiltflow.owner import new_token


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A scratch folder with a movie and a small pyramid."""
    folder = tmp_path / "scratch"
    (folder / "B_rec.zarr" / "0" / "0").mkdir(parents=True)
    (folder / "B_rec.zarr" / ".zattrs").write_text("{}")
    (folder / "B_rec.zarr" / "0" / "0" / "0.0").write_bytes(b"chunk")
    (folder / "tiltMov_B.mp4").write_bytes(b"movie")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_and_folders_are_copied_with_their_contents(scratch: Path, tmp_path: Path) -> None:
    output = tmp_path / "Assets" / "Lab" / "B"
    placed = publish([scratch / "B_rec.zarr", scratch / "tiltMov_B.mp4"], output)
    assert placed == (output / "B_rec.zarr", output / "tiltMov_B.mp4")
    assert tree(output) == tree(scratch)
    assert sorted(path.name for path in output.iterdir()) == ["B_rec.zarr", "tiltMov_B.mp4"]


def test_publishing_again_replaces_what_was_there_and_leaves_the_rest(scratch: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    publish([scratch / "B_rec.zarr", scratch / "tiltMov_B.mp4"], output)
    (output / "notes.txt").write_text("by hand")
    (scratch / "B_rec.zarr" / "0" / "0" / "0.0").unlink()
    (scratch / "B_rec.zarr" / "0" / "0" / "0.1").write_bytes(b"newer")
    (scratch / "tiltMov_B.mp4").write_bytes(b"longer movie")
    publish([scratch / "B_rec.zarr", scratch / "tiltMov_B.mp4"], output)
    assert tree(output) == tree(scratch) | {"notes.txt": b"by hand"}


def test_a_file_may_become_a_folder_and_a_folder_a_file(scratch: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "B_rec.zarr").write_text("once a file")
    (output / "tiltMov_B.mp4").mkdir()
    publish([scratch / "B_rec.zarr", scratch / "tiltMov_B.mp4"], output)
    assert tree(output) == tree(scratch)


def test_a_link_in_the_destination_is_replaced_and_its_target_untouched(scratch: Path, tmp_path: Path) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    output.mkdir()
    elsewhere.mkdir()
    (output / "B_rec.zarr").symlink_to(elsewhere)
    publish([scratch / "B_rec.zarr"], output)
    assert not (output / "B_rec.zarr").is_symlink()
    assert list(elsewhere.iterdir()) == []


def test_the_share_decides_the_modes_and_not_the_scratch(scratch: Path, tmp_path: Path) -> None:
    (scratch / "tiltMov_B.mp4").chmod(0o600)
    (scratch / "B_rec.zarr").chmod(0o700)
    before = os.umask(0o022)
    try:
        publish([scratch / "B_rec.zarr", scratch / "tiltMov_B.mp4"], tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out" / "tiltMov_B.mp4").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "out" / "B_rec.zarr").stat().st_mode) == 0o755


def test_a_missing_source_leaves_the_destination_as_it_was(scratch: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    publish([scratch / "tiltMov_B.mp4"], output)
    (scratch / "tiltMov_B.mp4").write_bytes(b"newer")
    with pytest.raises(DeliveryError, match="absent"):
        publish([scratch / "tiltMov_B.mp4", scratch / "absent.jpg"], output)
    assert tree(output) == {"tiltMov_B.mp4": b"movie"}


def test_two_things_of_one_name_are_refused(scratch: Path, tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match=r"Products of the same name .*: tiltMov_B\.mp4"):
        publish([scratch / "tiltMov_B.mp4", tmp_path / "other" / "tiltMov_B.mp4"], tmp_path / "out")


def test_too_little_room_is_said_before_anything_is_copied(scratch: Path, tmp_path: Path) -> None:
    needed = shutil.disk_usage(tmp_path).total * 2
    with (scratch / "huge.mrc").open("wb") as sparse:
        try:
            sparse.truncate(needed)
        except OSError:
            pytest.skip("this file system has no sparse files of that size")
    with pytest.raises(ResourceError, match=r"needs [0-9.]+ GB in .*, where [0-9.]+ GB are free"):
        publish([scratch / "huge.mrc"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_on_the_way_is_named_and_nothing_half_is_left(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"hal")
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(module, "copy_file", full)
    with pytest.raises(ResourceError, match=r"No room left in .*make room"):
        publish([scratch / "B_rec.zarr"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_destination_that_is_a_file_is_a_delivery_error(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(DeliveryError, match="Cannot publish in"):
        publish([scratch / "tiltMov_B.mp4"], tmp_path / "out")


def test_a_folder_comes_back_when_its_replacement_fails(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    publish([scratch / "B_rec.zarr"], output)
    before = tree(output)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.parent.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(DeliveryError):
        publish([scratch / "B_rec.zarr"], output)
    assert tree(output) == before


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no more"), KeyboardInterrupt()], ids=["EIO", "Ctrl-C"])
def test_what_was_renamed_before_one_fails_is_undone(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    output = tmp_path / "out"
    publish([scratch / "B_rec.zarr", scratch / "tiltMov_B.mp4"], output)
    before = tree(output)
    for name in ("new.jpg", "last.jpg"):
        (scratch / name).write_text(name)
    (scratch / "tiltMov_B.mp4").write_text("newer")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.parent.name == "new":
            assert target.name != "tiltMov_B.mp4" or target.exists(), "a file is never missing"
            if target.name == "last.jpg":
                raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    names = ("B_rec.zarr", "tiltMov_B.mp4", "new.jpg", "last.jpg")
    with pytest.raises((DeliveryError, KeyboardInterrupt)):
        publish([scratch / name for name in names], output)
    assert tree(output) == before


def test_staging_of_a_killed_run_is_removed_and_that_of_a_live_one_kept(scratch: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    mine = new_token()
    place, pid, _, random = mine.split("-")
    killed, alive = output / f".tiltflow-staging-{place}-{pid}-1-{random}", output / f".tiltflow-staging-{mine}"
    for folder in (killed, alive):
        (folder / "new").mkdir(parents=True)
    publish([scratch / "tiltMov_B.mp4"], output)
    assert not killed.exists()
    assert alive.exists()


def test_what_was_made_beside_its_place_takes_no_more_room(scratch: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    staged = staging_folder(output, "work")
    shutil.copytree(scratch, staged)
    publish([staged / "tiltMov_B.mp4", staged / "B_rec.zarr", scratch.rename(tmp_path / "B_ali")], output)
    for name in ("tiltMov_B.mp4", "B_rec.zarr/0/0/0.0"):
        assert (output / name).samefile(staged / name)
    before = tree(output / "B_rec.zarr")
    shutil.rmtree(staged)
    assert tree(output / "B_rec.zarr") == before
    assert (output / "B_ali" / "tiltMov_B.mp4").read_bytes() == b"movie"


def test_without_hard_links_what_was_made_beside_its_place_is_copied(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_target: Path, _source: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    output = tmp_path / "out"
    staged = staging_folder(output, "work")
    shutil.copytree(scratch, staged)
    publish([staged / "B_rec.zarr"], output)
    assert tree(output / "B_rec.zarr") == tree(scratch / "B_rec.zarr")


def test_the_size_of_a_folder_is_that_of_its_files(scratch: Path) -> None:
    assert size_bytes(scratch / "B_rec.zarr") == 7
    assert size_bytes(scratch / "tiltMov_B.mp4") == 5


def test_a_text_is_written_in_full_beside_and_renamed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "callback.json"
    publish_text(path, "one")
    publish_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert list(path.parent.iterdir()) == [path]


def test_a_text_that_cannot_be_written_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "callback.json").mkdir()
    with pytest.raises(DeliveryError):
        publish_text(tmp_path / "callback.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["callback.json"]
