"""Each directive that decides a parameter changes what the catalogue says, and nothing else: a sample of each."""

from __future__ import annotations

import dataclasses

import pytest
from tests.recipe.translating import BASE, understood

from tiltflow.formats.known_directives import known_directives
from tiltflow.recipe.template import LOWER_LAYERS

USED = {name: known for name, known in known_directives().items() if known.native == "used" and name not in LOWER_LAYERS}

SAMPLES = """
setupset.copyarg.pixel = 0.5
setupset.copyarg.gold = 15
setupset.copyarg.rotation = -4.3
setupset.copyarg.firstinc = -60,3
setupset.copyarg.userawtlt = 1
setupset.copyarg.montage = 1
setupset.copyarg.focus = 1
setupset.copyarg.skip = 1-2,61
runtime.Preprocessing.any.removeXrays = 1
runtime.Preprocessing.any.endExcludeCriterion = 0.3
runtime.Preprocessing.any.darkExcludeRatio = 0.17
runtime.Preprocessing.any.darkExcludeFraction = 0.5
comparam.eraser.ccderaser.PeakCriterion = 8
comparam.eraser.ccderaser.DiffCriterion = 6
comparam.eraser.ccderaser.BigDiffCriterion = 20
comparam.eraser.ccderaser.GiantCriterion = 13
comparam.eraser.ccderaser.GrowCriterion = 3
comparam.eraser.ccderaser.EdgeExclusionWidth = 5
comparam.eraser.ccderaser.AnnulusWidth = 3
comparam.eraser.ccderaser.XYScanSize = 64
comparam.eraser.ccderaser.PolynomialOrder = 1
comparam.eraser.ccderaser.MaximumRadius = 4.2
comparam.xcorr.tiltxcorr.FilterSigma1 = 0.02
comparam.xcorr.tiltxcorr.FilterRadius2 = 0.125
comparam.xcorr.tiltxcorr.FilterSigma2 = 0.03
comparam.xcorr.tiltxcorr.ExcludeCentralPeak = 0
comparam.prenewst.newstack.BinByFactor = 2 with comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY = 200,200
comparam.prenewst.newstack.BinByFactor = 2 with comparam.align.tiltalign.LocalAlignments = 1
runtime.Fiducials.any.fiducialless = 1
runtime.Fiducials.any.trackingMethod = 1
comparam.track.beadtrack.LightBeads = 1
comparam.track.beadtrack.LocalAreaTracking = 0
comparam.track.beadtrack.LocalAreaTargetSize = 500,500
comparam.track.beadtrack.RoundsOfTracking = 4
comparam.autofidseed.autofidseed.TwoSurfaces = 1
comparam.autofidseed.autofidseed.TargetNumberOfBeads = 40
comparam.autofidseed.autofidseed.AdjustSizes = 0
comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY = 200,240
comparam.xcorr_pt.tiltxcorr.OverlapOfPatchesXandY = 0.5
comparam.xcorr_pt.tiltxcorr.FilterSigma1 = 0.01
comparam.xcorr_pt.tiltxcorr.FilterRadius2 = 0.125
comparam.xcorr_pt.tiltxcorr.FilterSigma2 = 0.03
comparam.align.tiltalign.SurfacesToAnalyze = 2
comparam.align.tiltalign.RotOption = -1
comparam.align.tiltalign.RotDefaultGrouping = 3
comparam.align.tiltalign.TiltOption = 0
comparam.align.tiltalign.TiltDefaultGrouping = 3
comparam.align.tiltalign.MagOption = 3
comparam.align.tiltalign.MagDefaultGrouping = 3
comparam.align.tiltalign.XStretchOption = 3
comparam.align.tiltalign.XStretchDefaultGrouping = 3
comparam.align.tiltalign.SkewOption = 3
comparam.align.tiltalign.SkewDefaultGrouping = 3
comparam.align.tiltalign.RobustFitting = 0
comparam.align.tiltalign.KFactorScaling = 0.9
comparam.align.tiltalign.WeightWholeTracks = 1
comparam.align.tiltalign.AngleOffset = 1.5
comparam.align.tiltalign.AxisZShift = 12
comparam.align.tiltalign.LocalAlignments = 1
comparam.align.tiltalign.TargetPatchSizeXandY = 500,400 with comparam.align.tiltalign.LocalAlignments = 1
comparam.align.tiltalign.MinFidsTotalAndEachSurface = 9,2 with comparam.align.tiltalign.LocalAlignments = 1
comparam.align.tiltalign.MinSizeOrOverlapXandY = 0.4,0.4 with comparam.align.tiltalign.LocalAlignments = 1
comparam.align.tiltalign.LocalRotDefaultGrouping = 3 with comparam.align.tiltalign.LocalAlignments = 1
comparam.align.tiltalign.LocalTiltDefaultGrouping = 3 with comparam.align.tiltalign.LocalAlignments = 1
comparam.align.tiltalign.LocalMagDefaultGrouping = 3 with comparam.align.tiltalign.LocalAlignments = 1
runtime.TiltAlignment.any.enableStretching = 1
runtime.RestrictAlign.any.targetMeasurementRatio = 4
runtime.RestrictAlign.any.minMeasurementRatio = 3
runtime.Positioning.any.sampleType = 2
runtime.Positioning.any.wholeTomogram = 0
runtime.Positioning.any.thickness = 300
runtime.Positioning.any.hasGoldBeads = 0
runtime.AlignedStack.any.linearInterpolation = 1
runtime.AlignedStack.any.binByFactor = 2
runtime.AlignedStack.any.sizeInXandY = 1000,800
comparam.newst.newstack.TaperAtFill = 0,1
comparam.newst.newstack.TaperAtFill = 30,0
comparam.newst.newstack.SizeToOutputInXandY = 500,400
setupset.copyarg.dosesym = 1
setupset.copyarg.defocus = 4000
setupset.copyarg.voltage = 200
setupset.copyarg.Cs = 2.0
runtime.AlignedStack.any.correctCTF = 1
runtime.AlignedStack.any.filterStack = 1 with comparam.mtffilter.mtffilter.FixedImageDose = 3
comparam.ctfplotter.ctfplotter.ScanDefocusRange = 1000,5000
comparam.ctfplotter.ctfplotter.SearchAstigmatism = 0
comparam.ctfplotter.ctfplotter.SearchPhaseShift = 1
comparam.ctfplotter.ctfplotter.InvertTiltAngles = 1
comparam.ctfplotter.ctfplotter.FrequencyRangeToFit = 0.1,0.4
comparam.ctfplotter.ctfplotter.AmplitudeContrast = 0.1
comparam.ctfcorrection.ctfphaseflip.InvertTiltAngles = 0
comparam.ctfcorrection.ctfphaseflip.DefocusTol = 50
comparam.ctfcorrection.ctfphaseflip.AmplitudeContrast = 0.1
comparam.mtffilter.mtffilter.FixedImageDose = 3 with runtime.AlignedStack.any.filterStack = 1
comparam.mtffilter.mtffilter.InitialDose = 5
comparam.mtffilter.mtffilter.BidirectionalNumViews = 20
comparam.mtffilter.mtffilter.OptimalDoseScaling = 0.8
runtime.Tiltflow.any.cryoCorrections = 1
runtime.Tiltflow.any.ctfMethod = multiply
runtime.Tiltflow.any.defocusFile = B.defocus
runtime.AlignedStack.any.filterStack = 1
comparam.mtffilter.mtffilter.LowPassRadiusSigma = 0.3,0.04 with runtime.AlignedStack.any.filterStack = 1
comparam.mtffilter.mtffilter.HighPassSigma = 0.02 with runtime.AlignedStack.any.filterStack = 1
comparam.mtffilter.mtffilter.MtfFile = camera.mtf with runtime.AlignedStack.any.filterStack = 1
comparam.mtffilter.mtffilter.InverseRolloffRadiusSigma = 0.2,0.06 with runtime.AlignedStack.any.filterStack = 1
comparam.mtffilter.mtffilter.MaximumInverse = 3 with runtime.AlignedStack.any.filterStack = 1
runtime.NAD.any.iterations = 10 with runtime.NAD.any.Kvalue = 4
runtime.AlignedStack.any.eraseGold = 1
runtime.AlignedStack.any.eraseGold = 2 with runtime.AlignedStack.any.eraseGold = 1
runtime.GoldErasing.any.binning = 3 with runtime.AlignedStack.any.eraseGold = 2
runtime.GoldErasing.any.extraDiameter = 2 with runtime.AlignedStack.any.eraseGold = 2
runtime.GoldErasing.any.thickness = 500 with runtime.AlignedStack.any.eraseGold = 2
comparam.golderaser.ccderaser.ExpandCircleIterations = 3 with runtime.AlignedStack.any.eraseGold = 2
comparam.golderaser.ccderaser.PolynomialOrder = 0 with runtime.AlignedStack.any.eraseGold = 2
runtime.Tiltflow.any.deconvolve = 1
runtime.Tiltflow.any.deconvolutionStrength = 0.7 with runtime.Tiltflow.any.deconvolve = 1
runtime.Tiltflow.any.deconvolutionFalloff = 1.2 with runtime.Tiltflow.any.deconvolve = 1
comparam.tilt.tilt.THICKNESS = 300
runtime.Reconstruction.any.extraThickness = 20
comparam.tilt.tilt.RADIAL = 0.4,0.03
comparam.tilt.tilt.FalloffIsTrueSigma = 1
comparam.tilt.tilt.HammingLikeFilter = 0.2
comparam.tilt.tilt.FakeSIRTiterations = 8
comparam.tilt.tilt.DENSWEIGHT = 4
comparam.tilt.tilt.LOG = 32768
comparam.tilt.tilt.SCALE = 10,500
comparam.tilt.tilt.XAXISTILT = 1.25
comparam.tilt.tilt.OFFSET = 2,3
comparam.tilt.tilt.SHIFT = 1,-7
comparam.tilt.tilt.WIDTH = 400
comparam.tilt.tilt.EXCLUDELIST = 1,2
comparam.tilt.tilt.EXCLUDELIST2 = 60-61
runtime.Reconstruction.any.useSirt = 1
comparam.sirtsetup.sirtsetup.LeaveIterations = 5,20 with runtime.Reconstruction.any.useSirt = 1
comparam.sirtsetup.sirtsetup.RadiusAndSigma = 0.3,0.04 with runtime.Reconstruction.any.useSirt = 1
comparam.sirtsetup.sirtsetup.StartFromZero = 0 with runtime.Reconstruction.any.useSirt = 1
runtime.Trimvol.any.reorient = 1
runtime.Trimvol.any.thickness = 0.8
runtime.Trimvol.any.sizeInX = 400
runtime.Trimvol.any.sizeInY = 0.5
runtime.Trimvol.any.scaleFromX = 0.7
runtime.Trimvol.any.scaleFromY = 400
runtime.Trimvol.any.scaleFromZ = 0.5
comparam.tilt.tilt.MODE = 0
runtime.Tiltflow.any.halfVolumes = 1
runtime.Tiltflow.any.sirtRelaxation = 0.5 with runtime.Reconstruction.any.useSirt = 1
"""
"""Values for each directive that decides a parameter, unlike the default; and what it needs beside it."""

