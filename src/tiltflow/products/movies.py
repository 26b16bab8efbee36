"""Movies: the tilt series and the sections of the averaged volume, as H.264 that every browser plays.

A movie fits 1024 x 1024 with its aspect ratio kept, is never enlarged, and has even sides, as yuv420p requires: from a picture that
is small enough, an odd last row and column are left out, so that pixels are not resampled.

Preset superfast with macroblock trees at rate factor 21.5 takes less than a third of the processor time of x264's defaults (medium, 23).
The structural similarity to the exact frames is as high or higher; files are 15 to 20 % larger (`benchmarks/products.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiltflow.atomic_write import atomic_write
from tiltflow.errors import ResourceError
from tiltflow.model import Progress
from tiltflow.parallel import map_threads
from tiltflow.products.images import write_jpeg
from tiltflow.products.levels import Levels, common_mean, contrast, picture, section_moments
from tiltflow.products.sections import Voxels
from tiltflow.products.volumes import read_grey_levels

Picture = NDArray[np.uint8]

LARGEST_SIDE = 1024
TILT_RATE = 4
SECTION_RATE = 8
"""Frames per second."""

SECTION_BLACK, SECTION_WHITE = 100, 255
"""Contrast of the section movie, as `mrc2tif -C 100,255`."""

ENCODER: Mapping[str, str] = MappingProxyType(
    {
        "preset": "superfast",
        "crf": "21.5",
        "x264-params": "mbtree=1:rc-lookahead=10:weightp=1:bframes=0:colorprim=bt709:transfer=bt709:colormatrix=bt709",
    }
)
"""Options of x264.  `mbtree`, which the preset leaves out, halves the files of smooth volumes.  Without frames that are predicted from
later ones, whose choice x264 makes now so and now so, the same pictures give the same file.  Colours are those of BT.709, in which
luma reaches from 16 (black) to 235 (white), as players assume by default."""


@dataclass(frozen=True, slots=True)
class MadeMovie:
    """The movie: its size, its frames, and remarks."""

    width: int
    height: int
    frames: int
    notes: tuple[str, ...] = ()


def movie_size(ny: int, nx: int) -> tuple[int, int]:
    """Return width and height of the movie of pictures `(ny, nx)`.

    >>> movie_size(630, 653), movie_size(3000, 4096)
    ((652, 630), (1024, 750))
    """
    if max(ny, nx) <= LARGEST_SIDE:
        return max(nx - nx % 2, 2), max(ny - ny % 2, 2)
    scale = LARGEST_SIDE / max(ny, nx)
    return max(2 * round(nx * scale / 2), 2), max(2 * round(ny * scale / 2), 2)


def fit_picture(frame: Picture, width: int, height: int) -> Picture:
    """Return a picture at the size that :func:`movie_size` gave."""
    ny, nx = frame.shape
    if max(ny, nx) > LARGEST_SIDE:
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
    if ny < height or nx < width:
        frame = np.pad(frame, ((0, max(height - ny, 0)), (0, max(width - nx, 0))), mode="edge")
    return frame[:height, :width]


def make_tilt_movie(
    aligned: Path, movie: Path, key_image: Path, *, threads: int = 1, progress: Progress | None = None
) -> MadeMovie:
    """Write the movie of all views of an aligned stack, and its middle frame at full size.

    All views get a common mean, for which the stack is read once more.
    """
    with Voxels(aligned, threads=threads) as views:
        levels = common_mean(section_moments(views, threads=threads))
        return _write_movie(views, levels, 0, 255, movie, TILT_RATE, threads, progress, key_image)


def make_section_movie(volume: Path, movie: Path, *, threads: int = 1, progress: Progress | None = None) -> MadeMovie:
    """Write the movie of all sections of the averaged volume, whose titles give their range of grey levels."""
    with Voxels(volume, threads=threads) as sections:
        low, high = read_grey_levels(sections.file.header)
        ones, zeros = np.ones(sections.shape[0], np.float32), np.zeros(sections.shape[0], np.float32)
        levels = Levels(ones, zeros, low, high, sections.file.header.mean)
        return _write_movie(sections, levels, SECTION_BLACK, SECTION_WHITE, movie, SECTION_RATE, threads, progress)


def _write_movie(
    sections: Voxels,
    levels: Levels,
    black: int,
    white: int,
    movie: Path,
    rate: int,
    threads: int,
    progress: Progress | None,
    key_image: Path | None = None,
) -> MadeMovie:
    count, ny, nx = sections.shape
    width, height = movie_size(ny, nx)
    grey = contrast(levels.minimum, levels.maximum, black, white)

    def frame(index: int) -> Picture:
        image = sections.read(slice(index, index + 1))[0]
        whole = picture(image, levels, index, grey, whole=sections.whole)
        if key_image is not None and index == count // 2:
            write_jpeg(key_image, whole)
        return fit_picture(whole, width, height)

    def frames() -> Iterator[Picture]:
        for done, fitted in enumerate(map_threads(frame, range(count), threads), start=1):
            yield fitted
            if progress is not None:
                progress(done / count)

    write_movie(movie, frames(), (width, height), rate, threads=threads)
    return MadeMovie(width, height, count, sections.notes())


def write_movie(
    path: Path,
    frames: Iterable[Picture],
    size: tuple[int, int],
    rate: int,
    *,
    threads: int = 1,
    encoder: Mapping[str, str] = ENCODER,
) -> None:
    """Write grey pictures `(height, width)`, with the top row first, as a movie of `rate` frames per second.

    Parameters
    ----------
    path
        The `.mp4` to make.
    frames
        The pictures.
    size
        Width and height of all of them, even.
    rate
        Frames per second.
    threads
        Threads of the encoder.
    encoder
        Its options.

    Raises
    ------
    ResourceError
        If the encoder fails, as on a full disk.
    """
    width, height = size
    luma = np.rint(16 + np.arange(256) * (219 / 255)).astype(np.uint8)
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    with atomic_write(path) as partial:
        try:
            with av.open(partial, "w", format="mp4", options={"movflags": "+faststart"}) as container:
                stream = container.add_stream("libx264", rate=rate, options=dict(encoder))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.thread_count = threads
                index = -1
                for index, frame in enumerate(frames):
                    np.take(luma, frame, out=planes[:height])
                    image = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                    image.pts, image.time_base = index, Fraction(1, rate)
                    container.mux(stream.encode(image))
                container.mux(stream.encode())
            require_whole(partial, index + 1)
        except av.FFmpegError as error:
            raise ResourceError(f"{path}: the movie could not be written ({error}); is the disk full?") from error


def require_whole(path: Path, frames: int) -> None:
    """Read a movie again and raise unless all of its frames are there: the encoder may take a short write for a whole one.

    Raises
    ------
    ResourceError
        If they are not.
    """
    with av.open(path) as movie:
        found = sum(1 for packet in movie.demux(video=0) if packet.size)
    if found != frames:
        raise ResourceError(f"{path}: {found} of {frames} pictures of the movie are there; is the disk full?")
