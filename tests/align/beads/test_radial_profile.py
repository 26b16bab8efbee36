"""Profiles and their transforms, against the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from tiltflow.align.beads.radial_profile import STEP, hankel_matrix, radii, sphere_profile

DIAMETER = 10.0
PROFILE = sphere_profile(DIAMETER, 2 * DIAMETER)


def test_the_transform_of_a_gaussian_is_a_gaussian():
    f = np.linspace(0, 0.5, 40)
    profile = np.exp(-(radii(20.0) ** 2) / (2 * 2.5**2))
    expected = 2 * np.pi * 2.5**2 * np.exp(-2 * (np.pi * f * 2.5) ** 2)
    np.testing.assert_allclose(hankel_matrix(f, 20.0) @ profile, expected, atol=1e-3 * expected[0])


def test_the_transform_of_a_disc_is_the_airy_pattern():
    # samples up to 4.9 stand for a disc of 4.95
    f = np.linspace(0.01, 0.3, 30)
    profile = (radii(8.0) < 4.95).astype(float)
    expected = 4.95 * special.j1(2 * np.pi * 4.95 * f) / f
    np.testing.assert_allclose(hankel_matrix(f, 8.0) @ profile, expected, atol=0.2)


def test_a_sphere_is_thickest_in_its_centre_and_ends_a_pixel_outside_its_radius():
    assert PROFILE[0] == 1.0
    assert (np.diff(PROFILE) <= 1e-12).all()
    assert not PROFILE[int((DIAMETER / 2 + 1) / STEP) + 1 :].any()
    half = np.flatnonzero(PROFILE < 0.5)[0] * STEP
    assert half == pytest.approx(np.sqrt(0.75) * DIAMETER / 2, abs=0.4)
