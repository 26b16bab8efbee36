"""Pictures: the key image and its thumbnail.

The key image is what `mrc2tif -j -C 0,255` makes of the middle view of the aligned stack once all views have a common mean; the
thumbnail is that picture within 300 x 300, sharpened.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tiltflow.atomic_write import write_bytes
from tiltflow.errors import StageError

KEY_IMAGE_QUALITY = 75
THUMBNAIL_QUALITY = 70
THUMBNAIL_SIDE = 300


def write_jpeg(path: Path, picture: NDArray[np.uint8], *, quality: int = KEY_IMAGE_QUALITY) -> None:
    """Write a greyscale picture, `(ny, nx)` with the top row first."""
    write_bytes(path, jpeg(Image.fromarray(picture), quality))


def jpeg(picture: Image.Image, quality: int) -> memoryview:
    """Return a picture as the contents of a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getbuffer()


def make_thumbnail(picture: Path, path: Path) -> tuple[int, int]:
    """Write a picture made small enough for 300 x 300; return its width and height.  It is never enlarged.

    Raises
    ------
    StageError
        If the picture cannot be read.
    """
    try:
        with Image.open(picture) as opened:
            image = opened.convert("L")
    except OSError as error:
        raise StageError(f"{picture}: cannot be read as a picture ({error}); make the key image again") from error
    if max(image.size) > THUMBNAIL_SIDE:
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
    write_bytes(path, jpeg(image.filter(ImageFilter.SHARPEN), THUMBNAIL_QUALITY))
    return image.size
