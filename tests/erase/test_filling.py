"""What takes the place of a bead: ccderaser's value, or the texture around."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from scipy import ndimage

from tiltflow.erase.filling import field_covariance, field_sample, fill
from tiltflow.erase.patches import discs, patches_of
from tiltflow.errors import StageError

RING = 1.0, 3.0


def correlated(rng, shape, sigma):
    """Return noise of a standard deviation of 1, smoothed by a Gaussian."""
    noise = ndimage.gaussian_filter(rng.normal(0, 1, shape), sigma, mode="wrap") if sigma else rng.normal(0, 1, shape)
    return noise / noise.std()


def filled(view, mask, how="texture", seed=0, ring=RING):
    out = np.array(view, float)
    for number, patch in enumerate(patches_of(mask)):
        out[patch.rows, patch.columns] = fill(view, patch, mask, ring, how, np.random.default_rng((seed, number)))
    return out


@pytest.mark.parametrize("iterations", [0, 2, 3])
def test_flat_values_are_those_of_ccderaser_within_a_quarter_of_the_noise(golden, iterations):
    differences = []
    for view, imod in zip(golden.raw, golden.imod[iterations], strict=True):
        mask = imod != 0
        noise = view[ndimage.distance_transform_edt(~mask) > 8].std()
        for patch in patches_of(mask):
            value = fill(view, patch, mask, RING, "flat", np.random.default_rng(0))
            assert np.ptp(value) == 0
            differences.append((value[0] - imod[patch.rows[0], patch.columns[0]]) / noise)
    assert np.sqrt(np.mean(np.square(differences))) < 0.25
    assert abs(np.mean(differences)) < 0.15
    assert np.mean(np.abs(differences) < 0.25) > 0.8


@pytest.mark.parametrize("sigma", [0.0, 0.7, 1.5, 3.0])
def test_texture_has_the_deviation_and_the_spectrum_of_what_is_around(rng, sigma):
    view = 1000 + 50 * correlated(rng, (400, 400), sigma)
    y, x = np.mgrid[25:400:50, 25:400:50]
    mask = discs(np.column_stack([x.ravel(), y.ravel()]), view.shape, 9.0)
    out = filled(view, mask)
    assert out[mask].mean() == pytest.approx(1000, abs=15 if sigma > 1 else 5)
    assert out[mask].std() == pytest.approx(view[mask].std(), rel=0.12)
    for lag in (1, 2, 4):
        pair = mask[:, lag:] & mask[:, :-lag]
        ours, true = (np.corrcoef(image[:, lag:][pair], image[:, :-lag][pair])[0, 1] for image in (out, view))
        assert ours == pytest.approx(true, abs=0.12), f"at {lag} pixels"


def test_texture_goes_over_into_what_is_around(rng):
    view = correlated(rng, (200, 200), 3.0)
    mask = discs([[100.0, 100.0], [40.0, 50.0], [150.0, 160.0]], view.shape, 7.0)
    out = filled(view, mask)
    rim = mask & ~ndimage.binary_erosion(mask)
    step = [np.abs(out - np.roll(out, shift, (0, 1)))[rim].mean() for shift in ((0, 1), (1, 0))]
    usual = [np.abs(view - np.roll(view, shift, (0, 1))).mean() for shift in ((0, 1), (1, 0))]
    assert np.mean(step) < 1.5 * np.mean(usual)
    assert np.mean(step) < 0.5 * np.mean(np.abs(filled(view, mask, "flat") - np.roll(view, 1, 1))[rim])


def test_texture_follows_a_gradient(rng):
    slope = np.linspace(0, 400, 80)
    view = rng.normal(0, 1, (80, 80)) + slope
    mask = discs([[40.0, 40.0]], view.shape, 8.0)
    out = filled(view, mask)
    assert np.abs(out - slope)[mask].mean() < 0.25 * np.abs(slope[mask.any(axis=0)] - slope[40]).max()


def test_beads_themselves_and_their_neighbours_tell_nothing(rng):
    view = rng.normal(100, 1, (80, 80))
    mask = discs([[30.0, 40.0], [46.0, 40.0]], view.shape, 7.0)
    with_gold = np.where(mask, -1e6, view)
    for how in ("flat", "texture"):
        np.testing.assert_allclose(filled(with_gold, mask, how), filled(view, mask, how))
        assert np.abs(filled(view, mask, how)[mask] - 100).max() < 6


def test_a_ring_is_widened_where_neighbours_and_the_edge_leave_little(rng):
    view = rng.normal(50, 2, (40, 40))
    mask = np.zeros((40, 40), bool)
    mask[:30] = True
    mask[3:6, 3:6] = False
    for how in ("flat", "texture"):
        assert filled(view, mask, how)[mask].mean() == pytest.approx(50, abs=2)
    mask[:] = True
    mask[-1, -3:] = False
    assert filled(view, mask, "flat")[0, 0] == pytest.approx(view[-1, -3:].mean())


def test_a_constant_view_stays_constant():
    view = np.full((60, 60), 7.0)
    mask = discs([[30.0, 30.0]], view.shape, 6.0)
    for how in ("flat", "texture"):
        np.testing.assert_allclose(filled(view, mask, how), 7.0)


def test_large_patches_are_filled_too(rng):
    view = correlated(rng, (500, 500), 1.0)
    mask = discs([[250.0, 250.0]], view.shape, 120.0)
    out = filled(view, mask, ring=(1.0, 6.0))
    assert out[mask].std() == pytest.approx(1, rel=0.1)


def test_a_view_that_is_all_beads_is_refused_in_words():
    with pytest.raises(StageError, match="smaller diameter"):
        filled(np.zeros((20, 20)), np.ones((20, 20), bool))


def test_covariance_is_that_of_the_field_whatever_is_masked(rng):
    image = correlated(rng, (256, 256), 2.0)
    known = rng.random(image.shape) > 0.3
    made = field_covariance(np.where(known, image, 1e6), known, 20)
    for lag in (1, 2, 4):
        assert made[0, lag] == pytest.approx(np.exp(-(lag**2) / 16), abs=0.1)
    assert made[0, 0] == pytest.approx(1)
    assert (scipy.fft.rfft2(made).real > -1e-9).all()
    drawn = field_sample(made, rng)
    assert drawn.std() == pytest.approx(1, abs=0.1)
    assert np.mean(drawn * np.roll(drawn, 2, 1)) == pytest.approx(made[0, 2], abs=0.1)
