"""What texture and gold say together about where a section lies.

Each source counts with the inverse square of its error.  Where both disagree by more than their errors, the error of their mean grows
by as much (the scale factor of the Particle Data Group: doi:10.1093/ptep/ptac097, section 5.2.2): a dozen beads may be pitched by half
a degree on a surface that is not.  Where texture does not stand out, two planes of gold tell on their own.
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
_MOST_SPREAD, _GRID_SPREAD = 0.04, 0.3
"""Of gold about its planes: part of the thickness, and voxels, as spots are found at whole ones."""
_LEAST_SLOPE_ERROR_DEG = 0.1
_LEAST_CENTRE_ERROR = 0.5
_LEAST_GOLD_ERROR = 0.5
"""Voxels: how finely heights are searched, and how well gold marks a surface."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A section between two planes, and standard errors; heights in voxels above the centre of the volume, angles in degrees.

    Attributes
    ----------
    slopes, slope_errors
        (tilt, pitch).
    bottom, top
        Heights of its surfaces at the centre of the volume.
    contrast
        Height of the texture's hump over the scatter of what lies outside.
    source
        What it is known from.
    stands_out
        Whether it is more than noise.
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


def place(texture: Columns, sharper: Sequence[Columns], gold: Gold | None) -> Placed:
    """Return the section that a volume shows.

    Parameters
    ----------
    texture, sharper
        Of the longest waves, and of shorter ones.
    gold
        The planes that gold was found on.
    """
    slopes, errors = fit_slopes(texture, sharper=sharper)
    source = "texture"
    if gold is not None and not _lies_on_planes(gold, fit_section(texture, slopes)):
        gold = None
    if gold is not None:
        slopes, errors = joint_slopes(slopes, errors, gold)
        source = f"{gold.beads} beads on {len(gold.heights)} plane{'s' * (len(gold.heights) > 1)} and texture"
    slab = fit_section(texture, slopes, sharper=sharper)
    stands_out = slab.contrast >= _LEAST_CONTRAST
    if stands_out or gold is None or len(gold.heights) < 2:
        bottom, top, centre_error, thickness_error = joint_surfaces(slab, gold)
    else:
        slopes, errors = (gold.tilt_deg, gold.pitch_deg), (gold.tilt_error_deg, gold.pitch_error_deg)
        bottom, top, centre_error, thickness_error = _between(gold)
        source, stands_out = f"{gold.beads} beads on 2 planes alone", True
    return Placed(
        slopes=slopes,
        slope_errors=errors,
        bottom=bottom,
        top=top,
        centre_error=centre_error,
        thickness_error=thickness_error,
        contrast=slab.contrast,
        source=source,
        stands_out=stands_out,
    )


def agreed_mean(values: ArrayLike, errors: ArrayLike) -> tuple[float, float]:
    """Return the mean of a few values weighted by their standard errors, and its error.

    >>> agreed_mean([0.0, 2.0], [2.0, 2.0])
    (1.0, 1.4142135623730951)
    >>> agreed_mean([0.0, 2.0], [0.5, 0.5])
    (1.0, 1.0)
    """
    value, error = np.asarray(values, float), np.asarray(errors, float)
    weight = 1 / error**2
    mean = float((value * weight).sum() / weight.sum())
    scatter = float((weight * (value - mean) ** 2).sum()) / max(len(value) - 1, 1)
    return mean, float(np.sqrt(max(scatter, 1.0) / weight.sum()))


def joint_slopes(slopes: SlopeFit, errors: SlopeFit, gold: Gold) -> tuple[SlopeFit, SlopeFit]:
    """Return the slopes (tilt, pitch) of texture and gold together, and their errors; degrees."""
    of_gold = (gold.tilt_deg, gold.tilt_error_deg), (gold.pitch_deg, gold.pitch_error_deg)
    (tilt, tilt_error), (pitch, pitch_error) = (
        agreed_mean((slope, other), np.maximum((error, other_error), _LEAST_SLOPE_ERROR_DEG))
        for slope, error, (other, other_error) in zip(slopes, errors, of_gold, strict=True)
    )
    return (tilt, pitch), (tilt_error, pitch_error)


def joint_surfaces(slab: SectionFit, gold: Gold | None) -> tuple[float, float, float, float]:
    """Return bottom and top of a slab, moved to gold that lies near them, and the errors of their middle and distance; voxels.

    With gold on one of them, the other lies as far from the centre of the slab, which texture tells better than the thickness.
    """
    half = slab.thickness / 2
    bottom, top = slab.centre - half, slab.centre + half
    low, high = (_nearest(gold, height, half / 2) for height in (bottom, top))
    centre_error = max(slab.centre_error, _LEAST_CENTRE_ERROR)
    if gold is None or (low is None and high is None):
        return bottom, top, centre_error, slab.thickness_error
    if low is not None and high is not None:
        return _between(gold)
    marked, far = (high, bottom) if low is None else (low, top)
    assert marked is not None
    gold_error = _height_error(gold)
    other, error = agreed_mean(
        (far, 2 * slab.centre - marked), (np.hypot(centre_error, slab.thickness_error / 2), np.hypot(2 * centre_error, gold_error))
    )
    error = float(np.hypot(error, gold_error))
    return min(marked, other), max(marked, other), error / 2, error


def _lies_on_planes(gold: Gold, slab: SectionFit) -> bool:
    """Return whether beads scatter about their planes much less than spots within a section would, as far as that can be told."""
    return slab.contrast < _LEAST_CONTRAST or gold.spread < _MOST_SPREAD * slab.thickness + _GRID_SPREAD


def _between(gold: Gold) -> tuple[float, float, float, float]:
    """Return bottom and top that gold marks on two planes, and the errors of their middle and distance."""
    error = _height_error(gold)
    return gold.heights[0], gold.heights[-1], error / np.sqrt(2), error * np.sqrt(2)


def _height_error(gold: Gold) -> float:
    """Return the standard error of the height of a plane of gold."""
    return max(gold.spread / float(np.sqrt(gold.beads / len(gold.heights))), _LEAST_GOLD_ERROR)


def _nearest(gold: Gold | None, height: float, reach: float) -> float | None:
    """Return the height of the plane of gold that lies nearest to a surface, within a reach."""
    heights = () if gold is None else gold.heights
    return min((h for h in heights if abs(h - height) < reach), key=lambda h: abs(h - height), default=None)
