"""Files and folders are there in full or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from tiltflow.atomic_write import atomic_write, write_bytes, write_text
from tiltflow.disk import size_bytes


def write(path: Path, what: str) -> None:
    if path.name.endswith(".zarr"):
        path.mkdir()
        (path / what).write_text(what)
    else:
        path.write_text(what)


def contents(path: Path) -> str:
    return next(path.iterdir()).name if path.is_dir() else path.read_text()


@pytest.mark.parametrize("name", ["page.html", "B_rec.zarr", "x" * 255])
def test_what_was_written_takes_the_place_of_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / name
    for what in ("old", "new"):
        with atomic_write(path) as partial:
            assert partial.parent == path.parent
            assert partial.suffix == path.suffix
            write(partial, what)
            assert not path.exists() or contents(path) == "old"
        assert contents(path) == what
    assert list(path.parent.iterdir()) == [path]
    assert size_bytes(path) == 3


@pytest.mark.parametrize("name", ["page.html", "B_rec.zarr"])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, "old")
    with pytest.raises(ValueError, match="half"), atomic_write(path) as partial:  # noqa: PT012 - what is written before matters
        write(partial, "half")
        raise ValueError("half of it")
    assert contents(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_replaced_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "B_rec.zarr"
    write(path, "old")
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass  # nothing was written, so that there is nothing to rename
    assert contents(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_take_the_place_of_a_folder_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "B_rec.zarr"
    path.symlink_to(tmp_path / "elsewhere")
    write_text(path, "text")
    assert path.read_text() == "text"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_short_write_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "thumb.jpg"
    path.write_bytes(b"the former")

    opened = Path.open

    def short(partial: Path, mode: str = "r", **more: Any) -> object:
        if mode != "xb":
            return opened(partial, mode, **more)
        file = MagicMock()
        file.__enter__.return_value.write = lambda data: partial.touch() or os.truncate(partial, len(data) - 1)
        file.__exit__.return_value = False
        return file

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", short)
        with pytest.raises(OSError, match="9 of 10 bytes were written"):
            write_bytes(path, b"0123456789")
    assert path.read_bytes() == b"the former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_somebody_planted_at_the_hidden_name_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "raw.mrc"
    victim.write_bytes(b"raw images")
    monkeypatch.setattr("tiltflow.atomic_write.new_token", lambda: "known")
    (tmp_path / ".tiltflow-known.json").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "run.json", "{}")
    assert victim.read_bytes() == b"raw images"


def test_a_full_disk_names_the_file_and_not_its_hidden_part(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'page.html'}'"), atomic_write(tmp_path / "page.html"):
        raise OSError(errno.ENOSPC, "No space left on device")
