"""Tests of finding a section by its texture."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.position.texture import columns
from tiltflow.position.texture_surfaces import fit_section, fit_slopes

SHAPE = (160, 110, 160)


def textured_section(
    rng: np.random.Generator, tilt_deg: float, pitch_deg: float, centre: float, thickness: float, strength: float
) -> np.ndarray:
    """A volume `(y, z, x)`, top row first, of noise and of a section with texture, blurred in z as volumes are."""
    y, z, x = (np.arange(n) + 0.5 - n / 2 for n in SHAPE)
    height = -z[None, :, None] - x[None, None, :] * np.tan(np.deg2rad(tilt_deg)) - y[:, None, None] * np.tan(np.deg2rad(pitch_deg))
    texture = rng.normal(size=SHAPE) * (np.abs(height - centre) < thickness / 2)
    texture = ndimage.gaussian_filter(texture, (1.5, 3.0, 1.5))
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1.5, 1.0, 1.5))
    return (noise / noise.std() + strength * texture / texture.std()).astype(np.float32)


@pytest.mark.parametrize(
    ("tilt", "pitch", "centre", "thickness", "strength"),
    [(0, 0, 0, 40, 1.5), (4, -6, 8, 30, 1.5), (-7, 3, -12, 50, 1.5), (4, -6, 8, 30, 6.0)],
)
def test_slopes_and_surfaces_of_textured_slabs_are_found(
    rng: np.random.Generator, tilt: float, pitch: float, centre: float, thickness: float, strength: float
) -> None:
    texture = columns(textured_section(rng, tilt, pitch, centre, thickness, strength))
    slopes, errors = fit_slopes(texture)
    assert slopes == pytest.approx((tilt, pitch), abs=0.3)
    assert max(errors) < 0.3
    found = fit_section(texture, slopes)
    assert found.centre == pytest.approx(centre, abs=1)
    assert found.thickness == pytest.approx(thickness, rel=0.1)
    assert found.centre_error < 1
    assert found.thickness_error < 0.08 * thickness
    assert found.contrast > 20


def test_a_few_structures_give_larger_errors_of_the_slopes(rng: np.random.Generator) -> None:
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1.5, 1.0, 1.5))
    spots = np.zeros(SHAPE)
    spots[rng.integers(5, 155, 40), rng.integers(35, 75, 40), rng.integers(5, 155, 40)] = 1500 * noise.std()
    slopes, errors = fit_slopes(columns((noise + ndimage.gaussian_filter(spots, (2.0, 3.0, 2.0))).astype(np.float32)))
    assert np.abs(slopes).max() < 4 * max(errors)
    _, filled = fit_slopes(columns(textured_section(rng, 0, 0, 0, 40, 6.0)))
    assert max(errors) > 1.5 * max(filled)


def test_noise_alone_has_no_contrast(rng: np.random.Generator) -> None:
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1.5, 2.0, 1.5)).astype(np.float32)
    texture = columns(noise)
    slopes, _ = fit_slopes(texture)
    assert fit_section(texture, slopes).contrast < 5
