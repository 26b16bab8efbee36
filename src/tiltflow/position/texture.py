"""The texture of a small volume, cell by cell: how much fine structure there is at every height of every column.

**Sharp in depth.**  A back-projection smears what it shows along the beam: waves across the tilt axis of few cycles per pixel most,
waves along it without end, and the last views on either side leave streaks that cross the whole volume.  Therefore the views are
filtered first, so that the volume holds one band of waves across the axis, `k`, and the views fade out towards high tilts:

    view_t(u, v)  *  band(u cos t)  *  exp(-(tan t / 0.9)² / 2)

With k_z = k tan t, what the volume shows of a point is a Gaussian in z, of `1 / (2 π 0.9 k)` voxels, without side lobes: above and
below a section the volume holds noise alone.

The longest waves are the strongest, and tell where the section is whatever the dose.  Shorter ones are sharper, and tell where it ends;
but neighbouring views overlap less far above the section the shorter they are, and what views show singly cannot be told from texture.

**Levels.**  The energy of a column's voxels at one height, less that of its emptiest heights, is noted as one of a few levels of its
logarithm, over a range of ten at most; a strong structure then counts little more than a weak one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from tiltflow.reconstruct.stretched_lines import Section

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

LEVELS = 8
_BLOCK = 8
"""Side of a column, voxels."""
_STEEPEST_TAN = 0.9
_LEAST_SEEN = 0.2
_FAINTEST = 0.1
"""Part of the strongest energy below which structures differ no more than noise does."""


@dataclass(frozen=True, slots=True)
class Waves:
    """A band of waves, cycles per voxel: its lowest and highest across the tilt axis, and its highest along it."""

    lowest: float
    highest: float
    highest_along: float

    @property
    def blur(self) -> float:
        """Standard deviation in z of the energy that a volume of these waves shows of a point, voxels."""
        middle = (self.lowest + self.highest) / 2
        return float(1 / (2 * np.pi * _STEEPEST_TAN * middle * np.sqrt(2)))


LONG = Waves(0.03, 0.08, 0.12)
SHORT = Waves(0.06, 0.12, 0.16), Waves(0.1, 0.18, 0.2)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The levels of a volume's texture.

    Attributes
    ----------
    level
        `(y, x, z)`, from 0 for none to :data:`LEVELS` - 1, z upwards.
    energy
        `(y, x, z)`: sum of squares, as if every view saw every voxel.
    y, x
        Of the columns, voxels from the centre of the volume.
    lowest
        Height of the first z.
    waves
        That the volume is made of.
    """

    level: NDArray[np.int64]
    energy: Images
    y: Floats
    x: Floats
    lowest: float
    waves: Waves


def sharp_in_depth(view: Images, tilt_deg: float, waves: Waves = LONG) -> Images:
    """Return a view filtered so that back-projection shows its structures sharp in z."""
    cosine, tangent = np.cos(np.deg2rad(tilt_deg)), np.tan(np.deg2rad(tilt_deg))
    ny, nx = view.shape
    length = scipy.fft.next_fast_len(nx + int(1 / waves.lowest), real=True)
    k = np.fft.rfftfreq(length) * cosine
    across = (1 - np.exp(-((k / waves.lowest) ** 4))) * np.exp(-((k / waves.highest) ** 2) / 2 - (tangent / _STEEPEST_TAN) ** 2 / 2)
    along = np.exp(-((np.fft.fftfreq(ny) / waves.highest_along) ** 2) / 2)
    spectrum = scipy.fft.rfft2(view, (ny, length))
    spectrum *= (along[:, None] * across).astype(np.float32)
    return np.asarray(scipy.fft.irfft2(spectrum, (ny, length))[:, :nx], np.float32)


def coverage(section: Section, width: int, axis_px: float, tilt_deg: Floats) -> Floats:
    """Return the part of the noise of a whole volume that views of a width put into each voxel of a section, `(z, x)`, top first.

    Parameters
    ----------
    axis_px
        Where the tilt axis crosses the lines of the views.
    """
    x = section.x_first + np.arange(section.nx)
    z = section.z_first - np.arange(section.nz)
    seen, whole = np.zeros((section.nz, section.nx)), 0.0
    for t in np.deg2rad(tilt_deg):
        share = float(np.exp(-((np.tan(t) / _STEEPEST_TAN) ** 2)))
        seen += share * (np.abs(np.cos(t) * x + np.sin(t) * z[:, None] + axis_px - width / 2) < width / 2 - 1)
        whole += share
    return seen / whole


def columns(volume: Images, seen: Floats | None = None, waves: Waves = LONG) -> Columns:
    """Return the texture of a volume `(y, z, x)`, its first row the top, made from views that are :func:`sharp_in_depth`.

    Parameters
    ----------
    seen
        What :func:`coverage` says of its sections; None for fully seen ones.
    waves
        That its views were left with.
    """
    ny, nz, nx = volume.shape
    by, bx = ny // _BLOCK, nx // _BLOCK
    y0, x0 = (ny - by * _BLOCK) // 2, (nx - bx * _BLOCK) // 2
    inner = volume[y0 : y0 + by * _BLOCK, ::-1, x0 : x0 + bx * _BLOCK].reshape(by, _BLOCK, nz, bx, _BLOCK)
    energy = np.einsum("ajzbi,ajzbi->abz", inner, inner, optimize=False)
    if seen is not None:
        share = seen[::-1, x0 : x0 + bx * _BLOCK].reshape(nz, bx, _BLOCK).mean(axis=2).T
        energy = energy / np.maximum(share, _LEAST_SEEN)
    empty = np.percentile(energy, 20, axis=-1, keepdims=True)
    excess = np.maximum(energy - empty, 0)
    strongest = max(float(np.percentile(excess, 99)), 1e-30)
    unit = max(float(np.median(empty)), _FAINTEST * strongest)
    level = np.log1p(excess / unit) * (LEVELS / np.log1p(strongest / unit))
    return Columns(
        level=np.minimum(level, LEVELS - 1).astype(np.int64),
        energy=energy.astype(np.float32),
        y=y0 + (np.arange(by) + 0.5) * _BLOCK - ny / 2,
        x=x0 + (np.arange(bx) + 0.5) * _BLOCK - nx / 2,
        lowest=0.5 - nz / 2,
        waves=waves,
    )
