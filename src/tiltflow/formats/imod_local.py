"""IMOD's local alignments, `NAMElocal.xf`, as tiltalign writes them and `tilt` reads them (LOCALFILE).

The first line is `nx ny x0 y0 dx dy ifx pixel ifz`: areas along x and y, the centre of the first and their spacing in pixels of the
stack that was tracked, whether x tilts and z factors follow, and the size of that pixel in Å (older files end after `dy`).  For each
area, x fastest, there follow the changes of tilt, ten a line; where they are given, changes of the x tilt, and pairs of z factors,
three pairs a line; and a transform a view, about the image centre, from locally to globally aligned coordinates: the inverse of
:attr:`tiltflow.model.LocalAlignment.transforms`.  (In a recorded run the transforms move points by what the global fit leaves of them,
and not by its opposite.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.errors import FormatError
from tiltflow.formats.foreign_alignment import read_text
from tiltflow.model import LocalAlignment

Floats = NDArray[np.float64]

_LEAST_HEAD, _PIXEL, _X_TILTS, _Z_FACTORS = 6, 7, 6, 8
_LEAST_X_TILT_DEG = 0.05
"""A change of the x tilt below this moves nothing by a tenth of a pixel at 100 pixels of height."""


def read_local_alignment(
    path: Path, views: int, image_size: tuple[int, int], pixel_size_angstrom: float
) -> tuple[LocalAlignment | None, tuple[str, ...]]:
    """Return the areas in raw pixels, and notes on what is not taken over; no areas where they cannot be followed without it.

    Parameters
    ----------
    views
        Number of views of the file.
    image_size
        Width and height of the aligned image, raw pixels.
    pixel_size_angstrom
        Of a raw pixel.

    Raises
    ------
    LocationError, FormatError
        If it cannot be read, or its numbers are not those of so many views.
    """
    lines = read_text(path, "a file of local alignments").split("\n", 1)
    try:
        head = [float(word) for word in lines[0].split()]
        numbers = np.array(lines[1].split() if len(lines) > 1 else [], float)
    except ValueError as error:
        raise FormatError(f"{path}: is not IMOD's file of local alignments: {error}") from error
    if len(head) < _LEAST_HEAD or not np.isfinite(head).all() or min(head[:2]) < 1:
        raise FormatError(f"{path}, line 1: {lines[0].strip()[:80]!r} does not begin with nx ny x0 y0 dx dy")
    if not np.isfinite(numbers).all():
        raise FormatError(f"{path}: holds numbers that are not finite")
    nx, ny = int(head[0]), int(head[1])
    x_tilts, z_factors = (len(head) > place and head[place] > 0 for place in (_X_TILTS, _Z_FACTORS))
    of_area = views * (1 + x_tilts + 2 * z_factors + 6)
    if numbers.size != nx * ny * of_area:
        raise FormatError(
            f"{path}: has {numbers.size} numbers after its first line; {nx} x {ny} areas of {views} views take {nx * ny * of_area}. "
            f"It belongs to a stack of another length, or is cut off"
        )
    areas = numbers.reshape(nx * ny, of_area)
    turned = areas[:, views : 2 * views] if x_tilts else np.zeros((nx * ny, views))
    if np.abs(turned).max() > _LEAST_X_TILT_DEG:
        return None, (f"{path.name}: its areas are tilted about x, which tiltflow cannot follow; the global alignment is used",)
    notes = (f"{path.name}: the z factors of areas are not taken over",) if z_factors else ()
    scale = head[_PIXEL] / pixel_size_angstrom if len(head) > _PIXEL and head[_PIXEL] > 0 else 1.0
    six = areas[:, -6 * views :].reshape(nx * ny, views, 6)
    transforms = np.concatenate([six[..., :4].reshape(nx * ny, views, 2, 2), scale * six[..., 4:, None]], axis=-1)
    if not np.linalg.det(transforms[..., :2]).all():
        raise FormatError(f"{path}: a transform of an area has no inverse: its matrix maps the image to a line")
    return LocalAlignment(
        centre_px=_centres(nx, ny, head[2:6], scale) - np.array(image_size) / 2,
        grid=(nx, ny),
        transforms=geometry.invert(transforms),
        delta_tilt_deg=areas[:, :views].copy(),
        tracks=np.zeros(nx * ny, np.int64),
    ), notes


def _centres(nx: int, ny: int, start_step: list[float], scale: float) -> Floats:
    """Return `(areas, 2)`: centres in raw pixels from the corner of the image, x fastest."""
    x0, y0, dx, dy = start_step
    y, x = np.mgrid[0:ny, 0:nx]
    return scale * np.stack([x0 + dx * x.ravel(), y0 + dy * y.ravel()], axis=1)
