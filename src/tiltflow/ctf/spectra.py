"""Power spectra of the views of a tilted series: by distance from the tilt axis, direction and frequency.

A view is cut into tiles that overlap by half and are tapered by a Hann window.  Their periodograms are averaged over the tiles that
lie at about the same distance from the tilt axis, where the defocus is the same (a column), over sectors of direction, and over shells
of frequency.  That is all that is kept of the images: some hundred numbers a column, so that a series of any size takes a few megabytes.

Raw views serve better than aligned ones, whose interpolation dampens high frequencies; the frequencies go into the corners of the
square, to 0.7 cycles per pixel, because coarse pixels show the first zero there or nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.binning import bin_image
from tiltflow.errors import ParameterError
from tiltflow.kernels.spectra import add_power
from tiltflow.model import Stack
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

_TILE_NM = 128.0
"""Side of a tile.  The images of a point by the two sides of the spectrum lie 2 lambda D s apart, 24 nm at 6 µm and 1/nm, which must be
small against the tile; at 60 degrees the defocus changes by 60 nm (root mean square) within one, which must be small against 500."""
_LEAST_TILE, _MOST_TILE = 96, 1024
"""Pixels of a tile: fewer give shells too coarse for a ring of a defocus of 2 µm at a pixel of 1 nm."""
_MOST_TILES = 15
"""Tiles along a side of a view: images of 8 tiles overlapping by half are used fully, larger ones in part, at the same cost."""
_MOST_COLUMNS = 12
"""Columns of a view: at 60 degrees the defocus differs by a twelfth of the range between neighbours, 75 nm in a field of 512 nm."""
_SECTORS = 6
"""Sectors of 30 degrees in half a turn: astigmatism is a cosine of twice the angle, of which a sector keeps 95 %."""
_AXIS_CELLS = 1.5
"""Cells from the axes of a spectrum that are left out: the cell of what is the same in all rows or columns of the camera, and its
neighbour, into which the window spreads it."""
_CORNER = 0.69
"""Highest frequency, cycles per pixel: the last shells before the corner, at 0.707, hold a few cells."""
_STRONG_SD = 5.0
"""Standard deviations from the surroundings beyond which pixels, as they are or averaged, are x-rays, gold or dirt and are replaced by
their surroundings.  A bead of 10 nm has rings of its own, as far apart as those of a defocus of 4 µm, and stronger than those of ice."""
_GOLD_PIXEL_NM, _GOLD_MARGIN_NM = 2.0, 6.0
"""Pixels in which gold is looked for, and how much around it is replaced as well: its first fringes."""
_SURROUNDINGS_NM = 60.0
"""Side of the squares whose mean are the surroundings: several beads wide."""
_LEAST_SHARE = 1e-3
"""Part of the surroundings without gold below which they are not known, and taken as 0: such a tile is left out."""
_LEAST_KEPT = 0.5
"""Part of a tile that is left without gold, at least."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_LEAST_VARIANCE, _MOST_VARIANCE = 0.3, 3.0
"""Variance of a tile over the median of its view: tiles below are where the view was filled, those above show gold or an edge."""
_TILES_PER_INDEPENDENT = 4.0
"""Tiles that overlap by half along both sides to one that does not overlap: what they hold of independent noise."""


@dataclass(frozen=True, slots=True, eq=False)
class SeriesSpectra:
    """Mean power of the views, in any unit of each view.

    Attributes
    ----------
    power
        `(views, columns, sectors, shells)`.
    weight
        Independent cells that each is the mean of, 0 for none, of the same shape.
    s2
        Mean squared frequency of the shells, 1/nm², `(shells,)`.
    direction
        Middle of the sectors, radians counter-clockwise from x of the raw views, `(sectors,)`.
    u_nm
        Mean distance of the columns to the right of the tilt axis, nm, `(views, columns)`.
    spread_nm
        Root mean square of the distances that a column covers about its mean, nm, `(views, columns)`.
    tile_nm
        Side of a tile.
    """

    power: Floats
    weight: Floats
    s2: Floats
    direction: Floats
    u_nm: Floats
    spread_nm: Floats
    tile_nm: float

    def isotropic(self) -> SeriesSpectra:
        """Return the spectra averaged over all directions, in one sector."""
        weight = self.weight.sum(axis=2, keepdims=True)
        power = (self.weight * self.power).sum(axis=2, keepdims=True) / np.maximum(weight, 1e-9)
        return SeriesSpectra(power, weight, self.s2, np.zeros(1), self.u_nm, self.spread_nm, self.tile_nm)


