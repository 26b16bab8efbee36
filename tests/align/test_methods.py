"""What each method gives: its trust warnings, and which of its tracks count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.align import methods
from tiltflow.align.bundle import SolveParams, solve
from tiltflow.align.coarse import align_coarse
from tiltflow.align.methods import AlignParams, Start, leave_out_warnings, listed, patch_warnings, wild_heights
from tiltflow.observer import SILENT


@pytest.mark.parametrize(
    ("leave_out", "limit", "warns"),
    [(0.99, 1.0, False), (1.0, 1.0, False), (1.01, 1.0, True), (1.01, 2.0, False), (None, 1.0, False), (np.nan, 1.0, False)],
)
def test_a_leave_out_error_beyond_the_limit_is_a_trust_warning(leave_out, limit, warns):
    assert bool(leave_out_warnings(leave_out, limit)) is warns


@pytest.mark.parametrize(("error", "upper", "warns"), [(0.5, 0.9, False), (0.5, 1.0, False), (0.5, 1.1, True), (1.2, 1.5, True)])
def test_patches_warn_where_an_error_beyond_the_limit_cannot_be_excluded(error, upper, warns):
    found = patch_warnings(error, upper, 1.0)
    assert bool(found) is warns
    assert not warns or f"{error:.2f} px and cannot exclude {upper:.2f} px" in found[0]


@pytest.mark.parametrize(
    ("views", "text"),
    [([], ""), ([0], "view 1"), ([0, 1], "views 1-2"), ([2, 6, 7, 8], "view 3, views 7-9"), ([3, 5], "view 4, view 6")],
)
def test_views_are_listed_as_ranges_counted_from_one(views, text):
    assert listed(views) == text


@pytest.mark.parametrize(
    ("heights", "wild"),
    [
        pytest.param([0, 10, -10, 5, -5, 444], [5], id="one far above"),
        pytest.param([0, 10, -10, 5, -5, -444, 444], [5, 6], id="on both sides"),
        pytest.param([60, 62, 58, -60, -62, -58, 61], [], id="two surfaces"),
        pytest.param([70, 70, 71, -70, -71], [], id="two surfaces of a thick section, one with more"),
        pytest.param([0, 1, 0, -1, 1, 0, -1, 0, 1, 200, 201], [9, 10], id="a pair of many"),
        pytest.param([0, 1, -1, 0, 1, 100], [], id="within a quarter of the field"),
        pytest.param([0, 100, -100, 200, -200, 300], [], id="among others as scattered"),
        pytest.param([0, 1, 2, 444], [], id="too few to say"),
        pytest.param([0, 10, np.nan, 5, -5, 8, 444], [6], id="not those without a height"),
    ],
)
def test_which_tracks_lie_where_no_specimen_can_be(heights, wild):
    found = wild_heights(np.array(heights, float), (512, 600))
    assert np.flatnonzero(found).tolist() == wild


def test_a_wild_track_does_not_bend_the_tilts(wild_track):
    series, tracks = wild_track
    start = Start(
        series.images,
        np.asarray(series.truth.nominal_deg),
        10.0,
        np.ones(21, bool),
        align_coarse(series.images, series.truth.nominal_deg, -8.0, np.ones(21, bool)),
        AlignParams(),
        1,
    )
    with SILENT.stage("patches") as notes:
        found = methods._solved(start, "patches", tracks, SolveParams(), notes)
    assert series.error_of(found).rms_px < 0.15
    assert len(found.tracks.xy) == 12
    bent = solve(tracks, series.truth.nominal_deg, -8.0, SolveParams(), image_shape=(128, 128))
    assert series.error_of(bent.alignment("patches")).rms_px > 0.5


@pytest.mark.parametrize("method", ["patches", "projection"])
@pytest.mark.parametrize("doubt", ["", "views may be elsewhere"])
def test_no_error_is_shown_of_what_begins_at_doubtful_places(textured, coarse, method, doubt):
    included = np.ones(len(textured.nominal_deg), bool)
    begins = replace(coarse, place_doubt=doubt)
    start = Start(textured.images, np.asarray(textured.nominal_deg), 10.0, included, begins, AlignParams(), 1)
    with SILENT.stage(method) as notes:
        evidence = methods.BY_METHOD[method](start, notes).evidence
    assert (evidence.error_px is None) is bool(doubt)
    assert (doubt in evidence.trust_warnings[:1]) is bool(doubt)
    assert not (doubt and any("patches estimate" in warning for warning in evidence.trust_warnings))
