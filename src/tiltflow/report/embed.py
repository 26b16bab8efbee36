"""Files put into a page, so that it is whole wherever it goes: by e-mail, on a stick, without a network."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from PIL import Image as Pillow
from PIL import ImageOps

_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}
_QUALITY = 80
_CUTOFF_PERCENT = 0.3


@dataclass(frozen=True, slots=True)
class Embedded:
    """A file as the page refers to it: `data:` if it is in the page, else where it lies beside it."""

    source: str
    inside: bool


class Embedder:
    """Puts files of one folder into a page until it has its size.

    Parameters
    ----------
    folder
        Where the page lies.  Nothing outside of it is ever embedded or linked, whatever the record says.
    budget
        Bytes that may be embedded.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder = folder
        self._left = budget

    def spend(self, size: int) -> None:
        """Take bytes off the budget that the page needs for something else."""
        self._left -= size

    def file(self, relative: str) -> Embedded | None:
        """Return a picture or movie of the folder, embedded if there is room; None if it is not there."""
        path = self.find(relative)
        if path is None or path.suffix.lower() not in _TYPES:
            return None
        size = 4 * -(-path.stat().st_size // 3)
        if size > self._left:
            return Embedded(quote(relative), inside=False)
        self._left -= size
        return Embedded(data_uri(path.read_bytes(), _TYPES[path.suffix.lower()]), inside=True)

    def picture(self, relative: str, longest_side: int) -> Embedded | None:
        """Return a picture of the folder with its contrast stretched, embedded no larger than so many pixels.

        None if it is not there or is no picture.
        """
        path = self.find(relative)
        if path is None:
            return None
        try:
            with Pillow.open(path) as opened:
                small = opened.convert("L")
        except OSError:
            return None
        small.thumbnail((longest_side, longest_side))
        small = ImageOps.autocontrast(small, cutoff=_CUTOFF_PERCENT)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=_QUALITY)
        self._left -= 4 * -(-buffer.tell() // 3)
        return Embedded(data_uri(buffer.getvalue(), "image/jpeg"), inside=True)

    def find(self, relative: str, *, folders: bool = False) -> Path | None:
        """Return a file of the folder, or with `folders` a folder in it; None for what is not there or not inside."""
        parts = PurePosixPath(relative)
        if parts.is_absolute() or ".." in parts.parts:
            return None
        path = self._folder / parts
        there = path.is_file() or (folders and path.is_dir())
        return path if there and path.resolve().is_relative_to(self._folder.resolve()) else None


def data_uri(content: bytes, media_type: str) -> str:
    """Return content as a `data:` address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
