"""The position of a section from texture and gold together.

Each source is weighted by the inverse square of its standard error.  Where the two differ by more than their errors, the error of
their mean is scaled up accordingly (the scale factor of the Particle Data Group: doi:10.1093/ptep/ptac097, section 5.2.2): a dozen
beads may be pitched by half a degree on a surface that is not.  Where the texture does not exceed the noise, two planes of gold
suffice alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.position.gold_planes import Gold
from tiltflow.position.texture import Columns
from tiltflow.position.texture_surfaces import SectionFit, SlopeFit, fit_section, fit_slopes

_LEAST_CONTRAST = 5.0
"""Contrast of texture from which it exceeds the noise: volumes of noise alone stay below 5."""
_MOST_SPREAD = 0.04
"""Greatest root mean square distance of gold from its planes, as a fraction of the thickness.  Gold on a surface has 0.02; spots
spread through the section and taken within reach of planes have more."""
_GRID_SPREAD = 0.3
"""Voxels added to it, as spots are found at whole voxels: `1 / sqrt(12)`."""
_LEAST_SLOPE_ERROR_DEG = 0.1
"""Floor of the standard errors of slopes when they are combined: neither source is free of systematic errors of this size."""
_LEAST_CENTRE_ERROR = 0.5
"""Floor of the standard error of the centre, voxels: the spacing of the surfaces that are tried."""
_LEAST_GOLD_ERROR = 0.5
"""Floor of the standard error of the height of a plane of gold, voxels: half the size of a bead."""
_GOLD_NEAR = 0.25
"""Distance from a surface within which a plane of gold marks it, as a fraction of the thickness: halfway to the centre."""
_FEWEST_PLANES_ALONE = 2
"""Planes of gold that give a position without texture; one plane may be either surface."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionPosition:
    """The two planes of a section, and standard errors; heights in voxels above the centre of the volume, angles in degrees.

    Attributes
    ----------
    slopes, slope_errors
        (tilt, pitch).
    bottom, top
        Heights of its surfaces at the centre of the volume.
    centre_error, thickness_error
        Standard errors of their mean and of their distance, voxels.
    contrast
        Height of the peak of the texture over the scatter of what lies outside.
    source
        The data that it was derived from, in words.
    stands_out
        Whether it exceeds the noise.
    """

    slopes: SlopeFit
    slope_errors: SlopeFit
    bottom: float
    top: float
    centre_error: float
    thickness_error: float
    contrast: float
    source: str
    stands_out: bool

    @property
    def thickness(self) -> float:
        """Distance of the surfaces along z."""
        return self.top - self.bottom


def combine(texture: Columns, finer: Sequence[Columns], gold: Gold | None) -> SectionPosition:
    """Return the position of the section in a volume.

    Parameters
    ----------
    texture, finer
        Texture in the lowest frequency band, and in higher ones.
    gold
        The planes of gold, if there are any.
    """
    slopes, errors = fit_slopes(texture, finer=finer)
    source = "texture"
    if gold is not None and not _lies_on_planes(gold, fit_section(texture, slopes)):
        gold = None
    if gold is not None:
        slopes, errors = joint_slopes(slopes, errors, gold)
        source = f"{gold.beads} beads on {len(gold.heights)} plane{'s' * (len(gold.heights) > 1)} and texture"
    section = fit_section(texture, slopes, finer=finer)
    stands_out = section.contrast >= _LEAST_CONTRAST
    if stands_out or gold is None or len(gold.heights) < _FEWEST_PLANES_ALONE:
        bottom, top, centre_error, thickness_error = joint_surfaces(section, gold)
    else:
        slopes, errors = (gold.tilt_deg, gold.pitch_deg), (gold.tilt_error_deg, gold.pitch_error_deg)
        bottom, top, centre_error, thickness_error = _between(gold)
        source, stands_out = f"{gold.beads} beads on 2 planes alone", True
    return SectionPosition(
        slopes=slopes,
        slope_errors=errors,
        bottom=bottom,
        top=top,
        centre_error=centre_error,
        thickness_error=thickness_error,
        contrast=section.contrast,
        source=source,
        stands_out=stands_out,
    )


