"""What a volume looks like in numbers: histogram, spectrum, where the specimen lies, and three slices through its middle.

One reading of the volume, section by section, so that nothing ever holds more than a section for each thread.

**Texture.**  Sections are averaged to cells of about 8 nm, clipped where gold is, cleared of what varies over more than nine cells,
and their spread is measured by the interquartile range.  Where there is a specimen the texture is higher than in the empty
volume above and below; how much higher it is, relative to the empty part, is called the contrast.  Structures that fit into a specimen
leave less and less texture towards its surfaces, so that half way up, between them, is a third of it missing.  What the specimen adds
to the texture of the empty volume, as squares add, is taken to a third of its greatest value: there simulated plastic sections of 60 to
140 nm begin and end to an eighth of their thickness.  Where noise is as strong, the thickness is only known to be no less.

**Slices.**  The XY slice lies in the middle of the specimen, unless there is more gold there than elsewhere in it.  A specimen that
positioning has found is told as `within_nm`.

**Spectrum.**  The power of a few sections through the specimen, cut to a square and tapered (Hann), averaged over rings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.errors import StageError
from tiltflow.model import Image, Stack
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

MOST_ROWS = 512
MOST_TEXTURES = 96
HISTOGRAM_BINS = 128
SPECTRUM_RINGS = 64
WINDOW_PERCENTILES = (0.5, 99.5)

_CELL_NM = 8.0
_FEWEST_CELLS = 48
_MOST_CELLS = 128
_BACKGROUND_CELLS = 9
_CLIP_SIGMAS = 4.0
_STANDS_OUT = 1.1
_SURFACE = 1 / 3
_NOISE_SDS = 1.5
_GOLD_SIGMAS = 6.0
_LITTLE_GOLD = 0.25
_FEWEST_SECTIONS = 8
_SAMPLE_SIDE = 128
_FEWEST_AVERAGED = 5
_SLAB_NM = 12.0
_ACROSS_NM = 10.0
_MOST_ACROSS = 8
_SPECTRUM_SECTIONS = 6
_SPECTRUM_SIDE = 768
_NORMAL_QUARTILES = 1.349


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the specimen lies along z: sections `low` to `high`.

    `cut` says that it reaches the first or last section, so that part of it may be missing, and `least` that noise hides its surfaces,
    so that it may be thicker.
    """

    low: int
    high: int
    cut: bool
    least: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class VolumeMeasure:
    """Numbers that can be drawn, and pictures that can be shown.

    Attributes
    ----------
    shape
        `(nz, ny, nx)`.
    mean, sd
        Of a sample of voxels.
    histogram
        Counts of equal bins over `histogram_range`.
    window
        Grey values to be shown as black and white.
    frequency, power
        Radially averaged power of central sections; frequencies in cycles per voxel, up to 0.5.
    sections, texture
        Sections that were looked at closely, and the spread of grey values of each.
    contrast, extent
        Texture of the specimen relative to that of the rest, None in a volume of few sections; where the specimen is, None where
        it does not stand out.
    xy, xz, yz
        Slices through the middle, `(y, x)`, `(z, x)` and `(z, y)`: means over about 12, 10 and 10 nm.
    xy_section
        Section in the middle of the first.
    xy_in_specimen
        Whether that is known to lie in the specimen.
    z_step
        Sections from one row of the last two to the next.
    """

    shape: tuple[int, int, int]
    mean: float
    sd: float
    histogram: NDArray[np.int64]
    histogram_range: tuple[float, float]
    window: tuple[float, float]
    frequency: Floats
    power: Floats
    sections: NDArray[np.int64]
    texture: Floats
    contrast: float | None
    extent: Extent | None
    xy: Image
    xz: Image
    yz: Image
    xy_section: int
    xy_in_specimen: bool
    z_step: int


