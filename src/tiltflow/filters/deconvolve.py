"""Deconvolution of a tomogram by the contrast transfer function (CTF), for viewing.

The Wiener-like filter of Warp, tom_deconv and IsoNet: with the frequency s, 1/nm, the CTF C(s), the voxel size p and f the frequency in
parts of Nyquist,

    gain = -C / (C^2 + 1 / SNR)        SNR(s) = 10^(k S) exp(-100 F f / p) hp(f)        hp(f) = a (1 - cos(pi min(1, f / h)))

with p in Å, the strength S, the falloff F and the high pass h.  The programs differ in two constants:

=======  =====  =====  =========================================================
form     k      a      a strength of 1 is
=======  =====  =====  =========================================================
warp     3      1/2    a signal-to-noise ratio of 1000 at low frequencies
tom      3      1      2000
isonet   1      1      20
=======  =====  =====  =========================================================

C is negative below its first zero, so that dense matter, which is dark, stays dark.  Of a tomogram whose views were corrected (phases
flipped), the absolute value of C is taken.  The result has the mean and the standard deviation of the input.

One defocus stands for all views and heights, and noise is shaped as well as signal: this is for looking and for segmentation, never the
input of averaging or of a measurement of resolution.

A volume larger than the memory is transformed on the disk: sections along y and x, then lines along z in slabs of rows, and back.  The
filter is that of the whole volume, without blocks to blend: high-pass filters reach hundreds of voxels far, more than blocks can overlap.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import scipy
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.filters.padding import crop, padded, padded_side
from tiltflow.filters.volumes import MEMORY_BYTES, NotFiniteError, ScratchVolume, VolumeSink, VolumeSource, filtered_file
from tiltflow.model import Image, Progress
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]
Transfer = Callable[[Floats], Floats]
"""Returns the CTF, -1 to 1, at frequencies, 1/nm."""
T = TypeVar("T")
Form = Literal["warp", "tom", "isonet"]

_FORMS: dict[str, tuple[float, float]] = {"warp": (3.0, 0.5), "tom": (3.0, 1.0), "isonet": (1.0, 1.0)}
"""k and a of the table above."""
_ANGSTROM_PER_NM, _FALL = 10.0, 100.0
"""The falloff is per 100 parts of Nyquist, with voxels in Å, in all three programs."""
_PAD = 50
"""Least voxels of padding on each side, over which the edge goes linearly to the mean.  In a part cut out of a larger volume, the result
15 voxels from the edge differs by 1 to 4 % of its standard deviation from that of the larger one; paddings of 20 and 70 do about as well,
repeated or mirrored edges of 50 and 70 voxels worse (up to 8 %)."""
_SAMPLED = 9
"""Sections that tell the mean from which the values are counted."""
_TABLE = 1 << 16
"""Frequencies at which the gain is computed, and linear in between: at 6 µm and 0.2 nm a voxel, the phase goes on by 0.03 from one to the
next, so that the error is 1e-4 of the gain."""
_COPIES = 3
"""Arrays of the size of a slab that exist while it is transformed: the slab, its transform, and what the transform works with."""
_FLAT = 1e-6
"""Standard deviation in parts of the largest absolute value below which a volume holds nothing but rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeconvolveParams:
    """How much is deconvolved.

    Attributes
    ----------
    strength
        S; each third more is ten times the signal-to-noise ratio in Warp's form.
    falloff
        F; a larger one leaves fewer high frequencies, 1.0 to 1.2 in common use.
    high_pass_nyquist
        h, in parts of Nyquist, up to which low frequencies are weakened; 0 for not at all.
    phase_flipped
        Whether the views were corrected for the CTF.
    form
        Whose constants are used.

    Raises
    ------
    ParameterError
        If a value is out of range.
    """

    strength: float = 1.0
    falloff: float = 1.0
    high_pass_nyquist: float = 0.02
    phase_flipped: bool = False
    form: Form = "warp"

    def __post_init__(self) -> None:
        if not abs(self.strength) <= 10 or not 0 <= self.falloff < np.inf:
            raise ParameterError(
                f"a deconvolution of strength {self.strength:g} and falloff {self.falloff:g}: give a strength from -10 to 10, where 1 is "
                "usual, and a falloff of at least 0"
            )
        if not 0 <= self.high_pass_nyquist <= 1:
            raise ParameterError(
                f"a high pass of {self.high_pass_nyquist:g} of Nyquist in a deconvolution: give 0 to 1; 0.02 is usual"
            )
        if self.form not in _FORMS:
            raise ParameterError(f"a deconvolution of the form {self.form!r}: give one of {', '.join(_FORMS)}")


