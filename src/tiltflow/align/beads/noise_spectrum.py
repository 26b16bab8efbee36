"""Views as spectra, and the noise in them: the power of everything that is not a bead, over the radial frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.beads.radial_profile import hankel_matrix
from tiltflow.align.robust_scale import SD_OF_MEDIAN
from tiltflow.binning import bin_image
from tiltflow.kernels import beads as kernel
from tiltflow.model import Image, Stack

Floats = NDArray[np.float64]
Spectrum = NDArray[np.complex64]
Pixels = NDArray[Any]
"""A view of the type that its file has, one of `AS_THEY_ARE`: real numbers of a large one are made of no more than is looked at."""
AS_THEY_ARE = tuple(map(np.dtype, (np.float32, np.int16, np.uint16, np.int8, np.uint8)))
"""Types that the kernels take; numbers of any other, as those of half precision or of the other byte order, become float32."""

_CLIP_SD = 3.0
"""Robust standard deviations at which grey values are clipped while beads are not known yet."""
_SPARSE = 3
"""Every third row and column suffices for a median, and for the mean power."""
_FINE = 0.35
"""Frequency along x, cycles per pixel, from which on the power is that of counting alone."""
_ROWS = 64
"""Rows that are transformed at a time, which stay in the cache of a processor."""
_PAD = 2.0
_PROFILE_REACH = 4.0
"""Views are mirrored by the former, diameters, at every side, so that the filter does not wrap around; profiles have at most the latter
as their radius."""
_SAMPLED = 6.0
"""Width of a bead in samples of a filtered view: its spectrum has fallen off before the highest frequency of these, and spots are
measured anew at every pixel."""
BLANKED = 0.8
"""Radius around a bead, diameters, that is left out of the noise spectrum: a bead and its Fresnel fringe."""
_MOST_BLANKED = 0.9
"""Largest share of blanked pixels that the power is corrected for."""
_SMOOTHED = 2
"""Bins to either side over which the spectrum is averaged."""
_FINER, _FINEST = 0.1, 0.3
"""Frequencies, cycles per working pixel, between which the noise of counting is looked for: that of a bead, ten working pixels wide,
below which the specimen has most of its power; and three times that, beyond which a bead has little, and what is flat in a smoothed view
may be its rounding."""
_FLAT = 2**0.5
"""Ratio of the frequencies, half an octave, over which the fall of the spectrum is judged: the noise of single bins averages out, and a
filter's fall within the band shows."""


_MOST_MEASURED = 2048
"""Pixels along each side of the middle of a view that its noise is measured in: four million pixels tell it as well as more."""


