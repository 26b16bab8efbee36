"""Room on the disk is taken before it is written to, and its lack is said."""

from __future__ import annotations

import errno
import fcntl
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
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 1 << 20)
    reserve(path)
    assert path.stat().st_size == 1 << 20
    assert path.stat().st_blocks * 512 >= 1 << 20


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_what_is_in_a_file_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    reserve(path)
    assert path.read_bytes() == content


def answering(code: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the system refuse with an error, and return how the files that it is asked for were opened."""
    modes: list[int] = []

    def refuse(descriptor: int, _offset: int, _size: int) -> None:
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR))
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    return modes


@pytest.mark.parametrize("code", [errno.EBADF, errno.EOPNOTSUPP, errno.ENODEV])
def test_a_file_system_that_cannot_reserve_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """It must not be open for reading, or the C library writes to every block: over NFS, the whole volume twice."""
    modes = answering(code, monkeypatch)
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    reserve(path)
    assert modes == [os.O_WRONLY]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_writer_without_room_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    answering(code, monkeypatch)
    with (
        pytest.raises(ResourceError, match=rf"out\.mrc: no room for 8 voxels: {os.strerror(code)}"),
        MrcWriter(tmp_path / "out.mrc", (2, 2, 2), np.int16, pixel_size_angstrom=1) as out,
    ):
        out.write(np.zeros((2, 2, 2), np.int16))
    assert not list(tmp_path.iterdir())
