"""Fourier transforms of patches, in the plane of the specimen.

A window is cut in the plane z of its patch: what the cosine stretch of IMOD's tiltxcorr does for the whole view, with the rotation,
magnification and height that are known so far.  There a detail at height h above the plane moves by h tan(tilt), and nothing else
moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.patches.patch_views import Level
from tiltflow.errors import StageError
from tiltflow.kernels.patches import cut_window, take_cells, turn_cells
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]
Spectra = NDArray[np.complex64]
"""Transforms of one patch, `(bins, views, cells of a bin)`; 0 where a bin has fewer cells."""

_BANDS_ALONG_Y = 5
"""Ranges of the magnitude of y frequencies that share a covariance."""
_FEWEST_PIXELS = 16
"""Least side of a window, pixels."""
_STILL = 0.1
"""Periods of the highest frequency that the corner of a window may have moved against its middle, before windows are cut anew."""
_MOST_MOVED = 0.02
"""Part of a window's smaller side that it may move by; its taper moves with what it holds."""
_TAPER = 0.25
"""Fraction of a window at each side that is tapered."""


@dataclass(frozen=True, slots=True, eq=False)
class FrequencyCells:
    """The frequencies that are compared, half of the plane, in bins of one x frequency and a range of the magnitude of y.

    Attributes
    ----------
    row, column
        `(bins, cells)` where a cell lies in the real transform of a window.
    x, y
        `(bins, cells)` frequencies, cycles per raw pixel of the specimen.
    valid
        `(bins, cells)` False where a bin has fewer cells.
    band
        `(bins,)` number of the range of y frequencies.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    x: Floats
    y: Floats
    valid: NDArray[np.bool_]
    band: NDArray[np.int64]

    @property
    def count(self) -> NDArray[np.int64]:
        """Cells of each bin."""
        return np.asarray(self.valid.sum(axis=1))

    @property
    def bin_x(self) -> Floats:
        """The x frequency of each bin."""
        return np.asarray(self.x[:, 0])

    @property
    def bin_y(self) -> Floats:
        """The mean magnitude of the y frequency of each bin."""
        return np.asarray(np.average(np.abs(self.y), axis=1, weights=self.valid))


def window_shape(size_px: tuple[int, int], binning: int) -> tuple[int, int]:
    """Return `(ny, nx)` of a window of `size_px` (x, y) at a binning: lengths whose transform is fast."""
    nx, ny = (scipy.fft.next_fast_len(max(size // binning, _FEWEST_PIXELS), real=True) for size in size_px)
    return ny, nx


def choose_cells(shape: tuple[int, int], binning: int, lowest: float, highest: float) -> FrequencyCells:
    """Return the frequencies between `lowest` and `highest`, cycles per raw pixel, of windows of `shape`.

    Raises
    ------
    StageError
        If there are none, as the windows are too small for the filter.
    """
    fy, fx = scipy.fft.fftfreq(shape[0]) / binning, scipy.fft.rfftfreq(shape[1]) / binning
    radius = np.hypot(fx[None], fy[:, None])
    row, column = np.nonzero((radius >= lowest) & (radius <= highest) & ((fx[None] > 0) | (fy[:, None] > 0)))
    if not len(row):
        size = f"{shape[1] * binning} x {shape[0] * binning}"
        raise StageError(
            f"patches of {size} px hold no frequency between {lowest:.3g} and {highest:.3g} cycles per pixel: give larger patches "
            "(SizeOfPatchesXandY) or a wider filter (FilterRadius2)"
        )
    band = np.minimum((np.abs(fy[row]) / highest * _BANDS_ALONG_Y).astype(int), _BANDS_ALONG_Y - 1)
    key = column * _BANDS_ALONG_Y + band
    order = np.argsort(key, kind="stable")
    row, column, key = row[order], column[order], key[order]
    _, start, count = np.unique(key, return_index=True, return_counts=True)
    place = start[:, None] + np.minimum(np.arange(count.max()), count[:, None] - 1)
    valid = np.arange(count.max()) < count[:, None]
    return FrequencyCells(row[place], column[place], fx[column[place]], fy[row[place]], valid, key[start] % _BANDS_ALONG_Y)


@dataclass(frozen=True, slots=True, eq=False)
class PatchSpectra:
    """The whitened transforms of all patches, and the geometry in which their windows were cut.

    Attributes
    ----------
    level, cells
        What they were cut from, and their frequencies.
    plane
        `(views, 2, 2)` from the plane of the specimen to each view, as its windows were cut.
    seen, seen_as_cut
        `(views, patches, 2)` the places in the views that they stand for, and those where the windows were cut, pixels of the level from
        the image centre.
    cut
        `(views,)` whether windows of a view were cut for these, and not those of an earlier geometry turned.
    spectra
        `(patches, bins, views, cells)`.
    """

    level: Level
    cells: FrequencyCells
    plane: Floats
    seen: Floats
    seen_as_cut: Floats
    cut: NDArray[np.bool_]
    spectra: Spectra

    @property
    def each(self) -> list[Spectra]:
        """Those of each patch."""
        return list(self.spectra)


def patch_spectra(
    level: Level,
    geometry: Geometry,
    cells: FrequencyCells,
    shape: tuple[int, int],
    threads: int,
    before: PatchSpectra | None = None,
) -> PatchSpectra:
    """Return the whitened transforms of each patch: every view's own power spectrum is divided out.

    Parameters
    ----------
    level
        The views.
    geometry
        The views and the patches' centres in raw pixels, both from the image centre.
    cells
        The frequencies.
    shape
        `(ny, nx)` of a window.
    threads
        Views worked on at the same time.
    before
        Those of an earlier geometry, which may be changed.  If they are of the same level and frequencies, the windows of a view are cut
        anew only where its plane has turned or stretched since, or a patch moved, by what phases do not make good.
    """
    if before is not None and not (before.level is level and np.array_equal(before.cells.x, cells.x)):
        before = None
    cutter = _Cutter(level, geometry, cells, shape)
    views = len(cutter.plane)
    if before is None:
        out, cut = np.empty((len(geometry.points), len(cells.row), views, cells.row.shape[1]), np.complex64), np.ones(views, bool)
        plane, seen_as_cut = cutter.plane, cutter.seen
    else:
        out, cut = before.spectra, cutter.has_changed(before)
        plane, seen_as_cut = (
            np.where(cut[:, None, None], now, then)
            for now, then in ((cutter.plane, before.plane), (cutter.seen, before.seen_as_cut))
        )

    def work(view: int) -> None:
        if before is None or cut[view]:
            cutter.cut(view, out)
        else:
            cutter.turn(view, before, out)

    for _ in map_threads(work, range(views), threads):
        pass
    return PatchSpectra(level, cells, plane, cutter.seen, seen_as_cut, cut, out)


class _Cutter:
    """Cuts the windows of views at the places of the patches in a geometry."""

    def __init__(self, level: Level, geometry: Geometry, cells: FrequencyCells, shape: tuple[int, int]) -> None:
        self._level, self._cells, self._shape = level, cells, shape
        ny, nx = shape
        self._window = np.outer(taper(ny), taper(nx))
        self._energy = np.sqrt(float((self._window.astype(float) ** 2).sum()))
        jacobians = geometry.point_jacobians()
        self.plane = jacobians[..., :2]
        self.seen = (geometry.points @ np.swapaxes(jacobians, 1, 2) + geometry.views[:, None, :2]) / level.bin
        self._middle = np.array([nx - 1, ny - 1]) / 2
        self._centre = np.array(level.images.shape[:0:-1]) / 2 - 0.5
        corners = np.array([(x, y) for x in (-1, 1) for y in (-1, 1)]) * (self._centre + 0.5)
        in_plane = corners @ np.swapaxes(np.linalg.inv(self.plane), 1, 2)
        self._reach = np.stack([in_plane.min(axis=1), in_plane.max(axis=1)], axis=1)

    def has_changed(self, before: PatchSpectra) -> NDArray[np.bool_]:
        """Return the views, `(views,)`, whose windows before do not stand for those of now, turned by phases.

        A corner of a window has moved against its middle, or a window against what it holds, by more than `_STILL` periods of the
        highest frequency, or by more than `_MOST_MOVED` of its size.
        """
        corner = np.hypot(*(0.5 * np.array(self._shape)))
        bent = np.linalg.norm(np.linalg.inv(self.plane) @ before.plane - np.eye(2), axis=(1, 2)) * corner
        moved = np.abs(_in_plane(before.plane, self.seen - before.seen_as_cut)).max(axis=(1, 2))
        highest = float(np.hypot(self._cells.x, self._cells.y).max()) * self._level.bin
        return np.asarray((bent > _STILL / highest) | (moved > _MOST_MOVED * min(self._shape)))

    def cut(self, view: int, out: Spectra) -> None:
        """Write the transforms of a view's windows to `out` `(patches, bins, views, cells)`."""
        level, cells, plane, (ny, nx) = self._level, self._cells, self.plane[view], self._shape
        seen = np.linalg.solve(plane.T, np.stack([cells.x.ravel(), cells.y.ravel()]))
        power = np.interp(np.hypot(*seen) * level.bin, level.frequency, level.power[view], right=np.inf)
        amplitude = np.sqrt(np.maximum(power, 1e-12) / abs(np.linalg.det(plane))).reshape(cells.x.shape) * self._energy
        factor = np.where(cells.valid, 1 / amplitude, 0.0).astype(np.float32)
        # Windows overlap: the plane is resampled once, and windows lie at its pixels; phases make good the rest of a pixel.
        corner = _in_plane(plane, self.seen[view]) - self._middle
        nearest, furthest = self._reach[view, 0] - 2 * self._middle - 2, self._reach[view, 1] + 2
        corner = np.clip(corner, nearest, furthest)  # beyond that a window holds no pixel anyway
        first = np.floor(corner.min(axis=0))
        pixel = np.round(corner - first).astype(int)
        resampled = np.empty((pixel[:, 1].max() + ny, pixel[:, 0].max() + nx), np.float32)
        cut_window(level.images[view], self._centre + plane @ first, plane, resampled)
        windows = np.empty((len(pixel), ny, nx), np.float32)
        for (x, y), window in zip(pixel, windows, strict=True):
            np.multiply(resampled[y : y + ny, x : x + nx], self._window, out=window)
        by_row, by_column = self._phases(corner - first - pixel)
        take_cells(scipy.fft.rfft2(windows), cells.row, cells.column, factor, by_row, by_column, view, out)

    def turn(self, view: int, before: PatchSpectra, out: Spectra) -> None:
        """Move the windows of a view that are there by phases."""
        moved = _in_plane(before.plane[view], self.seen[view] - before.seen[view])
        turn_cells(self._cells.row, self._cells.column, *self._phases(moved), view, out)

    def _phases(self, moved: Floats) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        """Return the factors by row and column of windows that begin later by `moved` `(patches, 2)`, pixels."""
        ny, nx = self._shape
        by_row = np.exp(2j * np.pi * moved[:, 1:] * scipy.fft.fftfreq(ny))
        by_column = np.exp(2j * np.pi * moved[:, :1] * scipy.fft.rfftfreq(nx))
        return by_row.astype(np.complex64), by_column.astype(np.complex64)


def _in_plane(plane: Floats, seen: Floats) -> Floats:
    """Return displacements in views, `(..., n, 2)`, as displacements in the plane of the specimen; `plane` is `(..., 2, 2)`."""
    return np.asarray(seen @ np.swapaxes(np.linalg.inv(plane), -1, -2))


def independent_fraction(shape: tuple[int, int]) -> float:
    """Return the fraction of the frequencies of a tapered window that are independent: the taper mixes neighbours."""
    fraction = 1.0
    for n in shape:
        square = taper(n).astype(float) ** 2
        fraction *= float(square.sum() ** 2 / (n * (square**2).sum()))
    return fraction


def taper(n: int) -> NDArray[np.float32]:
    """Return the window with cosine tapers at both ends, `(n,)`."""
    place = (np.arange(n) + 0.5) / n
    edge = np.minimum(np.minimum(place, 1 - place) / _TAPER, 1.0)
    return (0.5 - 0.5 * np.cos(np.pi * edge)).astype(np.float32)
