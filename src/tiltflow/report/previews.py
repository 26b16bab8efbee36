"""Small copies of movies that are too large to travel inside the page, made once, beside the record."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from tiltflow.atomic_write import atomic_write
from tiltflow.model import AssetType
from tiltflow.record import SeriesRecord
from tiltflow.report.pictures import FOLDER

MOVIES = (AssetType.REC_MOVIE, AssetType.TILT_MOVIE)

_FITS_BYTES = 1_500_000
_LONGEST_SIDE = 400
_MOST_FRAMES = 150
_ENCODER = {"crf": "27", "preset": "veryfast"}


def preview_path(kind: str) -> str:
    """Return where the small copy of the movie of a kind lies, relative to the record."""
    return f"{FOLDER}/{kind}.mp4"


def write_previews(folder: Path, record: SeriesRecord) -> None:
    """Make a small copy of every movie of a series that is large; one of an earlier run that is not needed any more goes."""
    movies = {product.type: folder / product.path for product in record.products}
    for kind in MOVIES:
        target = folder / preview_path(kind)
        movie = movies.get(kind)
        if movie is not None and movie.is_file() and movie.stat().st_size > _FITS_BYTES:
            write_preview(movie, target)
        else:
            target.unlink(missing_ok=True)


def write_preview(movie: Path, target: Path) -> None:
    """Write a movie anew with smaller pictures, and no more of them than it takes to see what it shows."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(target) as partial,
        av.open(str(movie)) as source,
        av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as out,
    ):
        shown = source.streams.video[0]
        step = max(1, -(-shown.frames // _MOST_FRAMES))
        scale = min(1.0, _LONGEST_SIDE / max(shown.width, shown.height))
        width, height = (max(2, 2 * round(side * scale / 2)) for side in (shown.width, shown.height))
        rate = Fraction(shown.average_rate or 8) / step
        stream = out.add_stream("libx264", rate=rate, options=dict(_ENCODER))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index, frame in enumerate(source.decode(shown)):
            if index % step == 0:
                small = frame.reformat(width=width, height=height, format="yuv420p", interpolation="AREA")
                small.pts, small.time_base = index // step, 1 / rate
                out.mux(stream.encode(small))
        out.mux(stream.encode())
