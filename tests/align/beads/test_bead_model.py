"""The profile of the beads of a series, averaged in rings."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.beads.bead_model import RING, _best_sign, measure_bead_model, profile_of_rings
from tiltflow.align.beads.bead_views import make_bead_views
from tiltflow.align.beads.params import BeadParams
from tiltflow.align.beads.radial_profile import STEP, radii, sphere_profile
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

DIAMETER = 10.0
PROFILE = sphere_profile(DIAMETER, 2 * DIAMETER)


def test_a_profile_of_rings_is_the_bead_that_was_averaged(rng):
    r = (np.arange(41) + 0.5) * RING
    counts = np.round(2 * np.pi * r * RING * 50)
    values = 7 * np.interp(r, np.arange(len(PROFILE)) * STEP, PROFILE) + rng.normal(0, 1, 41) / np.sqrt(counts)
    profile = profile_of_rings(np.stack([values * counts, (values**2 + 1) * counts, counts]), DIAMETER)
    inside = radii(20.0) < DIAMETER / 2
    level = np.sum((PROFILE * radii(20.0))[inside]) / np.sum(radii(20.0)[inside])
    np.testing.assert_allclose(profile, PROFILE / level, atol=0.06)
    assert np.abs(profile[int(7 / STEP) :]).max() < 0.02


def test_without_beads_to_average_the_profile_is_a_sphere():
    np.testing.assert_array_equal(profile_of_rings(np.zeros((3, 41)), DIAMETER), PROFILE)


@pytest.mark.parametrize(
    ("dark", "light", "chosen"),
    [
        ([1, 5, 9, 5, 1], [1, 2, 3, 2, 1], 0),
        ([1, 2, 3, 2, 1], [1, 5, 9, 5, 1], 1),
        ([1, 5, 9, 5, 1], [11, 8, 4, 2, 1], 0),  # x-ray hits beside dark beads
        ([1, 5, 9, 5, 1], [2, 4, 6, 8, 11], 0),
        ([1, 2, 3, 2, 1], [11, 8, 4, 2, 1], 1),  # beads that are smaller than told, beside noise
        ([9, 5, 1, 1, 1], [11, 8, 4, 2, 1], 1),
    ],
)
def test_a_sign_counts_by_what_is_clearest_at_a_size_between_others(dark, light, chosen):
    assert _best_sign(np.array([dark, light], float)) == chosen


def test_x_ray_hits_that_were_left_in_are_no_beads():
    series = simulate(SimulationParams(seed=5, size=256, views=31, beads=14), threads=2)  # with hot pixels
    views = make_bead_views(
        series.series.images, series.truth.transforms(), series.truth.true_deg, np.ones(31, bool), BeadParams(diameter_px=10.0)
    )
    model = measure_bead_model(views, BeadParams(diameter_px=10.0), 2)
    assert model.sign == -1
    assert model.diameter == pytest.approx(10, rel=0.1)