def deconvolution_gain(frequency: ArrayLike, pixel_nm: float, transfer: Transfer, params: DeconvolveParams) -> Floats:
    """Return what frequencies are multiplied with.

    Parameters
    ----------
    frequency
        1/nm.
    pixel_nm
        Size of a voxel.
    transfer
        The CTF, for instance `lambda s: microscope.ctf(s**2, defocus_nm)`; negative below its first zero.
    params
        Strength, falloff, high pass.

    Raises
    ------
    ParameterError
        If a voxel has no size, or the CTF is not a number from -1 to 1 for each frequency.
    """
    if not 0 < pixel_nm < np.inf:
        raise ParameterError(f"voxels of {pixel_nm:g} nm: deconvolution needs a size above 0")
    s = np.asarray(frequency, float)
    c = np.asarray(transfer(s), float)
    if c.shape != s.shape or not (np.abs(c) <= 1 + 1e-9).all():
        raise ParameterError("the CTF of a deconvolution must be a number from -1 to 1 for each frequency")
    snr = _snr(s, pixel_nm, params)
    sign_kept = np.abs(c) if params.phase_flipped else -c
    return np.asarray(sign_kept * snr / (c**2 * snr + 1))


def _snr(s: Floats, pixel_nm: float, params: DeconvolveParams) -> Floats:
    f = 2 * s * pixel_nm
    decades, share = _FORMS[params.form]
    h = params.high_pass_nyquist
    passed = share * (1 - np.cos(np.pi * np.minimum(f / h, 1))) if h else 2 * share
    fall = np.exp(-params.falloff * f * _FALL / (pixel_nm * _ANGSTROM_PER_NM))
    return np.asarray(10 ** (decades * params.strength) * fall * passed)


def deconvolve_section(section: NDArray[np.generic], pixel_nm: float, transfer: Transfer, params: DeconvolveParams) -> Image:
    """Return a section of a tomogram, `(ny, nx)`, deconvolved, with the mean and the standard deviation that it had.

    Parameters
    ----------
    section
        Of any real type; several sections that are averaged show more.
    pixel_nm
        Size of a pixel.
    transfer, params
        As of :func:`deconvolution_gain`.

    Raises
    ------
    ParameterError
        As :func:`deconvolution_gain`; also if a value of the section is not finite.
    """
    image = section.astype(np.float32)
    if not np.isfinite(image).all():
        raise ParameterError("a section to be deconvolved holds values that are not finite; replace them first")
    mean, sd = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
    large = padded(image - np.float32(mean), _PAD, 0.0)
    gain = _Gain(pixel_nm, transfer, params)
    ky, kx = scipy.fft.fftfreq(large.shape[0], pixel_nm)[:, None], scipy.fft.rfftfreq(large.shape[1], pixel_nm)
    found = crop(scipy.fft.irfft2(scipy.fft.rfft2(large) * gain(ky**2 + kx**2), large.shape), image.shape)
    return _Scaling(mean, sd, float(found.mean(dtype=np.float64)), float(found.std(dtype=np.float64))).apply(found)


