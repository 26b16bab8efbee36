"""Scratch folders come and go."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from tiltflow.delivery import cleanup as module
from tiltflow.delivery.cleanup import make_scratch, remove_scratch, scratch_folder
from tiltflow.errors import DeliveryError, LocationError


def test_each_input_has_a_scratch_folder_of_its_own_that_bears_its_name(tmp_path: Path) -> None:
    source = tmp_path / "B 1 (final).mrc"
    first, second = (make_scratch(source, tmp_path / "deep" / "scratch") for _ in range(2))
    assert first != second
    assert first.parent == second.parent == tmp_path / "deep" / "scratch"
    assert first.name.startswith("B_1__final_-")


@pytest.mark.parametrize("name", ["...mrc", "-rf.mrc", "é" * 100 + ".mrc", "a" * 250 + ".mrc", "\udce9.mrc"])
def test_any_file_name_gives_a_folder_that_can_be_made(tmp_path: Path, name: str) -> None:
    folder = make_scratch(tmp_path / name, tmp_path)
    assert folder.parent == tmp_path
    assert remove_scratch(folder)


def test_scratch_goes_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    with scratch_folder(Path("B.mrc"), tmp_path) as folder:
        (folder / "deep").mkdir()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), scratch_folder(Path("B.mrc"), tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_scratch_stays_when_it_is_to_be_kept_and_the_log_says_where(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), scratch_folder(Path("B.mrc"), tmp_path, keep=True) as folder:
        (folder / "B_rec.mrc").touch()
    assert (folder / "B_rec.mrc").exists()
    assert str(folder) in caplog.text


def test_without_a_setting_scratch_lies_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert make_scratch(Path("B.mrc")).parent == tmp_path


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocationError, match=r"in .*/file/scratch .*TILTFLOW_SCRATCH"):
        make_scratch(Path("B.mrc"), tmp_path / "file" / "scratch")


def test_a_folder_that_cannot_be_removed_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_scratch(Path("B.mrc"), tmp_path)

    def busy(path: Path) -> None:
        raise OSError(16, "Device or resource busy", str(path))

    monkeypatch.setattr(module.shutil, "rmtree", busy)
    assert not remove_scratch(folder)
    assert "busy" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


def test_no_other_folder_is_ever_removed(tmp_path: Path) -> None:
    precious = tmp_path / "Projects"
    precious.mkdir()
    with pytest.raises(DeliveryError, match="not a scratch folder"):
        remove_scratch(precious)
    assert precious.exists()


def test_removing_twice_is_no_error(tmp_path: Path) -> None:
    folder = make_scratch(Path("B.mrc"), tmp_path)
    shutil.rmtree(folder)
    assert remove_scratch(folder)
