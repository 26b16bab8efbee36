"""Alignments of simulated images, from coarse to the method that is used: what is left out, warned of, and told."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from tests.align.listener import Listener

from tiltflow import beside
from tiltflow.align import fallback
from tiltflow.align.beads import BeadParams
from tiltflow.align.bundle import SolveParams, solve
from tiltflow.align.coarse import CoarseParams, align_coarse
from tiltflow.align.fallback import align_views
from tiltflow.align.methods import AlignParams
from tiltflow.align.patches import PatchParams
from tiltflow.model import Alignment
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

SMALL = SimulationParams(size=192, views=21, beads=12, thickness_px=50, pixel_nm=2.0, bead_nm=20.0, hot_pixels=0)


@pytest.fixture(scope="module")
def gold() -> SimulatedSeries:
    return simulate(SMALL)


@pytest.mark.parametrize("method", ["patches", "projection", "coarse"])
def test_a_view_that_is_recognised_nowhere_is_left_out_by_every_method_and_named(textured, method):
    images = textured.images.copy()
    images[16] = np.random.default_rng(1).permutation(images[16].ravel()).reshape(images[16].shape)
    params = AlignParams(method=method, fallback=False, coarse=CoarseParams(find_axis=False))
    listener = Listener()
    found = align_views(images, textured.nominal_deg, textured.header_axis_deg, 20.0, params, observer=listener, threads=2)
    assert np.flatnonzero(~found.included).tolist() == [16]
    assert list(found.evidence.excluded_views) == [16]
    assert "is recognised nowhere in the field" in found.evidence.excluded_views[16]
    assert any(text.startswith("view 17 is recognised nowhere") for text in listener.warnings)


def test_a_view_that_only_the_projections_find_lost_is_left_out_too(textured, monkeypatch):
    images = textured.images.copy()
    images[16] = np.random.default_rng(1).permutation(images[16].ravel()).reshape(images[16].shape)
    params = AlignParams(method="projection", fallback=False, coarse=CoarseParams(find_axis=False))
    placed = align_coarse(images, textured.nominal_deg, textured.header_axis_deg, params=params.coarse)
    monkeypatch.setattr(fallback, "place_coarsely", lambda *given, **named: replace(placed, lost={}))
    found = align_views(images, textured.nominal_deg, textured.header_axis_deg, 20.0, params, threads=2)
    assert list(found.evidence.excluded_views) == [16]
    assert not found.included[16]


def test_a_bar_of_the_grid_that_comes_in_at_high_tilt_does_not_pull_the_views(textured):
    images = textured.images.astype(np.float32)
    y = np.arange(images.shape[1])[:, None]
    for view, tilt in enumerate(textured.nominal_deg):
        edge = max(0.0, (abs(tilt) - 36) / 24) * 0.3 * len(y)
        if edge:
            images[view] *= 0.03 + 0.97 / (1 + np.exp(-(y - edge) / 1.5))
    listener, params = Listener(), AlignParams(method="projection", fallback=False, coarse=CoarseParams(find_axis=False))
    found = align_views(images, textured.nominal_deg, textured.header_axis_deg, 20.0, params, observer=listener, threads=2)
    assert textured.error_of(found).rms_px < 0.3
    assert found.included.all()
    assert any("something opaque" in text and "view 1 (" in text for text in listener.warnings)


def test_views_seen_edge_on_alone_are_left_out_and_named(textured):
    tilts = textured.nominal_deg.copy()
    tilts[[0, 24]] = -90.0, 88.0
    params = AlignParams(method="coarse", coarse=CoarseParams(find_axis=False))
    found = align_views(textured.images, tilts, textured.header_axis_deg, 20.0, params, threads=2)
    assert found.evidence.excluded_views[0] == "is tilted by -90 degrees, too near to 90 to be stretched to zero tilt"
    assert list(found.evidence.excluded_views) == np.flatnonzero(~found.included).tolist() == [0, 24]


def with_droplet(series: SimulatedSeries) -> SimulatedSeries:
    """Return the series with a droplet, a quarter as dense as gold, midway between the two beads that leave it most room."""
    seen = series.truth.beads_xy
    middles = [seen[:, [a, b]].mean(axis=1) for a, b in combinations(range(seen.shape[1]), 2)]
    inside = [middle for middle in middles if np.abs(middle - SMALL.size / 2).max() < 0.4 * SMALL.size]
    droplet = max(inside, key=lambda middle: np.hypot(*np.moveaxis(seen - middle[:, None], -1, 0)).min())
    y, x = np.mgrid[: SMALL.size, : SMALL.size] + 0.5
    radius = np.hypot(x - droplet[:, 0, None, None], y - droplet[:, 1, None, None]) / (SMALL.bead_nm / SMALL.pixel_nm / 2)
    return replace(series, images=series.images * (1 - 0.25 * np.sqrt(np.maximum(1 - radius**2, 0))).astype(np.float32))


def align(series: SimulatedSeries, listener: Listener | None = None, **asked: Any) -> Alignment:
    params = AlignParams(gold_nm=20.0, **asked)
    more = {"observer": listener} if listener else {}
    return align_views(series.images, series.nominal_deg, series.header_axis_deg, 20.0, params, **more)


def test_arrays_give_an_alignment_with_its_evidence_and_an_observer_hears_of_it(gold):
    listener = Listener()
    found = align(gold, listener)
    assert found.method == "gold"
    assert score(gold.truth, found.transforms, found.tilt_deg).rms_px < 0.15
    assert listener.stages == ["coarse alignment", "align: gold"]
    assert listener.warnings == []
    assert listener.numbers["leave_out"] == (found.evidence.leave_out_px, "px")
    assert listener.fraction == pytest.approx(1.0)
    assert found.tracks is not None
    assert found.track_weights.shape == found.tracks.seen.shape


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' libraries do not allow copies of a process")
@pytest.mark.parametrize("method", ["gold", "patches", "projection"])
def test_what_is_done_at_the_same_time_comes_to_what_it_comes_to_in_turn(monkeypatch, gold, method):
    heard, found = [Listener(), Listener()], []
    for listener, copies in zip(heard, (False, True), strict=True):
        monkeypatch.setattr(beside, "_ours", copies)
        params = AlignParams(gold_nm=20.0, method=method)
        asked = (gold.nominal_deg, gold.header_axis_deg, 20.0, params)
        found.append(align_views(gold.images, *asked, observer=listener, threads=2))
    np.testing.assert_array_equal(found[0].transforms, found[1].transforms)
    np.testing.assert_array_equal(found[0].tilt_deg, found[1].tilt_deg)
    assert found[0].evidence == found[1].evidence
    in_turn, at_once = (vars(each) | {"fraction": 1.0} for each in heard)
    assert in_turn == at_once


def test_a_leave_out_error_beyond_the_limit_makes_the_next_method_be_tried(gold):
    """The limit lies below what this series can give, so that nothing is trusted and the smallest error is used all the same."""
    listener = Listener()
    found = align(with_droplet(gold), listener, trust_limit_px=0.001)
    assert found.method == "gold"
    beyond = {each["method"]: [text.split(" 0.")[0] for text in each["trust_warnings"]] for each in found.evidence.attempts}
    assert beyond == {
        "gold": ["the leave-out error is"],
        "patches": ["patches estimate the alignment error at"],
        "projection": ["the estimated error, from the disagreement of parts of the field, is"],
        "coarse": ["it is the coarse alignment alone, whose error is not measured"],
    }
    assert found.evidence.trust_warnings[0].startswith("the leave-out error is 0.")
    assert any("alignment by gold cannot be trusted: the leave-out error" in text for text in listener.warnings)
    for heard in (
        "11 beads were tracked, fewer than the 25 wanted",
        "tracks left out: 1 fainter than the other beads",
        "the coarse alignment is used as it is",
    ):
        assert heard in listener.notes
    for begins, times in (("patches of 300 px leave fewer", 2), ("tilt: standard deviation", 2), ("positions left out", 0)):
        assert sum(text.startswith(begins) for text in listener.notes) == times


@pytest.mark.whole
def test_the_diameter_of_the_beads_is_told_in_nanometres_and_used_in_pixels(gold):
    listener = Listener()
    align(gold, listener, fallback=False, beads=BeadParams(diameter_px=1.0, adjust_size=False))
    assert listener.numbers["bead_diameter"] == (10.0, "px")


@pytest.mark.whole
@pytest.mark.parametrize(("size_px", "larger"), [(48, "the solution's"), (64, "that of patches left out in turn")])
def test_of_the_two_estimates_of_the_error_of_patches_the_larger_counts(gold, size_px, larger):
    found = align(gold, method="patches", fallback=False, patches=PatchParams(size_px=(size_px, size_px)))
    params = SolveParams(weight_whole_tracks=True, tilt_drift=False)
    solution = solve(found.tracks, gold.nominal_deg, gold.header_axis_deg, params, image_shape=(192, 192))
    if larger == "the solution's":
        assert found.evidence.error_px == pytest.approx(solution.evidence.error_px)
    else:
        assert found.evidence.error_px > 1.2 * solution.evidence.error_px


@pytest.mark.whole
def test_an_axis_that_disagrees_with_the_header_is_a_warning_and_is_used(gold):
    listener, away = Listener(), gold.header_axis_deg + 6
    params = AlignParams(gold_nm=20.0, fallback=False)
    found = align_views(gold.images, gold.nominal_deg, away, 20.0, params, observer=listener)
    assert any("tilt axis" in text and "header" in text for text in listener.warnings)
    assert found.evidence.axis_angle_nominal_deg == away
    assert score(gold.truth, found.transforms, found.tilt_deg).rms_px < 0.15


@pytest.mark.whole
@pytest.mark.parametrize("rows_and_columns", [np.s_[:, 28:-28, :], np.s_[:, :, 24:-24]], ids=["broad", "high"])
def test_images_need_not_be_square(gold, rows_and_columns):
    """An alignment that takes the centre of the image to be elsewhere is off by a pixel."""
    found = align_views(gold.images[rows_and_columns], gold.nominal_deg, -8.0, 20.0, AlignParams(gold_nm=20.0, fallback=False))
    assert score(gold.truth, found.transforms, found.tilt_deg).rms_px < 0.2


@pytest.mark.whole
def test_a_view_that_takes_no_part_keeps_its_reason(gold):
    found = align_views(
        gold.images, gold.nominal_deg, -8.0, 20.0, AlignParams(gold_nm=20.0), excluded={4: "is left out by the request"}
    )
    assert not found.included[4]
    assert found.evidence.excluded_views == {4: "is left out by the request"}
    assert score(replace(gold.truth, dark_views=(4,)), found.transforms, found.tilt_deg).rms_px < 0.15
