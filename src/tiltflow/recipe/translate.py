"""The only translator: directives in, the parameters of every stage out.

The meaning of a directive is documented in `formats/known_directives.csv`; here it becomes a field.  Where the default of a stage
differs from what IMOD does without the directive, the function says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.projection.refinement import RefineParams
from tiltflow.errors import ParameterError
from tiltflow.formats.directives import Directive
from tiltflow.formats.montages import MONTAGE
from tiltflow.formats.series import SeriesHints
from tiltflow.position.specimen_search import PositionParams
from tiltflow.preprocess.bad_views import ViewParams
from tiltflow.preprocess.xrays import XrayParams
from tiltflow.recipe.cryo import ctf_request, deconvolution, diffusion, erase_request, exposure_request, filter_request
from tiltflow.recipe.directive_status import status_of
from tiltflow.recipe.engine_rules import AUTO, rules_of
from tiltflow.recipe.lookup import Lookup
from tiltflow.recipe.report import DirectiveReport
from tiltflow.recipe.stages import StageParams
from tiltflow.recipe.tracking import bead_params, gold_diameter_nm, patch_params, solve_params, tracking_method
from tiltflow.reconstruct.aligned_stack import StackParams
from tiltflow.reconstruct.sirt import SirtParams
from tiltflow.reconstruct.trim import TrimParams
from tiltflow.reconstruct.wbp import ReconstructParams


def from_directives(
    directives: Iterable[Directive], engine: str = AUTO, *, volume: bool = True
) -> tuple[StageParams, DirectiveReport]:
    """Return the parameters of every stage, and the status of each directive.

    Nothing is raised for what is wrong: the report shows all of it, and :meth:`DirectiveReport.check` raises.  A wrong value leaves
    the default in its place.

    Parameters
    ----------
    directives
        Those in force, one for each name.
    engine
        The engine that the report is for; `auto` stands for an engine that follows tiltflow's own steps.
    volume
        Whether a volume is to be made, so that a directive must give its thickness.
    """
    directives, rules = tuple(directives), rules_of(engine)
    lookup = Lookup(directives)
    values: dict[str, Any] = {}
    for name, make in _STAGES.items():
        try:
            values[name] = make(lookup)
        except ParameterError as error:
            lookup.faults.append(str(error))
    params = StageParams(**values)
    rows = tuple(status_of(directive, lookup, params.method, engine, rules) for directive in directives)
    faults = tuple(dict.fromkeys(lookup.faults))
    if volume and not rules.hands_on_to and not any(map(lookup.has, _THICKNESS)):
        faults += (f"no directive gives the thickness of the volume: set {_THICKNESS[0]}",)
    return params, DirectiveReport(rows, faults)


def _hints(ask: Lookup) -> SeriesHints:
    first_and_increment = ask.numbers("setupset.copyarg.firstinc", ())
    first, increment = first_and_increment or (None, None)
    pixel_nm = ask.number("setupset.copyarg.pixel", 0.0)
    if ask.has("setupset.copyarg.pixel") and pixel_nm <= 0:
        ask.reject("setupset.copyarg.pixel", "a size above 0, in nm, was expected")
    return SeriesHints(
        first_tilt_deg=first,
        tilt_increment_deg=increment,
        use_rawtlt=ask.flag("setupset.copyarg.userawtlt", default=False),
        pixel_size_angstrom=pixel_nm * 10 if pixel_nm > 0 else None,
        axis_angle_deg=ask.number("setupset.copyarg.rotation", 0.0) if ask.has("setupset.copyarg.rotation") else None,
        exclude_views=ask.wholes("setupset.copyarg.skip", (), least=1),
        montage=ask.flag(MONTAGE, default=False) if ask.has(MONTAGE) else None,
        focus=ask.flag("setupset.copyarg.focus", default=False),
    )


def _xrays(ask: Lookup) -> XrayParams:
    eraser, default = "comparam.eraser.ccderaser.", XrayParams()
    return XrayParams(
        enabled=ask.flag("runtime.Preprocessing.any.removeXrays", default=False),
        peak_criterion=ask.number(eraser + "PeakCriterion", default.peak_criterion, least=1),
        diff_criterion=ask.number(eraser + "DiffCriterion", default.diff_criterion, least=1),
        giant_criterion=ask.number(eraser + "GiantCriterion", default.giant_criterion, least=1),
        big_diff_criterion=ask.number(eraser + "BigDiffCriterion", default.big_diff_criterion, least=1),
        grow_criterion=ask.number(eraser + "GrowCriterion", default.grow_criterion, least=1),
        edge_exclusion=ask.whole(eraser + "EdgeExclusionWidth", default.edge_exclusion, least=0),
        annulus_width=ask.number(eraser + "AnnulusWidth", default.annulus_width, least=1),
        scan_size=ask.whole(eraser + "XYScanSize", default.scan_size, least=8),
        polynomial_order=ask.whole(eraser + "PolynomialOrder", default.polynomial_order),
        maximum_radius_px=ask.number(eraser + "MaximumRadius", default.maximum_radius_px, least=1),
    )


def _views(ask: Lookup) -> ViewParams:
    """Return when a view is left out; bad views are searched for by default, unlike in IMOD."""
    step, default = "runtime.Preprocessing.any.", ViewParams()
    return ViewParams(
        dark_fraction=ask.number(step + "darkExcludeRatio", default.dark_fraction, least=0),
        blocked_fraction=ask.number(step + "darkExcludeFraction", default.blocked_fraction, least=0),
        blank_fraction=ask.number(step + "endExcludeCriterion", default.blank_fraction, least=0),
    )


def _coarse(ask: Lookup) -> CoarseParams:
    """Return how views are correlated; a fixed pattern is searched for by default, unlike in IMOD."""
    xcorr, default = "comparam.xcorr.tiltxcorr.", CoarseParams()
    return CoarseParams(
        filter_sigma1=ask.number(xcorr + "FilterSigma1", default.filter_sigma1, least=0),
        filter_radius2=ask.number(xcorr + "FilterRadius2", default.filter_radius2, least=0),
        filter_sigma2=ask.number(xcorr + "FilterSigma2", default.filter_sigma2, least=0),
        exclude_central_peak=ask.flag(xcorr + "ExcludeCentralPeak", default.exclude_central_peak),
    )


def _refine(ask: Lookup) -> RefineParams:
    default = RefineParams()
    return RefineParams(exclude_central_peak=ask.flag("comparam.xcorr.tiltxcorr.ExcludeCentralPeak", default.exclude_central_peak))


def _position(ask: Lookup) -> PositionParams:
    step, default = "runtime.Positioning.any.", PositionParams()
    return PositionParams(
        sample_type=ask.whole(step + "sampleType", default.sample_type),
        thickness=ask.whole(step + "thickness", 0, least=1) or None,
        whole_tomogram=ask.flag(step + "wholeTomogram", default.whole_tomogram),
        has_gold_beads=ask.flag(step + "hasGoldBeads", default.has_gold_beads),
        sets_thickness=ask.has(_THICKNESS[2]),
        extra_thickness=ask.whole("runtime.Reconstruction.any.extraThickness", 0),
    )


def _stack(ask: Lookup) -> StackParams:
    step, newst = "runtime.AlignedStack.any.", "comparam.newst.newstack."
    binning = _binning(ask)
    raw_size = ask.wholes(step + "sizeInXandY", (), least=1)
    size = ask.wholes(newst + "SizeToOutputInXandY", tuple(side // binning for side in raw_size), least=1)
    width, *inside = ask.wholes(newst + "TaperAtFill", (1,), least=0)
    return StackParams(
        binning=binning,
        linear=ask.flag(step + "linearInterpolation", default=False),
        taper=width > 0 and not ask.removed(newst + "TaperAtFill"),
        taper_px=width if width > 1 else None,
        taper_inside=bool(inside and inside[0]),
        size_xy=(size[0], size[1]) if size else None,
    )


def _reconstruct(ask: Lookup) -> ReconstructParams:
    tilt, binning = "comparam.tilt.tilt.", _binning(ask)
    default = ReconstructParams(thickness=_thickness(ask, binning), binning=binning)
    cutoff, falloff = ask.numbers(tilt + "RADIAL", (default.radial_cutoff, default.radial_falloff), least=0)
    scale_offset, scale_factor = ask.numbers(tilt + "SCALE", ()) or (0.0, None)
    offset_deg, *axis_offset = ask.numbers(tilt + "OFFSET", (0.0,))
    shift_x, *shift_z = ask.numbers(tilt + "SHIFT", (0.0,))
    neighbours, *weights = ask.numbers(tilt + "DENSWEIGHT", (float(default.density_neighbours),), least=0)
    if weights or neighbours != int(neighbours):
        ask.refuse(tilt + "DENSWEIGHT", "custom weights are not supported: give only the number of neighbours")
    excluded = {*ask.wholes(tilt + "EXCLUDELIST", (), least=1), *ask.wholes(tilt + "EXCLUDELIST2", (), least=1)}
    return ReconstructParams(
        thickness=default.thickness,
        binning=binning,
        radial_cutoff=cutoff,
        radial_falloff=falloff,
        falloff_is_true_sigma=ask.flag(tilt + "FalloffIsTrueSigma", default.falloff_is_true_sigma),
        hamming_start=ask.number(tilt + "HammingLikeFilter", 0.0, least=0) if ask.has(tilt + "HammingLikeFilter") else None,
        fake_sirt_iterations=ask.whole(tilt + "FakeSIRTiterations", default.fake_sirt_iterations, least=0),
        density_neighbours=int(neighbours),
        # tilt.com has LOG 0; a blank directive removes the line, for data that are linear in the thickness already.
        log_offset=None if ask.removed(tilt + "LOG") else ask.number(tilt + "LOG", 0.0),
        scale_offset=scale_offset,
        scale_factor=scale_factor,
        x_axis_tilt_deg=ask.number(tilt + "XAXISTILT", 0.0),
        offset_deg=offset_deg,
        shift_x=shift_x,
        shift_z=shift_z[0] if shift_z else 0.0,
        axis_offset=axis_offset[0] if axis_offset else 0.0,
        width=ask.whole(tilt + "WIDTH", 0, least=1) or None,
        exclude_views=tuple(sorted(view - 1 for view in excluded)),
        mode=ask.whole(tilt + "MODE", 1) if ask.has(tilt + "MODE") else None,
    )


def _binning(ask: Lookup) -> int:
    return ask.whole("runtime.AlignedStack.any.binByFactor", 1, least=1)


_THICKNESS = (
    "comparam.tilt.tilt.THICKNESS",
    "runtime.Reconstruction.any.binnedThickness",
    "runtime.Reconstruction.any.fallbackThickness",
)


def _thickness(ask: Lookup, binning: int) -> int:
    """Return the thickness of the volume, raw pixels, from the one directive that may give it."""
    given = [name for name in _THICKNESS if ask.has(name)]
    if len(given) > 1:
        ask.faults.append(f"{' and '.join(given)} both give the thickness of the volume: keep one of them")
    thickness = {name: ask.whole(name, 1, least=1) for name in given}
    if _THICKNESS[1] in thickness:
        thickness[_THICKNESS[1]] *= binning
    return thickness[given[0]] if given else binning


def _sirt(ask: Lookup) -> SirtParams | None:
    """Return the parameters of SIRT; None for back-projection, also when both are requested and the back-projection is trimmed."""
    setup, step, default = "comparam.sirtsetup.sirtsetup.", "runtime.Reconstruction.any.", SirtParams()
    both = ask.flag(step + "doBackprojAlso", default=False)
    trimmed = ask.whole("runtime.Trimvol.any.doSIRTifBoth", 0)
    wanted = ask.flag(step + "useSirt", default=False)
    if wanted and both and trimmed == 2:
        ask.refuse("runtime.Trimvol.any.doSIRTifBoth", "one volume is made: run twice, with 0 and with 1")
    cutoff, falloff = ask.numbers(setup + "RadiusAndSigma", (default.radial_cutoff, default.radial_sigma), least=0)
    iterations = max(ask.wholes(setup + "LeaveIterations", (default.iterations,), least=1))
    from_zero = ask.flag(setup + "StartFromZero", default.start == "zero")
    own = "runtime.Tiltflow.any.sirtRelaxation"
    relaxation = ask.number(own, default.relaxation)
    if not 0 < relaxation < 2:
        ask.reject(own, "a number above 0 and below 2 was expected")
        relaxation = default.relaxation
    if not wanted or (both and trimmed == 0):
        return None
    if ask.flag("comparam.align.tiltalign.LocalAlignments", default=False) and tracking_method(ask) != "projection":
        ask.refuse(step + "useSirt", "SIRT does not support local alignments: set comparam.align.tiltalign.LocalAlignments to 0")
    return SirtParams(
        iterations=iterations,
        relaxation=relaxation,
        start="zero" if from_zero else "back-projection",
        radial_cutoff=cutoff,
        radial_sigma=falloff,
    )


def _halves(ask: Lookup) -> bool:
    return ask.flag("runtime.Tiltflow.any.halfVolumes", default=False)


def _trim(ask: Lookup) -> TrimParams:
    step, default = "runtime.Trimvol.any.", TrimParams()
    scale_from = [step + "scaleFrom" + axis for axis in "XYZ"]
    x, y, z = (ask.number(name, part, least=1e-6) for name, part in zip(scale_from, default.contrast_size, strict=True))
    return TrimParams(
        reorient=ask.whole(step + "reorient", default.reorient),
        size_x=ask.number(step + "sizeInX", 0.0, least=0) or None,
        size_y=ask.number(step + "sizeInY", 0.0, least=0) or None,
        thickness=ask.number(step + "thickness", 0.0, least=0) or None,
        to_bytes=any(map(ask.has, scale_from)),
        contrast_size=(x, y, z),
    )


_STAGES: Mapping[str, Callable[[Lookup], Any]] = {
    "hints": _hints,
    "xrays": _xrays,
    "views": _views,
    "coarse": _coarse,
    "refine": _refine,
    "method": tracking_method,
    "gold_nm": gold_diameter_nm,
    "beads": bead_params,
    "patches": patch_params,
    "solve": solve_params,
    "position": _position,
    "stack": _stack,
    "ctf": ctf_request,
    "exposure": exposure_request,
    "erase": erase_request,
    "filter": filter_request,
    "reconstruct": _reconstruct,
    "sirt": _sirt,
    "trim": _trim,
    "halves": _halves,
    "deconvolve": deconvolution,
    "diffuse": diffusion,
}
