"""The bead's profile, the noise, the matched filter and the centres: against their formulas and against the bound of the noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from tiltflow.align.beads.bead_model import RING, profile_of_rings
from tiltflow.align.beads.centring import RadialFilterFactory, centre_beads
from tiltflow.align.beads.detection import find_spots, matched_filter, respond
from tiltflow.align.beads.noise_spectrum import fine_power, make_grid, noise_spectrum, read_view, transform_view
from tiltflow.align.beads.radial_profile import STEP, hankel_matrix, radii, sphere_profile

DIAMETER = 10.0
PROFILE = sphere_profile(DIAMETER, 2 * DIAMETER)


def _draw(shape, xy, amplitude=1.0):
    """Return spheres at points, each pixel the mean over its area."""
    image = np.zeros(shape)
    for px, py in xy:
        i, j = int(px) - 8, int(py) - 8
        y, x = (np.mgrid[:51, :51] + 0.5) / 3 + np.array([j, i])[:, None, None]
        fine = np.interp(np.hypot(x - px, y - py), np.arange(len(PROFILE)) * STEP, PROFILE)
        image[j : j + 17, i : i + 17] += amplitude * fine.reshape(17, 3, 17, 3).mean(axis=(1, 3))
    return image


def _coloured_noise(shape, rng, exponent=1.0):
    f = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    spectrum = np.fft.rfft2(rng.normal(size=shape)) / np.maximum(f, 0.02) ** exponent
    noise = np.fft.irfft2(spectrum, shape)
    return noise / noise.std()


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


def test_views_are_averaged_over_the_binning(rng):
    stack = rng.integers(0, 100, (2, 21, 30)).astype(np.int16)
    np.testing.assert_allclose(read_view(stack, 1, 2), stack[1, :20].reshape(10, 2, 15, 2).mean(axis=(1, 3)), rtol=1e-6)
    assert read_view(stack, 0, 1).dtype == np.float32


def test_the_noise_spectrum_of_white_noise_is_its_variance_at_every_frequency(rng):
    grid = make_grid((200, 240), DIAMETER)
    image = rng.normal(0, 3.0, (200, 240)).astype(np.float32)
    power = noise_spectrum(image, grid, np.empty((0, 2)), 8.0) / (grid.padded[0] * grid.padded[1])
    used = (grid.frequency > 0.03) & (grid.frequency < 0.5)
    assert np.abs(power[used] / 9.0 - 1).mean() < 0.08
    assert fine_power(transform_view(image, grid), grid) / (grid.padded[0] * grid.padded[1]) == pytest.approx(9.0, rel=0.05)


def test_beads_are_no_part_of_the_noise(rng):
    grid = make_grid((256, 256), DIAMETER)
    xy = rng.uniform(20, 236, (20, 2))
    noise = rng.normal(0, 0.1, (256, 256))
    clean = noise_spectrum(noise.astype(np.float32), grid, np.empty((0, 2)), 8.0)
    beaded = (noise + _draw((256, 256), xy)).astype(np.float32)
    with_beads, without = noise_spectrum(beaded, grid, np.empty((0, 2)), 8.0), noise_spectrum(beaded, grid, xy, 8.0)
    band = (grid.frequency > 0.03) & (grid.frequency < 0.1)
    assert (with_beads[band] / clean[band]).mean() > 20
    assert (without[band] / clean[band]).mean() == pytest.approx(1.0, abs=0.25)
    assert (noise_spectrum(beaded, grid, None, 8.0)[band] / clean[band]).mean() < 0.3 * (with_beads[band] / clean[band]).mean()


def test_the_response_to_noise_has_the_variance_that_the_filter_states(rng):
    image = (40 * _coloured_noise((256, 256), rng)).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    noise = noise_spectrum(image, grid, np.empty((0, 2)), 8.0)
    filter_ = matched_filter(PROFILE, noise, grid)
    response = respond(transform_view(image, grid), filter_, grid)
    assert response.std() == pytest.approx(np.sqrt(filter_.energy), rel=0.1)


def test_spots_have_the_place_and_amplitude_of_the_beads(rng):
    xy = np.array([[40.3, 60.8], [100.0, 120.5], [181.7, 33.2], [60.1, 170.9]])
    image = (_draw((220, 220), xy, 80.0) + 10 * _coloured_noise((220, 220), rng)).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    filter_ = matched_filter(PROFILE, noise_spectrum(image, grid, xy, 8.0), grid)
    spots = find_spots(respond(transform_view(image, grid), filter_, grid), filter_.energy, DIAMETER, 4.5, 6.0)
    assert len(spots) >= 4
    assert (np.diff(spots.z) <= 0).all()
    found = spots.xy[:4]
    nearest = np.hypot(*np.moveaxis(found[:, None] - xy[None], -1, 0)).argmin(axis=1)
    assert sorted(nearest) == [0, 1, 2, 3]
    assert np.abs(found - xy[nearest]).max() < 0.2
    np.testing.assert_allclose(spots.amplitude[:4], 80.0, rtol=0.1)


@pytest.mark.parametrize(("exponent", "amplitude"), [(0.0, 4.0), (1.0, 8.0), (1.6, 8.0)])
def test_centres_reach_the_bound_that_the_noise_sets(rng, exponent, amplitude):
    """The bound of Cramér and Rao: in white noise and in the noise of crowded specimens."""
    step = 40
    lattice = np.stack(np.meshgrid(np.arange(9), np.arange(9)), axis=-1).reshape(-1, 2) * step + 30.0
    xy = lattice + rng.uniform(-0.5, 0.5, lattice.shape)
    image = (_draw((380, 380), xy, amplitude) + _coloured_noise((380, 380), rng, exponent)).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    eye = RadialFilterFactory.of(grid, DIAMETER)(PROFILE, noise_spectrum(image, grid, xy, 8.0))
    found = centre_beads(image, xy + rng.uniform(-0.7, 0.7, xy.shape), np.empty((0, 2)), eye, 1, 2.0)
    error = found.xy - xy
    assert np.isfinite(error).all()
    assert found.lone.all()
    scatter = np.sqrt(np.mean((error - error.mean(axis=0)) ** 2))
    assert scatter < 0.2
    assert scatter == pytest.approx(np.median(found.sigma), rel=0.2)
    assert np.abs(error.mean(axis=0)).max() < 4 * scatter / 9
    assert np.median(found.amplitude) == pytest.approx(amplitude, rel=0.1)


@pytest.mark.parametrize("gap", [9.5, 11.0, 14.0, 18.0])
def test_a_neighbour_does_not_pull_a_centre(rng, gap):
    """On its own the flank of the neighbour pulls by tenths of a pixel; with it subtracted nothing is left."""
    xy = np.array([[50.2, 60.4], [50.2 + gap, 60.4], [110.0, 40.0]])
    image = (_draw((120, 160), xy, 50.0) + rng.normal(0, 0.05, (120, 160))).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    eye = RadialFilterFactory.of(grid, DIAMETER)(PROFILE, np.full(len(grid.counts), 2500.0 * 120 * 160))
    together = centre_beads(-image, xy + 0.4, np.empty((0, 2)), eye, -1, 2.0)
    np.testing.assert_allclose(together.xy, xy, atol=0.03)
    bystander = centre_beads(-image, xy[:1] + 0.4, xy[1:], eye, -1, 2.0)
    np.testing.assert_allclose(bystander.xy, xy[:1], atol=0.03)
    alone = centre_beads(-image, xy[:1] + 0.4, np.empty((0, 2)), eye, -1, 2.0)
    if gap < 10:
        assert abs(alone.xy[0, 0] - xy[0, 0]) > 0.06


def test_beads_that_overlap_are_marked(rng):
    xy = np.array([[50.0, 60.0], [56.0, 60.0], [90.0, 40.0]])
    image = (_draw((120, 160), xy, 50.0) + rng.normal(0, 1, (120, 160))).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    eye = RadialFilterFactory.of(grid, DIAMETER)(PROFILE, noise_spectrum(image, grid, xy, 8.0))
    found = centre_beads(image, xy, np.empty((0, 2)), eye, 1, 2.0)
    np.testing.assert_array_equal(found.overlapped, [True, True, False])


def test_no_centre_is_found_far_from_where_it_is_expected(rng):
    image = (_draw((120, 160), [[50.0, 60.0]], 50.0) + rng.normal(0, 1, (120, 160))).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    eye = RadialFilterFactory.of(grid, DIAMETER)(PROFILE, noise_spectrum(image, grid, np.array([[50.0, 60.0]]), 8.0))
    found = centre_beads(image, np.array([[53.5, 60.0], [49.0, 60.5]]), np.empty((0, 2)), eye, 1, 2.0)
    assert np.isnan(found.xy[0]).all()
    np.testing.assert_allclose(found.xy[1], [50.0, 60.0], atol=0.1)


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
