"""Centres of beads, against the bound that the noise sets."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.beads import centring
from tiltflow.align.beads.centring import RadialFilterFactory, around, centre_beads
from tiltflow.align.beads.noise_spectrum import make_grid, noise_spectrum
from tiltflow.align.beads.radial_profile import sphere_profile

DIAMETER = 10.0
PROFILE = sphere_profile(DIAMETER, 2 * DIAMETER)


@pytest.mark.parametrize(("exponent", "amplitude"), [(0.0, 4.0), (1.0, 8.0), (1.6, 8.0)])
def test_centres_reach_the_bound_that_the_noise_sets(rng, exponent, amplitude, draw, coloured_noise):
    """The bound of Cramér and Rao: in white noise and in the noise of crowded specimens."""
    step = 40
    lattice = np.stack(np.meshgrid(np.arange(9), np.arange(9)), axis=-1).reshape(-1, 2) * step + 30.0
    xy = lattice + rng.uniform(-0.5, 0.5, lattice.shape)
    image = (draw((380, 380), xy, amplitude) + coloured_noise((380, 380), exponent)).astype(np.float32)
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
def test_a_neighbour_does_not_pull_a_centre(rng, gap, draw):
    """On its own the flank of the neighbour pulls by tenths of a pixel; with it subtracted nothing is left."""
    xy = np.array([[50.2, 60.4], [50.2 + gap, 60.4], [110.0, 40.0]])
    image = (draw((120, 160), xy, 50.0) + rng.normal(0, 0.05, (120, 160))).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    eye = RadialFilterFactory.of(grid, DIAMETER)(PROFILE, np.full(len(grid.frequency), 2500.0 * 120 * 160))
    together = centre_beads(-image, xy + 0.4, np.empty((0, 2)), eye, -1, 2.0)
    np.testing.assert_allclose(together.xy, xy, atol=0.03)
    bystander = centre_beads(-image, xy[:1] + 0.4, xy[1:], eye, -1, 2.0)
    np.testing.assert_allclose(bystander.xy, xy[:1], atol=0.03)
    alone = centre_beads(-image, xy[:1] + 0.4, np.empty((0, 2)), eye, -1, 2.0)
    if gap < 10:
        assert abs(alone.xy[0, 0] - xy[0, 0]) > 0.06


def test_beads_that_overlap_are_marked(rng, draw):
    xy = np.array([[50.0, 60.0], [56.0, 60.0], [90.0, 40.0]])
    image = (draw((120, 160), xy, 50.0) + rng.normal(0, 1, (120, 160))).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    eye = RadialFilterFactory.of(grid, DIAMETER)(PROFILE, noise_spectrum(image, grid, xy, 8.0))
    found = centre_beads(image, xy, np.empty((0, 2)), eye, 1, 2.0)
    np.testing.assert_array_equal(found.overlapped, [True, True, False])


def test_no_centre_is_found_far_from_where_it_is_expected(rng, draw):
    image = (draw((120, 160), [[50.0, 60.0]], 50.0) + rng.normal(0, 1, (120, 160))).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    eye = RadialFilterFactory.of(grid, DIAMETER)(PROFILE, noise_spectrum(image, grid, np.array([[50.0, 60.0]]), 8.0))
    found = centre_beads(image, np.array([[53.5, 60.0], [49.0, 60.5]]), np.empty((0, 2)), eye, 1, 2.0)
    assert np.isnan(found.xy[0]).all()
    np.testing.assert_allclose(found.xy[1], [50.0, 60.0], atol=0.1)


@pytest.mark.parametrize("sign", [1, -1])
def test_of_a_large_view_the_surroundings_of_beads_are_enough(rng, draw, sign, monkeypatch):
    """What lies farther away may be anything: here it is not even a number."""
    xy = np.array([[50.2, 60.4], [61.0, 60.0], [610.3, 480.6], [6.5, 500.2], [690.0, 300.0], [697.0, 597.0]])
    image = sign * (draw((600, 700), xy[:3], 50.0) + rng.normal(0, 2, (600, 700))).astype(np.float32)
    grid = make_grid(image.shape, DIAMETER)
    eye = RadialFilterFactory.of(grid, DIAMETER)(PROFILE, noise_spectrum(image, grid, xy, 8.0))
    start = xy + rng.uniform(-1.5, 1.5, xy.shape)
    few = centre_beads(image, start, xy[:0], eye, sign, 3.0)
    monkeypatch.setattr(centring, "_LITTLE", 0.0)
    whole = centre_beads(image, start, xy[:0], eye, sign, 3.0)
    np.testing.assert_array_equal(few.xy, whole.xy)
    np.testing.assert_array_equal(few.z, whole.z)
    assert np.isfinite(few.xy[:3]).all()
    monkeypatch.setattr(centring, "_LITTLE", 1.0)
    empty = np.empty

    def no_numbers(shape, dtype=float):
        array = empty(shape, dtype)
        if dtype is np.float32:
            array.fill(np.nan)
        return array

    monkeypatch.setattr(np, "empty", no_numbers)
    np.testing.assert_array_equal(centre_beads(image, start, xy[:0], eye, sign, 3.0).xy, whole.xy)


def test_beads_of_a_view_of_integers_are_centred_as_those_of_the_same_real_numbers(rng, draw):
    xy = np.array([[50.2, 60.4], [61.0, 60.0], [310.3, 280.6]])
    image = np.rint(10 * (draw((300, 400), xy, 50.0) + rng.normal(0, 2, (300, 400)))).astype(np.int16)
    real, grid = image.astype(np.float32), make_grid(image.shape, DIAMETER)
    eye = RadialFilterFactory.of(grid, DIAMETER)(PROFILE, noise_spectrum(real, grid, xy, 8.0))
    found = [centre_beads(each, xy + 0.3, xy[:0], eye, 1, 2.0) for each in (image, real)]
    np.testing.assert_array_equal(found[0].xy, found[1].xy)
    np.testing.assert_array_equal(found[0].amplitude, found[1].amplitude)
    assert around(real, xy, 8.0) is real
    np.testing.assert_array_equal(around(image, xy, 8.0)[56:65, 45:56], real[56:65, 45:56])
