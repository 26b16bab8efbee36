"""Few tracks: variables are held, grouped or fixed, in the order of IMOD's restrictalign, and the notes say so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiltflow.align.bundle import SolveParams
from tiltflow.align.bundle.restriction import count_unknowns, restrict

IMOD = SolveParams(adapt=False)
VIEWS = 61


def _ratio(params, tracks):
    return 2 * tracks * VIEWS / count_unknowns(params, tracks, VIEWS)


def test_the_plastic_template_needs_ten_beads_for_the_target_and_nine_for_the_least():
    """61 views, each with its rotation, tilt and magnification, are 181 variables of views."""
    assert count_unknowns(IMOD, 10, VIEWS) == 181 + 3 * 9 + 120
    assert _ratio(IMOD, 10) > IMOD.target_measurement_ratio > _ratio(IMOD, 9) > IMOD.minimum_measurement_ratio > _ratio(IMOD, 8)


def test_enough_measurements_change_nothing():
    for tracks in (9, 15, 20, 200):
        assert restrict(IMOD, tracks, VIEWS, tracks * VIEWS) == (IMOD, ())


@pytest.mark.parametrize(
    ("tracks", "rotation", "tilt", "magnification"),
    [
        (8, "grouped", "each", "grouped"),
        (6, "grouped", "fixed", "grouped"),
        (4, "one", "fixed", "fixed"),
        (3, "one", "fixed", "fixed"),
    ],
)
def test_variables_go_in_the_order_of_restrictalign(tracks, rotation, tilt, magnification):
    params, (note,) = restrict(IMOD, tracks, VIEWS, tracks * VIEWS)
    assert (params.rotation, params.tilt, params.magnification) == (rotation, tilt, magnification)
    assert note.startswith(f"{tracks} tracks carry {_ratio(IMOD, tracks):.2f} measurements per unknown where 3.2 are needed")
    assert note.endswith(f"now {_ratio(params, tracks):.2f}")


def test_stretch_and_skew_go_first():
    asked = replace(IMOD, stretch=True, skew=True)
    params, (note,) = restrict(asked, 8, VIEWS, 8 * VIEWS)
    assert not params.stretch
    assert not params.skew
    assert "stretch and skew left out, rotations grouped by 5" in note


def test_missing_positions_count():
    assert restrict(IMOD, 12, VIEWS, 12 * VIEWS)[1] == ()
    assert restrict(IMOD, 12, VIEWS, 8 * VIEWS)[1]


def test_twenty_tracks_are_never_restricted():
    params = replace(IMOD, stretch=True, skew=True)
    assert restrict(params, 20, VIEWS, 20 * 20) == (params, ())


def test_where_priors_are_estimated_variables_are_held_instead():
    params, (note,) = restrict(SolveParams(), 6, VIEWS, 6 * VIEWS)
    assert params == SolveParams()
    assert "priors estimated from the tracks" in note


def test_three_tracks_are_too_few_to_estimate_priors_from():
    params, _ = restrict(SolveParams(), 3, VIEWS, 3 * VIEWS)
    assert params.rotation == "one"


def test_switched_off_it_leaves_all_as_asked():
    asked = replace(IMOD, restrict=False)
    assert restrict(asked, 3, VIEWS, 3 * VIEWS) == (asked, ())


@pytest.mark.parametrize("adapt", [True, False])
def test_the_solution_says_what_was_restricted(point_case, adapt):
    evidence = point_case(tracks=6, views=61).solve(SolveParams(adapt=adapt)).evidence
    assert any("6 tracks carry" in note for note in evidence.notes)
