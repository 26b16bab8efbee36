"""The page's own copies of the movies: small, so that they travel inside the page, and exposed for the eye.

The movies among the products have the grey levels of IMOD's, which run from the blackest bead to the whitest speck, so that the specimen
is a fog.  The page's copies are made anew from the averaged volume and the aligned stack, where they lie beside the record, and else from
the movies: black and white are where the grey values of the specimen end, as in the page's pictures, and every view has the same median.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tiltflow.atomic_write import atomic_write
from tiltflow.formats.mrc import open_mrc
from tiltflow.parallel import map_threads
from tiltflow.record import SeriesRecord
from tiltflow.report.pictures import FOLDER, exposure
from tiltflow.work import AssetType

Plane = NDArray[np.float32]

MOVIES = (AssetType.REC_MOVIE, AssetType.TILT_MOVIE)

_FITS_BYTES = 1_500_000
"""Two such movies fit into a page; a copy that is larger is compressed more."""
_LONGEST_SIDE = 400
_MOST_FRAMES = 150
_EXPOSED_BY = 12
"""Frames that tell the exposure."""
_RATE_FACTORS = (27, 32, 37, 42)
"""Of x264, the best first; noise at the last takes a tenth of the bytes of the first."""
_QUICK = {"preset": "superfast", "x264-params": "me=dia:subme=0:cabac=0"}
"""Of x264, too: noise has no motion to be found, and is coded with Huffman's tables in half of the time of arithmetic coding.  The
structural similarity is the same; files are 13 % larger."""
_LOOK = (slice(None, None, 2), slice(None, None, 2))
"""Pixels of a frame that tell its median and the exposure: a quarter, tens of thousands."""
_BLACK, _LEVELS = 16, 219
"""Luma of black, and the levels up to white, as players assume."""


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of a movie: how many there are, how many a second, and how every so many of them, with the top row first, are read."""

    count: int
    rate: Fraction
    every: Callable[[int], Iterator[NDArray[Any]]]


def preview_path(kind: str) -> str:
    """Return where the page's copy of the movie of a kind lies, relative to the record."""
    return f"{FOLDER}/{kind}.mp4"


def write_previews(folder: Path, record: SeriesRecord, *, threads: int = 1) -> None:
    """Make the page's copy of every movie of a series, on some threads; that of a movie which is not there any more goes."""
    made = {product.type: folder / product.path for product in record.products}
    images = {
        AssetType.REC_MOVIE: made.get(AssetType.AVERAGED_VOLUME),
        AssetType.TILT_MOVIE: folder / f"{record.name}_ali.mrc",
    }

    def make(kind: AssetType) -> None:
        target, movie, source = folder / preview_path(kind), made.get(kind), images[kind]
        if movie is None or not movie.is_file():
            target.unlink(missing_ok=True)
        else:
            levelled = kind == AssetType.TILT_MOVIE
            write_preview(movie, target, source if source is not None and source.is_file() else None, levelled=levelled)

    for _ in map_threads(make, MOVIES, threads):
        pass


def write_preview(movie: Path, target: Path, images: Path | None = None, *, levelled: bool = False) -> None:
    """Write a movie anew with smaller pictures, exposed for the eye, and no more of them than it takes to see what it shows.

    Parameters
    ----------
    movie, target
        The movie, and its copy.
    images
        MRC file of the images that the movie shows, if there is one.
    levelled
        Whether every frame is brought to the same median.
    """
    frames = _of_movie(movie)
    if images is not None:
        frames = _of_images(images, frames.rate)
    step = max(1, -(-frames.count // _MOST_FRAMES))
    look = max(1, frames.count // _EXPOSED_BY)
    seen = [_small(frame, levelled) for frame in frames.every(look)]
    black, white = exposure(np.concatenate([plane[_LOOK].ravel() for plane in seen]))
    target.parent.mkdir(parents=True, exist_ok=True)
    for factor in _RATE_FACTORS:
        with atomic_write(target) as partial:
            shown = (_luma(_small(frame, levelled), black, white) for frame in frames.every(step))
            _encode(partial, shown, frames.rate / step, factor)
        if target.stat().st_size <= _FITS_BYTES:
            break


def _of_movie(movie: Path) -> _Frames:
    import av

    with av.open(str(movie)) as source:
        shown = source.streams.video[0]
        count, rate = shown.frames, Fraction(shown.average_rate or 8)

    def every(step: int) -> Iterator[NDArray[Any]]:
        with av.open(str(movie)) as source:
            for index, frame in enumerate(source.decode(source.streams.video[0])):
                if index % step == 0:
                    yield frame.to_ndarray(format="gray")

    return _Frames(count, rate, every)


def _of_images(path: Path, rate: Fraction) -> _Frames:
    def every(step: int) -> Iterator[NDArray[Any]]:
        with open_mrc(path) as stack:
            for index in range(0, stack.shape[0], step):
                yield stack[index][::-1]

    with open_mrc(path) as stack:
        return _Frames(stack.shape[0], rate, every)


def _small(frame: NDArray[Any], levelled: bool) -> Plane:
    """Return a frame averaged to the size of the copy, its sides even; without its median if frames are to have the same."""
    ny, nx = frame.shape
    scale = min(1.0, _LONGEST_SIDE / max(ny, nx))
    size = tuple(max(2, 2 * round(side * scale / 2)) for side in (nx, ny))
    plane = np.asarray(Pillow.fromarray(np.asarray(frame, np.float32)).resize(size, Pillow.Resampling.BOX))
    if not levelled:
        return plane
    some = plane[_LOOK]
    finite = some[np.isfinite(some)]
    return plane - np.float32(np.median(finite)) if finite.size else plane


def _luma(plane: Plane, black: float, white: float) -> NDArray[np.uint8]:
    """Return a plane between black and white as a frame in yuv420p, `(3 height / 2, width)`."""
    height, width = plane.shape
    grey = (plane - np.float32(black)) * np.float32(1 / ((white - black) or 1.0))
    out = np.full((height * 3 // 2, width), 128, np.uint8)
    out[:height] = np.rint(_BLACK + _LEVELS * np.fmin(np.fmax(grey, 0), 1))  # what is no number is black
    return out


def _encode(path: Path, planes: Iterator[NDArray[np.uint8]], rate: Fraction, factor: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream("libx264", rate=rate, options={"crf": str(factor), **_QUICK})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # each of the movies has a thread of its own
        for index, plane in enumerate(planes):
            if index == 0:
                stream.width, stream.height = plane.shape[1], plane.shape[0] * 2 // 3
            frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
            frame.pts, frame.time_base = index, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
