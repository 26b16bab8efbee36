"""Scratch volumes on the disk."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.errors import ResourceError
from tiltflow.filters.volumes import ArrayVolume, ScratchVolume


def test_what_was_written_is_read(tmp_path, rng):
    array = rng.normal(0, 1, (5, 7, 4)).astype(np.float32)
    with ScratchVolume(tmp_path, array.shape, np.float32) as disk:
        assert not disk.read_block().any()
        disk.write_block(array[:2])
        disk.write_block(array[2:, :3], z=2)
        disk.write_block(array[2:, 3:], z=2, y=3)
        np.testing.assert_array_equal(disk.read_block(), array)
        np.testing.assert_array_equal(disk.read_block(slice(1, 4), slice(2, 6)), array[1:4, 2:6])
        assert list(tmp_path.iterdir()) == []


def test_what_is_read_of_an_array_is_its_own(rng):
    array = rng.normal(0, 1, (3, 4, 5))
    block = ArrayVolume(array).read_block(slice(1, 2))
    block[:] = 0
    assert array.all()


def test_a_folder_without_room_is_named_with_what_is_needed(tmp_path):
    with pytest.raises(ResourceError, match=r"4e\+09 GB of scratch are needed"):
        ScratchVolume(tmp_path, (10**6, 10**6, 10**6), np.float32)
    with pytest.raises(ResourceError, match="nowhere"):
        ScratchVolume(tmp_path / "nowhere", (1, 1, 1), np.float32)