def measure_volume(
    volume: Stack, voxel_nm: float, *, within_nm: tuple[float, float] | None = None, threads: int = 1
) -> VolumeMeasure:
    """Measure a volume `(nz, ny, nx)` that is read section by section.

    Parameters
    ----------
    volume, voxel_nm
        The volume, and the size of a voxel.
    within_nm
        Where the specimen lies, from the middle of the volume, if that is known; else its texture tells.
    threads
        Threads to use.

    Raises
    ------
    StageError
        If none of its voxels is a usable number.
    """
    nz, ny, nx = volume.shape
    z_step, closely = -(-nz // MOST_ROWS), -(-nz // MOST_TEXTURES)
    cell = min(max(1, round(_CELL_NM / voxel_nm)), max(1, min(ny, nx) // _FEWEST_CELLS))

    across = max(1, round(_ACROSS_NM / voxel_nm))

    def look(z: int) -> tuple[Image, Image]:
        return _lines(volume[z], across)

    def look_closely(z: int) -> tuple[float, Image, float]:
        section = _finite(volume[z])
        sample = _sample(section)
        return texture(section, cell), sample, gold_share(sample)

    rows = list(map_threads(look, range(0, nz, z_step), threads))
    sections = np.arange(closely // 2, nz, closely)
    close = list(map_threads(look_closely, sections.tolist(), threads))
    profile = np.array([each[0] for each in close])
    sample = np.concatenate([each[1].ravel() for each in close])
    contrast, extent = find_specimen(profile, sections)
    low, high = _where(extent, within_nm, nz, voxel_nm)
    middle = clear_of_gold(np.array([each[2] for each in close]), sections, (low, high))
    inside = np.linspace(low, high, _SPECTRUM_SECTIONS).round().astype(int)
    power = _mean_power((_finite(volume[z]) for z in inside.tolist()), (ny, nx))
    slab = min(max(_FEWEST_AVERAGED, round(_SLAB_NM / voxel_nm)), max(_FEWEST_AVERAGED, (high - low) // 3))
    span, window, counts = _histogram(sample)
    return VolumeMeasure(
        shape=(nz, ny, nx),
        mean=float(sample.mean()),
        sd=float(sample.std()),
        histogram=counts,
        histogram_range=span,
        window=window,
        frequency=_ring_centres(),
        power=power,
        sections=sections,
        texture=profile,
        contrast=contrast,
        extent=extent,
        xy=_mean_section(volume, _around(middle, nz, slab)),
        xz=np.stack([row[0] for row in rows]),
        yz=np.stack([row[1] for row in rows]),
        xy_section=middle,
        xy_in_specimen=extent is not None or within_nm is not None,
        z_step=z_step,
    )


def texture(section: Image, cell: int) -> float:
    """Return the spread of a section averaged to cells of `cell` voxels, without gold and without slow changes."""
    rows, columns = (min(_MOST_CELLS, max(1, 8 * n // (10 * cell))) for n in section.shape)
    y, x = (max(0, n - cells * cell) // 2 for n, cells in zip(section.shape, (rows, columns), strict=True))
    inner = section[y : y + rows * cell, x : x + columns * cell]
    cells = inner.reshape(rows, cell, columns, cell).mean(axis=(1, 3))
    reach = _CLIP_SIGMAS * _spread(cells)
    clipped = np.clip(cells, np.median(cells) - reach, np.median(cells) + reach)
    return _spread(clipped - scipy.ndimage.uniform_filter(clipped, min(_BACKGROUND_CELLS, rows, columns)))


def _spread(values: Image) -> float:
    """Return the standard deviation of normal values that have the same quartiles."""
    first, third = np.percentile(values, [25, 75])
    return float(third - first) / _NORMAL_QUARTILES


def find_specimen(
    profile: Sequence[float] | Floats, sections: Sequence[int] | NDArray[np.int64] | None = None
) -> tuple[float | None, Extent | None]:
    """Return how much a profile of texture stands out, and where: from its longest run above half way, down to the surfaces.

    >>> find_specimen([1.0] * 20 + [2.0] * 30 + [1.0] * 10)
    (2.0, Extent(low=19, high=50, cut=False, least=False))
    """
    values = np.asarray(profile, float)
    at = np.arange(len(values)) if sections is None else np.asarray(sections)
    if len(values) < _FEWEST_SECTIONS:
        return None, None
    smooth = scipy.ndimage.gaussian_filter1d(values, len(values) / 60)
    floor, plateau = np.percentile(smooth, [10, 90])
    if floor <= 0:
        return None, None
    contrast = round(float(plateau / floor), 3)
    if contrast < _STANDS_OUT:
        return contrast, None
    start, end = _longest_run(smooth > (floor + plateau) / 2)
    cut = bool(start == 0 or end == len(values))
    added = np.sqrt(floor**2 + _SURFACE**2 * (plateau**2 - floor**2))
    noise = floor + _NOISE_SDS * _scatter(values[smooth < np.percentile(smooth, 30)])
    seen = smooth > max(added, noise)
    seen[start:end] = True
    start, end = _longest_run(seen)
    return contrast, Extent(low=int(at[start]), high=int(at[end - 1]), cut=cut, least=bool(noise > added))


def _longest_run(inside: NDArray[np.bool_]) -> tuple[int, int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    start, end = max(zip(edges[::2], edges[1::2], strict=True), key=lambda run: run[1] - run[0])
    return int(start), int(end)


def _scatter(values: Floats) -> float:
    """Return the standard deviation of values about a level that changes slowly."""
    return float(np.std(np.diff(values)) / np.sqrt(2)) if len(values) > 2 else 0.0


def gold_share(sample: Image) -> float:
    """Return the fraction of the voxels of a section that are far from the others, as those of gold are."""
    spread = _spread(sample)
    return float(np.mean(np.abs(sample - np.median(sample)) > _GOLD_SIGMAS * spread)) if spread > 0 else 0.0


def clear_of_gold(gold: Floats, sections: NDArray[np.int64], specimen: tuple[int, int]) -> int:
    """Return the section to show: the middle of the specimen, or where there is least gold in its middle half.

    Parameters
    ----------
    gold
        Fraction of gold in each of some sections, `(sections,)`.
    sections
        Which these are.
    specimen
        Its first and last section.
    """
    low, high = specimen
    middle, quarter = (low + high) // 2, (high - low) / 4
    inside = (sections >= low) & (sections <= high)
    central = np.flatnonzero((sections >= low + quarter) & (sections <= high - quarter))
    if not inside.any() or not len(central):
        return middle
    if gold[int(np.argmin(np.abs(sections - middle)))] <= _LITTLE_GOLD * gold[inside].max():
        return middle
    least = central[gold[central] <= gold[central].min()]
    return int(sections[least[np.argmin(np.abs(sections[least] - middle))]])


def _where(extent: Extent | None, within_nm: tuple[float, float] | None, nz: int, voxel_nm: float) -> tuple[int, int]:
    """Return the first and last section of the specimen; the middle half of the volume where nothing tells."""
    if within_nm is not None:
        low, high = (min(max(round(nm / voxel_nm + nz / 2), 0), nz) for nm in within_nm)
        if low < high:
            return low, high - 1
    return (extent.low, extent.high) if extent else (nz // 4, max(nz // 4, 3 * nz // 4 - 1))


def _finite(section: NDArray[np.generic]) -> Image:
    """Return a section as real numbers; what is none becomes the mean of the rest."""
    image = np.asarray(section, np.float32)
    bad = ~np.isfinite(image)
    if not bad.any():
        return image
    return np.where(bad, image[~bad].mean() if not bad.all() else 0, image).astype(np.float32)


def _mean_section(volume: Stack, sections: range) -> Image:
    """Return the mean of some sections, of which one at a time is held."""
    total = _finite(volume[sections[0]]).copy()
    for z in sections[1:]:
        total += _finite(volume[z])
    return total / np.float32(len(sections))


def _around(middle: int, length: int, width: int) -> range:
    start = min(max(0, middle - width // 2), max(0, length - width))
    return range(start, min(start + width, length))


def _lines(section: NDArray[np.generic], width: int) -> tuple[Image, Image]:
    """Return the lines of a section that make the slices along z: means of `width`, or of an eighth of the section if that is less."""
    rows, columns = (_around(n // 2, n, min(width, max(1, n // _MOST_ACROSS))) for n in section.shape)
    along_x, along_y = section[rows.start : rows.stop], section[:, columns.start : columns.stop]
    return _finite(along_x).mean(axis=0), _finite(along_y).mean(axis=1)


def _sample(section: Image) -> Image:
    step_y, step_x = (max(1, n // _SAMPLE_SIDE) for n in section.shape)
    return section[step_y // 2 :: step_y, step_x // 2 :: step_x].copy()


def _histogram(sample: Image) -> tuple[tuple[float, float], tuple[float, float], NDArray[np.int64]]:
    """Return the range, the display window and the counts; the range leaves out the most extreme in a thousand."""
    low, high = (float(value) for value in np.percentile(sample, WINDOW_PERCENTILES))
    first, last = (float(value) for value in np.percentile(sample, (0.05, 99.95)))
    if not first < last:
        if not np.ptp(sample) > 0:
            raise StageError(f"all of {sample.size} voxels sampled are {float(sample[0]):g}: the reconstruction is empty")
        first, last = float(sample.min()), float(sample.max())
    if np.array_equal(sample, np.rint(sample)):  # as many whole numbers in every bin as in the next
        width = max(1, math.ceil((last - first + 1) / HISTOGRAM_BINS))
        first = math.floor(first) - 0.5
        last = first + HISTOGRAM_BINS * width
    counts, _ = np.histogram(sample, HISTOGRAM_BINS, (first, last))
    return (first, last), (low, high) if low < high else (first, last), counts


def _ring_centres() -> Floats:
    return np.asarray((np.arange(SPECTRUM_RINGS) + 0.5) * (0.5 / SPECTRUM_RINGS), np.float64)


def _mean_power(sections: Iterable[Image], shape: tuple[int, int]) -> Floats:
    """Return the mean power of sections in rings up to Nyquist; rings that small sections leave empty are interpolated."""
    side = min(*shape, _SPECTRUM_SIDE)
    y, x = ((n - side) // 2 for n in shape)
    taper = np.hanning(side + 2)[1:-1].astype(np.float32)
    frequency = np.hypot(scipy.fft.fftfreq(side)[:, None], scipy.fft.rfftfreq(side)[None])
    inside = frequency < 0.5
    power = np.zeros(int(inside.sum()))
    for section in sections:
        square = section[y : y + side, x : x + side]
        transform = scipy.fft.rfft2((square - square.mean()) * taper[:, None] * taper)
        power += np.abs(transform[inside]) ** 2
    ring = (frequency[inside] * (2 * SPECTRUM_RINGS)).astype(int)
    members, sums = np.bincount(ring, minlength=SPECTRUM_RINGS), np.bincount(ring, power, SPECTRUM_RINGS)
    centres, there = _ring_centres(), members > 0
    return np.asarray(np.interp(centres, centres[there], sums[there] / members[there]) / (side**2 * _SPECTRUM_SECTIONS))