ELSEWHERE = {
    "runtime.Fiducials.any.seedingMethod",  # decides whether the request can be carried out
    "runtime.Reconstruction.any.binnedThickness",
    "runtime.Reconstruction.any.fallbackThickness",
    "runtime.Reconstruction.any.doBackprojAlso",
    "runtime.Trimvol.any.doSIRTifBoth",
    "runtime.CTFplotting.any.autoFitRangeAndStep",
    "runtime.NAD.any.Kvalue",
    "comparam.mtffilter.mtffilter.DoseWeightingFile",
    "comparam.mtffilter.mtffilter.TypeOfDoseFile",
}
"""Directives with tests of their own in `test_translate.py` and `test_cryo.py`."""


def samples(of: str = "") -> list[tuple[str, str, str]]:
    found = []
    for line in SAMPLES.strip().splitlines():
        sample, _, beside = line.partition(" with ")
        name, value = sample.split(" = ")
        if of in ("", name):
            found.append((name, value, beside))
    return found


def flattened(params: object, prefix: str = "") -> dict[str, object]:
    """Every parameter as `stage.parameter`; a stage or group that is left out is None under its own name."""
    if not dataclasses.is_dataclass(params):
        return {prefix: params}
    found: dict[str, object] = {prefix: "given"} if prefix else {}
    for field in dataclasses.fields(params):
        found |= flattened(getattr(params, field.name), f"{prefix}.{field.name}".removeprefix("."))
    return found


def changed(name: str, value: str, beside: str) -> set[str]:
    """The parameters that differ when the directive is given; of a group that is there or not, the group alone."""
    others = "".join(f"{line}\n" for line in [*BASE.splitlines(), *beside.splitlines()] if not line.startswith(name + " "))
    with_it = flattened(understood(f"{others}{name} = {value}\n"))
    without = flattened(understood(f"{BASE}{beside}"))
    return {each for each in with_it.keys() & without.keys() if with_it[each] != without[each]}


def test_there_is_a_sample_for_each_used_directive():
    assert {name for name, _, _ in samples()} | ELSEWHERE == set(USED)


@pytest.mark.parametrize(("name", "value", "beside"), samples(), ids=lambda value: value)
def test_a_used_directive_changes_parameters_that_the_catalogue_names_and_no_other(name, value, beside):
    assert set() < changed(name, value, beside) <= set(USED[name].sets)


@pytest.mark.parametrize("name", sorted(set(USED) - ELSEWHERE))
def test_every_parameter_that_the_catalogue_names_is_one_that_the_directive_can_change(name):
    assert set().union(*(changed(*sample) for sample in samples(name))) == set(USED[name].sets)
