"""The profile of the beads of a series, averaged in rings."""

from __future__ import annotations

import numpy as np

from tiltflow.align.beads.bead_model import RING, profile_of_rings
from tiltflow.align.beads.radial_profile import STEP, radii, sphere_profile

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
