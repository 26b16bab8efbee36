"""The page's copies of movies: small, in the same time, and exposed for the eye."""

import av
import numpy as np
import pytest
from scipy import ndimage

from tiltflow.formats.mrc import MrcWriter
from tiltflow.products.movies import write_movie
from tiltflow.record import ProductEntry
from tiltflow.report import previews
from tiltflow.report.previews import preview_path, write_preview, write_previews


def read(path):
    """Return the luma of each frame, and the time of the last."""
    with av.open(str(path)) as movie:
        stream = movie.streams.video[0]
        frames = list(movie.decode(stream))
        return np.array([frame.to_ndarray(format="yuv420p")[: frame.height] for frame in frames]).astype(float), float(
            frames[-1].time
        )


def write_volume(path, sections):
    with MrcWriter(path, sections.shape, np.float32, pixel_size_angstrom=(10.0, 10.0, 10.0)) as out:
        for section in sections.astype(np.float32):
            out.write(section)
    return path


@pytest.fixture
def fog(tmp_path, rng):
    """A movie as the contract has it, of a volume whose few beads take the range: sections around middle grey."""
    sections = ndimage.gaussian_filter(rng.normal(0, 1, (12, 60, 80)), (0, 3, 3))
    sections /= sections.std()
    sections[:, 30, 40] = -35
    grey = np.clip(140 + 4 * sections[:, ::-1], 0, 255).astype(np.uint8)
    movie = tmp_path / "keyMov_B.mp4"
    write_movie(movie, grey, (80, 60), 8)
    return movie, sections


def test_a_copy_is_smaller_and_runs_the_same_time(tmp_path, make, monkeypatch):
    monkeypatch.setattr(previews, "_MOST_FRAMES", 5)
    movie = make.movie(tmp_path / "keyMov_B.mp4", frames=12, side=480)
    copy = tmp_path / "report" / "recMovie.mp4"
    write_preview(movie, copy)
    (frames, duration), (whole, whole_duration) = read(copy), read(movie)
    assert frames.shape == (4, 400, 400)
    assert len(whole) == 12
    assert duration == pytest.approx(whole_duration, abs=0.5)
    assert copy.stat().st_size < movie.stat().st_size / 4
    assert [path.name for path in copy.parent.iterdir()] == ["recMovie.mp4"]


@pytest.mark.parametrize("from_volume", [True, False])
def test_a_copy_shows_the_specimen_from_black_to_white_where_the_movie_is_a_fog(tmp_path, fog, from_volume):
    movie, sections = fog
    copy = tmp_path / "copy.mp4"
    write_preview(movie, copy, write_volume(tmp_path / "ave_B.mrc", sections) if from_volume else None)
    (shown, _), (whole, _) = read(copy), read(movie)
    assert np.ptp(np.percentile(whole, (2, 98))) < 25
    assert np.ptp(np.percentile(shown, (2, 98))) > 80
    assert abs(np.median(shown) - 125) < 15
    assert shown.shape == whole.shape
    alike = [
        np.corrcoef(one.ravel(), np.clip(other[::-1], -4, 4).ravel())[0, 1] for one, other in zip(shown, sections, strict=True)
    ]
    assert min(alike) > 0.8  # each its own section, the top row first


def test_views_that_grow_darker_have_the_same_median_in_the_copy_alone(tmp_path, fog):
    movie, sections = fog
    darker = sections + 50 * np.arange(12)[:, None, None]
    stack = write_volume(tmp_path / "B_ali.mrc", darker)
    spread = {}
    for levelled in (True, False):
        write_preview(movie, tmp_path / "copy.mp4", stack, levelled=levelled)
        spread[levelled] = np.ptp(np.median(read(tmp_path / "copy.mp4")[0], axis=(1, 2)))
    assert spread[True] < 8
    assert spread[False] > 100


def test_a_copy_that_would_be_too_large_is_compressed_more(tmp_path, make, monkeypatch):
    movie = make.movie(tmp_path / "keyMov_B.mp4", frames=10, side=200)
    write_preview(movie, tmp_path / "first.mp4")
    first = (tmp_path / "first.mp4").stat().st_size
    monkeypatch.setattr(previews, "_FITS_BYTES", first // 2)
    write_preview(movie, tmp_path / "second.mp4")
    assert (tmp_path / "second.mp4").stat().st_size <= first // 2
    monkeypatch.setattr(previews, "_FITS_BYTES", 1)
    write_preview(movie, tmp_path / "third.mp4")  # the smallest there is
    assert (tmp_path / "third.mp4").stat().st_size < first // 4


def test_a_movie_of_odd_proportions_keeps_them(tmp_path, make):
    movie = make.movie(tmp_path / "tiltMov_B.mp4", frames=3, side=30)
    write_preview(movie, tmp_path / "small.mp4")
    assert read(tmp_path / "small.mp4")[0].shape == (3, 30, 30)


def test_broken_and_constant_voxels_do_no_harm(tmp_path, fog):
    movie, sections = fog
    sections[3, :10] = np.nan
    sections[4] = np.inf
    sections[5] = 7.0
    write_preview(movie, tmp_path / "copy.mp4", write_volume(tmp_path / "ave_B.mrc", sections), levelled=True)
    assert np.ptp(read(tmp_path / "copy.mp4")[0][0]) > 100


def test_every_movie_has_its_copy_and_that_of_a_movie_that_is_gone_goes(tmp_path, make):
    record = make.record("B")
    for kind, name in (("recMovie", "keyMov_B.mp4"), ("tiltMovie", "tiltMov_B.mp4")):
        record.products.append(ProductEntry(type=kind, path=name, bytes=make.movie(tmp_path / name, frames=3).stat().st_size))
    record.products.append(ProductEntry(type="averagedVolume", path="ave_B.mrc", bytes=1))
    write_volume(tmp_path / "ave_B.mrc", np.random.default_rng(1).normal(size=(7, 20, 30)))
    write_volume(tmp_path / "B_ali.mrc", np.random.default_rng(1).normal(size=(5, 20, 40)))
    write_previews(tmp_path, record, threads=2)
    shapes = [read(tmp_path / preview_path(kind))[0].shape for kind in ("recMovie", "tiltMovie")]
    assert shapes == [(7, 20, 30), (5, 20, 40)]
    (tmp_path / "ave_B.mrc").unlink()
    (tmp_path / "tiltMov_B.mp4").unlink()
    write_previews(tmp_path, record)
    assert read(tmp_path / preview_path("recMovie"))[0].shape == (3, 64, 64)
    assert not (tmp_path / preview_path("tiltMovie")).exists()
