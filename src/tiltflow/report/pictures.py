"""Small pictures for the page, made once from the volume and the raw series: grey JPEGs with a scale bar, top row first."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tiltflow.atomic_write import write_bytes
from tiltflow.errors import StageError
from tiltflow.record import PictureEntry
from tiltflow.report.measure import VolumeMeasure

FOLDER = "report"
"""Beside the record: where the pictures of a series lie."""

LONGEST_SIDE = 480
LARGEST_SIDE = 1024
"""Of the XY slice, which the page opens with and shows large."""

_QUALITY = 85
_GREY_SIGMAS = 4.0
_NORMAL_QUARTILES = 1.349
_BLACK_WHITE = (0.3, 99.7)
_BAR_SHARE = 0.25
_GAP = 40
"""The pictures of a seam are apart by their width over this."""
_BEHIND_SIDE, _BEHIND_STEP, _FADED = 320, 8, (24, 168)

Name = Literal["zero_tilt", "slice_xy", "slice_xz", "slice_yz", "seam"]


def write_view(folder: Path, view: NDArray[Any], pixel_nm: float, tilt_deg: float) -> PictureEntry:
    """Write one raw view, `(y, x)`, as it came from the microscope, into the pictures beside the record in `folder`."""
    text = f"The raw view at {round(tilt_deg, 1) + 0.0:.1f}° tilt"
    return _write(folder, "zero_tilt", np.asarray(view, np.float32), (pixel_nm, pixel_nm), text)


def write_seam(
    folder: Path, written: NDArray[np.float32], stitched: NDArray[np.float32], pixel_nm: float, what: str
) -> PictureEntry:
    """Write a seam of a montage twice, `(y, x)` each: with its pieces where they were written, and stitched."""
    gap = np.full((written.shape[0], max(written.shape[1] // _GAP, 1)), np.nan, np.float32)
    both = np.hstack([written, gap, stitched])
    text = f"The worst seam, {what}; left: pieces where they were written, right: as stitched"
    return _write(folder, "seam", both, (pixel_nm, pixel_nm), text, LARGEST_SIDE)


def write_slices(folder: Path, measured: VolumeMeasure, voxel_nm: float, how: str = "") -> list[PictureEntry]:
    """Write the slices through the middle of a volume into the pictures beside the record in `folder`; `how` they were made, if given."""
    z_nm = voxel_nm * measured.z_step
    flat, deep = (voxel_nm, voxel_nm), (z_nm, voxel_nm)
    height = round((measured.xy_section + 0.5 - measured.shape[0] / 2) * voxel_nm) + 0
    where = f"{'through the specimen' if measured.xy_in_specimen else 'of the volume'} at z = {height} nm"
    mean = f"{how + ', ' if how else ''}mean over about 10 nm"
    flat_how = f"{how}; " if how else ""
    return [
        _write(folder, "slice_xy", measured.xy, flat, f"XY slice {where} ({flat_how}x to the right, y up)", LARGEST_SIDE),
        _write(
            folder,
            "slice_xz",
            measured.xz,
            deep,
            f"XZ slice, perpendicular to the tilt axis, {mean} (x to the right, z up)",
        ),
        _write(folder, "slice_yz", measured.yz, deep, f"YZ slice, along the tilt axis, {mean} (y to the right, z up)"),
    ]


def small_view(path: Path) -> NDArray[np.uint8] | None:
    """Return a picture `(y, x)` to draw on: faded, small, and of few grey values, so that it costs little; None if it is none."""
    try:
        with Pillow.open(path) as opened:
            small = opened.convert("L")
    except OSError:
        return None
    small.thumbnail((_BEHIND_SIDE, _BEHIND_SIDE), Pillow.Resampling.BOX)
    faded = _FADED[0] + np.asarray(small, np.float32) * ((_FADED[1] - _FADED[0]) / 255)
    return np.asarray(np.round(faded / _BEHIND_STEP) * _BEHIND_STEP, np.uint8)


def scale_bar(width_nm: float) -> float:
    """Return a round length, nm, for a bar in a picture of that width.

    >>> scale_bar(1234.0), scale_bar(90.0)
    (200.0, 20.0)
    """
    most = _BAR_SHARE * width_nm
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most)


def _write(
    folder: Path, name: Name, plane: NDArray[np.float32], step_nm: tuple[float, float], caption: str, longest: int = LONGEST_SIDE
) -> PictureEntry:
    """Write a plane whose rows and columns are `step_nm` apart, in true proportions."""
    rows, columns = plane.shape
    height_nm, width_nm = rows * step_nm[0], columns * step_nm[1]
    nm_per_pixel = max(*step_nm, width_nm / longest, height_nm / longest)
    size = (max(1, round(width_nm / nm_per_pixel)), max(1, round(height_nm / nm_per_pixel)))
    averaged = Pillow.fromarray(plane[::-1]).resize(size, Pillow.Resampling.BOX)
    bar_nm = scale_bar(width_nm)
    marked = _with_bar(_grey(np.array(averaged)), max(1, round(bar_nm / nm_per_pixel)))
    path = folder / FOLDER / f"{name}.jpg"
    buffer = io.BytesIO()
    Pillow.fromarray(marked).save(buffer, "JPEG", quality=_QUALITY)
    write_bytes(path, buffer.getbuffer())
    text = f"{caption}. Scale bar {bar_nm:g} nm."
    return PictureEntry(name=name, path=f"{FOLDER}/{path.name}", width=size[0], height=size[1], caption=text)


def exposure(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return what is shown as black and as white: what most values span, so that gold, which is far darker, is black.

    Raises
    ------
    StageError
        If none of the values is a number.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise StageError("a picture holds no usable number")
    low, high = np.percentile(finite, _BLACK_WHITE).tolist()
    first, middle, third = np.percentile(finite, (25, 50, 75)).tolist()
    reach = _GREY_SIGMAS * (third - first) / _NORMAL_QUARTILES
    if reach > 0:
        low, high = max(low, middle - reach), min(high, middle + reach)
    return low, high


def _grey(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a plane in grey."""
    low, high = exposure(plane)
    scaled = (np.nan_to_num(plane, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    return np.asarray(np.clip(scaled, 0, 1) * 255 + 0.5, np.uint8)


def _with_bar(picture: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """Draw a white bar with a black rim into the lower right corner of a picture that is large enough."""
    height, width = picture.shape
    thick, margin = max(2, width // 120), max(3, width // 50)
    if height < 3 * (thick + margin) or length + 2 * margin > width:
        return picture
    bottom, right = height - margin, width - margin
    picture[bottom - thick - 1 : bottom + 1, right - length - 1 : right + 1] = 0
    picture[bottom - thick : bottom, right - length : right] = 255
    return picture
