"""Room on the disk is taken before it is written to, and its lack is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tiltflow.errors import ResourceError
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.reserve import reserve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reserves")


def test_the_blocks_are_there_before_anything_is_written(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        reserve(file.fileno(), 1 << 20)
        status = os.fstat(file.fileno())
    assert status.st_size == 1 << 20
    assert status.st_blocks * 512 >= 1 << 20


def test_a_file_that_cannot_be_reserved_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    with path.open("rb") as only_for_reading:
        reserve(only_for_reading.fileno(), 100)
    assert path.read_bytes() == b"abc"


def test_more_than_the_file_system_can_hold_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match=r"\w+"):
        reserve(file.fileno(), 1 << 62)


def test_a_writer_without_room_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tiltflow.formats.mrc.reserve", full)
    with (
        pytest.raises(ResourceError, match=r"out\.mrc: no room for 8 voxels: No space left"),
        MrcWriter(tmp_path / "out.mrc", (2, 2, 2), np.int16, pixel_size_angstrom=1) as out,
    ):
        out.write(np.zeros((2, 2, 2), np.int16))
    assert not list(tmp_path.iterdir())
