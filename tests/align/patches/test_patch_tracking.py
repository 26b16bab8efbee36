"""Patches tracked through simulated tilt series whose geometry is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.bundle import SolveParams, solve
from tiltflow.align.patches import PatchParams, PatchResult, track_patches
from tiltflow.errors import ParameterError, StageError
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

Floats = NDArray[np.float64]

PARAMS = PatchParams(size_px=(110, 110))


@dataclass(frozen=True)
class Case:
    """A series, a coarse alignment of it, and which views to use."""

    series: SimulatedSeries
    start: Floats
    included: NDArray[np.bool_]

    @classmethod
    def made(cls, start_error_px: float, *, left_out: tuple[int, ...] = (), **simulated: Any) -> Case:
        series = simulate(SimulationParams(**{"seed": 3, "size": 256, "views": 21, **simulated}))
        rng = np.random.default_rng(1)
        truth = series.truth
        shifts = truth.shift_px + rng.normal(0, start_error_px, truth.shift_px.shape)
        included = np.ones(len(shifts), bool)
        included[list(left_out)] = False
        return cls(series, geometry.from_axis_and_shifts(series.header_axis_deg, shifts), included)

    def track(self) -> PatchResult:
        return track_patches(self.series.images, self.start, self.series.nominal_deg, PARAMS, included=self.included)

    def error_px(self, transforms: Floats, tilt_deg: Floats) -> float:
        """The true error over the views that take part."""
        truth, use = self.series.truth, self.included
        part = replace(truth, nominal_deg=truth.nominal_deg[use], probes_xy=truth.probes_xy[use])
        return score(part, transforms[use], tilt_deg[use]).rms_px


@pytest.fixture(scope="module")
def textured() -> Case:
    return Case.made(0.4, left_out=(4, 9, 10), beads=12, thickness_px=40.0)


@pytest.fixture(scope="module")
def followed(textured: Case) -> PatchResult:
    return textured.track()


def test_patches_align_a_textured_specimen_to_a_quarter_of_a_pixel_and_estimate_their_error(
    textured: Case, followed: PatchResult
) -> None:
    before = textured.error_px(textured.start, textured.series.nominal_deg)
    true = textured.error_px(followed.transforms, followed.tilt_deg)
    assert before > 0.5
    assert true < 0.25
    assert true / 3 < followed.error_px < 3 * true
    assert followed.error_px < followed.error_limit_px
    assert followed.depth_px == pytest.approx(40, rel=0.3)


def test_views_left_out_have_no_positions_and_the_others_have_all(textured: Case, followed: PatchResult) -> None:
    assert np.isnan(followed.tracks.xy[:, ~textured.included]).all()
    assert not np.isnan(followed.tracks.xy[:, textured.included]).any()
    assert np.isnan(followed.correlation[:-1]).all(axis=0).tolist() == (~textured.included).tolist()
    assert np.isfinite(followed.transforms).all()


def test_the_solution_of_the_tracks_is_that_of_the_passes(textured: Case, followed: PatchResult) -> None:
    use, series = textured.included, textured.series
    solution = solve(
        followed.tracks,
        series.nominal_deg,
        series.header_axis_deg,
        SolveParams(weight_whole_tracks=True),
        image_shape=(256, 256),
        included=use,
    )
    assert textured.error_px(solution.transforms, solution.aligned_tilt_deg) < 0.25
    assert solution.evidence.error_px is not None


def test_the_field_comes_last_where_the_coarse_alignment_put_it(textured: Case, followed: PatchResult) -> None:
    centre = geometry.invert(textured.start)[..., 2] + 128
    np.testing.assert_allclose(followed.tracks.xy[-1, textured.included], centre[textured.included])
    assert followed.tracks.crowding > 1


def test_without_texture_the_error_is_not_claimed_to_be_small() -> None:
    case = Case.made(1.5, beads=0, dose=3.0, crowding=0.05)
    result = case.track()
    true = case.error_px(result.transforms, result.tilt_deg)
    assert true > 1
    assert result.error_limit_px > 1
    assert result.error_px > true / 3


def test_fewer_than_three_views_cannot_be_followed() -> None:
    images = np.zeros((4, 128, 128), np.float32)
    with pytest.raises(StageError, match="2 views are left"):
        track_patches(images, np.tile(np.eye(2, 3), (4, 1, 1)), [-10, 0, 10, 20], PARAMS, included=[True, False, False, True])


def test_patches_that_cannot_be_tracked_are_refused() -> None:
    with pytest.raises(ParameterError, match="sides start at 32"):
        PatchParams(size_px=(20, 300))
    with pytest.raises(ParameterError, match="lets nothing pass"):
        PatchParams(low_pass=0.01, high_pass_sigma=0.1)
