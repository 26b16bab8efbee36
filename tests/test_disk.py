"""Copies that are whole or an error, and folders whose names outlive a power cut."""

from __future__ import annotations

import errno
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from tiltflow import disk, stopping
from tiltflow.disk import copy_file, named_if_full, new_folders_kept, no_room, remove, size_text


def test_a_copy_holds_what_the_file_holds(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"images")
    assert copy_file(tmp_path / "a", tmp_path / "b").read_bytes() == b"images"


def test_a_copy_is_not_written_through_a_link_that_somebody_planted(tmp_path: Path) -> None:
    for name in ("a", "raw"):
        (tmp_path / name).write_text(name)
    (tmp_path / "b").symlink_to(tmp_path / "raw")
    with pytest.raises(FileExistsError):
        copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "raw").read_text() == "raw"


def test_a_copy_of_another_size_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"images")

    def grow() -> None:
        if source.stat().st_size == len(b"images"):
            source.write_bytes(b"images, and more")

    monkeypatch.setattr(stopping, "ask", grow)
    with pytest.raises(OSError, match="bytes after a copy of 6"):
        copy_file(source, tmp_path / "b")


def test_who_is_asked_to_end_copies_no_further(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"images")
    with stopping.stoppable():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(stopping.Interrupted):
            copy_file(tmp_path / "a", tmp_path / "b")


def test_names_of_new_folders_are_brought_to_the_disk_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(disk, "sync_folder", synced.append)
    for _ in range(2):  # the second time they are there
        with new_folders_kept(tmp_path / "out" / "B"):
            (tmp_path / "out" / "B").mkdir(parents=True, exist_ok=True)
    assert sorted(synced) == [tmp_path, tmp_path / "out"]


@pytest.mark.parametrize("what", ["a file", "a folder", "a link", "nothing"])
def test_what_is_removed_is_gone_and_what_a_link_leads_to_stays(tmp_path: Path, what: str) -> None:
    place, behind = tmp_path / "place", tmp_path / "behind"
    behind.mkdir()
    (behind / "raw").touch()
    if what == "a file":
        place.touch()
    elif what == "a folder":
        (place / "inner").mkdir(parents=True)
    elif what == "a link":
        place.symlink_to(behind)
    remove(place)
    assert [path.name for path in tmp_path.rglob("*")] == ["behind", "raw"]


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def test_the_error_of_a_full_disk_names_the_file_and_no_hidden_one(tmp_path: Path) -> None:
    hidden, other = tmp_path / ".part", tmp_path / "other"
    for named in (None, str(hidden)):
        error = full()
        error.filename = named
        with pytest.raises(OSError, match=r"No space left on device: '.*/B\.mrc'"), named_if_full(tmp_path / "B.mrc", hidden):
            raise error
    error = full()
    error.filename = str(other)
    with pytest.raises(OSError, match="/other'"), named_if_full(tmp_path / "B.mrc", hidden):
        raise error
    with pytest.raises(OSError, match=r"error$"), named_if_full(tmp_path / "B.mrc", hidden):  # no file is known of it
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("named", [(), ("hidden",)])
def test_a_full_disk_that_a_movie_is_written_to_is_named_too(tmp_path: Path, named: tuple[str, ...]) -> None:
    """Of PyAV's errors no name can be set, and a failure to do so would hide what they say."""
    from av.error import OSError as MovieError

    hidden = tmp_path / "hidden"
    error = MovieError(errno.ENOSPC, "No space left on device", *(str(tmp_path / name) for name in named))
    with pytest.raises(OSError, match=r"No space left on device: '.*/B\.mp4'") as raised, named_if_full(tmp_path / "B.mp4", hidden):
        raise error
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.__cause__ is error


def test_no_room_is_told_with_the_file_or_the_fullest_folder_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {tmp_path / "results": 2_500_000, tmp_path / "scratch": 7_000_000}
    for folder in free:
        folder.mkdir()
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    told = no_room(full(), tmp_path / "scratch", tmp_path / "results")
    assert told == (
        f"no room for {tmp_path / 'results'} (No space left on device): 2.5 MB are free there; make room and run the same command again"
    )
    error = full()
    error.filename = str(tmp_path / "scratch" / "new" / "B.npz")
    assert f"no room for {error.filename}" in no_room(error, *free)
    assert "7.0 MB are free" in no_room(error, *free)
    assert "make room and run the same command again" in no_room(full())


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_500, "1.5 kB"),
        (16_384, "16 kB"),
        (1_500_000, "1.5 MB"),
        (99_000_000, "99 MB"),
        (100_000_000, "0.1 GB"),
        (149_000_000, "0.1 GB"),
        (2_340_000_000, "2.3 GB"),
        (40_000_000_000, "40.0 GB"),
        (900_000_000_000, "900 GB"),
    ],
)
def test_a_size_is_said_in_a_unit_of_which_it_has_a_few(size: int, text: str) -> None:
    assert size_text(size) == text
