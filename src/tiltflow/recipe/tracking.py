"""The directives of tracking and fine alignment as parameters of the stages.

Sizes and filters of tracks are given in pixels of IMOD's prealigned stack; the stages count raw pixels, so the binning of that
stack (`comparam.prenewst.newstack.BinByFactor`) is multiplied in, although no such stack is made.

Without a directive, the stage's own default applies.  The defaults of the solution are the plastic template's (robust, a value for
each view), not those of a bare `align.com`: variables that the tracks do not determine are grouped or fixed automatically.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from tiltflow.align.beads import BeadParams
from tiltflow.align.bundle import LocalParams, SolveParams
from tiltflow.align.methods import Method
from tiltflow.align.patches import PatchParams
from tiltflow.recipe.lookup import Lookup

T = TypeVar("T")

_ALIGN = "comparam.align.tiltalign."


def tracking_method(ask: Lookup) -> Method:
    """Return the method of the fine alignment."""
    tracking, seeding = "runtime.Fiducials.any.trackingMethod", "runtime.Fiducials.any.seedingMethod"
    tracked, seeds = ask.whole(tracking, 0), ask.whole(seeding, 1)
    if ask.flag("runtime.Fiducials.any.fiducialless", default=False):
        return "projection"
    if tracked == 1:
        return "patches"
    if tracked == 2:
        ask.refuse(
            tracking,
            "RAPTOR is not available: give 0 for beads or 1 for patches, or run with --engine imod where RAPTOR is installed beside IMOD",
        )
    elif seeds in (0, 2):
        how = "by hand" if seeds == 0 else "from the other axis"
        ask.refuse(seeding, f"seeds cannot be taken {how} in a run of one series that nobody attends: give 1 to have them found")
    return "gold"


def gold_diameter_nm(ask: Lookup) -> float:
    """Return the diameter of the beads."""
    diameter = ask.number("setupset.copyarg.gold", 0.0, least=0)
    if diameter == 0 and tracking_method(ask) == "gold":
        ask.faults.append(
            "tracking gold beads needs their diameter, but setupset.copyarg.gold is 0: give --gold, track patches with "
            "--tracking-method 1, or align without markers with --fiducialless"
        )
    return diameter


def bead_params(ask: Lookup) -> BeadParams:
    """Return how beads are found and tracked; the diameter is in pixels of 1 Å."""
    track, seed = "comparam.track.beadtrack.", "comparam.autofidseed.autofidseed."
    diameter = gold_diameter_nm(ask) * 10 or 1.0
    default = BeadParams(diameter_px=diameter)
    local = ask.flag(track + "LocalAreaTracking", default=True)
    area = min(ask.wholes(track + "LocalAreaTargetSize", (1000,), least=1)) * _prealigned_binning(ask)
    light, adjust = track + "LightBeads", seed + "AdjustSizes"
    return BeadParams(
        diameter_px=diameter,
        light=ask.flag(light, default=False) if ask.has(light) else default.light,
        adjust_size=ask.flag(adjust, default.adjust_size),
        two_surfaces=ask.flag(seed + "TwoSurfaces", default.two_surfaces),
        target_number=ask.whole(seed + "TargetNumberOfBeads", default.target_number, least=1),
        local_area_px=float(area) if local else None,
        areas=_local_params(ask),
        rounds=ask.whole(track + "RoundsOfTracking", default.rounds, least=1),
    )


def patch_params(ask: Lookup) -> PatchParams:
    """Return how patches are laid out and compared."""
    xcorr, default, binning = "comparam.xcorr_pt.tiltxcorr.", PatchParams(), _prealigned_binning(ask)
    size = ask.wholes(xcorr + "SizeOfPatchesXandY", (), least=1)
    return PatchParams(
        size_px=(size[0] * binning, size[1] * binning) if size else default.size_px,
        overlap=max(ask.numbers(xcorr + "OverlapOfPatchesXandY", (default.overlap,), least=0)),
        low_pass=ask.number(xcorr + "FilterRadius2", default.low_pass, least=0) / binning,
        low_pass_sigma=ask.number(xcorr + "FilterSigma2", default.low_pass_sigma, least=0) / binning,
        high_pass_sigma=ask.number(xcorr + "FilterSigma1", default.high_pass_sigma, least=0) / binning,
    )


def solve_params(ask: Lookup) -> SolveParams:
    """Return which variables are solved for."""
    default, restrict = SolveParams(), "runtime.RestrictAlign.any."
    stretching = ask.flag("runtime.TiltAlignment.any.enableStretching", default=False)
    return SolveParams(
        rotation=_option(
            ask, _ALIGN + "RotOption", {0: "fixed", 1: "each", -1: "one", 3: "grouped", 4: "grouped"}, default.rotation
        ),
        tilt=_option(ask, _ALIGN + "TiltOption", {0: "fixed", 1: "each", 2: "each", 5: "grouped"}, default.tilt),
        magnification=_option(
            ask, _ALIGN + "MagOption", {0: "fixed", 1: "each", 3: "grouped", 4: "grouped"}, default.magnification
        ),
        stretch=_option(ask, _ALIGN + "XStretchOption", {0: False, 3: True}, default=False) or stretching,
        skew=_option(ask, _ALIGN + "SkewOption", {0: False, 3: True}, default=False) or stretching,
        rotation_group=ask.whole(_ALIGN + "RotDefaultGrouping", default.rotation_group, least=1),
        tilt_group=ask.whole(_ALIGN + "TiltDefaultGrouping", default.tilt_group, least=1),
        magnification_group=ask.whole(_ALIGN + "MagDefaultGrouping", default.magnification_group, least=1),
        stretch_group=ask.whole(_ALIGN + "XStretchDefaultGrouping", default.stretch_group, least=1),
        skew_group=ask.whole(_ALIGN + "SkewDefaultGrouping", default.skew_group, least=1),
        robust=ask.flag(_ALIGN + "RobustFitting", default.robust),
        k_factor=default.k_factor * ask.number(_ALIGN + "KFactorScaling", 1.0, least=0.01),
        weight_whole_tracks=ask.flag(_ALIGN + "WeightWholeTracks", default.weight_whole_tracks),
        surfaces=_option(ask, _ALIGN + "SurfacesToAnalyze", {1: 1, 2: 2}, default.surfaces),
        tilt_angle_offset_deg=ask.number(_ALIGN + "AngleOffset", 0.0),
        z_shift_px=ask.number(_ALIGN + "AxisZShift", 0.0),
        minimum_measurement_ratio=ask.number(restrict + "minMeasurementRatio", default.minimum_measurement_ratio, least=0),
        target_measurement_ratio=ask.number(restrict + "targetMeasurementRatio", default.target_measurement_ratio, least=0),
        local=_local_params(ask),
    )


def _local_params(ask: Lookup) -> LocalParams | None:
    default, binning = LocalParams(), _prealigned_binning(ask)
    overlap = _ALIGN + "MinSizeOrOverlapXandY"
    if max(ask.numbers(overlap, (default.overlap,), least=0)) >= 1:
        ask.refuse(overlap, "give the overlap as a fraction below 1, not as a size")
    width, height = ask.numbers(_ALIGN + "TargetPatchSizeXandY", default.target_size_px, least=1)
    total, each = ask.wholes(_ALIGN + "MinFidsTotalAndEachSurface", default.minimum_tracks, least=1)
    params = LocalParams(
        target_size_px=(float(width) * binning, float(height) * binning),
        minimum_tracks=(total, each),
        overlap=min(max(ask.numbers(overlap, (default.overlap,), least=0)), 0.95),
        rotation_group=ask.whole(_ALIGN + "LocalRotDefaultGrouping", default.rotation_group, least=1),
        tilt_group=ask.whole(_ALIGN + "LocalTiltDefaultGrouping", default.tilt_group, least=1),
        magnification_group=ask.whole(_ALIGN + "LocalMagDefaultGrouping", default.magnification_group, least=1),
    )
    return params if ask.flag(_ALIGN + "LocalAlignments", default=False) else None


def _prealigned_binning(ask: Lookup) -> int:
    return ask.whole("comparam.prenewst.newstack.BinByFactor", 1, least=1)


def _option(ask: Lookup, name: str, meanings: Mapping[int, T], default: T) -> T:
    """Return the meaning of the number of one of tiltalign's options."""
    if not ask.has(name):
        return default
    number = ask.whole(name, 0)
    if number not in meanings:
        ask.refuse(name, f"{number} is not supported: give one of {', '.join(map(str, meanings))}, or run with --engine imod")
    return meanings.get(number, default)
