"""The matched filter and the spots it finds."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.beads.detection import find_spots, matched_filter, respond
from tiltflow.align.beads.noise_spectrum import make_grid, noise_spectrum, transform_view
from tiltflow.align.beads.radial_profile import sphere_profile

DIAMETER = 10.0
PROFILE = sphere_profile(DIAMETER, 2 * DIAMETER)


def test_the_response_to_noise_has_the_variance_that_the_filter_states(coloured_noise):
    image = (40 * coloured_noise((256, 256))).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    noise = noise_spectrum(image, grid, np.empty((0, 2)), 8.0)
    filter_ = matched_filter(grid.transform(PROFILE), noise, grid)
    response = respond(transform_view(image, grid), filter_, grid)
    assert response.std() == pytest.approx(np.sqrt(filter_.energy), rel=0.1)


def test_spots_have_the_place_and_amplitude_of_the_beads(draw, coloured_noise):
    xy = np.array([[40.3, 60.8], [100.0, 120.5], [181.7, 33.2], [60.1, 170.9]])
    image = (draw((220, 220), xy, 80.0) + 10 * coloured_noise((220, 220))).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    filter_ = matched_filter(grid.transform(PROFILE), noise_spectrum(image, grid, xy, 8.0), grid)
    spots = find_spots(respond(transform_view(image, grid), filter_, grid), filter_, grid, DIAMETER, 4.5, 6.0)
    assert len(spots) >= 4
    assert (np.diff(spots.z) <= 0).all()
    found = spots.xy[:4]
    nearest = np.hypot(*np.moveaxis(found[:, None] - xy[None], -1, 0)).argmin(axis=1)
    assert sorted(nearest) == [0, 1, 2, 3]
    assert np.abs(found - xy[nearest]).max() < 0.2
    np.testing.assert_allclose(spots.amplitude[:4], 80.0, rtol=0.1)