@dataclass(frozen=True, slots=True, eq=False)
class NoiseGrid:
    """The frequencies of the padded middle of a view, in which its noise is measured.

    Attributes
    ----------
    part
        The middle, rows and columns of the view.
    shape, padded, pad
        As those of :class:`Grid`.
    bins
        Radial bin of each frequency of the half spectrum.
    counts, frequency
        Number of frequencies of the whole spectrum in each bin, and its radius, cycles per pixel.
    """

    part: tuple[slice, slice]
    shape: tuple[int, int]
    padded: tuple[int, int]
    pad: int
    bins: NDArray[np.uint16]
    counts: Floats
    frequency: Floats

    @classmethod
    def of(cls, view: tuple[int, int], pad: int) -> NoiseGrid:
        """Return the grid for views of `(ny, nx)`."""
        height, width = shape = min(view[0], _MOST_MEASURED), min(view[1], _MOST_MEASURED)
        top, left = (view[0] - height) // 2, (view[1] - width) // 2
        part, padded = (slice(top, top + height), slice(left, left + width)), _padded(shape, pad)
        bins = _bins(padded)
        counts = _counts(bins, int(bins.max()) + 1)
        return cls(part, shape, padded, pad, bins, counts, np.arange(len(counts), dtype=np.float64) / max(padded))


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The frequencies of a padded view.

    Attributes
    ----------
    shape, padded
        `(ny, nx)` of a view and of what is transformed.
    pad
        Pixels that mirror the view before its first row and column.
    frequency
        Radius of each radial bin, cycles per pixel.
    hankel
        `(bins, radii)`: the matrix from a profile to its Fourier transform by radial bin.
    sampled
        `(ny, nx)` of the samples of a padded view that is filtered: a bead is six of them wide, or as many as it has pixels.
    low_bins, low_counts
        Radial bin of each frequency that these samples determine, and the number of them in each bin.
    noise
        The frequencies that the noise is measured at.
    """

    shape: tuple[int, int]
    padded: tuple[int, int]
    pad: int
    frequency: Floats
    hankel: Floats
    sampled: tuple[int, int]
    low_bins: NDArray[np.uint16]
    low_counts: Floats
    noise: NoiseGrid

    @property
    def step(self) -> Floats:
        """Pixels from one sample of a filtered view to the next, y and x."""
        return np.array(self.padded) / self.sampled

    @property
    def first(self) -> NDArray[np.int64]:
        """The first sample that lies in the view, y and x; sample 0 is the first pixel of the padded view."""
        return np.ceil(self.pad / self.step).astype(np.int64)

    def transform(self, profile: Floats) -> Floats:
        """Return the Fourier transform of a round function by radial bin."""
        samples = min(len(profile), self.hankel.shape[1])
        return np.asarray(self.hankel[:, :samples] @ profile[:samples])


def make_grid(shape: tuple[int, int], diameter: float) -> Grid:
    """Return the grid of views of `shape` `(ny, nx)`, padded for filters of beads of a diameter, working pixels."""
    pad = min(int(np.ceil(_PAD * diameter)), min(shape) - 1)
    padded = _padded(shape, pad)
    finest = min(_SAMPLED / diameter, 1.0)
    my, mx = (min(scipy.fft.next_fast_len(int(np.ceil(n * finest)), real=True), n) for n in padded)
    steps = max(padded)
    last = int(_bins(padded, np.array([padded[0] // 2])).max())
    frequency = np.arange(last + 1, dtype=np.float64) / steps
    low_rows = np.concatenate([np.arange(my - my // 2), np.arange(padded[0] - my // 2, padded[0])])
    low_bins = np.ascontiguousarray(_bins(padded, low_rows, mx // 2 + 1))
    return Grid(
        shape=shape,
        padded=padded,
        pad=pad,
        frequency=frequency,
        hankel=hankel_matrix(frequency, _PROFILE_REACH * diameter),
        sampled=(my, mx),
        low_bins=low_bins,
        low_counts=_counts(low_bins, len(frequency)),
        noise=NoiseGrid.of(shape, pad),
    )


def _padded(shape: tuple[int, int], pad: int) -> tuple[int, int]:
    ny, nx = (scipy.fft.next_fast_len(n + 2 * pad, real=True) for n in shape)
    return ny, nx


def _bins(padded: tuple[int, int], rows: NDArray[np.int64] | None = None, columns: int | None = None) -> NDArray[np.uint16]:
    """Return the radial bin of each frequency of the half spectrum, or of some of its rows and its first columns."""
    along_y, along_x = scipy.fft.fftfreq(padded[0]), scipy.fft.rfftfreq(padded[1])[:columns]
    chosen = along_y if rows is None else along_y[rows]
    return np.asarray(np.rint(np.hypot(chosen[:, None], along_x) * max(padded)), np.uint16)


def _counts(bins: NDArray[np.uint16], length: int) -> Floats:
    """Return the number of frequencies of the whole spectrum in each radial bin, from the bins of the half spectrum."""
    doubled = np.full(bins.shape, 2.0)
    doubled[:, 0] = 1.0
    return np.bincount(bins.ravel(), doubled.ravel(), length).astype(np.float64)


def read_view(stack: Stack, view: int, binning: int) -> Pixels:
    """Return a view averaged over `binning` x `binning` pixels, float32; where nothing is averaged, as it is or float32."""
    image = np.asarray(stack[view])
    if binning > 1:
        return bin_image(image, binning)
    return np.ascontiguousarray(image, image.dtype if image.dtype in AS_THEY_ARE else np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class ViewSpectrum:
    """The spectrum of a view, mirrored at its edges, without its mean.

    Attributes
    ----------
    low
        The half spectrum at the frequencies that the samples of the view determine, those of `Grid.low_bins`.
    fine_power
        Mean power at the finest frequencies along x, where there is little but the noise of counting.
    """

    low: Spectrum
    fine_power: float


def transform_view(image: Pixels, grid: Grid) -> ViewSpectrum:
    """Return the spectrum of a view."""
    my, mx = grid.sampled
    columns, fine_power = _half_spectrum(image, grid, mx // 2 + 1)
    return ViewSpectrum(np.concatenate([columns[: my - my // 2], columns[len(columns) - my // 2 :]]), fine_power)


def _half_spectrum(image: Pixels, grid: Grid | NoiseGrid, columns: int) -> tuple[Spectrum, float]:
    """Return the first columns of the half spectrum of a view, mirrored at its edges, and the mean power at the finest frequencies."""
    ny, (padded_y, padded_x), pad = grid.shape[0], grid.padded, grid.pad
    out, block = np.empty((padded_y, columns), np.complex64), np.empty((_ROWS, padded_x), np.float32)
    # Only rounding depends on the mean, as a constant has no frequency but 0.
    mean, fine, power = float(image[::_SPARSE].mean()), int(_FINE * padded_x), 0.0
    for begin in range(0, ny, _ROWS):
        padded = block[: min(_ROWS, ny - begin)]
        kernel.mirror_rows(image, begin, mean, pad, padded)
        spectrum = scipy.fft.rfft(padded, axis=1)
        sampled = -(-len(padded) // _SPARSE) * (spectrum.shape[1] - fine)
        rows = out[pad + begin : pad + begin + len(padded)]
        power += len(padded) * kernel.keep_columns(spectrum, fine, _SPARSE, rows) / sampled
    _mirror(out, pad, ny)
    # By Parseval's theorem, the mean power of the rows is that of the frequencies along y.
    return np.asarray(scipy.fft.fft(out, axis=0, overwrite_x=True), np.complex64), power / ny * padded_y


def _mirror(padded: NDArray[Any], pad: int, size: int) -> None:
    """Fill the ends of the first axis with mirror images of what lies between, in place."""
    end = pad + size
    padded[:pad] = padded[pad : 2 * pad][::-1]
    padded[end:] = padded[2 * end - len(padded) : end][::-1]


def middle_of(image: Pixels, grid: Grid) -> Image:
    """Return the part of a view that its noise is measured in, without the rest of it."""
    return np.ascontiguousarray(image[grid.noise.part], np.float32)


def noise_spectrum(middle: Image, grid: Grid, spots_xy: Floats | None, radius_px: float) -> Floats:
    """Return the power of a view by radial bin, `(bins,)`, apart from the beads in it, from the middle of it (:func:`middle_of`).

    Known beads, which are given by their places in the view, are blanked; where none are known yet, values far from the mean are clipped.
    """
    flat, share = middle - np.float32(middle.mean()), 0.0
    if spots_xy is None:
        sample = flat[::_SPARSE, ::_SPARSE]
        typical = np.median(sample)
        limit = _CLIP_SD * SD_OF_MEDIAN * np.median(np.abs(sample - typical))
        np.clip(flat, typical - limit, typical + limit, out=flat)
    elif len(spots_xy):
        spots_xy = spots_xy - [grid.noise.part[1].start, grid.noise.part[0].start]
        blanked = kernel.blank_discs(flat, spots_xy, radius_px, np.float32(0))
        share = blanked / flat.size
        kernel.blank_discs(flat, spots_xy, radius_px, np.float32(flat.sum() / max(flat.size - blanked, 1)))
    spectrum, _ = _half_spectrum(flat, grid.noise, grid.noise.bins.shape[1])
    power = np.zeros(len(grid.noise.counts))
    kernel.radial_power(spectrum, grid.noise.bins, power)
    power *= (
        np.prod(grid.padded) / np.prod(grid.noise.padded) / (np.maximum(grid.noise.counts, 1) * (1 - min(share, _MOST_BLANKED)))
    )
    return np.asarray(np.exp(np.interp(grid.frequency, grid.noise.frequency, _smoothed_logarithm(power))))


def counting_power(power: Floats, grid: Grid) -> float:
    """Return the power of the noise of counting electrons, from that of a view by radial bin, `(bins,)`.

    The power of a specimen falls with the frequency until the noise of counting, which is white, takes over; beyond, it may
    fall again, where a camera blurs or a filter, an interpolation or a compression has smoothed the view.  Its level is that of
    the flattest half octave among the frequencies at which a bead ends.
    """
    first, last = np.searchsorted(grid.frequency, [_FINER, _FINEST])
    # The rings of a microscope's transfer rise as well as fall: what lies above a lower power is not noise alone.
    falling = np.minimum.accumulate(power[first : last + 1])
    begin = np.arange(int(last / _FLAT) - int(first) + 1)
    end = np.rint((begin + first) * _FLAT).astype(np.int64) - first
    flattest = int(np.argmax(falling[end] / falling[begin]))
    return float(np.median(falling[begin[flattest] : end[flattest] + 1]))


def _smoothed_logarithm(power: Floats) -> Floats:
    """Return the logarithm of a spectrum averaged over its neighbours; bins without a frequency take their neighbours' value."""
    filled = np.where(power > 0, power, np.nan)
    good = np.flatnonzero(np.isfinite(filled))
    if good.size == 0:
        return np.zeros_like(power)
    logs = np.interp(np.arange(len(power)), good, np.log(filled[good]))
    logs[0] = logs[1] if len(logs) > 1 else logs[0]
    padded, width = np.pad(logs, _SMOOTHED, mode="edge"), 2 * _SMOOTHED + 1
    return np.convolve(padded, np.ones(width) / width, mode="valid")
