"""What directives ask of the corrections of cryo series, CTF, exposure, gold and filters, and of volumes to look at.

IMOD does each only where its directive is 1.  The template cryo_brt asks for what the data support, by tiltflow's own directive
`runtime.Tiltflow.any.cryoCorrections`; IMOD's directives, where they are given, come before it.
"""

from __future__ import annotations

from typing import Literal, cast

from tiltflow.ctf.requests import CtfRequest, ExposureRequest, Wish
from tiltflow.erase.requests import EraseRequest
from tiltflow.filters.deconvolve import DeconvolveParams
from tiltflow.filters.diffuse import DiffuseParams
from tiltflow.filters.requests import FilterRequest
from tiltflow.recipe.lookup import Lookup

_STACK, _OWN = "runtime.AlignedStack.any.", "runtime.Tiltflow.any."
_FILTER = "comparam.mtffilter.mtffilter."
_PLOTTER, _FLIP = "comparam.ctfplotter.ctfplotter.", "comparam.ctfcorrection.ctfphaseflip."
_GOLD = "setupset.copyarg.gold"
_METHODS = ("flip", "multiply", "wiener")
_FROM_MDOC = 4
"""`TypeOfDoseFile` for the `.mdoc`, which is read anyway."""


def ctf_request(ask: Lookup) -> CtfRequest:
    """Return what is asked of the CTF.

    With `correctCTF`, a stated defocus and no range of tilts to fit, the defocus is taken as it is, as in IMOD.
    """
    default = CtfRequest()
    correct = _wish(ask, "correctCTF")
    stated = ask.has("setupset.copyarg.defocus")
    fitted = ask.has("runtime.CTFplotting.any.autoFitRangeAndStep")
    span = ask.numbers(_PLOTTER + "ScanDefocusRange", default.span_nm, least=1)
    if span[0] >= span[1]:
        ask.reject(_PLOTTER + "ScanDefocusRange", "two numbers that rise were expected, in nm")
        span = default.span_nm
    fit_range = ask.numbers(_PLOTTER + "FrequencyRangeToFit", (), least=0)
    if fit_range and fit_range[0] >= fit_range[1]:
        ask.reject(_PLOTTER + "FrequencyRangeToFit", "two numbers that rise were expected, in cycles per pixel")
        fit_range = ()
    return CtfRequest(
        correct=correct,
        file=ask.text(_OWN + "defocusFile"),
        fit=fitted or not (stated and correct == "yes"),
        voltage_kv=_voltage(ask),
        defocus_nm=_positive(ask, "setupset.copyarg.defocus"),
        cs_mm=ask.number("setupset.copyarg.Cs", default.cs_mm, least=0),
        amplitude_contrast=_amplitude_contrast(ask, default.amplitude_contrast),
        span_nm=(span[0], span[1]),
        fit_range=(fit_range[0], fit_range[1]) if fit_range else None,
        astigmatism=ask.flag(_PLOTTER + "SearchAstigmatism", default.astigmatism),
        phase_shift=ask.flag(_PLOTTER + "SearchPhaseShift", default.phase_shift),
        hand=_hand(ask),
        method=_method(ask),
        step_nm=ask.number(_FLIP + "DefocusTol", default.step_nm, least=1),
    )


def exposure_request(ask: Lookup) -> ExposureRequest:
    """Return what is asked of the weighting by exposure: `filterStack` filters by it where an option of mtffilter says how."""
    default = ExposureRequest()
    kind = ask.whole(_FILTER + "TypeOfDoseFile", 0)
    file = ask.text(_FILTER + "DoseWeightingFile")
    if file and kind not in (1, 2, 3):
        ask.reject(_FILTER + "DoseWeightingFile", f"{_FILTER}TypeOfDoseFile is to say what the file holds: 1, 2 or 3")
        file = ""
    if not file and kind in (1, 2, 3):
        ask.reject(
            _FILTER + "TypeOfDoseFile", f"there is no {_FILTER}DoseWeightingFile; without one only 4, the .mdoc, has a meaning"
        )
    first = ask.whole(_FILTER + "BidirectionalNumViews", 0, least=1)
    symmetric = ask.flag("setupset.copyarg.dosesym", default=False)
    scaling = ask.number(_FILTER + "OptimalDoseScaling", 1.0)
    if scaling <= 0:
        ask.reject(_FILTER + "OptimalDoseScaling", "a number above 0 was expected")
        scaling = 1.0
    told_how = bool(file) or kind == _FROM_MDOC or ask.has(_FILTER + "FixedImageDose")
    wish: Wish = _wish(ask, "filterStack")
    if wish == "yes" and not told_how:
        wish = "if known" if ask.flag(_OWN + "cryoCorrections", default=False) else "no"
    return ExposureRequest(
        weight=wish,
        each=_positive(ask, _FILTER + "FixedImageDose"),
        initial=ask.number(_FILTER + "InitialDose", default.initial, least=0),
        scheme="bidirectional" if first else "dose-symmetric" if symmetric else "told",
        first_views=first,
        file=file,
        columns=kind if file else default.columns,
        voltage_kv=_voltage(ask),
        sensitivity=1 / scaling,
    )


