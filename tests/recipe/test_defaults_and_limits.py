"""What holds where no directive says otherwise, the least value of each, and what a directive is said to have set."""

from __future__ import annotations

import pytest
from tests.recipe.translating import BASE, status_of, understood

from tiltflow.align.beads import BeadParams
from tiltflow.align.bundle import LocalParams, SolveParams
from tiltflow.align.coarse import CoarseParams
from tiltflow.align.patches import PatchParams
from tiltflow.align.projection import RefineParams
from tiltflow.formats.directives import parse_directives
from tiltflow.formats.series import SeriesHints
from tiltflow.position.specimen_search import PositionParams
from tiltflow.preprocess.bad_views import ViewParams
from tiltflow.preprocess.xrays import XrayParams
from tiltflow.recipe import from_directives, make_recipe
from tiltflow.reconstruct.aligned_stack import StackParams
from tiltflow.reconstruct.sirt import SirtParams
from tiltflow.reconstruct.trim import TrimParams
from tiltflow.reconstruct.wbp import ReconstructParams
from tiltflow.work import Thresholds

LEAST = {
    "setupset.copyarg.skip": 1,
    "comparam.eraser.ccderaser.PeakCriterion": 1.0,
    "comparam.eraser.ccderaser.DiffCriterion": 1.0,
    "comparam.eraser.ccderaser.GiantCriterion": 1.0,
    "comparam.eraser.ccderaser.BigDiffCriterion": 1.0,
    "comparam.eraser.ccderaser.GrowCriterion": 1.0,
    "comparam.eraser.ccderaser.EdgeExclusionWidth": 0,
    "comparam.eraser.ccderaser.AnnulusWidth": 1.0,
    "comparam.eraser.ccderaser.XYScanSize": 8,
    "comparam.eraser.ccderaser.MaximumRadius": 1.0,
    "runtime.Preprocessing.any.darkExcludeRatio": 0.0,
    "runtime.Preprocessing.any.darkExcludeFraction": 0.0,
    "runtime.Preprocessing.any.endExcludeCriterion": 0.0,
    "comparam.xcorr.tiltxcorr.FilterSigma1": 0.0,
    "comparam.xcorr.tiltxcorr.FilterRadius2": 0.0,
    "comparam.xcorr.tiltxcorr.FilterSigma2": 0.0,
    "comparam.prenewst.newstack.BinByFactor": 1,
    "comparam.autofidseed.autofidseed.TargetNumberOfBeads": 1,
    "comparam.track.beadtrack.RoundsOfTracking": 1,
    "comparam.track.beadtrack.LocalAreaTargetSize": 1,
    "comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY": 1,
    "comparam.xcorr_pt.tiltxcorr.OverlapOfPatchesXandY": 0.0,
    "comparam.xcorr_pt.tiltxcorr.FilterRadius2": 0.0,
    "comparam.xcorr_pt.tiltxcorr.FilterSigma1": 0.0,
    "comparam.xcorr_pt.tiltxcorr.FilterSigma2": 0.0,
    "comparam.align.tiltalign.RotDefaultGrouping": 1,
    "comparam.align.tiltalign.TiltDefaultGrouping": 1,
    "comparam.align.tiltalign.MagDefaultGrouping": 1,
    "comparam.align.tiltalign.XStretchDefaultGrouping": 1,
    "comparam.align.tiltalign.SkewDefaultGrouping": 1,
    "comparam.align.tiltalign.KFactorScaling": 0.01,
    "comparam.align.tiltalign.MinSizeOrOverlapXandY": 0.0,
    "comparam.align.tiltalign.TargetPatchSizeXandY": 1,
    "comparam.align.tiltalign.MinFidsTotalAndEachSurface": 1,
    "comparam.align.tiltalign.LocalRotDefaultGrouping": 1,
    "comparam.align.tiltalign.LocalTiltDefaultGrouping": 1,
    "comparam.align.tiltalign.LocalMagDefaultGrouping": 1,
    "runtime.RestrictAlign.any.minMeasurementRatio": 0.0,
    "runtime.RestrictAlign.any.targetMeasurementRatio": 0.0,
    "runtime.Positioning.any.thickness": 1,
    "runtime.AlignedStack.any.binByFactor": 1,
    "runtime.AlignedStack.any.sizeInXandY": 1,
    "comparam.newst.newstack.SizeToOutputInXandY": 1,
    "comparam.newst.newstack.TaperAtFill": 0,
    "comparam.tilt.tilt.RADIAL": 0.0,
    "comparam.tilt.tilt.DENSWEIGHT": 0.0,
    "comparam.tilt.tilt.EXCLUDELIST": 1,
    "comparam.tilt.tilt.EXCLUDELIST2": 1,
    "comparam.tilt.tilt.HammingLikeFilter": 0.0,
    "comparam.tilt.tilt.FakeSIRTiterations": 0,
    "comparam.tilt.tilt.WIDTH": 1,
    "comparam.sirtsetup.sirtsetup.RadiusAndSigma": 0.0,
    "comparam.sirtsetup.sirtsetup.LeaveIterations": 1,
    "runtime.Trimvol.any.scaleFromX": 1e-6,
    "runtime.Trimvol.any.scaleFromY": 1e-6,
    "runtime.Trimvol.any.scaleFromZ": 1e-6,
    "runtime.Trimvol.any.sizeInX": 0.0,
    "runtime.Trimvol.any.sizeInY": 0.0,
    "runtime.Trimvol.any.thickness": 0.0,
}
"""The least value of each directive that has one, real where the directive takes real numbers."""


