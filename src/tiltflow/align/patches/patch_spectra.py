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
from tiltflow.kernels.patches import cut_window, take_cells
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]
Spectra = NDArray[np.complex64]
"""Transforms of one patch, `(bins, views, cells of a bin)`; 0 where a bin has fewer cells."""

_BANDS_ALONG_Y = 5
"""Ranges of the magnitude of y frequencies that share a covariance."""
_FEWEST_PIXELS = 16
"""Least side of a window, pixels."""
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
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    x: Floats
    y: Floats
    valid: NDArray[np.bool_]

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
    return FrequencyCells(row[place], column[place], fx[column[place]], fy[row[place]], valid)


def patch_spectra(level: Level, geometry: Geometry, cells: FrequencyCells, shape: tuple[int, int], threads: int) -> list[Spectra]:
    """Return the whitened transforms of each patch: every view's own power spectrum is divided out.

    `geometry` holds the views and the patches' centres in raw pixels, both from the image centre.
    """
    ny, nx = shape
    window = np.outer(taper(ny), taper(nx))
    energy = np.sqrt(float((window.astype(float) ** 2).sum()))
    jacobians = geometry.point_jacobians()
    middle = np.array([nx - 1, ny - 1]) / 2
    centre = np.array(level.images.shape[:0:-1]) / 2 - 0.5
    patches = len(geometry.points)
    out = np.empty((patches, len(cells.row), len(jacobians), cells.row.shape[1]), np.complex64)
    corners = np.array([(x, y) for x in (-1, 1) for y in (-1, 1)]) * (centre + 0.5)
    in_plane = corners @ np.swapaxes(np.linalg.inv(jacobians[..., :2]), 1, 2)
    reach = np.stack([in_plane.min(axis=1), in_plane.max(axis=1)], axis=1)
    row_frequency, column_frequency = scipy.fft.fftfreq(ny), scipy.fft.rfftfreq(nx)

    def work(view: int) -> None:
        plane = jacobians[view, :, :2]
        seen = np.linalg.solve(plane.T, np.stack([cells.x.ravel(), cells.y.ravel()]))
        power = np.interp(np.hypot(*seen) * level.bin, level.frequency, level.power[view], right=np.inf)
        amplitude = np.sqrt(np.maximum(power, 1e-12) / abs(np.linalg.det(plane))).reshape(cells.x.shape) * energy
        factor = np.where(cells.valid, 1 / amplitude, 0.0).astype(np.float32)
        # Windows overlap: the plane is resampled once, and windows lie at its pixels; phases make good the rest of a pixel.
        seen_at = (geometry.points @ jacobians[view].T + geometry.views[view, :2]) / level.bin
        corner = np.linalg.solve(plane, seen_at.T).T - middle
        corner = np.clip(corner, reach[view, 0] - 2 * middle - 2, reach[view, 1] + 2)  # beyond that a window holds no pixel anyway
        first = np.floor(corner.min(axis=0))
        pixel = np.round(corner - first).astype(int)
        rest = corner - first - pixel
        resampled = np.empty((pixel[:, 1].max() + ny, pixel[:, 0].max() + nx), np.float32)
        cut_window(level.images[view], centre + plane @ first, plane, resampled)
        windows = np.stack([resampled[y : y + ny, x : x + nx] for x, y in pixel]) * window
        phases = (np.exp(2j * np.pi * rest[:, 1:] * row_frequency), np.exp(2j * np.pi * rest[:, :1] * column_frequency))
        by_row, by_column = (each.astype(np.complex64) for each in phases)
        take_cells(scipy.fft.rfft2(windows), cells.row, cells.column, factor, by_row, by_column, view, out)

    for _ in map_threads(work, range(len(jacobians)), threads):
        pass
    return list(out)


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
