"""The catalogue of directives: complete, consistent, and good at guessing what was meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltflow.formats.known_directives import (
    catalogue_name,
    find_known,
    is_own,
    known_directives,
    names_known_program,
    nearest_known,
    parse_list,
    render_catalogue,
    right_spelling,
)

DOCS = Path(__file__).parents[2] / "docs" / "directives.md"

IN_THE_WILD = """
setupset.copyarg: name dual montage pixel gold rotation firstinc userawtlt extract bextract twodir skip focus stackext voltage Cs
setupset: scanHeader datasetDirectory currentBStackExt scopeTemplate systemTemplate userTemplate
runtime.Preprocessing.any: removeXrays archiveOriginal endExcludeCriterion darkExcludeRatio darkExcludeFraction
comparam.eraser.ccderaser: PeakCriterion DiffCriterion BigDiffCriterion GiantCriterion ExtraLargeRadius GrowCriterion
comparam.eraser.ccderaser: EdgeExclusionWidth AnnulusWidth XYScanSize ScanCriterion BorderSize PolynomialOrder MaximumRadius
comparam.eraser.ccderaser: LineObjects BoundaryObjects AllSectionObjects
comparam.xcorr.tiltxcorr: FilterSigma1 FilterRadius2 FilterSigma2 CumulativeCorrelation ExcludeCentralPeak SearchMagChanges
comparam.prenewst.newstack: BinByFactor AntialiasFilter ModeToOutput FloatDensities
runtime.Fiducials.any: fiducialless trackingMethod seedingMethod
comparam.track.beadtrack: LightBeads LocalAreaTracking LocalAreaTargetSize SobelFilterCentering KernelSigmaForSobel
comparam.track.beadtrack: ScalableSigmaForSobel RoundsOfTracking TiltDefaultGrouping MinBeadsInArea
comparam.track.beadtrack: BoxSizeXandY PointsToFitMaxAndMin DeletionCriterionMinAndSD
runtime.BeadTracking.any: numberOfRuns
comparam.autofidseed.autofidseed: TwoSurfaces TargetNumberOfBeads TargetDensityOfBeads MinGuessNumBeads AdjustSizes
runtime.RAPTOR.any: numberOfMarkers
comparam.xcorr_pt.tiltxcorr: SizeOfPatchesXandY OverlapOfPatchesXandY ShiftLimitsXandY LengthAndOverlap IterateCorrelations
comparam.xcorr_pt.tiltxcorr: FilterRadius2 FilterSigma2
comparam.xcorr_pt.imodchopconts: LengthOfPieces MinimumOverlap
runtime.PatchTracking.any: contourPieces adjustTiltAngles rawBoundaryModel
comparam.align.tiltalign: SurfacesToAnalyze LocalAlignments TargetPatchSizeXandY MinFidsTotalAndEachSurface MagOption TiltOption
comparam.align.tiltalign: RotOption BeamTiltOption RobustFitting KFactorScaling WeightWholeTracks CrossValidate
comparam.align.tiltalign: ResidualReportCriterion MetroFactor MaximumCycles ShiftZFromOriginal
runtime.TiltAlignment.any: enableStretching
runtime.RestrictAlign.any: targetMeasurementRatio minMeasurementRatio orderOfRestrictions
runtime.Positioning.any: sampleType wholeTomogram thickness hasGoldBeads binByFactor
comparam.cryoposition.cryoposition: BinningToApply
runtime.AlignedStack.any: linearInterpolation binByFactor sizeInXandY correctCTF eraseGold filterStack
comparam.newst.newstack: AntialiasFilter TaperAtFill SizeToOutputInXandY
comparam.ctfplotter.ctfplotter: ScanDefocusRange SearchAstigmatism BaselineFittingOrder AmplitudeContrast DefocusTol PSResolution
comparam.ctfcorrection.ctfphaseflip: InterpolationWidth
comparam.golderaser.ccderaser: ExpandCircleIterations
runtime.GoldErasing.any: extraDiameter thickness
comparam.mtffilter.mtffilter: LowPassRadiusSigma
comparam.tilt.tilt: THICKNESS RADIAL FalloffIsTrueSigma HammingLikeFilter FakeSIRTiterations DENSWEIGHT LOG SCALE MODE SHIFT
comparam.tilt.tilt: OFFSET XAXISTILT EXCLUDELIST COSINTERP XTILTINTERP PERPENDICULAR ActionIfGPUFails
comparam.tilt.tilt: FULLIMAGE SUBSETSTART IMAGEBINNED LOCALFILE ZFACTORFILE XTILTFILE TILTFILE ReferenceSDofScaling
runtime.Reconstruction.any: extraThickness fallbackThickness useSirt doBackprojAlso
comparam.sirtsetup.sirtsetup: LeaveIterations RadiusAndSigma ScaleToInteger
runtime.Combine.any: matchAtoBThickRatio findSecBoxSize findSecNumScales patchSize finalPatchSize extraTargets
comparam.matchorwarp.matchorwarp: WarpLimits
runtime.Postprocess.any: doTrimvol
runtime.Trimvol.any: reorient thickness sizeInX sizeInY scaleFromX scaleFromY scaleFromZ
runtime.Excludeviews.any: deleteOldFiles
runtime.Cleanup.any: doCleanup keepAligned keepAxis
"""
"""What the templates of IMOD, RELION, teamtomo, Diamond, Ot2Rec, OTTERec and the BRT flow give."""


def in_the_wild() -> list[str]:
    lines = (line.split(": ") for line in IN_THE_WILD.strip().splitlines())
    return [f"{parent}.{last}" for parent, names in lines for last in names.split()]


@pytest.mark.parametrize("name", in_the_wild())
def test_what_templates_in_the_wild_give_is_known(name):
    assert find_known(name) is not None


@pytest.mark.parametrize("known", known_directives().values(), ids=lambda known: known.name)
def test_every_entry_is_whole(known):
    assert known.native in ("used", "ignored", "refused")
    assert known.meaning
    assert known.effect
    assert bool(known.sets) == (known.native == "used" and not known.note)
    assert catalogue_name(known.name) == (known.name, "any")
    assert known.native == "refused" or is_own(known.name) or not known.accepted
    for value in (*known.accepted, *map(str, known.choices)):
        known.parse(value)


@pytest.mark.parametrize("verdict", ["used", "ignored", "refused"])
def test_what_the_column_of_an_engine_ignores_has_a_reason(verdict):
    known = find_known("runtime.Preprocessing.any.removeXrays")
    assert known is not None
    reason = "the engine other does without it" if verdict == "ignored" else ""
    assert replace(known, verdicts={"other": verdict}).verdict("other") == (verdict, reason)


def test_the_page_of_the_documentation_is_that_of_the_catalogue():
    assert DOCS.read_text(encoding="utf-8") == render_catalogue()


@settings(deadline=None)
@given(st.sampled_from(list(known_directives())), st.data())
def test_a_name_that_differs_in_case_only_is_put_right(name, data):
    flips = data.draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    written = "".join(letter.swapcase() if flip else letter for letter, flip in zip(name, flips, strict=True))
    assert right_spelling(written) == (None if written == name else name)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("runtime.AlignedStack.a.binbyfactor", "runtime.AlignedStack.a.binByFactor"),
        ("Runtime.AlignedStack.Any.BinByFactor", "runtime.AlignedStack.any.binByFactor"),
        ("comparam.tilta.tilt.Thickness", "comparam.tilta.tilt.THICKNESS"),
        ("comparam.tilt.tilt.THICKNESSES", None),
    ],
)
def test_the_right_spelling_keeps_the_axis(written, meant):
    assert right_spelling(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("comparam.tilt.tilt.THICKNES", "comparam.tilt.tilt.THICKNESS"),
        ("comparam.tilt.THICKNESS", "comparam.tilt.tilt.THICKNESS"),
        ("setupset.gold", "setupset.copyarg.gold"),
        ("runtime.AlignedStacks.any.binByFactor", "runtime.AlignedStack.any.binByFactor"),
        ("comparam.align.tiltalign.LocalAlignment", "comparam.align.tiltalign.LocalAlignments"),
        ("comparam.track.beadtrack.LocalAreaTargetSizes", "comparam.track.beadtrack.LocalAreaTargetSize"),
        ("comparam.newst.newstack.BinByFactor", "comparam.prenewst.newstack.BinByFactor"),
        ("flux.capacitor", None),
        ("comparam.align.tiltalign.Zzz", None),
    ],
)
def test_the_nearest_name_is_the_one_that_was_meant(written, meant):
    assert find_known(written) is None
    assert nearest_known(written) == meant


def test_the_axis_of_a_command_file_is_told_from_its_name():
    assert catalogue_name("comparam.trackb.beadtrack.LightBeads") == ("comparam.track.beadtrack.LightBeads", "b")
    assert catalogue_name("comparam.xcorr_pta.tiltxcorr.FilterRadius2") == ("comparam.xcorr_pt.tiltxcorr.FilterRadius2", "a")
    assert catalogue_name("comparam.novela.tilt.THICKNESS") == ("comparam.novela.tilt.THICKNESS", "any")


def test_options_of_known_programs_are_told_from_inventions():
    assert names_known_program("comparam.tilt.tilt.NewOption")
    assert names_known_program("comparam.tiltb.tilt.NewOption")
    assert not names_known_program("comparam.tilt.newstack.NewOption")
    assert not names_known_program("comparam.tilt.NewOption")
    assert not names_known_program("runtime.Positioning.any.newOption")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("setupset.copyarg.dual", "1", True),
        ("comparam.tilt.tilt.THICKNESS", "300", 300),
        ("comparam.align.tiltalign.RotOption", "-1", -1),
        ("comparam.tilt.tilt.XAXISTILT", "-1.5e0", -1.5),
        ("comparam.tilt.tilt.RADIAL", "0.35 0.05", (0.35, 0.05)),
        ("comparam.tilt.tilt.RADIAL", "0.35, 0.05", (0.35, 0.05)),
        ("comparam.align.tiltalign.MinFidsTotalAndEachSurface", "8 ,3", (8, 3)),
        ("setupset.copyarg.skip", "1-3, 7 61", (1, 2, 3, 7, 61)),
        ("runtime.Positioning.any.sampleType", "2", 2),
    ],
)
def test_a_value_of_the_right_type_is_read(name, text, value):
    known = find_known(name)
    assert known is not None
    found = known.parse(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("setupset.copyarg.dual", "yes", "0 or 1"),
        ("setupset.copyarg.dual", "2", "0 or 1"),
        ("comparam.tilt.tilt.THICKNESS", "300.5", "whole number"),
        ("comparam.tilt.tilt.THICKNESS", "3 00", "whole number"),
        ("comparam.tilt.tilt.XAXISTILT", "nan", "a number"),
        ("comparam.tilt.tilt.XAXISTILT", "1e999", "a number"),
        ("comparam.tilt.tilt.RADIAL", "0.35", "2 numbers"),
        ("comparam.tilt.tilt.RADIAL", "0.35,,0.05", "2 numbers"),
        ("setupset.copyarg.skip", "3-1", "a list"),
        ("setupset.copyarg.skip", "1-999999999999", "more than any series"),
        ("runtime.Positioning.any.sampleType", "3", "one of 0, 1, 2"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_what_was_expected(name, text, expected):
    known = find_known(name)
    assert known is not None
    with pytest.raises(ValueError, match=expected):
        known.parse(text)


@settings(deadline=None)
@given(st.sets(st.integers(1, 300), min_size=1))
def test_a_list_of_views_is_read_however_it_is_written(views):
    singles = ",".join(map(str, views))
    ranges = " ".join(f"{view}-{view}" for view in views)
    assert parse_list(singles) == parse_list(ranges) == tuple(sorted(views))


WORKS_WITH_IMOD = {
    "setupset.copyarg.distort": "newstack reads the file, wherever it is",
    "setupset.copyarg.gradient": "newstack reads the file, wherever it is",
    "comparam.eraser.ccderaser.ModelFile": "it is drawn on the raw stack",
    "runtime.SeedFinding.any.rawBoundaryModel": "it is drawn on the raw stack",
    "comparam.xcorr_pt.tiltxcorr.BoundaryModel": "as rawBoundaryModel, which is drawn on the raw stack",
    "runtime.PatchTracking.any.rawBoundaryModel": "it is drawn on the raw stack",
    "comparam.align.tiltalign.BeamTiltOption": "an option of tiltalign",
    "comparam.align.tiltalign.FixedOrInitialBeamTilt": "an option of tiltalign",
    "comparam.align.tiltalign.ExcludeList": "an option of tiltalign",
    "comparam.align.tiltalign.LocalRotOption": "an option of tiltalign",
    "comparam.align.tiltalign.LocalTiltOption": "an option of tiltalign",
    "comparam.align.tiltalign.LocalMagOption": "an option of tiltalign",
    "comparam.ctfplotter.ctfplotter.SearchCutonFrequency": "an option of ctfplotter, in versions that know it",
    "comparam.tilt.tilt.FlatFilterFraction": "an option of tilt",
    "comparam.tilt.tilt.SLICE": "an option of tilt",
    "comparam.tilt.tilt.ReferenceSDofScaling": "an option of the tilt of IMOD 5, as the advice says",
    "runtime.Trimvol.any.findSecAddThickness": "findsection runs by itself",
    "runtime.Trimvol.any.scaleToMeanSD": "an option of trimvol",
    "runtime.ReplaceStep.any.9": "batchruntomo runs the command",
    "runtime.ReplaceStep.any.13": "batchruntomo runs the command",
    "runtime.RunAfterStep.any.9": "batchruntomo runs the command",
    "runtime.RunAfterStep.any.13": "batchruntomo runs the command",
}
"""Directives that the native engine refuses with the advice to run with IMOD, and why this can work in a run that nobody attends."""


def test_the_advice_to_run_with_imod_is_given_only_where_it_works():
    advised = {known.name for known in known_directives().values() if "--engine imod" in known.note}
    assert advised == set(WORKS_WITH_IMOD)
    for name in advised:
        known = find_known(name)
        assert known is not None
        assert (known.native, known.verdicts["imod"]) == ("refused", "used"), name
        if known.type == "file":
            assert "full path" in known.note, f"{name}: the work folder is another one"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("setupset.copyarg.dual", "one series at a time"),
        ("comparam.align.tiltalign.FixXYZCoordinates", "nothing is known of the beads before"),
        ("comparam.tilt.tilt.PARALLEL", "the volume would be turned once more"),
        ("comparam.tilt.tilt.LOCALFILE", "the file does not exist before the alignment"),
        ("comparam.tilt.tilt.TILTFILE", "the file does not exist before the alignment"),
    ],
)
def test_what_imod_cannot_do_here_either_has_another_advice(name, why):
    known = find_known(name)
    assert known is not None
    assert known.native == "refused"
    assert known.note, why
    assert "--engine" not in known.note, why
