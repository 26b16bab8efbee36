"""Trimming and reorienting the volume: from XZ slices along the tilt axis, as back-projection makes them, to XY slices along z.

Corresponds to IMOD's `trimvol`, slab by slab while the volume is made, so that no untrimmed file is needed:

    reorient 2 (turn about x):  out[z, y, x] = full[y, nz - 1 - z, x]
    reorient 1 (swap y and z):  out[z, y, x] = full[y, z, x]
    reorient 0:                 out = full

A volume is scaled to bytes by the contrast of its middle, as IMOD's `findcontrast` does, in a second pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import ParameterError

Index = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimParams:
    """How the volume is trimmed and reoriented; defaults as IMOD's `trimvol` under batchruntomo.

    Attributes
    ----------
    reorient
        0 leaves slices along the tilt axis, 1 swaps y and z, 2 turns about x (`runtime.Trimvol.any.reorient`).
    x_range, y_range, z_range
        First and last pixel kept of the volume before it is turned, counted from 1 (`trimvol -x -y -z`): columns, rows (through
        the thickness) and slices (along the tilt axis).  None for all.  Columns and rows beyond it are filled.
    size_x, size_y, thickness
        Size kept about the centre of the turned volume, in pixels, or as a fraction if at most 1.  None for all.
    to_bytes
        Scale to bytes by the contrast of the middle (:class:`ByteContrast`).
    contrast_size
        Size along x, y and z of that middle, in pixels, or as a fraction if at most 1 (`scaleFromX`, `scaleFromY`, `scaleFromZ`).
        80 % of the area and the middle third in z are eTomo's.
    """

    reorient: int = 2
    x_range: tuple[int, int] | None = None
    y_range: tuple[int, int] | None = None
    z_range: tuple[int, int] | None = None
    size_x: float | None = None
    size_y: float | None = None
    thickness: float | None = None
    to_bytes: bool = False
    contrast_size: tuple[float, float, float] = (0.8, 0.8, 1 / 3)

    def __post_init__(self) -> None:
        if min(self.contrast_size) <= 0:
            raise ParameterError(f"contrast from a middle of {self.contrast_size}: give pixels, or fractions of the whole")
        if self.reorient not in (0, 1, 2):
            raise ParameterError(f"reorient {self.reorient}: give 0 (leave), 1 (swap y and z) or 2 (turn about x)")


class Trim:
    """The place of each slab of the full volume in the trimmed one.

    Parameters
    ----------
    full_shape
        `(ny, nz, nx)`: slices along the tilt axis, rows through the thickness, columns.
    """

    def __init__(self, full_shape: tuple[int, int, int], params: TrimParams) -> None:
        ny, nz, nx = full_shape
        self.reorient = params.reorient
        self.full_shape = full_shape
        self.slices = _kept("z_range", ny, params.z_range, "size_y", params.size_y)
        self.rows = _kept("y_range", nz, params.y_range, "thickness", params.thickness)
        self.columns = _kept("x_range", nx, params.x_range, "size_x", params.size_x)
        if self.slices[0] < 0 or self.slices[1] > ny:
            raise ParameterError(f"z_range {params.z_range} of a volume of {ny} slices: it must lie within 1 and {ny}")

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """`(slices, rows, columns)` of the trimmed volume."""
        along, through, across = (last - first for first, last in (self.slices, self.rows, self.columns))
        return (along, through, across) if self.reorient == 0 else (through, along, across)

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is cut away or added."""
        return (self.slices, self.rows, self.columns) == tuple((0, n) for n in self.full_shape)

    @property
    def z_axis(self) -> int:
        """Axis of the trimmed volume that runs along the beam."""
        return 1 if self.reorient == 0 else 0

    def place(self, y0: int, slab: NDArray[Any]) -> tuple[Index, NDArray[Any]] | None:
        """Return the index into the trimmed volume and the block that goes there; None if all of the slab is cut away.

        Parameters
        ----------
        y0
            The first slice of the slab in the full volume.
        slab
            `(slices, nz, nx)`.
        """
        first, last = max(self.slices[0], y0), min(self.slices[1], y0 + len(slab))
        if first >= last:
            return None
        block = self._cut(slab[first - y0 : last - y0])
        along = slice(first - self.slices[0], last - self.slices[0])
        if self.reorient == 0:
            return (along, slice(None), slice(None)), block
        if self.reorient == 2:
            block = block[:, ::-1]
        return (slice(None), along, slice(None)), block.transpose(1, 0, 2)

    def _cut(self, slab: NDArray[Any]) -> NDArray[Any]:
        """Return the rows and columns kept; those beyond the volume have the mean of their slice's kept rows."""
        _, nz, nx = self.full_shape
        (r0, r1), (c0, c1) = self.rows, self.columns
        rows, columns = slice(max(r0, 0), min(r1, nz)), slice(max(c0, 0), min(c1, nx))
        inner = slab[:, rows, columns]
        if (r0, c0) == (rows.start, columns.start) and (r1, c1) == (rows.stop, columns.stop):
            return inner
        mean = slab[:, rows].mean(axis=(1, 2), dtype=np.float64)
        if np.issubdtype(slab.dtype, np.integer):
            mean = np.floor(mean + 0.5)
        out = np.empty((len(slab), r1 - r0, c1 - c0), slab.dtype)
        out[...] = mean[:, None, None]
        out[:, rows.start - r0 : rows.stop - r0, columns.start - c0 : columns.stop - c0] = inner
        return out


