from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiltflow.errors import LocationError
from tiltflow.formats.mrc import open_mrc
from tiltflow.products import sections
from tiltflow.products.volumes import make_averaged_volume, make_binned_volume, read_grey_levels

MakeVolume = Callable[..., Path]


def voxels(path: Path) -> np.ndarray:
    with open_mrc(path) as file:
        return file.read_block()


def check(path: Path, truth: dict[str, Any]) -> None:
    with open_mrc(path) as file:
        block, header = file.read_block(), file.header
    assert list(block.shape) == truth["shape"]
    assert block.dtype.name == truth["dtype"]
    assert hashlib.sha256(block.astype(block.dtype.newbyteorder("<")).tobytes()).hexdigest() == truth["sha256"]
    # IMOD's header has the extremes from before the rounding, ours those of the voxels that are stored.
    before = np.array([truth["minimum"], truth["maximum"]])
    stored = np.floor(before + 0.5) if block.dtype.kind == "i" else before
    assert [header.minimum, header.maximum] == stored.tolist() == [block.min(), block.max()]
    assert header.mean == pytest.approx(block.mean(dtype=float), rel=1e-6)
    assert header.mean == pytest.approx(truth["mean"], abs=0.5)
    if "mean of 5 sections" in header.labels[-1]:
        assert read_grey_levels(header) == pytest.approx(tuple(before), rel=1e-6)


@pytest.mark.parametrize("kind", ["i16", "f32"])
def test_the_averaged_and_binned_volumes_are_imods_to_the_voxel(
    golden_volumes: dict[str, Path], kind: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    averaged, binned = tmp_path / "ave_B.mrc", tmp_path / "avebin8_B.mrc"
    make_averaged_volume(golden_volumes[kind], averaged, threads=2)
    make_binned_volume(averaged, binned, threads=2)
    check(averaged, expected[f"ave_vol_{kind}"])
    check(binned, expected[f"avebin8_vol_{kind}"])


def test_the_result_does_not_depend_on_how_the_work_is_cut(
    golden_volume: Path, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "_BLOCK_BYTES", 7 * 96 * 4 * 16)
    make_averaged_volume(golden_volume, tmp_path / "ave.mrc", threads=3)
    make_binned_volume(tmp_path / "ave.mrc", tmp_path / "bin.mrc", threads=3)
    check(tmp_path / "ave.mrc", expected["ave_vol_i16"])
    check(tmp_path / "bin.mrc", expected["avebin8_vol_i16"])


def test_headers_carry_voxel_size_origin_and_titles(make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path) -> None:
    volume = make_volume(rng.integers(0, 99, (9, 7, 11)).astype(np.int16), pixel_size=(4.0, 5.0, 6.0))
    make_averaged_volume(volume, tmp_path / "ave.mrc")
    make_binned_volume(tmp_path / "ave.mrc", tmp_path / "bin.mrc")
    with open_mrc(tmp_path / "ave.mrc") as ave, open_mrc(tmp_path / "bin.mrc") as binned:
        assert ave.header.pixel_size_angstrom == pytest.approx((4, 5, 6))
        assert binned.header.pixel_size_angstrom == pytest.approx((8, 10, 12))
        assert binned.shape == (2, 3, 5)
        assert ave.header.is_volume
        assert "mean of 5 sections" in binned.header.labels[-2]
        assert "binned by 2 2 2" in binned.header.labels[-1]


@pytest.mark.parametrize(("count", "higher"), [(9, 2), (5, 2), (4, 1.5), (1, 0)])
def test_the_origin_of_the_averages_says_that_sections_are_cut(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path, count: int, higher: float
) -> None:
    """A section lies where it did: its number times the voxel, less the origin, is the height that IMOD shows."""
    volume = make_volume(rng.integers(0, 99, (count, 7, 11)).astype(np.int16), pixel_size=(4.0, 5.0, 6.0))
    make_averaged_volume(volume, tmp_path / "ave.mrc")
    make_binned_volume(tmp_path / "ave.mrc", tmp_path / "bin.mrc")
    with open_mrc(volume) as source, open_mrc(tmp_path / "ave.mrc") as ave, open_mrc(tmp_path / "bin.mrc") as binned:
        x, y, z = source.header.origin
        assert ave.header.origin == pytest.approx((x, y, z - 6.0 * higher))
        assert binned.header.origin == ave.header.origin


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_thin_volume_has_one_averaged_section(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path, count: int
) -> None:
    block = rng.integers(-50, 50, (count, 10, 12)).astype(np.int16)
    made = make_averaged_volume(make_volume(block), tmp_path / "ave.mrc")
    assert made.shape == (1, 10, 12)
    assert bool(made.notes) == (count < 5)
    mean = np.trunc(block.mean(axis=0))
    np.testing.assert_array_equal(voxels(tmp_path / "ave.mrc")[0], mean - mean.min())
    assert make_binned_volume(tmp_path / "ave.mrc", tmp_path / "bin.mrc").shape == (1, 5, 6)
    with open_mrc(tmp_path / "bin.mrc") as binned:
        assert binned.header.pixel_size_angstrom == pytest.approx((10, 10, 5))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.float32, np.float16])
