from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tiltflow.errors import ResourceError
from tiltflow.products.levels import common_mean, contrast, picture, section_moments
from tiltflow.products.movies import fit_picture, make_section_movie, make_tilt_movie, movie_size, require_whole, write_movie
from tiltflow.products.sections import Voxels
from tiltflow.products.volumes import make_averaged_volume, read_grey_levels

MakeVolume = Callable[..., Path]
Series = tuple[Path, Path]


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def smooth(count: int, ny: int, nx: int) -> np.ndarray:
    """Images without noise, which a movie shows all but exactly."""
    y, x = np.mgrid[:ny, :nx]
    return np.stack([1000 * np.sin(x / (9 + k)) * np.cos(y / 11) + 40 * k + 300 * (y > ny / 2) for k in range(count)]).astype(
        np.int16
    )


def test_the_key_image_is_imods_to_the_decoded_pixel(golden_volume: Path, data: Path, tmp_path: Path) -> None:
    key_image = tmp_path / "B_ali.012.jpg"
    make_tilt_movie(golden_volume, tmp_path / "tiltMov_B.mp4", key_image, threads=2)
    with Image.open(key_image) as ours, Image.open(data / "products" / "vol_i16_ali.012.jpg") as truth:
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(truth))


@pytest.mark.parametrize("kind", ["i16", "f32"])
def test_every_golden_picture_is_reproduced(golden_volumes: dict[str, Path], data: Path, kind: str, tmp_path: Path) -> None:
    golden = data / "products"
    make_averaged_volume(golden_volumes[kind], tmp_path / "ave.mrc")
    for stem, volume, black, indices in (
        (f"vol_{kind}_ali", golden_volumes[kind], 0, (0, 12, 23)),
        (f"ave_vol_{kind}_mp4", tmp_path / "ave.mrc", 100, (0, 10, 19)),
    ):
        with Voxels(volume) as sections:
            levels = common_mean(section_moments(sections))
            ends = (levels.minimum, levels.maximum) if black == 0 else read_grey_levels(sections.file.header)
            grey = contrast(*ends, black, 255)
            if black:
                levels.scale[:], levels.offset[:] = 1, 0
            for index in indices:
                image = picture(sections.read(slice(index, index + 1))[0], levels, index, grey, whole=sections.whole)
                Image.fromarray(image).save(tmp_path / "out.jpg", quality=75)
                with Image.open(tmp_path / "out.jpg") as ours, Image.open(golden / f"{stem}.{index:03d}.jpg") as truth:
                    np.testing.assert_array_equal(np.asarray(ours), np.asarray(truth))


def test_the_tilt_movie_shows_every_view_the_right_way_up(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path
) -> None:
    views = smooth(9, 96, 128)
    aligned = make_volume(views, "B_ali.mrc")
    made = make_tilt_movie(aligned, tmp_path / "tiltMov_B.mp4", tmp_path / "B_ali.004.jpg", threads=2)
    shown = frames_of(tmp_path / "tiltMov_B.mp4")
    assert (made.frames, made.width, made.height) == (len(shown), 128, 96) == (9, 128, 96)
    level = views - views.mean((1, 2), keepdims=True)
    exact = (level - level.min()) / np.ptp(level) * 255
    for index, frame in enumerate(shown):
        assert np.abs(frame - exact[index, ::-1]).mean() < 3
    with Image.open(tmp_path / "B_ali.004.jpg") as key_image:
        assert np.abs(np.asarray(key_image) - exact[4, ::-1]).mean() < 2


def test_the_section_movie_shows_the_averaged_volume_at_its_contrast(make_volume: MakeVolume, tmp_path: Path) -> None:
    volume = smooth(11, 64, 80)
    make_averaged_volume(make_volume(volume), tmp_path / "ave_B.mrc")
    make_section_movie(tmp_path / "ave_B.mrc", tmp_path / "keyMov_B.mp4", threads=2)
    shown = frames_of(tmp_path / "keyMov_B.mp4")
    assert len(shown) == 7
    with Voxels(tmp_path / "ave_B.mrc") as averaged:
        sections = averaged.read(slice(None))
    # Black is at 100 / 255 of the range: about that share of the voxels of these waves is black.
    exact = np.clip((sections / sections.max() * 255 - 100) * 256 / 156, 0, 255)
    for index, frame in enumerate(shown):
        assert np.abs(frame - exact[index, ::-1]).mean() < 4
    assert (shown[3] < 3).mean() > 0.2


@pytest.mark.parametrize(("maker", "rate"), [("tilt", 4), ("section", 8)])
def test_a_movie_is_what_browsers_play(series: Series, tmp_path: Path, maker: str, rate: int) -> None:
    movie = tmp_path / "movie.mp4"
    if maker == "tilt":
        make_tilt_movie(series[0], movie, tmp_path / "key.jpg")
    else:
        make_section_movie(series[1], movie)
    with av.open(movie) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == rate
        assert float(stream.duration * stream.time_base) == pytest.approx(stream.frames / rate)
        assert next(container.decode(video=0)).color_range == 1  # 16 .. 235, and it says so
    content = movie.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@given(st.integers(1, 12000), st.integers(1, 12000))
def test_a_movie_fits_1024_with_even_sides_and_its_aspect_ratio(ny: int, nx: int) -> None:
    width, height = movie_size(ny, nx)
    assert width % 2 == height % 2 == 0
    assert min(width, height) >= 2
    assert max(width, height) <= 1024
    assert width <= max(nx, 2)
    assert height <= max(ny, 2)
    scale = min(1, 1024 / max(ny, nx))
    assert abs(width - nx * scale) <= 2
    assert abs(height - ny * scale) <= 2


