"""Rings of a view: what tiles leave of them, and how far out they are seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.ctf.model import Microscope
from tiltflow.ctf.ring_model import expect, first_model, ring_contrast, ring_data
from tiltflow.ctf.rings import rings_of
from tiltflow.ctf.spectra import SeriesSpectra, series_spectra

SCOPE = Microscope()
LEVEL = np.eye(2, 3)[None]


def imaged(rng, defocus_nm, across_nm=0.0, side=1024, pixel_nm=0.5):
    """Return white noise seen at a defocus, or at one that rises across the image by so much, in steps of 20 nm."""
    noise, image = np.fft.rfft2(rng.normal(size=(side, side))), np.zeros((side, side))
    s2 = np.fft.fftfreq(side, pixel_nm)[:, None] ** 2 + np.fft.rfftfreq(side, pixel_nm) ** 2
    at = defocus_nm + across_nm * ((np.arange(side) + 0.5) / side - 0.5)
    for value in np.unique(np.rint(at / 20)):
        image += np.where(np.rint(at / 20) == value, np.fft.irfft2(noise * SCOPE.ctf(s2, value * 20), (side, side)), 0)
    return image[None]


@pytest.mark.parametrize(("defocus", "tilt"), [(2500.0, 0.0), (6000.0, 0.0), (4000.0, 60.0)])
def test_what_tiles_leave_of_rings_is_what_is_computed(rng, defocus, tilt):
    across = np.tan(np.deg2rad(tilt)) * 512
    data = ring_data(series_spectra(imaged(rng, defocus, across), LEVEL, 0.5, highest=1.3).isotropic(), np.array([tilt]), 0.3, 1.25)
    contrast = ring_contrast(data, SCOPE, defocus)
    turn = 2 * SCOPE.phase(data.s2, defocus + data.per_hand[..., None])
    expected = -contrast * np.cos(turn)
    measured = data.power[:, :, 0] / data.power[:, :, 0].mean(axis=-1, keepdims=True) - 1
    slope = (measured * expected).sum() / (expected**2).sum()
    assert slope == pytest.approx(1.0, abs=0.06)
    assert contrast[..., -1].max() < 0.95, "the tiles do dampen the outer rings"
    plain = -np.cos(turn)
    assert (measured * plain).sum() / (plain**2).sum() < 0.95


def made(noise_from=2.0, u_nm=(-100.0, 0.0, 100.0)):
    """Return data of three columns, whose rings are lost in noise from a frequency, and their model."""
    s, shape, rng = np.linspace(0.2, 1.2, 120), (1, 3, 1, 120), np.random.default_rng(2)
    u = np.array([u_nm])
    empty = SeriesSpectra(np.ones(shape), np.full(shape, 400.0), s**2, np.zeros(1), u, np.full((1, 3), 20.0), 128.0)
    data = ring_data(empty, np.array([50.0]), 0.25, 1.2)
    model = first_model(data, 3000.0, 1.0)
    power = expect(data, model, SCOPE).power
    lost = np.where(data.s > noise_from, 1.0, 0.0)
    power = power * (1 + lost * rng.normal(0, 2.0, power.shape))
    return replace(data, power=np.maximum(power, 0.01)), model


def test_perfect_rings_are_seen_to_the_end():
    data, model = made()
    rings = rings_of(data, model, expect(data, model, SCOPE), SCOPE)
    assert rings.score[0] == pytest.approx(1.0)
    assert rings.spacing_angstrom[0] == pytest.approx(10 / data.s[-1], rel=0.02)
    np.testing.assert_allclose(rings.measured, rings.fitted, atol=1e-9)


def test_rings_are_seen_to_where_noise_begins():
    data, model = made(noise_from=0.7)
    rings = rings_of(data, model, expect(data, model, SCOPE), SCOPE)
    assert 10 / 0.85 < rings.spacing_angstrom[0] < 10 / 0.6


def test_columns_of_other_defocus_are_stretched_onto_the_axis():
    data, model = made(u_nm=(300.0, 310.0, 320.0))
    rings = rings_of(data, model, expect(data, model, SCOPE), SCOPE)
    zeros = SCOPE.zeros(3000.0, 3)
    near = np.abs(rings.frequency - zeros[:, None]) < 0.03
    lowest = rings.frequency[np.argmin(np.where(near, rings.fitted[0], np.inf), axis=1)]
    np.testing.assert_allclose(lowest, zeros, atol=0.012)