def _kept(range_name: str, n: int, wanted: tuple[int, int] | None, size_name: str, size: float | None) -> tuple[int, int]:
    """Return the first and one past the last index kept of `n`, counted from 0."""
    if wanted is not None:
        first, last = wanted[0] - 1, wanted[1]
        if first >= last or first >= n or last <= 0:
            raise ParameterError(f"{range_name} {wanted} of {n} pixels keeps nothing: give first and last, counted from 1")
        return first, last
    if size is None:
        return 0, n
    pixels = round(size * n) if size <= 1 else round(size)
    if pixels < 1:
        raise ParameterError(f"{size_name} {size:g} of {n} pixels keeps nothing: give pixels, or a fraction of the whole")
    pixels = min(pixels, n)
    first = (n - pixels) // 2
    return first, first + pixels


class ByteContrast:
    """The grey values of black and white, from the middle of the volume.

    As many voxels are darker than black, and as many brighter than white, as the middle has slices in z: one a slice, as IMOD's
    `findcontrast` truncates under eTomo.

    Parameters
    ----------
    full_shape
        `(ny, nz, nx)` of the full volume.
    size
        Of the middle along x, y and z, as `contrast_size` of :class:`TrimParams`.
    """

    def __init__(self, full_shape: tuple[int, int, int], size: tuple[float, float, float] = TrimParams().contrast_size) -> None:
        ny, nz, nx = full_shape
        (self._x, self._y, self._z) = (_middle(n, part) for n, part in zip((nx, ny, nz), size, strict=True))
        self._kept = self._z.stop - self._z.start + 1
        self._lowest: NDArray[Any] = np.empty(0)
        self._highest: NDArray[Any] = np.empty(0)

    def add(self, y0: int, slab: NDArray[Any]) -> None:
        """Take in a slab `(slices, nz, nx)` whose first slice is y0."""
        first, last = max(self._y.start, y0) - y0, min(self._y.stop, y0 + len(slab)) - y0
        if first < last:
            middle = slab[first:last, self._z, self._x].ravel()
            count = min(self._kept, middle.size)
            self._lowest = np.sort(np.append(self._lowest, np.partition(middle, count - 1)[:count]))[: self._kept]
            self._highest = np.sort(np.append(self._highest, np.partition(middle, -count)[-count:]))[-self._kept :]

    def limits(self) -> tuple[float, float]:
        """Return the grey values that become black and white."""
        if not self._lowest.size:
            raise ParameterError("no grey value was counted: the volume is empty, so that there is no contrast to scale by")
        black, white = float(self._lowest.max()), float(self._highest.min())
        return (black, white) if black < white else (black, black + 1)


def _middle(n: int, size: float) -> slice:
    """Return the middle of `n` pixels: so many of them, or a fraction if at most 1."""
    pixels = min(max(round(size * n) if size <= 1 else round(size), 1), n)
    return slice((n - pixels) // 2, (n - pixels) // 2 + pixels)


def scale_to_bytes(block: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Return grey values as bytes: `black` and below 0, `white` and above 255."""
    scaled = (block.astype(np.float32) - np.float32(black)) * np.float32(255 / (white - black))
    return np.asarray(np.clip(np.floor(scaled + 0.5), 0, 255).astype(np.uint8))