@dataclass(frozen=True, slots=True, eq=False)
class _Classes:
    """Which class of sector and shell each cell of a tile's spectrum belongs to, and how many cells each has."""

    tile: int
    pixel_nm: float
    window: NDArray[np.float32]
    of_cell: NDArray[np.int32]
    cells: Floats
    s2: Floats


def series_spectra(
    stack: Stack,
    transforms: ArrayLike,
    pixel_nm: float,
    *,
    highest: float,
    threads: int = 1,
) -> SeriesSpectra:
    """Return the spectra of the views.

    Parameters
    ----------
    stack
        Raw or aligned views; held one a thread.
    transforms
        `(views, 2, 3)`, from these views to aligned ones, pixels (:mod:`tiltflow.geometry`).
    pixel_nm
        Size of a pixel.
    highest
        Highest frequency, 1/nm.
    threads
        Views worked on at the same time.

    Raises
    ------
    ParameterError
        If the images are smaller than a tile, or there is not one transform for each view.
    """
    xf = np.asarray(transforms, float)
    views, ny, nx = stack.shape
    if xf.shape != (views, 2, 3):
        raise ParameterError(f"transforms of shape {xf.shape} for {views} views: there must be one (2, 3) matrix a view")
    classes = _classes(tile_side(min(ny, nx), pixel_nm), pixel_nm, highest)
    centres = _tile_centres((ny, nx), classes.tile)
    u = geometry.apply(xf[:, None], centres - np.array([nx, ny]) / 2)[..., 0]
    columns = int(np.clip(np.ptp(u, axis=1).max() / (classes.tile / 2) + 1, 1, _MOST_COLUMNS))
    found = list(map_threads(lambda v: _view_spectra(stack[v], u[v], classes, centres, columns), range(views), threads))
    power, tiles, mean, spread = (np.stack(part) for part in zip(*found, strict=True))
    cells = classes.cells.reshape(_SECTORS, -1)
    weight = tiles[:, :, None, None] * cells / _TILES_PER_INDEPENDENT
    shape = (views, columns, _SECTORS, cells.shape[1])
    return SeriesSpectra(
        power=power.reshape(shape) / np.maximum(tiles[:, :, None, None] * cells, 1.0),
        weight=weight,
        s2=classes.s2,
        direction=(np.arange(_SECTORS) + 0.5) * np.pi / _SECTORS,
        u_nm=mean * pixel_nm,
        spread_nm=spread * pixel_nm,
        tile_nm=classes.tile * pixel_nm,
    )