def weighted_mean(values: ArrayLike, errors: ArrayLike) -> tuple[float, float]:
    """Return the mean of a few values weighted by their standard errors, and its error, scaled up where they differ by more.

    >>> weighted_mean([0.0, 2.0], [2.0, 2.0])
    (1.0, 1.4142135623730951)
    >>> weighted_mean([0.0, 2.0], [0.5, 0.5])
    (1.0, 1.0)
    """
    value, error = np.asarray(values, float), np.asarray(errors, float)
    weight = 1 / error**2
    mean = float((value * weight).sum() / weight.sum())
    scatter = float((weight * (value - mean) ** 2).sum()) / max(len(value) - 1, 1)
    return mean, float(np.sqrt(max(scatter, 1.0) / weight.sum()))


def joint_slopes(slopes: SlopeFit, errors: SlopeFit, gold: Gold) -> tuple[SlopeFit, SlopeFit]:
    """Return the slopes (tilt, pitch) from texture and gold together, and their standard errors; degrees."""
    of_gold = (gold.tilt_deg, gold.tilt_error_deg), (gold.pitch_deg, gold.pitch_error_deg)
    (tilt, tilt_error), (pitch, pitch_error) = (
        weighted_mean((slope, other), np.maximum((error, other_error), _LEAST_SLOPE_ERROR_DEG))
        for slope, error, (other, other_error) in zip(slopes, errors, of_gold, strict=True)
    )
    return (tilt, pitch), (tilt_error, pitch_error)


def joint_surfaces(section: SectionFit, gold: Gold | None) -> tuple[float, float, float, float]:
    """Return bottom and top of a section, moved to gold that lies near them, and the errors of their middle and distance; voxels.

    With gold on one surface, the other is mostly placed as far on the other side of the centre of the texture, which is known better
    than the thickness.
    """
    half = section.thickness / 2
    bottom, top = section.centre - half, section.centre + half
    low, high = (_nearest(gold, height, _GOLD_NEAR * section.thickness) for height in (bottom, top))
    centre_error = max(section.centre_error, _LEAST_CENTRE_ERROR)
    if gold is None or (low is None and high is None):
        return bottom, top, centre_error, section.thickness_error
    if low is not None and high is not None:
        return _between(gold)
    marked, far = (high, bottom) if low is None else (low, top)
    assert marked is not None
    gold_error = _height_error(gold)
    other, error = weighted_mean(
        (far, 2 * section.centre - marked),
        (np.hypot(centre_error, section.thickness_error / 2), np.hypot(2 * centre_error, gold_error)),
    )
    error = float(np.hypot(error, gold_error))
    return min(marked, other), max(marked, other), error / 2, error


def _lies_on_planes(gold: Gold, section: SectionFit) -> bool:
    """Return whether beads scatter about their planes less than spots within the section would; true if no section is seen."""
    return section.contrast < _LEAST_CONTRAST or gold.spread < _MOST_SPREAD * section.thickness + _GRID_SPREAD


def _between(gold: Gold) -> tuple[float, float, float, float]:
    """Return bottom and top as two planes of gold mark them, and the errors of their middle and distance; voxels."""
    error = _height_error(gold)
    return gold.heights[0], gold.heights[-1], error / np.sqrt(2), error * np.sqrt(2)


def _height_error(gold: Gold) -> float:
    """Return the standard error of the height of a plane of gold, voxels."""
    return max(gold.spread / float(np.sqrt(gold.beads / len(gold.heights))), _LEAST_GOLD_ERROR)


def _nearest(gold: Gold | None, height: float, distance: float) -> float | None:
    """Return the height of the plane of gold nearest to a surface, if one lies within a distance."""
    heights = () if gold is None else gold.heights
    return min((h for h in heights if abs(h - height) < distance), key=lambda h: abs(h - height), default=None)
