"""Copies that are whole or an error, and folders whose names outlive a power cut."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tiltflow import disk, stopping
from tiltflow.disk import copy_file, new_folders_kept, remove


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
