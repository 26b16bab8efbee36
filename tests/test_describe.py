"""Objects of the pipeline as the record keeps them."""

import pytest

from tiltflow import describe
from tiltflow.recipe import BrtParameters, make_recipe


@pytest.fixture(scope="module")
def entry():
    made = make_recipe(BrtParameters(), overrides=["comparam.eraser.ccderaser.PeakCriterion=12"], engine="native")
    return describe.recipe(made, requested=made)


def test_what_no_directive_sets_is_said_to_be_a_default(entry):
    assert {"xrays.diff_criterion", "coarse.find_axis", "reconstruct.radial_cutoff"} <= set(entry.defaulted)
    assert not {"xrays.peak_criterion", "beads.diameter_px", "stack.binning", "reconstruct.thickness"} & set(entry.defaulted)


@pytest.mark.parametrize(
    ("overrides", "not_default", "default"),
    [
        (
            [],
            {"reconstruct.log_offset", "solve.stretch", "solve.skew", "solve.local"},
            {"reconstruct.radial_falloff", "refine.refine_axis"},
        ),
        (["comparam.tilt.tilt.RADIAL=0.4,0.03"], {"reconstruct.radial_cutoff", "reconstruct.radial_falloff"}, set()),
        (["comparam.tilt.tilt.RADIAL="], set(), {"reconstruct.radial_cutoff", "reconstruct.radial_falloff"}),
        (["comparam.xcorr.tiltxcorr.ExcludeCentralPeak=0"], {"coarse.exclude_central_peak", "refine.exclude_central_peak"}, set()),
        (["runtime.Fiducials.any.fiducialless=1"], {"stack.binning"}, {"beads.target_number", "beads.diameter_px"}),
        (["comparam.newst.newstack.TaperAtFill="], {"stack.taper", "stack.taper_px"}, {"stack.size_xy"}),
    ],
)
def test_all_that_a_used_directive_sets_is_no_default(overrides, not_default, default):
    made = make_recipe(BrtParameters(), overrides=overrides, engine="native")
    defaulted = set(describe.recipe(made, requested=made).defaulted)
    assert not not_default & defaulted
    assert default <= defaulted


def test_every_default_has_its_value_in_the_record(entry):
    for name in entry.defaulted:
        stage, parameter = name.split(".")
        assert parameter in entry.stages[stage]


def test_imod_has_defaults_of_its_own():
    made = make_recipe(BrtParameters(), engine="imod")
    assert describe.recipe(made, requested=made).defaulted == []
