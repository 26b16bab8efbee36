"""The views of half volumes, and the Fourier shell correlation between two of them.

Two volumes from disjoint halves of the views, or of the frames of all views, share the specimen and not the noise.  The shell
correlation (Harauz and van Heel 1986) shows up to which frequency they correlate; a network trained to predict one from the other
denoises (Buchholz et al. 2019, doi:10.1109/ISBI.2019.8759519).

The correlation is summed over tiles of the volumes, tapered at their edges, so that memory does not grow with the volume.  Volumes
of half of the views are half as well sampled in angle as that of all views, so that the resolution is underestimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError, StageError
from tiltflow.parallel import map_threads
from tiltflow.reconstruct.line_weighting import chosen_views

Floats = NDArray[np.float64]

THRESHOLD = 0.143
"""Correlation at the resolution of independent halves: Rosenthal and Henderson 2003, doi:10.1016/j.jmb.2003.07.013."""
_NOISE_SD = 3.0
"""Standard deviations of the correlation of noise, `1 / sqrt(voxels)`, that must lie below a threshold for a shell to be used."""
_FEWEST_VIEWS = 4
"""Views that can be halved: two for each volume."""
_TILE = 128
"""Side of the boxes that are compared, voxels: a spectrum of 8 MB, and two frequencies to each of the shells.  64 shift the frequency
at the threshold by 9 %, as the taper takes more of each box (`benchmarks/sensitivity_volume.py`)."""
_SMALLEST_TILE = 8
"""Side of the smallest box, voxels, whose spectrum has three shells."""
_MARGIN = 0.1
"""Fraction of the volume at each end of y and x that is left out, as fewer views see it; 0.05 shift the frequency
at the threshold by 8 %, 0.2 do not."""
_SHELLS = 32
"""Shells between 0 and 0.5 cycles per voxel; 16 or 64 shift the frequency at the threshold by 3 and 11 %."""


class Volume(Protocol):
    """A volume that can be read in boxes: a memory-mapped file or an array, `(z, y, x)`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(nz, ny, nx)`."""

    def __getitem__(self, box: tuple[slice, slice, slice], /) -> NDArray[Any]:
        """Return the voxels of a box."""


@dataclass(frozen=True, slots=True, eq=False)
class ShellCorrelation:
    """The Fourier shell correlation of two half volumes.

    Attributes
    ----------
    frequency
        Middle of each shell, cycles per voxel, `(shells,)`.
    correlation
        Between the volumes in each shell, `(shells,)`; 0 in an empty one.
    voxels
        Fourier voxels in each shell, of all tiles, `(shells,)`.
    tiles
        Number of boxes that were compared.
    """

    frequency: Floats
    correlation: Floats
    voxels: NDArray[np.int64]
    tiles: int

    def resolution(self, threshold: float = THRESHOLD) -> float | None:
        """Return the frequency, cycles per voxel, at which the correlation first falls below a threshold; None if it never does.

        Shells with too few voxels for the correlation of noise to stay below the threshold are skipped.
        """
        used = np.flatnonzero(self.voxels >= (_NOISE_SD / threshold) ** 2)
        f, c = self.frequency[used], self.correlation[used]
        below = np.flatnonzero(c < threshold)
        if below.size == 0:
            return None
        k = int(below[0])
        if k == 0:
            return float(f[0])
        return float(f[k - 1] + (c[k - 1] - threshold) / (c[k - 1] - c[k]) * (f[k] - f[k - 1]))


def half_views(tilt_deg: ArrayLike, included: ArrayLike | None = None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which views belong to each half: alternate ones in the order of tilt, among those included.

    Parameters
    ----------
    tilt_deg
        `(views,)`, degrees.
    included
        `(views,)`: which views take part; None for all.

    Returns
    -------
    first, second
        `(views,)` each.

    Raises
    ------
    StageError
        If there are too few views.

    Examples
    --------
    >>> [half.tolist() for half in half_views([-1, 3, 0, 2])]
    [[True, False, False, True], [False, True, True, False]]
    """
    tilt = np.asarray(tilt_deg, np.float64)
    views = chosen_views(len(tilt), included)
    if len(views) < _FEWEST_VIEWS:
        raise StageError(f"{len(views)} views cannot be halved into two volumes: it takes at least {_FEWEST_VIEWS}")
    order = views[np.argsort(tilt[views], kind="stable")]
    first, second = np.zeros(len(tilt), bool), np.zeros(len(tilt), bool)
    first[order[::2]], second[order[1::2]] = True, True
    return first, second


def shell_correlation(
    first: Volume,
    second: Volume,
    *,
    tile: int = _TILE,
    margin: float = _MARGIN,
    shells: int = _SHELLS,
    threads: int = 1,
) -> ShellCorrelation:
    """Return the Fourier shell correlation of two volumes.

    Parameters
    ----------
    first, second
        `(z, y, x)`, of the same shape.
    tile
        Side of the boxes that are compared, voxels; an axis that is shorter is taken whole.
    margin
        Fraction of the volume at each end of y and x that is left out, as fewer views see it.
    shells
        Number of shells between 0 and 0.5 cycles per voxel.
    threads
        Boxes compared at the same time.

    Raises
    ------
    ParameterError
        If the shapes differ, or the volumes are too small.
    """
    if first.shape != second.shape:
        raise ParameterError(f"half volumes of {first.shape} and {second.shape} voxels: their shapes must be the same")
    margins = (0.0, margin, margin)
    axes = [_tiles(n, tile, m) for n, m in zip(first.shape, margins, strict=True)]
    boxes = [(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]

    def compare(box: tuple[slice, slice, slice]) -> Floats:
        a, b = (_spectrum(volume[box]) for volume in (first, second))
        shell = _shell(tuple(s.stop - s.start for s in box), shells)
        products = (a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2, np.ones(a.shape)
        return np.array([np.bincount(shell.ravel(), p.ravel().astype(np.float64), shells + 1)[:shells] for p in products])

    cross, power_a, power_b, voxels = np.sum(list(map_threads(compare, boxes, threads)), axis=0)
    norm = np.sqrt(power_a * power_b)
    correlation = np.where(norm > 0, cross / np.where(norm > 0, norm, 1), 0.0)
    return ShellCorrelation((np.arange(shells) + 0.5) * 0.5 / shells, correlation, voxels.astype(np.int64), len(boxes))


def _tiles(n: int, tile: int, margin: float) -> list[slice]:
    """Return slices of at most `tile`, evenly over an axis without its margins."""
    low = int(margin * n)
    high = n - low
    side = min(tile, high - low)
    if side < _SMALLEST_TILE:
        raise ParameterError(
            f"a volume with a side of {n} voxels is too small for a shell correlation: its boxes need {_SMALLEST_TILE}"
        )
    count = max((high - low) // side, 1)
    starts = np.linspace(low, high - side, count).astype(int)
    return [slice(int(s), int(s) + side) for s in starts]


def _spectrum(box: NDArray[Any]) -> NDArray[np.complex64]:
    """Return the half spectrum of a box, its mean subtracted and its edges tapered."""
    values = box.astype(np.float32)
    values -= values.mean(dtype=np.float64)
    for axis, n in enumerate(values.shape):
        taper = np.sin(np.pi * (np.arange(n) + 0.5) / n).astype(np.float32)
        values *= taper.reshape([-1 if i == axis else 1 for i in range(3)])
    return np.asarray(scipy.fft.rfftn(values))


def _shell(shape: tuple[int, ...], shells: int) -> NDArray[np.intp]:
    """Return the shell of every frequency of a half spectrum; the mean, and those beyond 0.5 cycles per voxel, have `shells`."""
    z, y = np.fft.fftfreq(shape[0])[:, None, None], np.fft.fftfreq(shape[1])[:, None]
    radius = np.sqrt(z**2 + y**2 + np.fft.rfftfreq(shape[2]) ** 2)
    shell: NDArray[np.intp] = np.minimum((radius * 2 * shells).astype(np.intp), shells)
    shell[0, 0, 0] = shells
    return shell
