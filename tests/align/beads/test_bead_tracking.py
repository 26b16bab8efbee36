"""Bead tracking from images to tracks, against simulated specimens whose beads are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tiltflow import geometry
from tiltflow.align.beads import BeadParams, BeadResult, track_beads, trust_warnings
from tiltflow.align.bundle import SolveParams, solve
from tiltflow.errors import ParameterError, StageError
from tiltflow.formats.mrc import open_mrc
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

SMALL = SimulationParams(size=256, views=21, beads=12, thickness_px=60, hot_pixels=0, shift_px=2.0)


class Changed:
    """A stack seen through a function of its views."""

    def __init__(self, images, change):
        self.images, self.change, self.read = images, change, []

    @property
    def shape(self):
        return (len(self.images), *self.change(self.images[0]).shape)

    def __getitem__(self, view):
        self.read.append(view)
        return self.change(self.images[view])


@pytest.fixture(scope="module")
def plastic() -> SimulatedSeries:
    return simulate(SMALL, threads=2)


@pytest.fixture(scope="module")
def tracked(plastic) -> BeadResult:
    return track(plastic)


@pytest.fixture(scope="module")
def cryo() -> SimulatedSeries:
    return simulate(replace(SMALL, regime="cryo", dose=60.0, two_surfaces=True, thickness_px=100, beads=14), threads=2)


def start_of(series: SimulatedSeries, error_px=2.0, axis_error_deg=1.0):
    rng = np.random.default_rng(1)
    shifts = series.truth.shift_px + rng.normal(0, error_px, series.truth.shift_px.shape)
    return geometry.from_axis_and_shifts(series.header_axis_deg + axis_error_deg, shifts)


def track(series: SimulatedSeries, stack=None, included=None, start=None, **params) -> BeadResult:
    params = {"diameter_px": 10.0, **params}
    return track_beads(
        series.images if stack is None else stack,
        start_of(series) if start is None else start,
        series.nominal_deg,
        np.ones(len(series.images), bool) if included is None else included,
        BeadParams(**params),
        threads=2,
    )


def error_of(series: SimulatedSeries, result: BeadResult) -> np.ndarray:
    """Return how far positions are from the bead that each track follows, `(track, view, 2)`, apart from a shift of each view."""
    truth = np.moveaxis(series.truth.beads_xy, 0, 1)
    error = result.tracks.xy[:, None] - truth[None]
    bead = np.nanmedian(np.hypot(*np.moveaxis(error, -1, 0)), axis=2).argmin(axis=1)
    assert len(set(bead.tolist())) == len(bead), "two tracks follow one bead"
    own = error[np.arange(len(bead)), bead]
    seen = np.isfinite(own).any(axis=(0, 2))
    return np.where(seen[:, None], own - np.nanmedian(np.where(seen[:, None], own, 0.0), axis=0), np.nan)


def alignment_error(series: SimulatedSeries, result: BeadResult) -> float:
    solution = solve(result.tracks, series.nominal_deg, series.header_axis_deg, SolveParams(), image_shape=series.images.shape[1:])
    return score(series.truth, solution.transforms, solution.aligned_tilt_deg).rms_px


def test_beads_are_centred_to_hundredths_of_a_pixel(plastic, tracked):
    result = tracked
    error = error_of(plastic, result)
    assert len(error) >= 11
    assert np.sqrt(np.nanmean(error**2)) < 0.08
    assert np.nanmax(np.abs(error)) < 0.5
    assert result.completeness > 0.97
    assert not result.light
    assert result.diameter_px == pytest.approx(10.0, rel=0.1)
    assert alignment_error(plastic, result) < 0.06
    assert trust_warnings(result) == ()


def test_the_stated_error_is_the_error(plastic, tracked):
    result, error = tracked, error_of(plastic, tracked)
    assert np.nanmedian(result.sigma_px) == pytest.approx(np.sqrt(np.nanmean(error**2)), rel=0.5)
    assert np.isnan(result.sigma_px[~result.tracks.seen]).all()


def test_beads_in_ice_at_low_dose_are_found_on_both_surfaces(cryo):
    result = track(cryo, two_surfaces=True)
    assert np.sqrt(np.nanmean(error_of(cryo, result) ** 2)) < 0.2
    assert len(result.surface) >= 12
    assert (result.surface == 1).any()
    assert (result.surface == -1).any()
    gap = result.positions[result.surface == 1, 2].mean() - result.positions[result.surface == -1, 2].mean()
    assert gap == pytest.approx(100.0, abs=10.0)
    assert alignment_error(cryo, result) < 0.15


def test_light_beads_are_known_by_the_data(plastic, tracked):
    inverted = Changed(plastic.images, lambda image: 8000 - image.astype(np.float32))
    result = track(plastic, inverted)
    assert result.light
    assert any("lighter than their surroundings" in note for note in result.notes)
    assert not any("lighter" in note for note in tracked.notes)
    np.testing.assert_allclose(result.tracks.xy, tracked.tracks.xy, atol=0.01, equal_nan=True)


def smoothed_bytes(images, dtype, spread):
    """Return views as a program gives them that smooths them and scales each to bytes of a spread: gold saturates at more than 40."""
    smooth = ndimage.gaussian_filter(images.astype(np.float32), (0, 1, 1))
    mean, sd = smooth.mean(axis=(1, 2), keepdims=True), smooth.std(axis=(1, 2), keepdims=True)
    scaled = np.clip(np.round((smooth - mean) / sd * spread + 128), 0, 255)
    return (scaled - (128 if dtype is np.int8 else 0)).astype(dtype)


@pytest.mark.parametrize(("dtype", "spread"), [(np.uint8, 22), (np.uint8, 45), (np.int8, 45)])
def test_gold_is_found_in_smoothed_bytes_also_where_it_saturates(cryo, dtype, spread):
    stack = smoothed_bytes(cryo.images, dtype, spread)
    assert bool((stack == np.iinfo(dtype).min).mean() > 0.002) is (spread > 40)
    result = track(cryo, stack)
    assert len(result.tracks.xy) >= 12
    assert result.rejected.get("no denser than the specimen", 0) == 0
    assert alignment_error(cryo, result) < 0.2


@pytest.mark.parametrize(
    "brightness", [np.linspace(1 / 3, 1, 21), np.where(np.arange(21) % 2, 1.0, 0.4)], ids=["drift", "alternating"]
)
def test_the_brightness_of_the_beam_does_not_matter(plastic, tracked, brightness):
    result = track(plastic, plastic.images * brightness.astype(np.float32)[:, None, None])
    np.testing.assert_allclose(result.tracks.xy, tracked.tracks.xy, atol=0.02, equal_nan=True)
    np.testing.assert_allclose(result.sigma_px, tracked.sigma_px, rtol=0.02)
    assert result.rejected == tracked.rejected


def test_dark_beads_are_not_found_where_light_ones_are_asked_for(plastic):
    with pytest.raises(StageError, match=r"No gold.*and LightBeads, which says that they are lighter than the rest"):
        track(plastic, light=True)


@pytest.mark.parametrize("given", [6.0, 14.0])
def test_the_diameter_may_be_forty_per_cent_off(plastic, given):
    result = track(plastic, diameter_px=given)
    assert result.diameter_px == pytest.approx(10.0, rel=0.1)
    assert np.sqrt(np.nanmean(error_of(plastic, result) ** 2)) < 0.08
    assert any("measured bead diameter" in note for note in result.notes)


def test_large_beads_are_found_at_a_coarser_pixel(plastic, tracked):
    enlarged = Changed(plastic.images, lambda image: np.kron(image, np.ones((2, 2), np.int16)))
    start = start_of(plastic)
    start[..., 2] *= 2
    result = track(plastic, enlarged, diameter_px=20.0, start=start)
    np.testing.assert_allclose(result.tracks.xy / 2, tracked.tracks.xy, atol=0.05, equal_nan=True)
    assert result.diameter_px == pytest.approx(20.0, rel=0.1)


def test_without_gold_it_says_so():
    bare = simulate(replace(SMALL, beads=0, seed=4), threads=2)
    with pytest.raises(StageError, match=r"No gold was found.*Check the diameter of the beads, 10.0 px"):
        track(bare)


def test_noise_alone_is_no_gold(rng):
    noise = rng.normal(1000, 50, (15, 128, 128)).astype(np.float32)
    start = geometry.from_axis_and_shifts(0.0, np.zeros((15, 2)))
    with pytest.raises(StageError, match="No gold"):
        track_beads(noise, start, np.linspace(-42, 42, 15), np.ones(15, bool), BeadParams(diameter_px=8.0))


def test_constant_views_are_no_gold():
    flat = np.full((9, 128, 128), 7, np.int16)
    start = geometry.from_axis_and_shifts(0.0, np.zeros((9, 2)))
    with pytest.raises(StageError, match="No gold"):
        track_beads(flat, start, np.linspace(-40, 40, 9), np.ones(9, bool), BeadParams(diameter_px=8.0))


def test_views_that_take_no_part_are_never_read(plastic):
    included = np.ones(21, bool)
    included[[0, 10, 11]] = False
    stack = Changed(plastic.images, lambda image: image)
    result = track(plastic, stack, included)
    assert not set(stack.read) & {0, 10, 11}
    assert not result.tracks.seen[:, ~included].any()
    assert len(result.tracks.xy) >= 10
    assert np.sqrt(np.nanmean(error_of(plastic, result) ** 2)) < 0.08


def test_crowded_beads_do_not_swap():
    crowd = simulate(replace(SMALL, beads=70, two_surfaces=True, thickness_px=100, seed=3), threads=2)
    result = track(crowd, two_surfaces=True)
    error = error_of(crowd, result)
    assert len(error) >= 60
    assert (np.hypot(*np.moveaxis(error, -1, 0)) > 1.0).sum() == 0
    assert result.dropped["two beads overlap"] > 20
    assert alignment_error(crowd, result) < 0.04


def test_of_many_beads_as_many_as_wanted_are_kept_and_the_diameter_as_given(plastic):
    result = track(plastic, most=3, diameter_px=9.0, adjust_size=False, rounds=1)
    assert result.diameter_px == 9.0
    assert len(result.tracks.xy) == len(result.surface) == len(result.positions) == 3
    assert result.rejected["more than are needed"] >= 6
    assert "3 beads alone carry the alignment" in trust_warnings(result)


def test_the_start_may_be_far_off(plastic, tracked):
    far = track(plastic, start=geometry.from_axis_and_shifts(plastic.header_axis_deg + 4.0, np.zeros((21, 2))))
    np.testing.assert_allclose(far.tracks.xy, tracked.tracks.xy, atol=0.02, equal_nan=True)


def test_threads_change_nothing_and_progress_rises_to_one(plastic, tracked):
    reported: list[float] = []
    args = (plastic.images, start_of(plastic), plastic.nominal_deg, np.ones(21, bool), BeadParams(diameter_px=10.0))
    alone = track_beads(*args, threads=1, progress=reported.append)
    np.testing.assert_array_equal(alone.tracks.xy, tracked.tracks.xy)
    assert reported == sorted(reported)
    assert reported[-1] == 1.0
    assert len(reported) > 20


def test_lengths_that_disagree_are_refused(plastic):
    with pytest.raises(ParameterError, match=r"21 views.* 20 angles"):
        track_beads(plastic.images, start_of(plastic), plastic.nominal_deg[1:], np.ones(21, bool), BeadParams(diameter_px=10.0))


@pytest.mark.parametrize("diameter", [0.0, 1.5, 60.0])
def test_beads_of_an_impossible_size_are_refused(plastic, diameter):
    with pytest.raises(StageError, match="cannot be tracked in views of 256 x 256"):
        track(plastic, diameter_px=diameter)


def test_two_views_are_too_few(plastic):
    with pytest.raises(StageError, match="2 views are included"):
        track(plastic, included=np.arange(21) < 2)


def test_places_without_a_bead_raise_doubts(tracked):
    xy = tracked.tracks.xy.copy()
    xy[:, ::3] = np.nan
    lost = replace(tracked, tracks=replace(tracked.tracks, xy=xy))
    reasons = trust_warnings(lost)
    assert any("may not be gold" in reason for reason in reasons)
    assert "too few beads are seen in 7 of the views to place them, from view 0 to 18" in reasons
    assert "too few beads are seen in 7 of the 21 views to place them" in trust_warnings(lost, lost.placed)


def test_one_view_without_beads_is_no_reason_to_doubt_the_others(tracked):
    xy = tracked.tracks.xy.copy()
    xy[2:, 5] = np.nan
    thin = replace(tracked, tracks=replace(tracked.tracks, xy=xy))
    assert np.flatnonzero(~thin.placed).tolist() == [5]
    assert len(trust_warnings(thin)) == 1
    assert trust_warnings(thin, thin.placed) == ()


def test_a_real_series_gives_gold_that_moves_as_one(real_series: Path):
    with open_mrc(real_series) as stack:
        tilts = stack.header.extended.tilt_deg
        start = geometry.from_axis_and_shifts(-4.3, np.zeros((len(tilts), 2)))
        result = track_beads(stack, start, tilts, np.ones(len(tilts), bool), BeadParams(diameter_px=10.0), threads=2)
        solution = solve(result.tracks, tilts, -4.3, SolveParams(), image_shape=stack.shape[1:])
    assert len(result.tracks.xy) >= 11
    assert result.completeness > 0.98
    assert result.diameter_px == pytest.approx(10.0, rel=0.1)
    assert trust_warnings(result) == ()
    assert solution.evidence.residual_mean_px <= 0.25
    assert solution.evidence.residual_weighted_mean_px <= 0.17
    assert np.abs(solution.rotation_deg + 4.3).max() < 0.5