def written(name: str, value: float) -> str:
    """Return a value as the directive takes it: once, or for x and y."""
    pairs = ("XandY", "EachSurface", "RADIAL", "RadiusAndSigma", "TaperAtFill", "LocalAreaTargetSize")
    return f"{value:.7g},{value:.7g}" if name.endswith(pairs) else f"{value:.7g}"


class TestDefaultsAndLimits:
    @pytest.mark.parametrize(("name", "least"), LEAST.items())
    def test_a_value_is_taken_from_the_least_one_on(self, name, least):
        below = least - (1 if isinstance(least, int) else 1e-7)
        assert status_of(f"{name} = {written(name, least)}", name).status in {"used", "refused"}
        row = status_of(f"{name} = {written(name, below)}", name)
        assert (row.status, row.reason) == ("invalid", f"{least:g} or more was expected")

    def test_where_no_directive_says_otherwise_the_stages_have_their_own_defaults(self):
        params = understood(BASE)
        assert params.hints == SeriesHints()
        assert params.xrays == XrayParams(enabled=False)
        assert params.views == ViewParams()
        assert params.coarse == CoarseParams()
        assert params.refine == RefineParams()
        assert params.beads == BeadParams(diameter_px=100.0)
        assert params.patches == PatchParams()
        assert params.solve == SolveParams()
        assert params.position == PositionParams()
        assert params.stack == StackParams(binning=1)
        assert params.reconstruct == ReconstructParams(thickness=100, binning=1, log_offset=0.0)
        assert params.trim == TrimParams()
        assert (params.method, params.gold_nm, params.sirt, params.halves) == ("gold", 10.0, None, False)

    def test_so_have_the_groups_of_local_alignments_and_of_sirt(self):
        assert understood(f"{BASE}comparam.align.tiltalign.LocalAlignments = 1").solve.local == LocalParams()
        assert understood(f"{BASE}runtime.Reconstruction.any.useSirt = 1").sirt == SirtParams()

    @pytest.mark.parametrize(
        ("directive", "status"),
        [
            ("comparam.align.tiltalign.MinSizeOrOverlapXandY = 0.5,0.99", "used"),
            ("comparam.align.tiltalign.MinSizeOrOverlapXandY = 0.5,1", "refused"),
            ("comparam.tilt.tilt.DENSWEIGHT = 0", "used"),
            ("comparam.tilt.tilt.DENSWEIGHT = 3", "used"),
            ("comparam.tilt.tilt.DENSWEIGHT = 2.5", "refused"),
            ("comparam.tilt.tilt.DENSWEIGHT = 2,1,1", "refused"),
        ],
    )
    def test_what_this_engine_does_not_do_begins_at_a_value(self, directive, status):
        assert status_of(directive, directive.split(" =")[0]).status == status

    def test_the_size_of_the_aligned_stack_is_told_in_raw_or_in_binned_pixels(self):
        step, newst = "runtime.AlignedStack.any.", "comparam.newst.newstack."
        raw = f"{BASE}{step}binByFactor = 4\n{step}sizeInXandY = 1000,802\n"
        assert understood(raw).stack.size_xy == (250, 200)
        assert understood(f"{raw}{newst}SizeToOutputInXandY = 300,310").stack.size_xy == (300, 310)

    def test_what_is_not_trusted_in_a_recipe_is_what_a_verdict_calls_poor(self):
        assert make_recipe().align.trust_limit_px == Thresholds().error_poor_px


