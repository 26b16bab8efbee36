"""TIFF files as microscopes write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from tiltflow.formats.tiff import open_tiff

Images = NDArray[Any]

SERIALEM = "SerialEM: lamella 3\n    Tilt axis angle = -4.3, binning = 1  spot = 8  camera = 0"
"""Titles in a file of SerialEM."""


def write(path: Path, bottom_up: Images, **options: Any) -> Path:
    """Write views as a program would that shows them the right way up: the top row first."""
    tifffile.imwrite(path, bottom_up[:, ::-1], **{"photometric": "minisblack"} | options)
    return path


def write_apart(path: Path, bottom_up: Images, **options: Any) -> Path:
    """Write views one after the other, each with its directory, as SerialEM does while it acquires them."""
    with tifffile.TiffWriter(path) as out:
        for image in bottom_up:
            out.write(image[::-1], contiguous=False, metadata=None, **{"photometric": "minisblack"} | options)
    return path


def views_of(path: Path) -> Images:
    with open_tiff(path) as stack:
        return np.stack([stack[view] for view in range(stack.shape[0])])