def _wish(ask: Lookup, step: str) -> Wish:
    if ask.has(_STACK + step):
        return "yes" if ask.flag(_STACK + step, default=False) else "no"
    return "if known" if ask.flag(_OWN + "cryoCorrections", default=False) else "no"


def _voltage(ask: Lookup) -> float | None:
    return float(ask.whole("setupset.copyarg.voltage", 0, least=20)) or None


def _positive(ask: Lookup, name: str) -> float | None:
    if not ask.has(name):
        return None
    value = ask.number(name, 0.0)
    if value <= 0:
        ask.reject(name, "a number above 0 was expected")
        return None
    return value


def _amplitude_contrast(ask: Lookup, default: float) -> float:
    """Return the part of the contrast that is absorption: that of the correction, or else that of the fit."""
    for program in (_PLOTTER, _FLIP):
        value = ask.number(program + "AmplitudeContrast", default, least=0)
        if value > 1:
            ask.reject(program + "AmplitudeContrast", "a part of the contrast from 0 to 1 was expected")
        else:
            default = value
    return default


def _hand(ask: Lookup) -> int | None:
    """Return the stated sign of the gradient: that of the correction, or else that of the fit."""
    for program in (_FLIP, _PLOTTER):
        if ask.has(program + "InvertTiltAngles"):
            return -1 if ask.flag(program + "InvertTiltAngles", default=False) else 1
    return None


def _method(ask: Lookup) -> Literal["flip", "multiply", "wiener"]:
    method = ask.text(_OWN + "ctfMethod") or _METHODS[0]
    if method not in _METHODS:
        ask.reject(_OWN + "ctfMethod", f"one of {', '.join(_METHODS)} was expected")
        method = _METHODS[0]
    return cast("Literal['flip', 'multiply', 'wiener']", method)


def filter_request(ask: Lookup) -> FilterRequest | None:
    """Return the filter of the aligned stack; None without `filterStack`, or where nothing is left to be done."""
    default = FilterRequest()
    low = ask.numbers(_FILTER + "LowPassRadiusSigma", default.low_pass or (), least=0)
    rolloff = ask.numbers(_FILTER + "InverseRolloffRadiusSigma", default.inverse_rolloff, least=0)
    asked = FilterRequest(
        low_pass=None if ask.removed(_FILTER + "LowPassRadiusSigma") else (low[0], low[1]),
        high_pass_sigma=ask.number(_FILTER + "HighPassSigma", default.high_pass_sigma, least=0),
        mtf_file=ask.text(_FILTER + "MtfFile"),
        inverse_rolloff=(rolloff[0], rolloff[1]),
        maximum_inverse=ask.number(_FILTER + "MaximumInverse", default.maximum_inverse, least=1),
    )
    return asked if ask.flag(_STACK + "filterStack", default=False) else None


def deconvolution(ask: Lookup) -> DeconvolveParams | None:
    """Return how the volume is deconvolved for viewing; None where it is not."""
    default = DeconvolveParams()
    strength = ask.number(_OWN + "deconvolutionStrength", default.strength)
    falloff = ask.number(_OWN + "deconvolutionFalloff", default.falloff, least=0)
    wanted = ask.flag(_OWN + "deconvolve", default=False)
    return DeconvolveParams(strength=strength, falloff=falloff) if wanted else None


def diffusion(ask: Lookup) -> DiffuseParams | None:
    """Return how the volume is denoised by diffusion; None where it is not."""
    step = "runtime.NAD.any."
    iterations, k = ask.whole(step + "iterations", 0, least=0), ask.number(step + "Kvalue", 0.0)
    if ask.has(step + "Kvalue") and k <= 0:
        ask.reject(step + "Kvalue", "a gradient above 0 was expected, in grey values per voxel")
        return None
    if iterations and not k:
        ask.reject(step + "iterations", f"{step}Kvalue is to say which gradient, in grey values per voxel, is an edge")
        return None
    return DiffuseParams(k=k, iterations=iterations) if iterations else None


def erase_request(ask: Lookup) -> EraseRequest | None:
    """Return how gold is erased; None where it is not."""
    eraser, step, default = "comparam.golderaser.ccderaser.", "runtime.GoldErasing.any.", EraseRequest()
    which = ask.whole(_STACK + "eraseGold", 0)
    if which and not ask.number(_GOLD, 0.0):
        ask.reject(
            _STACK + "eraseGold",
            f"{_GOLD} (--gold, nm) is to say how large the beads are, which it needs whatever aligns the views",
        )
        which = 0
    order = ask.whole(eraser + "PolynomialOrder", -1)
    request = EraseRequest(
        which="found" if which == 2 else "tracked",
        extra_diameter_px=ask.number(step + "extraDiameter", default.extra_diameter_px),
        expand=ask.whole(eraser + "ExpandCircleIterations", default.expand, least=0),
        fill="flat" if order == 0 else "texture",
        binning=ask.whole(step + "binning", 0, least=1) or None,
        thickness=ask.whole(step + "thickness", 0, least=1) or None,
    )
    return request if which else None