def deconvolve_volume(
    source: VolumeSource,
    sink: VolumeSink,
    pixel_nm: float,
    transfer: Transfer,
    params: DeconvolveParams,
    *,
    scratch: Path,
    threads: int = 1,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> None:
    """Deconvolve a volume of any size; the result has the mean and the standard deviation of the input.

    Parameters
    ----------
    source
        The volume, `(nz, ny, nx)`, any real type.
    sink
        Receives sections of float32, in order.
    pixel_nm
        Size of a voxel, the same along all axes.
    transfer, params
        As of :func:`deconvolution_gain`.
    scratch
        Folder with room for the volume as float32, and its padding.
    threads
        Sections or slabs transformed at the same time; fewer where the memory is too small for them.  The result does not depend on it.
    memory_bytes
        For what is transformed at once.
    progress
        Called with the fraction done.

    Raises
    ------
    ParameterError
        As :func:`deconvolution_gain`; also if a voxel is not finite: its section is named.
    ResourceError
        If the scratch folder or the place of the result has too little room.
    """
    work = _Transform(source, _Gain(pixel_nm, transfer, params), threads, memory_bytes, progress)
    with ScratchVolume(scratch, work.spectrum_shape, np.complex64) as disk:
        before = work.sections_to_spectra(disk)
        work.filter_lines(disk)
        after = work.spectra_to_sections(disk)
        work.write_scaled(disk, _Scaling(*before, *after), sink)


def deconvolve_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    pixel_nm: float,
    transfer: Transfer,
    params: DeconvolveParams,
    *,
    dtype: DTypeLike = np.float32,
    scratch: Path | None = None,
    threads: int = 1,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> None:
    """Write the volume in an MRC file deconvolved to another, which says in its title that it is for viewing.

    Parameters
    ----------
    source, target
        The files; the second appears when it is complete.
    dtype
        Type of the voxels written (:class:`tiltflow.formats.mrc.MrcWriter`).
    scratch
        Folder for scratch; that of the target if not given.
    pixel_nm, transfer, params, threads, memory_bytes, progress
        As of :func:`deconvolve_volume`.

    Raises
    ------
    LocationError, FormatError
        If the source cannot be read, or holds voxels that are not finite.
    ParameterError, ResourceError
        As :func:`deconvolve_volume`.
    """
    place = Path(target).parent if scratch is None else scratch
    with filtered_file(source, target, "deconvolved, for viewing only", dtype) as (volume, out):
        deconvolve_volume(
            volume,
            out,
            pixel_nm,
            transfer,
            params,
            scratch=place,
            threads=threads,
            memory_bytes=memory_bytes,
            progress=progress,
        )


class _Gain:
    """The gain at squared frequencies, 1/nm², from a table."""

    def __init__(self, pixel_nm: float, transfer: Transfer, params: DeconvolveParams) -> None:
        if not 0 < pixel_nm < np.inf:
            raise ParameterError(f"voxels of {pixel_nm:g} nm: deconvolution needs a size above 0")
        self.pixel_nm = pixel_nm
        self._s = np.linspace(0, np.sqrt(3) / 2 / pixel_nm, _TABLE)
        self._gain = deconvolution_gain(self._s, pixel_nm, transfer, params)

    def __call__(self, s2: Floats) -> Image:
        return np.interp(np.sqrt(s2), self._s, self._gain).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Scaling:
    """Mean and standard deviation before and after the filter."""

    mean: float
    sd: float
    mean_after: float
    sd_after: float

    def apply(self, image: Image) -> Image:
        """Return values with the mean and the standard deviation from before."""
        factor = self.sd / self.sd_after if self.sd_after > 0 and self.sd > _FLAT * abs(self.mean) else 0.0
        return np.asarray((image - np.float32(self.mean_after)) * np.float32(factor) + np.float32(self.mean), np.float32)


class _Moments:
    """Mean and standard deviation of sections, about a level near their mean."""

    def __init__(self, level: float) -> None:
        self.level, self.count, self.total, self.square = level, 0, 0.0, 0.0

    def add(self, count: int, total: float, square: float) -> None:
        """Take in the number of values of a section, their sum and the sum of their squares, both about the level."""
        self.count, self.total, self.square = self.count + count, self.total + total, self.square + square

    def result(self) -> tuple[float, float]:
        """Return mean and standard deviation."""
        mean = self.total / self.count
        return self.level + mean, float(np.sqrt(max(self.square / self.count - mean**2, 0)))


def _mean_of_some(source: VolumeSource) -> float:
    sections = np.unique(np.linspace(0, source.shape[0] - 1, _SAMPLED).round().astype(int)).tolist()
    mean = float(np.mean([source.read_block(slice(z, z + 1)).mean(dtype=np.float64) for z in sections]))
    return mean if np.isfinite(mean) else 0.0


def _sums(image: Image) -> tuple[int, float, float]:
    return image.size, float(image.sum(dtype=np.float64)), float(np.square(image, dtype=np.float64).sum())


class _Transform:
    """The steps of a filter of a volume whose transform lies on the disk."""

    def __init__(self, source: VolumeSource, gain: _Gain, threads: int, memory_bytes: int, progress: Progress | None) -> None:
        self._source, self._gain, self._progress = source, gain, progress
        self._nz, self._ny, self._nx = source.shape
        self._padded = tuple(padded_side(side, _PAD) for side in source.shape)
        _, tall, wide = self._padded
        self._half = wide // 2 + 1
        self.spectrum_shape = (self._nz, tall, self._half)
        section_bytes = _COPIES * 8 * tall * self._half
        row_bytes = _COPIES * 8 * self._padded[0] * self._half
        self._section_threads = int(np.clip(memory_bytes // section_bytes, 1, max(threads, 1)))
        self._line_threads = int(np.clip(memory_bytes // row_bytes, 1, max(threads, 1)))
        self._rows = int(np.clip(memory_bytes // (self._line_threads * row_bytes), 1, tall))
        self._level = np.float32(_mean_of_some(source))

    def sections_to_spectra(self, disk: ScratchVolume) -> tuple[float, float]:
        """Transform sections along y and x; return mean and standard deviation of the volume."""

        def transform(z: int) -> tuple[int, float, float]:
            section = self._source.read_block(slice(z, z + 1))[0].astype(np.float32) - self._level
            if not np.isfinite(section).all():
                raise NotFiniteError(
                    f"section {z + 1} holds values that are not finite, which would spread over the volume; replace them"
                )
            disk.write_block(scipy.fft.rfft2(padded(section, _PAD, 0.0))[None], z=z)
            return _sums(section)

        moments = _Moments(float(self._level))
        for sums in self._steps(transform, range(self._nz), self._section_threads, 0):
            moments.add(*sums)
        return moments.result()

    def filter_lines(self, disk: ScratchVolume) -> None:
        """Transform lines along z, multiply with the gain, and transform back."""
        depth, tall, wide = self._padded
        p = self._gain.pixel_nm
        kz, ky = scipy.fft.fftfreq(depth, p), scipy.fft.fftfreq(tall, p)
        kx2 = scipy.fft.rfftfreq(wide, p) ** 2
        spare = depth - self._nz
        fall = np.linspace(1, -1, spare + 2, dtype=np.float32)[1:-1, None, None]  # from the last section to 0, then up to the first

        def through(y: int) -> None:
            rows = slice(y, min(y + self._rows, tall))
            lines = np.empty((depth, rows.stop - y, self._half), np.complex64)
            lines[: self._nz] = disk.read_block(rows=rows)
            lines[self._nz :] = lines[self._nz - 1] * np.maximum(fall, 0) + lines[0] * np.maximum(-fall, 0)
            lines = scipy.fft.fft(lines, axis=0, overwrite_x=True)
            in_plane = ky[rows, None] ** 2 + kx2
            for plane, along in zip(lines, kz, strict=True):
                plane *= self._gain(in_plane + along**2)
            disk.write_block(scipy.fft.ifft(lines, axis=0, overwrite_x=True)[: self._nz], y=y)

        for _ in self._steps(through, range(0, tall, self._rows), self._line_threads, 1):
            pass

    def spectra_to_sections(self, disk: ScratchVolume) -> tuple[float, float]:
        """Transform back along y and x, and leave each section where its spectrum was; return mean and standard deviation."""
        _, tall, wide = self._padded

        def back(z: int) -> tuple[int, float, float]:
            spectrum = disk.read_block(slice(z, z + 1))
            section = crop(scipy.fft.irfft2(spectrum[0], (tall, wide)), (self._ny, self._nx))
            spectrum.view(np.float32).reshape(-1)[: section.size] = section.reshape(-1)
            disk.write_block(spectrum, z=z)
            return _sums(section)

        moments = _Moments(0.0)
        for sums in self._steps(back, range(self._nz), self._section_threads, 2):
            moments.add(*sums)
        return moments.result()

    def write_scaled(self, disk: ScratchVolume, scaling: _Scaling, sink: VolumeSink) -> None:
        """Write the sections."""

        def scaled(z: int) -> Image:
            flat = disk.read_block(slice(z, z + 1)).view(np.float32).reshape(-1)
            return scaling.apply(flat[: self._ny * self._nx].reshape(self._ny, self._nx))

        for z, section in enumerate(self._steps(scaled, range(self._nz), 1, 3)):
            sink.write_block(section[None], z=z)

    def _steps(self, work: Callable[[int], T], items: range, threads: int, done: int) -> Iterator[T]:
        """Yield what the work makes of items, in order, in one of the four steps."""
        for at, made in enumerate(map_threads(work, items, threads), 1):
            if self._progress is not None:
                self._progress((done + at / len(items)) / 4)
            yield made