def test_every_mode_gives_a_volume_of_equal_means(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path, dtype: type
) -> None:
    drift = np.linspace(0, 20, 12)[:, None, None]
    volume = make_volume((rng.integers(20, 90, (12, 16, 18)) + drift).astype(dtype))
    made = make_averaged_volume(volume, tmp_path / "ave.mrc")
    assert made.dtype == "int16"
    result = voxels(tmp_path / "ave.mrc")
    assert result.min() >= 0
    # The drift of 14 over the averages is gone but for the rounding, which is the same for all voxels of a section.
    assert np.ptp(result.mean((1, 2))) <= 1
    make_binned_volume(tmp_path / "ave.mrc", tmp_path / "bin.mrc")


def test_floats_of_a_small_range_are_kept_as_floats(make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path) -> None:
    block = rng.normal(0, 1e-3, (8, 12, 14)).astype(np.float32)
    made = make_averaged_volume(make_volume(block), tmp_path / "ave.mrc")
    assert made.dtype == "float32"
    assert "kept as float32" in made.notes[0]
    mean = np.lib.stride_tricks.sliding_window_view(block, 5, axis=0).mean(axis=-1)
    result = voxels(tmp_path / "ave.mrc")
    correlation = np.corrcoef(result[1].ravel(), mean[1].ravel())[0, 1]
    assert correlation > 0.999999
    assert result.min() == pytest.approx(0, abs=1e-9)
    make_binned_volume(tmp_path / "ave.mrc", tmp_path / "bin.mrc")
    assert voxels(tmp_path / "bin.mrc").dtype == np.float32


def test_levels_beyond_16_bits_are_kept_and_not_cut(make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path) -> None:
    block = np.repeat(rng.integers(-32768, 32767, (1, 12, 14)), 6, axis=0).astype(np.int16)
    made = make_averaged_volume(make_volume(block), tmp_path / "ave.mrc")
    assert made.dtype == "float32"
    np.testing.assert_allclose(voxels(tmp_path / "ave.mrc")[0], block[0].astype(float) - block.min(), atol=0.51)


def test_a_constant_volume_becomes_a_constant_volume(make_volume: MakeVolume, tmp_path: Path) -> None:
    make_averaged_volume(make_volume(np.full((6, 5, 4), 77, np.int16)), tmp_path / "ave.mrc")
    assert (voxels(tmp_path / "ave.mrc") == 77).all()


@pytest.mark.parametrize("shape", [(6, 1, 9), (6, 9, 1), (6, 1, 1), (1, 1, 1)])
def test_volumes_one_voxel_wide_can_be_averaged_and_binned(
    make_volume: MakeVolume, tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    make_averaged_volume(make_volume(np.arange(np.prod(shape)).reshape(shape).astype(np.int16)), tmp_path / "ave.mrc")
    made = make_binned_volume(tmp_path / "ave.mrc", tmp_path / "bin.mrc")
    assert min(made.shape) >= 1


def test_broken_voxels_are_reported_and_do_no_harm(make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path) -> None:
    block = rng.normal(0, 100, (8, 12, 14)).astype(np.float32)
    block[3, 4, 5] = np.nan
    made = make_averaged_volume(make_volume(block), tmp_path / "ave.mrc")
    assert "1 voxels are not finite" in made.notes[0]
    assert np.isfinite(voxels(tmp_path / "ave.mrc")).all()


def test_progress_rises_to_one(golden_volume: Path, tmp_path: Path) -> None:
    told: list[float] = []
    make_averaged_volume(golden_volume, tmp_path / "ave.mrc", progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


def test_a_missing_volume_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match=r"absent_rec\.mrc"):
        make_averaged_volume(tmp_path / "absent_rec.mrc", tmp_path / "ave.mrc")
    assert list(tmp_path.iterdir()) == []