def tile_side(shorter: int, pixel_nm: float) -> int:
    """Return the side of a tile, pixels, for views whose shorter side has so many.

    Raises
    ------
    ParameterError
        If the views are smaller than a tile.
    """
    wanted = int(np.clip(_TILE_NM / pixel_nm, _LEAST_TILE, _MOST_TILE))
    side = min(wanted, shorter // 2)
    if side < _LEAST_TILE // 2:
        raise ParameterError(f"views of {shorter} pixels are too small for spectra; they take {_LEAST_TILE} at least")
    return 2 * scipy.fft.next_fast_len(side // 2, real=True) if side // 2 * 2 == wanted else side // 2 * 2


def _classes(tile: int, pixel_nm: float, highest: float) -> _Classes:
    ky, kx = np.fft.fftfreq(tile, pixel_nm)[:, None], np.fft.rfftfreq(tile, pixel_nm)[None]
    s2 = kx**2 + ky**2
    shell = np.rint(np.sqrt(s2) * tile * pixel_nm).astype(np.int64)
    sector = (np.arctan2(ky, kx) % np.pi // (np.pi / _SECTORS)).astype(np.int64) % _SECTORS
    last = int(min(highest * tile * pixel_nm, _CORNER * tile))
    # Near the axes lies what is the same in all rows or columns of the camera, spread to the next cell by the window.
    off_axis = np.minimum(kx, np.abs(ky)) * tile * pixel_nm > _AXIS_CELLS
    used = (shell >= 1) & (shell <= last) & off_axis
    index = np.where(used, sector * last + shell - 1, -1)
    cells = np.bincount(index[used], minlength=_SECTORS * last).astype(float)
    mean = np.bincount(shell[used] - 1, s2[used], last) / np.maximum(np.bincount(shell[used] - 1, minlength=last), 1)
    hann = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    return _Classes(tile, pixel_nm, np.outer(hann, hann).astype(np.float32), index.astype(np.int32), cells, mean)


def _tile_centres(shape: tuple[int, int], tile: int) -> NDArray[np.int64]:
    """Return the centres of the tiles, `(tiles, 2)`: x and y, pixels from the corner."""
    along = []
    for side in shape[::-1]:
        count = int(np.clip(round((side - tile) / (tile / 2)) + 1, 1, _MOST_TILES))
        along.append(np.rint(np.linspace(tile // 2, side - tile // 2, count)).astype(np.int64))
    x, y = np.meshgrid(*along)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _without_gold(image: NDArray[np.float32], pixel_nm: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a view in which what is strong is replaced by its surroundings, and which pixels were kept."""
    factor = max(round(_GOLD_PIXEL_NM / pixel_nm), 1)
    small = bin_image(image, factor)
    ny, nx = small.shape
    side = max(round(_SURROUNDINGS_NM / (factor * pixel_nm)), 3)
    around = _blurred(small, side)
    strong = _is_strong(small - around)
    grown = scipy.ndimage.binary_dilation(strong, iterations=max(round(_GOLD_MARGIN_NM / (factor * pixel_nm)), 1))
    share = (~grown).astype(np.float32)
    without = np.maximum(_blurred(share, side), _LEAST_SHARE)
    around = np.asarray(_blurred(small * share, side) / without, np.float32)
    rows = np.minimum(np.arange(image.shape[0]) // factor, ny - 1)
    columns = np.minimum(np.arange(image.shape[1]) // factor, nx - 1)
    surroundings = around[rows][:, columns]
    gone = grown[rows][:, columns] | _is_strong(image - surroundings)
    return np.where(gone, surroundings, image), ~gone


def _is_strong(flat: NDArray[np.float32]) -> NDArray[np.bool_]:
    deviation = _MAD_TO_SD * float(np.median(np.abs(flat[::2, ::2])))
    return np.asarray(np.abs(flat) > max(_STRONG_SD * deviation, 1e-12))


def _blurred(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(scipy.ndimage.uniform_filter(image, side, mode="nearest"))


def _view_spectra(
    view: NDArray[np.generic], u: Floats, classes: _Classes, centres: NDArray[np.int64], columns: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return sums of power `(columns, classes)`, tiles, mean distance from the axis and its spread, pixels, all `(columns,)`."""
    image, kept = _without_gold(view.astype(np.float32), classes.pixel_nm)
    half = classes.tile // 2
    tiles = [image[y - half : y + half, x - half : x + half] for x, y in centres.tolist()]
    variance = np.array([float(tile.var()) for tile in tiles])
    whole = np.array([float(kept[y - half : y + half, x - half : x + half].mean()) for x, y in centres.tolist()])
    variance /= np.maximum(whole, _LEAST_KEPT)
    good = (
        (whole >= _LEAST_KEPT)
        & (variance > _LEAST_VARIANCE * np.median(variance))
        & (variance < _MOST_VARIANCE * np.median(variance))
    )
    low, high = u.min(), u.max() + 1e-6
    column = ((u - low) / (high - low) * columns).astype(np.int64)
    power = np.zeros((columns, len(classes.cells)))
    for tile, of, used in zip(tiles, column, good, strict=True):
        if used:
            spectrum = scipy.fft.rfft2((tile - tile.mean()) * classes.window)
            add_power(spectrum, classes.of_cell, power[of])
    count = np.bincount(column[good], minlength=columns).astype(float)
    mean = np.bincount(column[good], u[good], columns) / np.maximum(count, 1)
    square = np.bincount(column[good], (u[good] - mean[column[good]]) ** 2, columns) / np.maximum(count, 1)
    x = (np.arange(classes.tile) + 0.5) / classes.tile - 0.5
    profile = np.cos(np.pi * x) ** 4
    own = (profile * x**2).sum() / profile.sum() * classes.tile**2
    return power, count, mean, np.sqrt(square + own)
