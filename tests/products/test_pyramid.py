from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import zarr

from tiltflow.errors import FormatError, StageError
from tiltflow.formats.zarrlayout import PyramidLayout, ZarrAxes, ZarrRows, ZarrVersion
from tiltflow.products.histogram import VoxelStatistics
from tiltflow.products.movies import make_section_movie
from tiltflow.products.pyramid import make_pyramid, neuroglancer_metadata
from tiltflow.products.volumes import make_averaged_volume

MakeVolume = Callable[..., Path]


def halved(volume: np.ndarray) -> np.ndarray:
    """The next level: means of 2 x 2 x 2, of the voxels that there are."""
    total, count = volume.astype(np.float64), np.ones(volume.shape)
    for axis, size in enumerate(volume.shape):
        starts = np.arange(0, size, 2) if size > 1 else [0]
        total, count = np.add.reduceat(total, starts, axis), np.add.reduceat(count, starts, axis)
    mean = total / count
    return np.floor(mean + 0.5).astype(volume.dtype) if volume.dtype.kind in "iu" else mean.astype(volume.dtype)


def read(path: Path, level: int) -> np.ndarray:
    """The voxels of a level, `(z, y, x)`, rows as they lie in the pyramid."""
    return np.asarray(zarr.open_group(path, mode="r")[f"0/{level}"][0, 0])


def top_down(volume: np.ndarray) -> np.ndarray:
    """A volume with the rows of an MRC file turned over."""
    return volume[:, ::-1]


def test_every_level_is_the_mean_of_the_one_below(make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path) -> None:
    volume = rng.integers(-900, 900, (131, 37, 515)).astype(np.int16)
    path = tmp_path / "B_rec.zarr"
    made = make_pyramid(make_volume(volume), path, threads=3)
    assert made.shapes == ((131, 37, 515), (66, 19, 258), (33, 10, 129))
    volume = top_down(volume)
    for level in range(3):
        np.testing.assert_array_equal(read(path, level), volume)
        volume = halved(volume)
    assert [entry.name for entry in tmp_path.iterdir() if "zarr" in entry.name] == ["B_rec.zarr"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.float32, np.float16])
def test_every_mode_is_kept(make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path, dtype: type) -> None:
    volume = rng.integers(0, 100, (3, 12, 300)).astype(dtype)
    path = tmp_path / "B_rec.zarr"
    make_pyramid(make_volume(volume), path)
    kept = np.dtype(np.float32) if dtype is np.float16 else np.dtype(dtype)
    volume = top_down(volume)
    for level in range(2):
        found = read(path, level)
        assert found.dtype == kept
        np.testing.assert_allclose(found, volume, atol=1e-5)
        volume = halved(volume.astype(kept))


@pytest.mark.parametrize("rows", [127, 128, 129, 255, 256, 257, 513])
def test_levels_are_binned_from_the_top_whatever_the_number_of_rows(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path, rows: int
) -> None:
    """An odd number of rows leaves one over at the bottom of the picture, at every level."""
    volume = rng.integers(-900, 900, (3, rows, 600)).astype(np.int16)
    made = make_pyramid(make_volume(volume), tmp_path / "B_rec.zarr", threads=2)
    volume = top_down(volume)
    for level in range(len(made.shapes)):
        np.testing.assert_array_equal(read(tmp_path / "B_rec.zarr", level), volume)
        volume = halved(volume)


