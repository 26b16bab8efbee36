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


def test_every_default_has_its_value_in_the_record(entry):
    for name in entry.defaulted:
        stage, parameter = name.split(".")
        assert parameter in entry.stages[stage]


def test_imod_has_defaults_of_its_own():
    made = make_recipe(BrtParameters(), engine="imod")
    assert describe.recipe(made, requested=made).defaulted == []
