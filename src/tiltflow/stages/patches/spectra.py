"""Fourier transforms of patches, in the plane of the specimen.

A window is cut in the plane z of its patch: what the cosine stretch of IMOD's tiltxcorr does for the whole view, with the rotation,
magnification and height that are known so far.  There a detail at height h above the plane moves by h tan(tilt), and nothing else moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from tiltflow.kernels.patches import cut_window
from tiltflow.parallel import map_threads
from tiltflow.stages.patches.views import Level
from tiltflow.stages.solve.normal import Geometry

Floats = NDArray[np.float64]

_BANDS_ALONG_Y = 14
_TAPER = 0.25
"""Fraction of a window at each side over which it fades."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The frequencies that are compared, half of the plane, sorted into bins of one x frequency and a range of y.

    Attributes
    ----------
    row, column
        `(cells,)` where a cell lies in the real transform of a window.
    x, y
        `(cells,)` frequencies, cycles per raw pixel of the specimen.
    start
        `(bins + 1,)` the cells of bin b are `start[b] : start[b + 1]`.
    bin_x, bin_y
        `(bins,)` frequencies of a bin, y by magnitude.
    twin
        `(bins,)` bins that differ only in the sign of y have the same number.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    x: Floats
    y: Floats
    start: NDArray[np.int64]
    bin_x: Floats
    bin_y: Floats
    twin: NDArray[np.int64]

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return len(self.bin_x)


def window_shape(size_px: tuple[int, int], binning: int) -> tuple[int, int]:
    """Return `(ny, nx)` of a window at a binning: lengths whose transform is fast."""
    return fft.next_fast_len(max(size_px[1] // binning, 16), real=True), fft.next_fast_len(
        max(size_px[0] // binning, 16), real=True
    )


def choose_cells(shape: tuple[int, int], binning: int, lowest: float, highest: float) -> Cells:
    """Return the frequencies between `lowest` and `highest`, cycles per raw pixel, of windows of `shape`."""
    fy, fx = fft.fftfreq(shape[0]) / binning, fft.rfftfreq(shape[1]) / binning
    radius = np.hypot(fx[None], fy[:, None])
    row, column = np.nonzero((radius >= lowest) & (radius <= highest) & ((fx[None] > 0) | (fy[:, None] > 0)))
    x, y = fx[column], fy[row]
    band = np.minimum((np.abs(y) / highest * _BANDS_ALONG_Y).astype(int), _BANDS_ALONG_Y - 1)
    key = (column * _BANDS_ALONG_Y + band) * 2 + (y < 0)
    order = np.argsort(key, kind="stable")
    row, column, x, y, key = row[order], column[order], x[order], y[order], key[order]
    start = np.concatenate([[0], np.nonzero(np.diff(key))[0] + 1, [len(key)]])
    mean_y = np.abs(np.add.reduceat(y, start[:-1])) / np.diff(start)
    twin = np.unique(key[start[:-1]] // 2, return_inverse=True)[1]
    return Cells(row, column, x, y, start, x[start[:-1]], mean_y, twin)


def patch_spectra(level: Level, geometry: Geometry, cells: Cells, shape: tuple[int, int], threads: int) -> NDArray[np.complex64]:
    """Return the whitened transforms `(views, cells, patches)`: every view's own power spectrum is divided out.

    `geometry` holds the views and the patches' centres in raw pixels, both from the image centre.
    """
    ny, nx = shape
    taper_y, taper_x = _taper(ny), _taper(nx)
    energy = np.sqrt(float((taper_y**2).sum()) * float((taper_x**2).sum()))
    jacobians = geometry.point_jacobians()
    middle = np.array([nx - 1, ny - 1]) / 2
    centre = np.array(level.images.shape[:0:-1]) / 2 - 0.5

    def work(view: int) -> NDArray[np.complex64]:
        plane = jacobians[view, :, :2]
        predicted = (geometry.points @ jacobians[view].T + geometry.views[view, :2]) / level.bin
        windows = np.empty((len(predicted), ny, nx), np.float32)
        for window, place in zip(windows, predicted, strict=True):
            cut_window(level.images[view], centre + place - plane @ middle, plane, taper_y, taper_x, window)
        seen = np.linalg.solve(plane.T, np.stack([cells.x, cells.y]))
        power = np.interp(np.hypot(*seen) * level.bin, level.frequency, level.power[view], right=np.inf)
        amplitude = np.sqrt(np.maximum(power, 1e-12) / abs(np.linalg.det(plane))) * energy
        spectra = fft.rfft2(windows)[:, cells.row, cells.column]
        return np.asarray((spectra / amplitude).T, np.complex64)

    return np.stack(list(map_threads(work, range(len(jacobians)), threads)))


def independent_fraction(shape: tuple[int, int]) -> float:
    """Return how many of the frequencies of a tapered window count: neighbours share what the taper mixes."""
    fraction = 1.0
    for n in shape:
        square = _taper(n).astype(float) ** 2
        fraction *= float(square.sum() ** 2 / (n * (square**2).sum()))
    return fraction


def _taper(n: int) -> NDArray[np.float32]:
    place = (np.arange(n) + 0.5) / n
    edge = np.minimum(np.minimum(place, 1 - place) / _TAPER, 1.0)
    return (0.5 - 0.5 * np.cos(np.pi * edge)).astype(np.float32)
