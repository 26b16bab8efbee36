"""Tests of the thickness of a section from where its texture ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tiltflow.position.section_edges import thickness_of

BLUR = 1.5
Z = np.arange(120.0)


def blurred(profile: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.gaussian_filter1d(profile, BLUR))


def section(middle: float, thickness: float, background: float = 0.2) -> np.ndarray:
    """Even texture between two surfaces, to a fraction of a voxel."""
    covered = np.clip(np.minimum(Z + 0.5, middle + thickness / 2) - np.maximum(Z - 0.5, middle - thickness / 2), 0, 1)
    return np.asarray(background + covered)


@settings(max_examples=30)
@given(middle=st.floats(50, 70), thickness=st.floats(12, 60), background=st.floats(0, 5))
def test_even_texture_ends_at_the_surface(middle: float, thickness: float, background: float) -> None:
    """No correction is made where texture ends in a step, and the background does not matter."""
    profile = blurred(section(middle, thickness, background))
    assert thickness_of(profile, middle, BLUR) == pytest.approx(thickness, abs=1 + 0.03 * thickness)


@pytest.mark.parametrize("thickness", [20.0, 40.0, 60.0])
@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_texture_that_thins_out_ends_at_its_base(thickness: float, power: float) -> None:
    depth = np.maximum(thickness / 2 - np.abs(Z - 60), 0)
    profile = blurred(0.3 + depth**power)
    assert thickness_of(profile, 60.0, BLUR) == pytest.approx(thickness, rel=0.12)
    assert np.ptp(Z[profile > 0.3 + 0.5 * np.ptp(profile)]) < 0.6 * thickness


@pytest.mark.parametrize("thickness", [30.0, 40.0])
@pytest.mark.parametrize("radii", [(3.0, 10.0), (5.0, 8.0)])
def test_structures_that_lie_whole_in_a_section_tell_its_thickness(thickness: float, radii: tuple[float, float]) -> None:
    """Balls of all these radii, each centre as likely as any other where the ball does not reach out of the section.

    Their energy at a height is the area that they cover there; near the surfaces only the edges of few are found.
    """
    energy = np.zeros_like(Z)
    for radius in np.linspace(*radii, 9):
        centres = np.linspace(60 - thickness / 2 + radius, 60 + thickness / 2 - radius, 501)
        energy += np.clip(radius**2 - (Z[:, None] - centres) ** 2, 0, None).mean(axis=1)
    profile = blurred(0.3 + energy / energy.max())
    assert thickness_of(profile, 60.0, BLUR) == pytest.approx(thickness, rel=0.05)


def test_flanks_of_unlike_shapes_have_one_end() -> None:
    depth = np.maximum(20 - np.abs(Z - 60), 0)
    profile = blurred(np.where(Z < 60, np.minimum(depth / 5, 4.0), depth**2 / 100))
    assert thickness_of(profile, 60.0, BLUR) == pytest.approx(41, abs=3)


def test_noise_does_not_matter_much(rng: np.random.Generator) -> None:
    profile = blurred(section(60, 30))
    found = [thickness_of(profile + rng.normal(0, 0.03, len(Z)), 60.0, BLUR) for _ in range(20)]
    assert np.mean(found) == pytest.approx(30, rel=0.1)
    assert np.std(found) < 2


def test_a_level_profile_has_no_thickness() -> None:
    assert thickness_of(np.ones(60), 30.0, BLUR) == 0
