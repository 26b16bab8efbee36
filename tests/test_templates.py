"""The templates that come with tiltflow: right values, legal directives, fit for scientists to read."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib import resources

import pytest

from tiltflow.errors import DirectiveError
from tiltflow.formats.directives import parse_directives, variables_of_template
from tiltflow.recipe import TEMPLATES, BrtParameters, make_recipe, render_adoc

ODD_NAMES = ["TS_01", "a=b", "#1", "{{ gold }}", "50% DMSO (2)", "Größe_Å_試料", "x'y\"z", "-rf", "TS.01.2026", "name with blanks"]

# What the reference says of the plastic template, for the parameters below.
PLASTIC = """
setupset.copyarg.name = {name}
setupset.copyarg.stackext = st
setupset.currentBStackExt = mrc
setupset.datasetDirectory = /scratch/job 7
setupset.scanHeader = 1
setupset.copyarg.pixel =
setupset.copyarg.extract = 1
setupset.copyarg.bextract = 1
setupset.copyarg.montage = 1
setupset.copyarg.focus = 1
setupset.copyarg.gold = 15
runtime.Preprocessing.any.removeXrays = 1
runtime.Preprocessing.any.archiveOriginal = 1
comparam.prenewst.newstack.BinByFactor = 1
runtime.Fiducials.any.fiducialless = 0
runtime.Fiducials.any.trackingMethod = 1
runtime.Fiducials.any.seedingMethod = 1
runtime.Fiducials.b.seedingMethod = 2
comparam.track.beadtrack.LocalAreaTracking = 1
comparam.track.beadtrack.LocalAreaTargetSize = 500,500
comparam.track.beadtrack.SobelFilterCentering = 1
comparam.track.beadtrack.RoundsOfTracking = 4
runtime.BeadTracking.any.numberOfRuns = 2
comparam.autofidseed.autofidseed.TwoSurfaces = 1
comparam.autofidseed.autofidseed.TargetNumberOfBeads = 30
comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY = 300,300
comparam.align.tiltalign.SurfacesToAnalyze = 1
comparam.align.tiltalign.LocalAlignments = 1
comparam.align.tiltalign.TargetPatchSizeXandY = 500,500
comparam.align.tiltalign.MinFidsTotalAndEachSurface = 8,3
comparam.align.tiltalign.MagOption = 1
comparam.align.tiltalign.TiltOption = 2
comparam.align.tiltalign.RotOption = 1
comparam.align.tiltalign.RobustFitting = 1
runtime.TiltAlignment.any.enableStretching = 1
runtime.Positioning.any.thickness = 181
runtime.AlignedStack.any.linearInterpolation = 0
runtime.AlignedStack.any.binByFactor = 4
comparam.golderaser.ccderaser.ExpandCircleIterations = 3
comparam.tilt.tilt.THICKNESS = 121
comparam.tilt.tilt.LOG =
runtime.Combine.any.matchAtoBThickRatio = 0.1
runtime.Combine.any.findSecBoxSize = 32
runtime.Combine.any.findSecNumScales = 4
runtime.Combine.any.patchSize = E
runtime.Combine.any.finalPatchSize = E
runtime.Combine.any.extraTargets = 0.4,0.45
comparam.matchorwarp.matchorwarp.WarpLimits = 0.3,0.5,0.8,1.0
runtime.Postprocess.any.doTrimvol = 1
runtime.Trimvol.any.reorient = 2
runtime.Cleanup.any.doCleanup = 1
runtime.Cleanup.any.keepAligned = 1
runtime.Cleanup.any.keepAxis = 1
"""

CRYO = """
runtime.Fiducials.any.seedingMethod = 1
comparam.eraser.ccderaser.PeakCriterion = 8.0
comparam.eraser.ccderaser.DiffCriterion = 6.0
comparam.xcorr.tiltxcorr.FilterRadius2 = 0.125
comparam.xcorr_pt.tiltxcorr.FilterRadius2 = 0.125
comparam.xcorr_pt.tiltxcorr.FilterSigma2 = 0.03
comparam.track.beadtrack.KernelSigmaForSobel = 1.5
comparam.align.tiltalign.RotOption = -1
comparam.align.tiltalign.TiltOption = 0
comparam.align.tiltalign.MagOption = 0
comparam.align.tiltalign.WeightWholeTracks = 1
comparam.xcorr_pt.imodchopconts.LengthOfPieces = 16
comparam.xcorr_pt.imodchopconts.MinimumOverlap = 4
runtime.TiltAlignment.any.enableStretching = 0
setupset.copyarg.gold = 15
comparam.autofidseed.autofidseed.TargetNumberOfBeads = 30
comparam.tilt.tilt.THICKNESS = 121
comparam.tilt.tilt.LOG =
"""

EVERYTHING = BrtParameters(
    montage=1, gold=15, focus=1, tracking_method=1, two_surfaces=1, target_number_of_beads=30, local_alignments=1, thickness=121
)


def text_of(template: str) -> str:
    return resources.files("tiltflow.templates").joinpath(f"{template}.adoc").read_text(encoding="utf-8")


def pairs(text: str) -> dict[str, str]:
    return {each.name: each.value for each in parse_directives(text, "x")}


def rendered(template: str, name: str) -> dict[str, str]:
    recipe = make_recipe(EVERYTHING, template, engine="imod")
    text = render_adoc(recipe, name=name, stackext="st", dataset_directory="/scratch/job 7", current_b_stackext="mrc")
    return pairs(text)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_plastic_template_holds_exactly_the_values_of_the_reference(name):
    assert rendered("plastic_brt", name) == pairs(PLASTIC.replace("{name}", name))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_cryo_template_is_truly_for_cryo_and_honours_the_gold(name):
    found = rendered("cryo_brt", name)
    assert found["setupset.copyarg.name"] == name
    assert pairs(CRYO).items() <= found.items()


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_was_not_asked_for_is_left_out(template):
    text = render_adoc(make_recipe(template=template), name="a", stackext="mrc", dataset_directory="/x")
    assert "currentBStackExt" not in text
    assert "copyarg.focus" not in text


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("method", [{}, {"tracking_method": 1}, {"fiducialless": 1}, {"gold": 0, "tracking_method": 1}])
@pytest.mark.parametrize("surfaces", [0, 1])
def test_the_native_engine_follows_every_choice_of_a_user(template, method, surfaces):
    recipe = make_recipe(BrtParameters(**method, two_surfaces=surfaces), template, engine="native")
    assert not recipe.report.wrong
    assert recipe.solve.surfaces == (1 if method.get("tracking_method") == 1 else surfaces + 1)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("local", [0, 1])
def test_local_alignments_reach_the_solution(template, local):
    assert (make_recipe(BrtParameters(local_alignments=local), template).solve.local is not None) == bool(local)


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_report_points_at_the_line_of_the_template(template):
    lines = text_of(template).splitlines()
    for row in make_recipe(template=template).report.rows:
        name, _, number = row.origin.partition(":")
        assert name == template
        assert re.match(rf"({{% if \w+ %}})?{re.escape(row.name)} =", lines[int(number) - 1])


METHODS = {
    "gold": {"tracking_method": 0},
    "patches": {"tracking_method": 1, "gold": 0},
    "RAPTOR": {"tracking_method": 2},
    "fiducialless": {"fiducialless": 1},
    "fiducialless, patches": {"fiducialless": 1, "tracking_method": 1, "gold": 0},
}
BEADS, TRACKED = ("gold", "RAPTOR"), ("gold", "patches", "RAPTOR")
PATCHES, NO_PATCHES = ("patches", "fiducialless, patches"), ("gold", "RAPTOR", "fiducialless")


@dataclass(frozen=True)
class Case:
    """What a directive is for some methods, in one template or in both; None where it must not be written."""

    directive: str
    methods: tuple[str, ...]
    value: str | None
    why: str
    templates: tuple[str, ...] = TEMPLATES

    def expected(self, two_surfaces: int, local: int) -> str | None:
        return self.value.format(two=two_surfaces, surfaces=two_surfaces + 1, local=local) if self.value is not None else None


CRYO_ONLY = ("cryo_brt",)
TILTALIGN = "comparam.align.tiltalign."
CASES = (
    Case("setupset.copyarg.gold", ("gold", "RAPTOR", "fiducialless"), "10", "beads of the default size"),
    Case("setupset.copyarg.gold", PATCHES, "0", "the user said that there are none"),
    Case("runtime.Fiducials.any.fiducialless", TRACKED, "0", "something is tracked"),
    Case("runtime.Fiducials.any.fiducialless", ("fiducialless", "fiducialless, patches"), "1", "correlation alone"),
    Case("runtime.Fiducials.any.trackingMethod", ("gold", "fiducialless"), "0", "as asked for"),
    Case("runtime.Fiducials.any.trackingMethod", PATCHES, "1", "as asked for"),
    Case("runtime.Fiducials.any.trackingMethod", ("RAPTOR",), "2", "as asked for"),
    Case("runtime.RAPTOR.any.numberOfMarkers", ("RAPTOR",), "20", "autofidseed, which is told the number, does not run"),
    Case("runtime.RAPTOR.any.numberOfMarkers", ("gold", *PATCHES, "fiducialless"), None, "RAPTOR does not run"),
    Case(TILTALIGN + "SurfacesToAnalyze", NO_PATCHES, "{surfaces}", "beads lie on surfaces: as many as the user says"),
    Case(TILTALIGN + "SurfacesToAnalyze", PATCHES, "1", "patches lie in the middle, whatever is said of the beads"),
    Case(TILTALIGN + "LocalAlignments", TRACKED, "{local}", "as asked for"),
    Case(
        TILTALIGN + "LocalAlignments", ("fiducialless", "fiducialless, patches"), "0", "tiltalign, which solves them, does not run"
    ),
    Case(TILTALIGN + "WeightWholeTracks", PATCHES, "1", "a patch that drifts is wrong in many views", CRYO_ONLY),
    Case(TILTALIGN + "WeightWholeTracks", NO_PATCHES, None, "tiltalign stops: only with a patch track model", CRYO_ONLY),
    Case("comparam.xcorr_pt.imodchopconts.LengthOfPieces", PATCHES, "16", "64 uncut tracks are too few to weigh them", CRYO_ONLY),
    Case("comparam.xcorr_pt.imodchopconts.MinimumOverlap", PATCHES, "4", "pieces must share views", CRYO_ONLY),
    Case("comparam.xcorr_pt.imodchopconts.LengthOfPieces", NO_PATCHES, None, "there are no patches", CRYO_ONLY),
    Case("comparam.xcorr_pt.imodchopconts.MinimumOverlap", NO_PATCHES, None, "there are no patches", CRYO_ONLY),
    Case(TILTALIGN + "RotOption", NO_PATCHES, "1", "beads determine each view", CRYO_ONLY),
    Case(TILTALIGN + "TiltOption", NO_PATCHES, "2", "beads determine each view", CRYO_ONLY),
    Case(TILTALIGN + "MagOption", NO_PATCHES, "1", "beads determine each view", CRYO_ONLY),
    Case(TILTALIGN + "RotOption", PATCHES, "-1", "patches of ice are too noisy for more than one rotation", CRYO_ONLY),
    Case(TILTALIGN + "TiltOption", PATCHES, "0", "patches of ice are too noisy for tilts", CRYO_ONLY),
    Case(TILTALIGN + "MagOption", PATCHES, "0", "patches of ice are too noisy for magnifications", CRYO_ONLY),
    Case("comparam.golderaser.ccderaser.ExpandCircleIterations", NO_PATCHES, "3", "there is gold"),
    Case("comparam.golderaser.ccderaser.ExpandCircleIterations", PATCHES, None, "there is no gold to erase"),
    Case("comparam.autofidseed.autofidseed.TwoSurfaces", tuple(METHODS), "{two}", "read by autofidseed alone"),
)


def rendered_for(template: str, method: str, two_surfaces: int, local: int) -> dict[str, str]:
    parameters = BrtParameters(**METHODS[method], two_surfaces=two_surfaces, local_alignments=local)
    recipe = make_recipe(parameters, template, engine="imod")
    return pairs(render_adoc(recipe, name="a", stackext="mrc", dataset_directory="/x"))


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("two_surfaces", [0, 1])
@pytest.mark.parametrize("local", [0, 1])
def test_the_directives_are_right_for_each_method(template, two_surfaces, local):
    for case in CASES:
        for method in case.methods if template in case.templates else ():
            found = rendered_for(template, method, two_surfaces, local).get(case.directive)
            assert found == case.expected(two_surfaces, local), f"{method}: {case.directive}: {case.why}"


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("two_surfaces", [0, 1])
@pytest.mark.parametrize("local", [0, 1])
def test_all_other_directives_are_the_same_for_every_method(template, two_surfaces, local):
    """Those of a program that a method does not run are never read: recorded runs of patches and without markers completed."""
    listed = {case.directive for case in CASES if template in case.templates}
    others = [
        {name: value for name, value in rendered_for(template, method, two_surfaces, local).items() if name not in listed}
        for method in METHODS
    ]
    assert all(each == others[0] for each in others)
    assert others[0]["comparam.align.tiltalign.RobustFitting"] == "1"


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_cases_cover_every_method_once(template):
    covered = [(case.directive, method) for case in CASES if template in case.templates for method in case.methods]
    assert len(covered) == len(set(covered))
    assert {directive: len(METHODS) for directive, _ in covered} == dict(Counter(directive for directive, _ in covered))


CONTRACT = """
name stackext currentBStackExt montage gold focus datasetDirectory fiducialless trackingMethod TwoSurfaces TargetNumberOfBeads
SurfacesToAnalyze LocalAlignments rpa_thickness THICKNESS
"""
"""What the templates of others refer to; ours know `trackingBinning` too."""


@pytest.mark.parametrize("variable", CONTRACT.split())
def test_a_template_may_refer_to_each_variable_of_the_contract(variable, tmp_path):
    path = tmp_path / "mine.adoc"
    path.write_text(f"{{% if {variable} %}}{{% endif %}}comparam.tilt.tilt.THICKNESS = 99\nsetupset.copyarg.gold = 10\n")
    assert make_recipe(template=path).reconstruct.thickness == 99
    path.write_text(path.read_text().replace(variable, f"no_{variable}"))
    with pytest.raises(DirectiveError, match=rf"'no_{variable}' is undefined; a template may use .*\b{variable}\b"):
        make_recipe(template=path)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_refers_to_the_variables_of_the_contract_and_to_all_nine_parameters(template):
    asked = variables_of_template(text_of(template))
    assert asked <= {*CONTRACT.split(), "trackingBinning"}
    assert set(EVERYTHING.template_variables()) <= asked


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_group_of_directives_has_a_comment_above(template):
    previous = ""
    for line in text_of(template).splitlines():
        if line and not line.startswith("#"):
            assert previous, f"{line} stands alone"
        previous = line
    assert text_of(template).isprintable() or all(len(line) <= 132 for line in text_of(template).splitlines())
