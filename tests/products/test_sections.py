from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.errors import StageError
from tiltflow.products.sections import RunningMean, Voxels, blocks

MakeVolume = Callable[..., Path]


@given(st.tuples(st.integers(1, 60), st.integers(1, 3000), st.integers(1, 9000)), st.integers(1, 20))
def test_blocks_cover_a_volume_once_in_order_and_stay_small(shape: tuple[int, int, int], sections: int) -> None:
    nz, ny, nx = shape
    places = list(blocks(shape, sections=sections))
    covered = sum((b.z_end - b.z) * (b.y_end - b.y) for b in places)
    assert covered == nz * ny
    assert len({(b.z, b.y) for b in places}) == len(places)
    assert all((b.z_end - b.z) * (b.y_end - b.y) * nx <= max(1 << 20, sections * nx) for b in places)
    done = [b.done for b in places]
    assert done == sorted(done)
    assert done[-1] == 1


def test_broken_voxels_take_the_mean_of_the_others(make_volume: MakeVolume) -> None:
    voxels = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    voxels[0, 0, 0], voxels[1, 2, 3], voxels[2, 3, 4] = np.nan, np.inf, 3e38
    usable = voxels[np.abs(voxels) < 1e30]
    with Voxels(make_volume(voxels)) as source:
        block = source.read(slice(None))
        (note,) = source.notes()
    assert source.filled == 3
    assert "3 voxels are not finite" in note
    np.testing.assert_allclose(block[[0, 1, 2], [0, 2, 3], [0, 3, 4]], usable.mean())
    assert (block == voxels).sum() == 57


def test_a_volume_without_a_single_number_is_refused(make_volume: MakeVolume) -> None:
    path = make_volume(np.full((2, 3, 4), np.nan, np.float32))
    with pytest.raises(StageError, match="none of its 24 voxels is usable"):
        Voxels(path)


def test_a_block_of_running_means_needs_only_its_own_sections(golden_volume: Path) -> None:
    with Voxels(golden_volume) as voxels:
        means = RunningMean(voxels, whole=True)
        everything = means.read(slice(None))
        assert means.shape == everything.shape == (20, 80, 96)
        np.testing.assert_array_equal(means.read(slice(7, 9), slice(10, 30)), everything[7:9, 10:30])


@pytest.mark.parametrize("sections", [1, 2, 3, 4])
def test_fewer_than_five_sections_have_one_mean(make_volume: MakeVolume, rng: np.random.Generator, sections: int) -> None:
    voxels = rng.integers(-100, 100, (sections, 6, 8)).astype(np.int16)
    with Voxels(make_volume(voxels)) as source:
        mean = RunningMean(source, whole=True)
        np.testing.assert_array_equal(mean.read(slice(0, 1))[0], np.trunc(voxels.mean(axis=0)))
    assert mean.shape == (1, 6, 8)
