"""Small copies of large movies, for pages that travel."""

import av
import pytest

from tiltflow.record import ProductEntry
from tiltflow.report import previews
from tiltflow.report.previews import preview_path, write_preview, write_previews


def read(path):
    with av.open(str(path)) as movie:
        stream = movie.streams.video[0]
        frames = list(movie.decode(stream))
        return frames, float(frames[-1].time), frames[0].to_ndarray(format="gray").mean()


def test_a_copy_is_smaller_and_shows_the_same_in_the_same_time(tmp_path, make, monkeypatch):
    monkeypatch.setattr(previews, "_MOST_FRAMES", 5)
    movie = make.movie(tmp_path / "keyMov_B.mp4", frames=12, side=480)
    copy = tmp_path / "report" / "recMovie.mp4"
    write_preview(movie, copy)
    frames, duration, mean = read(copy)
    whole, whole_duration, whole_mean = read(movie)
    assert (frames[0].width, frames[0].height) == (400, 400)
    assert len(frames) == 4
    assert len(whole) == 12
    assert duration == pytest.approx(whole_duration, abs=0.5)
    assert mean == pytest.approx(whole_mean, abs=3)
    assert copy.stat().st_size < movie.stat().st_size / 4
    assert [path.name for path in copy.parent.iterdir()] == ["recMovie.mp4"]


def test_a_movie_of_odd_proportions_keeps_them(tmp_path, make):
    movie = make.movie(tmp_path / "tiltMov_B.mp4", frames=3, side=30)
    write_preview(movie, tmp_path / "small.mp4")
    assert read(tmp_path / "small.mp4")[0][0].width == 30


def test_only_large_movies_are_copied_and_old_copies_go(tmp_path, make, monkeypatch):
    record = make.record()
    for kind, name in (("recMovie", "keyMov_B.mp4"), ("tiltMovie", "tiltMov_B.mp4")):
        size = make.movie(tmp_path / name, frames=20 if kind == "recMovie" else 2).stat().st_size
        record.products.append(ProductEntry(type=kind, path=name, bytes=size))
    monkeypatch.setattr(previews, "_FITS_BYTES", (tmp_path / "tiltMov_B.mp4").stat().st_size)
    stale = tmp_path / preview_path("tiltMovie")
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier run")
    write_previews(tmp_path, record)
    assert [path.name for path in stale.parent.iterdir()] == ["recMovie.mp4"]
