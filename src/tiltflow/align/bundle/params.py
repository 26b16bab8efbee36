"""Parameters of the adjustment.  The defaults are those of IMOD's plastic template where tiltalign has the parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tiltflow.errors import ParameterError

RotationVariables = Literal["fixed", "one", "each", "grouped"]
TiltVariables = Literal["fixed", "each", "grouped"]
MagnificationVariables = Literal["fixed", "each", "grouped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalParams:
    """How local areas are laid out and what is free in them.  Defaults are tiltalign's.

    Attributes
    ----------
    target_size_px
        Side of an area along x and y; an area grows until it holds enough tracks (TargetPatchSizeXandY).
    minimum_tracks
        Tracks that an area must hold, in all and on each surface (MinFidsTotalAndEachSurface).
    overlap
        Fraction of an area that it shares with its neighbour (MinSizeOrOverlapXandY).
    rotation_group, tilt_group, magnification_group
        Views between independent values; between them the value changes linearly.
    """

    target_size_px: tuple[float, float] = (700.0, 700.0)
    minimum_tracks: tuple[int, int] = (8, 3)
    overlap: float = 0.5
    rotation_group: int = 6
    tilt_group: int = 6
    magnification_group: int = 7

    def __post_init__(self) -> None:
        if min(self.target_size_px) <= 0 or not 0 <= self.overlap < 1 or min(self.minimum_tracks) < 1:
            raise ParameterError(
                f"Local areas of {self.target_size_px} px, overlap {self.overlap}, at least {self.minimum_tracks} tracks make no "
                "sense: sizes and tracks start at 1, the overlap lies between 0 and 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveParams:
    """Which variables are solved for, and how outliers are treated.

    Attributes
    ----------
    rotation
        Angle of the tilt axis: `fixed` at the nominal, `one` for all views, one for `each`, or `grouped` (RotOption).
    tilt
        `fixed` at the nominal, one for `each` view, or `grouped` (TiltOption).  No track determines an offset common to all tilts:
        where tiltalign holds the view nearest zero, the mean is held here.
    magnification
        `fixed` at 1, one for `each` view, or `grouped` (MagOption).
    stretch, skew
        Whether the specimen may stretch along x and shear from view to view; always grouped (XStretchOption, SkewOption).
    rotation_group, tilt_group, magnification_group, stretch_group, skew_group
        Views between independent values of a grouped variable; between them it changes linearly.
    rotation_sd_deg, tilt_sd_deg, magnification_sd, stretch_sd, skew_sd_deg
        Prior standard deviations: about their mean for rotation and magnification, about the nominal for the others.  They are wide,
        so that they matter only for variables that the tracks do not determine.
    adapt
        Whether to estimate narrower priors from the tracks of the series (empirical Bayes).
    robust
        Whether to give less weight to points that fit badly (RobustFitting).
    k_factor
        Tukey's constant, in robust standard deviations (4.685 times KFactorScaling): 95 % efficiency for normal errors.
    tilt_drift
        Whether an estimated prior of the tilts allows for errors that drift with tilt.  Not for patches, whose own drift with tilt looks
        the same: they would stretch the tilts by half a percent.
    weight_whole_tracks
        Whether to weight whole tracks rather than points: for patches, whose errors are correlated from view to view
        (WeightWholeTracks).
    surfaces
        1 or 2 planes to fit to the points (SurfacesToAnalyze).
    tilt_angle_offset_deg
        Added to every tilt (AngleOffset).
    z_shift_px
        Added to the z of every point after centring (AxisZShift).
    restrict
        Whether variables are grouped or fixed when there are too few measurements for them (restrictalign).  With `adapt` and at
        least four tracks the estimated priors hold them instead: grouping costs more accuracy than it gains.
    minimum_measurement_ratio, target_measurement_ratio
        Measurements per unknown below which variables are grouped or fixed, and the ratio to reach (restrictalign's
        MinMeasurementRatio and TargetMeasurementRatio).
    leave_out
        Whether to compute the leave-out error.
    local
        Local areas, or None for a global solution alone.
    """

    rotation: RotationVariables = "each"
    tilt: TiltVariables = "each"
    magnification: MagnificationVariables = "each"
    stretch: bool = False
    skew: bool = False
    rotation_group: int = 5
    tilt_group: int = 5
    magnification_group: int = 4
    stretch_group: int = 7
    skew_group: int = 11
    rotation_sd_deg: float = 2.0
    tilt_sd_deg: float = 1.0
    magnification_sd: float = 0.02
    stretch_sd: float = 0.005
    skew_sd_deg: float = 0.3
    adapt: bool = True
    robust: bool = True
    k_factor: float = 4.685
    tilt_drift: bool = True
    weight_whole_tracks: bool = False
    surfaces: Literal[1, 2] = 1
    tilt_angle_offset_deg: float = 0.0
    z_shift_px: float = 0.0
    restrict: bool = True
    minimum_measurement_ratio: float = 3.2
    target_measurement_ratio: float = 3.6
    leave_out: bool = True
    local: LocalParams | None = None

    def __post_init__(self) -> None:
        groups = (self.rotation_group, self.tilt_group, self.magnification_group, self.stretch_group, self.skew_group)
        spreads = (self.rotation_sd_deg, self.tilt_sd_deg, self.magnification_sd, self.stretch_sd, self.skew_sd_deg)
        if min(groups) < 1:
            raise ParameterError(f"Groups of {groups} views make no sense: a group has at least one")
        if min(spreads) <= 0 or self.k_factor <= 0:
            raise ParameterError(f"Standard deviations {spreads} and k_factor {self.k_factor} must be above 0")
        if self.surfaces not in {1, 2}:
            raise ParameterError(f"surfaces is {self.surfaces}; a section has 1 or 2 that can carry points")
