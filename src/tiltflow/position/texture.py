"""The texture of a small volume: how much fine structure there is at every height of every column.

**Views filtered for sharpness in depth.**  A back-projection smears structures along the beam: low frequencies across the tilt axis
most, frequencies along it without end, and the last views on either side leave streaks across the whole volume.  The views are
therefore filtered first, so that the volume holds one band of frequencies across the axis, `k`, and the views fade out towards high
tilts:

    view_t(u, v)  *  band(u cos t)  *  exp(-(tan t / 0.9)² / 2)

With k_z = k tan t, the volume shows a point as a Gaussian in z, with a standard deviation of `1 / (2 π 0.9 k)` voxels and no side
lobes: above and below a section the volume holds noise alone.

The lowest band is the strongest and locates the section at any dose.  Higher ones resolve better where it ends; but far above the
section neighbouring views overlap less the higher the frequency, and what single views show there resembles texture.

**Levels.**  The energy of a column's voxels at one height, less that of its emptiest heights, is graded into a few levels of its
logarithm, over a range of ten at most; a strong structure then counts little more than a weak one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.reconstruct.stretched_lines import SliceGrid

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

LEVELS = 8
"""Grades of texture.  With 16 the results change by less than the scatter of series, with 4 the thickness by 4 %
(`docs/sensitivity/position.md`)."""
_BLOCK = 8
"""Side of a column, voxels: about the period of the middle of the bands, so that a column holds one structure or none.
With 4 or 16 slopes change by less than 0.1 degrees."""
_STEEPEST_TAN = 0.9
"""Tangent of the tilt (42 degrees) whose view has the weight `exp(-1/2)`.  At 60 degrees it is 0.16: little is cut off at the ends
of the usual tilt range, which would bring back the streaks.  With half of it the volume is blurred more in depth, and the centre is
off by 0.5 px more."""
_EDGE_POWER = 4
"""Power of the lower edge of a band, `1 - exp(-(k / lowest)^4)`: steep enough to remove the mean, without ringing.
With 2 or 8 the thickness changes by 2 to 4 %."""
_LEAST_SEEN = 0.2
"""Fraction of the views' weight that sees a voxel, below which its energy is not scaled up further; in volumes half as thick as wide no
voxel has less than 0.48, so that it matters in narrow fields only."""
_EMPTY_PERCENTILE = 20
"""Percentile of the energies of a column that stands for its emptiest heights; a section fills less than four fifths of a volume.
From 10 to 40 slopes and centre do not change."""
_STRONGEST_PERCENTILE = 99
"""Percentile of the energies that begins the highest level; the strongest percent are remnants of gold and dirt.  With
the median the levels saturate, and nothing is found."""
_FAINTEST = 0.1
"""Least unit of the logarithm, as a fraction of the strongest energy: in a volume with little noise, fainter structures are graded
on a linear scale.  From 0.05 to 0.2 slopes change by 0.02 degrees and the centre by 0.1 px."""


@dataclass(frozen=True, slots=True)
class TextureBand:
    """A band of spatial frequencies, cycles per voxel.

    Attributes
    ----------
    lowest, highest
        Across the tilt axis.
    highest_along
        Along the tilt axis, where the band begins at 0.
    """

    lowest: float
    highest: float
    highest_along: float

    @property
    def blur(self) -> float:
        """Standard deviation in z of the energy that a volume of this band shows of a point, voxels."""
        middle = (self.lowest + self.highest) / 2
        return float(1 / (2 * np.pi * _STEEPEST_TAN * middle * np.sqrt(2)))


LOW_BAND = TextureBand(0.03, 0.08, 0.12)
"""Periods of 12 to 33 voxels: a 300 pixel view has ten of the longest, and organelles and their membranes are strongest here."""
HIGH_BANDS = TextureBand(0.06, 0.12, 0.16), TextureBand(0.1, 0.18, 0.2)
"""An octave higher each, and still below the noise of low doses; their blurs are 1.4 and 0.9 voxels, that of the lowest is 2.3."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The texture of a volume in columns of voxels.

    Attributes
    ----------
    level
        `(y, x, z)`, from 0 for none to :data:`LEVELS` - 1, z upwards.
    energy
        `(y, x, z)`: sum of squares, corrected to what it would be if every view saw every voxel.
    y, x
        Centres of the columns, voxels from the centre of the volume.
    lowest
        Height of the first z, voxels above the centre of the volume.
    band
        Frequencies that the volume is made of.
    """

    level: NDArray[np.int64]
    energy: Images
    y: Floats
    x: Floats
    lowest: float
    band: TextureBand


def sharp_in_depth(view: Images, tilt_deg: float, band: TextureBand = LOW_BAND) -> Images:
    """Return a view filtered so that its back-projection shows structures sharp in z.

    Parameters
    ----------
    view
        `(ny, nx)`, aligned, the tilt axis along y.
    tilt_deg
        Its tilt, degrees.
    band
        Frequencies that are kept.
    """
    cosine, tangent = np.cos(np.deg2rad(tilt_deg)), np.tan(np.deg2rad(tilt_deg))
    ny, nx = view.shape
    length = scipy.fft.next_fast_len(nx + int(1 / band.lowest), real=True)
    k = np.fft.rfftfreq(length) * cosine
    low_edge = 1 - np.exp(-((k / band.lowest) ** _EDGE_POWER))
    across = low_edge * np.exp(-((k / band.highest) ** 2) / 2 - (tangent / _STEEPEST_TAN) ** 2 / 2)
    along = np.exp(-((np.fft.fftfreq(ny) / band.highest_along) ** 2) / 2)
    spectrum = scipy.fft.rfft2(view, (ny, length))
    spectrum *= (along[:, None] * across).astype(np.float32)
    return np.asarray(scipy.fft.irfft2(spectrum, (ny, length))[:, :nx], np.float32)


def coverage(xz: SliceGrid, width: int, axis_px: float, tilt_deg: Floats) -> Floats:
    """Return the fraction of the noise of a fully seen voxel that each voxel has, from the views that see it.

    Parameters
    ----------
    xz
        Voxels of an XZ slice.
    width
        Of the views, pixels.
    axis_px
        Where the tilt axis crosses the lines of the views, pixels from their beginning.
    tilt_deg
        `(views,)`, degrees.

    Returns
    -------
    NDArray
        `(z, x)`, the first row the top.
    """
    x = xz.x_first + np.arange(xz.nx)
    z = xz.z_first - np.arange(xz.nz)
    seen, whole = np.zeros((xz.nz, xz.nx)), 0.0
    for t in np.deg2rad(tilt_deg):
        share = float(np.exp(-((np.tan(t) / _STEEPEST_TAN) ** 2)))
        seen += share * (np.abs(np.cos(t) * x + np.sin(t) * z[:, None] + axis_px - width / 2) < width / 2 - 1)
        whole += share
    return seen / whole


def columns(volume: Images, seen: Floats | None = None, band: TextureBand = LOW_BAND) -> Columns:
    """Return the texture of a volume made from views that are :func:`sharp_in_depth`.

    Parameters
    ----------
    volume
        `(y, z, x)`, its first row in z the top.
    seen
        The :func:`coverage` of its XZ slices, `(z, x)`; None when all views see all of it.
    band
        Frequencies that its views were filtered to.
    """
    ny, nz, nx = volume.shape
    by, bx = ny // _BLOCK, nx // _BLOCK
    y0, x0 = (ny - by * _BLOCK) // 2, (nx - bx * _BLOCK) // 2
    inner = volume[y0 : y0 + by * _BLOCK, ::-1, x0 : x0 + bx * _BLOCK].reshape(by, _BLOCK, nz, bx, _BLOCK)
    energy = np.einsum("ajzbi,ajzbi->abz", inner, inner, optimize=False)
    if seen is not None:
        share = seen[::-1, x0 : x0 + bx * _BLOCK].reshape(nz, bx, _BLOCK).mean(axis=2).T
        energy = energy / np.maximum(share, _LEAST_SEEN)
    empty = np.percentile(energy, _EMPTY_PERCENTILE, axis=-1, keepdims=True)
    excess = np.maximum(energy - empty, 0)
    strongest = max(float(np.percentile(excess, _STRONGEST_PERCENTILE)), 1e-30)
    unit = max(float(np.median(empty)), _FAINTEST * strongest)
    level = np.log1p(excess / unit) * (LEVELS / np.log1p(strongest / unit))
    return Columns(
        level=np.minimum(level, LEVELS - 1).astype(np.int64),
        energy=energy.astype(np.float32),
        y=y0 + (np.arange(by) + 0.5) * _BLOCK - ny / 2,
        x=x0 + (np.arange(bx) + 0.5) * _BLOCK - nx / 2,
        lowest=0.5 - nz / 2,
        band=band,
    )