class TestWhatADirectiveSets:
    @pytest.mark.parametrize(
        ("text", "engine", "status", "sets"),
        [
            ("comparam.tilt.tilt.RADIAL = 0.4,0.03", "native", "used", ("reconstruct.radial_cutoff", "reconstruct.radial_falloff")),
            ("comparam.tilt.tilt.RADIAL = 0.4,0.03", "auto", "used", ("reconstruct.radial_cutoff", "reconstruct.radial_falloff")),
            ("comparam.tilt.tilt.RADIAL = 0.4,0.03", "imod", "used", ()),
            ("comparam.tilt.tilt.RADIAL = 0.4", "native", "invalid", ()),
            ("comparam.tilt.tilt.RADIAL =", "native", "removed", ()),
            ("comparam.tilt.tilt.LOG =", "native", "removed", ("reconstruct.log_offset",)),
            ("comparam.tilt.tilt.LOG =", "imod", "removed", ()),
            ("comparam.tilt.tilt.SLICE = 1,2", "native", "refused", ()),
            ("comparam.tilt.tilt.RADIALS = 0.4,0.03", "native", "unknown", ()),
            ("comparam.tilt.tilt.radial = 0.4,0.03", "native", "misspelt", ()),
            ("comparam.tiltb.tilt.RADIAL = 0.4,0.03", "native", "ignored", ()),
            ("comparam.track.beadtrack.LightBeads = 1", "native", "used", ("beads.light",)),
            ("setupset.userTemplate = mine.adoc", "native", "used", ()),
        ],
    )
    def test_it_sets_what_the_catalogue_says_only_where_it_is_used(self, text, engine, status, sets):
        row = status_of(text, text.split(" =")[0], engine)
        assert (row.status, row.sets) == (status, sets)
        if status == "used" and sets:
            assert row.reason == ", ".join(sets)
        if status == "used" and engine == "imod":
            assert row.reason == "by batchruntomo"

    @pytest.mark.parametrize(
        ("directive", "gold", "patches", "projection"),
        [
            ("comparam.track.beadtrack.LightBeads = 1", "used", "ignored", "ignored"),
            ("setupset.copyarg.gold = 10", "used", "ignored", "ignored"),
            ("comparam.xcorr_pt.tiltxcorr.FilterRadius2 = 0.125", "used", "used", "ignored"),
            ("comparam.prenewst.newstack.BinByFactor = 2", "used", "used", "ignored"),
            ("comparam.align.tiltalign.RobustFitting = 1", "used", "used", "ignored"),
            ("comparam.align.tiltalign.LocalAlignments = 1", "used", "used", "ignored"),
            ("comparam.xcorr.tiltxcorr.FilterSigma1 = 0.02", "used", "used", "used"),
        ],
    )
    def test_a_directive_of_stages_that_the_method_does_without_is_ignored(self, directive, gold, patches, projection):
        found = []
        for method in ("trackingMethod = 0", "trackingMethod = 1", "fiducialless = 1"):
            text = f"comparam.tilt.tilt.THICKNESS = 100\nruntime.Fiducials.any.{method}\n{directive}\n"
            _, report = from_directives(parse_directives(text, "x"))
            found.append(report.rows[-1].status)
            assert bool(report.rows[-1].sets) == (report.rows[-1].status == "used")
        assert found == [gold, patches, projection]
