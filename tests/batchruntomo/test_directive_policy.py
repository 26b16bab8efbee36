"""Which directives stop a data set, and which are not followed: a table of cases, each of which fails when the rule is changed."""

import pytest

from tiltflow.batchruntomo.directive_policy import STEP_OF_SECTION, judge
from tiltflow.formats.known_directives import known_directives
from tiltflow.recipe import draft_recipe

BASE = "setupset.copyarg.gold = 10\ncomparam.tilt.tilt.THICKNESS = 90\n"


def judged(tmp_path, line, first=0, last=22, **options):
    file = tmp_path / "a.adoc"
    file.write_text(f"{BASE}{line}\n")
    return judge(draft_recipe(template=file, engine="native", volume=last >= 14).report, first, last, **options)


def test_every_section_of_the_catalogue_has_a_step():
    assert {each.section for each in known_directives().values()} == set(STEP_OF_SECTION)


WRONG, STOPS, NOT_FOLLOWED, OTHERWISE, NOTHING = "wrong", "stops", "not_followed", "otherwise", ""


@pytest.mark.parametrize(
    ("line", "last", "kind"),
    [
        ("comparam.align.tiltalign.BeamTiltOption = 2", 22, NOT_FOLLOWED),
        ("comparam.align.tiltalign.BeamTiltOption = 0", 22, NOTHING),
        ("runtime.Fiducials.any.trackingMethod = 2", 22, NOT_FOLLOWED),
        ("runtime.Fiducials.any.seedingMethod = 0", 6, NOT_FOLLOWED),
        ("runtime.Fiducials.any.seedingMethod = 3", 6, NOTHING),
        ("setupset.copyarg.dual = 1", 6, STOPS),
        ("setupset.copyarg.dual = 0", 6, NOTHING),
        ("setupset.copyarg.montage = 1", 6, NOTHING),
        ("setupset.copyarg.distort = field.idf", 6, STOPS),
        ("comparam.ctfplotter.ctfplotter.SearchCutonFrequency = 1", 22, STOPS),
        ("comparam.ctfplotter.ctfplotter.SearchCutonFrequency = 1", 11, STOPS),
        ("comparam.ctfplotter.ctfplotter.SearchCutonFrequency = 1", 8, NOT_FOLLOWED),
        ("runtime.AlignedStack.any.eraseGold = 2", 6, NOTHING),
        ("comparam.tilt.tilt.FlatFilterFraction = 0.5", 14, STOPS),
        ("comparam.tilt.tilt.FlatFilterFraction = 0.5", 8, NOT_FOLLOWED),
        ("runtime.Trimvol.any.findSecAddThickness = 20", 22, STOPS),
        ("runtime.Trimvol.any.findSecAddThickness = 20", 14, NOT_FOLLOWED),
        ("comparam.tilt.tilt.RADIAL = wide", 14, WRONG),
        ("comparam.tilt.tilt.RADIAL = wide", 6, NOT_FOLLOWED),
        ("runtime.Preprocessing.any.removeXrays = yes", 6, WRONG),
        ("comparam.tilt.tilt.thickness = 90", 6, WRONG),
        ("runtime.Positioning.any.nonsense = 1", 6, WRONG),
        ("comparam.prenewst.newstack.AntialiasFilter = -1", 6, OTHERWISE),
        ("setupset.copyarg.stackext = mrc", 6, NOTHING),
        ("setupset.datasetDirectory = x", 6, NOTHING),
    ],
)
def test_what_follows_from_a_directive(line, last, kind, tmp_path):
    found = judged(tmp_path, line, last=last)
    name = line.partition(" ")[0]
    for each in (WRONG, STOPS, NOT_FOLLOWED, OTHERWISE):
        assert any(name in sentence for sentence in getattr(found, each)) == (each == kind), each


def test_a_step_before_the_first_one_stops_nothing_but_the_kind_of_data_does(tmp_path):
    assert judged(tmp_path, "comparam.ctfplotter.ctfplotter.SearchCutonFrequency = 1", first=14).not_followed
    assert judged(tmp_path, "setupset.copyarg.dual = 1", first=8).stops


def test_an_unknown_name_stops_nothing_when_names_are_not_to_be_checked(tmp_path):
    found = judged(tmp_path, "runtime.Positioning.any.nonsense = 1", check_names=False)
    assert not found.wrong
    assert found.not_followed


def test_a_thickness_is_needed_for_a_volume_alone(tmp_path):
    file = tmp_path / "a.adoc"
    file.write_text("setupset.copyarg.gold = 10\n")
    assert not judge(draft_recipe(template=file, engine="native", volume=False).report, 0, 6).stops
    (stop,) = judge(draft_recipe(template=file, engine="native").report, 0, 22).stops
    assert "comparam.tilt.tilt.THICKNESS" in stop


def test_advice_to_run_another_engine_becomes_advice_to_run_imod(tmp_path):
    (sentence,) = judged(tmp_path, "comparam.align.tiltalign.BeamTiltOption = 2").not_followed
    assert sentence.endswith("run IMOD's batchruntomo")
    assert "--engine" not in sentence