def test_an_odd_last_row_and_column_are_left_out_and_nothing_is_resampled(rng: np.random.Generator) -> None:
    frame = rng.integers(0, 255, (65, 33)).astype(np.uint8)
    np.testing.assert_array_equal(fit_picture(frame, *movie_size(65, 33)), frame[:64, :32])


def test_a_large_picture_is_scaled_down_whole() -> None:
    frame = np.full((1500, 2048), 50, np.uint8)
    frame[:750, :1024] = 200
    small = fit_picture(frame, *movie_size(*frame.shape)).astype(int)
    assert small.shape == (750, 1024)
    assert abs(small[:370, :507] - 200).max() <= 1
    assert abs(small[380:] - 50).max() <= 1


@pytest.mark.parametrize("shape", [(1, 40, 50), (2, 1, 1), (3, 1, 64), (3, 33, 1), (2, 5, 1100)])
def test_a_single_view_and_narrow_images_make_a_movie(
    make_volume: MakeVolume, rng: np.random.Generator, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    aligned = make_volume(rng.integers(-9, 9, shape).astype(np.int16), "B_ali.mrc")
    made = make_tilt_movie(aligned, tmp_path / "tiltMov_B.mp4", tmp_path / "key.jpg")
    assert len(frames_of(tmp_path / "tiltMov_B.mp4")) == made.frames == shape[0]
    with Image.open(tmp_path / "key.jpg") as image:
        assert image.size == shape[:0:-1]


@pytest.mark.parametrize("value", [np.int16(-7), np.float32(1e-8), np.uint8(255)])
def test_constant_images_make_a_grey_movie(make_volume: MakeVolume, tmp_path: Path, value: np.generic) -> None:
    aligned = make_volume(np.full((3, 32, 32), value), "B_ali.mrc")
    make_tilt_movie(aligned, tmp_path / "tiltMov_B.mp4", tmp_path / "key.jpg")
    assert all(np.abs(frame.astype(int) - 128).max() <= 2 for frame in frames_of(tmp_path / "tiltMov_B.mp4"))


def test_broken_pixels_do_not_spoil_the_contrast(make_volume: MakeVolume, tmp_path: Path) -> None:
    views = smooth(3, 64, 64).astype(np.float32)
    make_tilt_movie(make_volume(views, "a.mrc"), tmp_path / "a.mp4", tmp_path / "a.jpg")
    views[1, 20, 20:24] = np.nan, np.inf, -np.inf, 1e38
    made = make_tilt_movie(make_volume(views, "b.mrc"), tmp_path / "b.mp4", tmp_path / "b.jpg")
    assert "4 voxels are not finite" in made.notes[0]
    with Image.open(tmp_path / "a.jpg") as clean, Image.open(tmp_path / "b.jpg") as repaired:
        assert np.abs(np.asarray(clean).astype(int) - np.asarray(repaired)).mean() < 2


def test_a_failure_half_way_leaves_the_former_movie(tmp_path: Path) -> None:
    movie = tmp_path / "movie.mp4"
    movie.write_bytes(b"former")

    def frames() -> Iterator[np.ndarray]:
        yield np.zeros((32, 32), np.uint8)
        raise KeyError("the disk is gone")

    with pytest.raises(KeyError):
        write_movie(movie, frames(), (32, 32), 4)
    assert movie.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [movie]


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(ResourceError, match=r"movie\.mp4: the movie could not be written"):
        write_movie(Path("/proc/movie.mp4"), [np.zeros((32, 32), np.uint8)], (32, 32), 4)


def test_progress_counts_the_frames(series: Series, tmp_path: Path) -> None:
    told: list[float] = []
    make_section_movie(series[1], tmp_path / "m.mp4", progress=told.append)
    np.testing.assert_allclose(told, np.arange(1, 21) / 20)


def test_a_movie_of_which_frames_are_missing_is_not_whole(tmp_path: Path) -> None:
    movie = tmp_path / "B.mp4"
    write_movie(movie, iter(np.zeros((5, 32, 32), np.uint8)), (32, 32), 8)
    require_whole(movie, 5)
    with pytest.raises(ResourceError, match="5 of 6 pictures"):
        require_whole(movie, 6)


def test_a_movie_that_is_not_whole_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the encoder takes a short write for a whole one."""
    monkeypatch.setattr("tiltflow.products.movies.require_whole", lambda path, frames: require_whole(path, frames + 1))
    with pytest.raises(ResourceError, match="5 of 6 pictures"):
        write_movie(tmp_path / "B.mp4", iter(np.zeros((5, 32, 32), np.uint8)), (32, 32), 8)
    assert list(tmp_path.iterdir()) == []


def test_the_same_pictures_give_the_same_file(tmp_path: Path, rng: np.random.Generator) -> None:
    """Small pictures, of which x264 chose frames to be predicted from later ones now so and now so."""
    pictures = list(rng.integers(90, 160, (21, 48, 48), dtype=np.uint8).repeat(2, axis=1).repeat(2, axis=2))
    files = set()
    for _ in range(40):
        write_movie(tmp_path / "movie.mp4", pictures, (96, 96), 4)
        files.add((tmp_path / "movie.mp4").read_bytes())
    assert len(files) == 1