@pytest.mark.parametrize("rows", ["top-down", "bottom-up"])
@pytest.mark.parametrize("axes", ["tczyx", "zyx"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_layout_holds_the_same_voxels(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path, version: ZarrVersion, axes: ZarrAxes, rows: ZarrRows
) -> None:
    volume = rng.integers(-900, 900, (3, 131, 300)).astype(np.int16)
    layout = PyramidLayout(version=version, axes=axes, rows=rows, series_folder=False)
    make_pyramid(make_volume(volume), tmp_path / "B.zarr", layout=layout)
    volume = top_down(volume) if rows == "top-down" else volume
    group = zarr.open_group(tmp_path / "B.zarr", mode="r")
    for level in range(2):
        np.testing.assert_array_equal(np.squeeze(group[str(level)][...]), volume)
        assert group[str(level)].ndim == len(axes)
        volume = halved(volume)


def test_voxels_are_converted_to_the_type_asked_for(make_volume: MakeVolume, tmp_path: Path) -> None:
    volume = np.array([[[-0.5, 0.5, 40000.0, -1.6]]], np.float32)
    made = make_pyramid(make_volume(volume), tmp_path / "B.zarr", dtype=np.int16)
    assert read(tmp_path / "B.zarr", 0).ravel().tolist() == [0, 1, 32767, -2]
    assert (made.statistics.minimum, made.statistics.maximum) == (-2, 32767)


def test_a_slice_of_the_pyramid_is_the_frame_of_the_movie_that_shows_it(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path
) -> None:
    """The movie begins two slices later, as the first and the last two have no mean of five."""
    volume = rng.normal(0, 20, (9, 64, 80))
    volume[:, 40:60, 8:30] += 400  # bright, at the left of the upper half of the picture
    volume[4:, 8:14, 50:74] += 900  # brighter, at the right of its lower half, in later slices only
    source = make_volume(volume.astype(np.int16))
    make_pyramid(source, tmp_path / "B_rec.zarr")
    make_averaged_volume(source, tmp_path / "ave_B.mrc")
    make_section_movie(tmp_path / "ave_B.mrc", tmp_path / "keyMov_B.mp4")
    pyramid = read(tmp_path / "B_rec.zarr", 0).astype(float)
    with av.open(str(tmp_path / "keyMov_B.mp4")) as movie:
        frames = [frame.to_ndarray(format="gray").astype(float) for frame in movie.decode(video=0)]
    assert len(frames) == len(pyramid) - 4
    for index, frame in enumerate(frames):
        shown = pyramid[index : index + 5].mean(axis=0)
        upright = np.corrcoef(frame.ravel(), shown.ravel())[0, 1]
        assert upright > 0.8  # the movie shows what is darker than a limit as black
        for other in (shown[::-1], shown[:, ::-1], shown[::-1, ::-1]):
            assert np.corrcoef(frame.ravel(), other.ravel())[0, 1] < upright - 0.3


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 600, 1), (4, 1, 700), (1, 257, 1000)])
def test_flat_volumes_have_levels_too(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    volume = rng.integers(0, 100, shape).astype(np.int16)
    made = make_pyramid(make_volume(volume), tmp_path / "B_rec.zarr")
    assert max(made.shapes[-1]) <= 256
    volume = top_down(volume)
    for level in range(len(made.shapes)):
        np.testing.assert_array_equal(read(tmp_path / "B_rec.zarr", level), volume)
        volume = halved(volume)


def test_the_statistics_are_those_of_all_voxels(make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path) -> None:
    volume = np.clip(rng.normal(100, 400, (12, 150, 200)), -32768, 32767).astype(np.int16)
    statistics = make_pyramid(make_volume(volume), tmp_path / "B_rec.zarr", threads=2).statistics
    median = np.median(volume)
    assert (statistics.minimum, statistics.maximum, statistics.median) == (volume.min(), volume.max(), median)
    assert statistics.mad == np.median(np.abs(volume - median))


def test_the_window_in_the_pyramid_is_that_of_the_asset(make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path) -> None:
    volume = rng.normal(0, 30, (8, 20, 30)).astype(np.float32)
    made = make_pyramid(make_volume(volume), tmp_path / "B_rec.zarr")
    shader = neuroglancer_metadata(made.statistics)["shaderParameters"]
    attributes = json.loads((tmp_path / "B_rec.zarr" / "0" / ".zattrs").read_text())
    window = attributes["omero"]["channels"][0]["window"]
    assert [window["min"], window["max"]] == shader["window"]
    assert [window["start"], window["end"]] == shader["range"]


def test_neuroglancer_shows_five_deviations_within_what_there_is() -> None:
    wide = VoxelStatistics(-100.0, 90.0, 0.0, 3.5, 10.0)
    assert neuroglancer_metadata(wide) == {
        "shader": "Grayscale",
        "dimensions": "XYZ",
        "shaderParameters": {"range": [-47, 54], "window": [-100, 90]},
    }
    narrow = VoxelStatistics(-0.25, 0.75, 0.0, 0.1, 0.2, whole=False)
    assert neuroglancer_metadata(narrow)["shaderParameters"] == {"range": [-0.25, 0.75], "window": [-0.25, 0.75]}
    mostly_empty = VoxelStatistics(-20.0, 700.0, 0.0, 0.0, 0.0)
    assert neuroglancer_metadata(mostly_empty)["shaderParameters"]["range"] == [-20, 700]
    assert json.loads(json.dumps(neuroglancer_metadata(wide)))["shaderParameters"]["range"] == [-47, 54]


@pytest.mark.parametrize("scale", [1e-6, 0.001, 1.0, 37.0])
@pytest.mark.parametrize("offset", [0.0, -5.0])
def test_real_numbers_of_any_scale_are_shown_alike(scale: float, offset: float) -> None:
    low, high, median = (scale * (value + offset) for value in (-40.0, 20.0, 1.0))
    mad = scale
    shader = neuroglancer_metadata(VoxelStatistics(low, high, median, median, mad, whole=False))["shaderParameters"]
    assert np.allclose(shader["window"], [low, high], rtol=0, atol=0.001 * (high - low))
    assert np.allclose(shader["range"], [median - 5 * mad, median + 5 * mad], rtol=0, atol=0.001 * (high - low))
    assert shader["window"][0] <= low + 1e-9 * scale
    assert shader["window"][1] >= high - 1e-9 * scale


def test_real_numbers_of_a_wide_range_are_rounded_as_whole_ones_are() -> None:
    wide = VoxelStatistics(-1000.4, 9000.6, 0.0, 3.5, 10.2)
    assert neuroglancer_metadata(replace(wide, whole=False)) == neuroglancer_metadata(wide)


def test_broken_voxels_are_reported_and_left_as_they_are(make_volume: MakeVolume, tmp_path: Path) -> None:
    volume = np.ones((4, 5, 6), np.float32)
    volume[1, 2, 3] = np.nan
    made = make_pyramid(make_volume(volume), tmp_path / "B_rec.zarr")
    assert "1 voxels are not finite" in made.notes[0]
    np.testing.assert_array_equal(read(tmp_path / "B_rec.zarr", 0), top_down(volume))


def test_a_volume_without_a_single_number_is_refused_and_leaves_nothing(make_volume: MakeVolume, tmp_path: Path) -> None:
    volume = make_volume(np.full((2, 3, 4), np.nan, np.float32))
    with pytest.raises(StageError, match="none of its voxels"):
        make_pyramid(volume, tmp_path / "B_rec.zarr")
    assert list(tmp_path.iterdir()) == [volume]


def test_a_volume_that_says_no_voxel_size_is_shown_at_one_angstrom(make_volume: MakeVolume, tmp_path: Path) -> None:
    made = make_pyramid(make_volume(np.ones((2, 3, 4), np.int16), pixel_size=0.0), tmp_path / "B_rec.zarr")
    assert "gives no voxel size" in made.notes[0]


def test_a_file_that_is_cut_short_while_being_read_is_refused(make_volume: MakeVolume, tmp_path: Path) -> None:
    volume = make_volume(np.ones((2, 3, 400), np.int16))

    def cut(_: float) -> None:
        pytest.fail("a truncated volume was read to the end")

    with volume.open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(FormatError):
        make_pyramid(volume, tmp_path / "B_rec.zarr", progress=cut)
    assert list(tmp_path.iterdir()) == [volume]


def test_progress_rises_to_one(make_volume: MakeVolume, tmp_path: Path) -> None:
    told: list[float] = []
    make_pyramid(make_volume(np.zeros((150, 140, 4), np.int8)), tmp_path / "B_rec.zarr", progress=told.append)
    assert told == sorted(told)
    assert len(told) == 4
    assert told[-1] == 1
