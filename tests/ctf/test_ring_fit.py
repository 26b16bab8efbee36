"""The ring model: its derivatives, and that eliminating parameters loses nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.ctf.model import Microscope
from tiltflow.ctf.ring_fit import NOTHING, eliminate, fit_rings
from tiltflow.ctf.ring_model import RingData, deviance, expect, first_model, recentred, ring_data
from tiltflow.ctf.spectra import SeriesSpectra

SCOPE = Microscope()


def made(rng, *, sectors=1, noise=True, views=4, columns=3, shells=120):
    """Return exact spectra of a model, with the scatter of their weights or without, and the model."""
    tilt = np.linspace(-50, 50, views)
    s = np.linspace(0.2, 1.2, shells)
    u = np.tile(np.linspace(-100, 100, columns), (views, 1))
    shape = (views, columns, sectors, shells)
    direction = (np.arange(sectors) + 0.5) * np.pi / sectors
    empty = SeriesSpectra(np.ones(shape), np.full(shape, 400.0), s**2, direction, u, np.full((views, columns), 30.0), 128.0)
    data = ring_data(empty, tilt, 0.25, 1.2)
    model = replace(first_model(data, 3000.0, 1.0), defocus_nm=3000 + 20 * rng.normal(size=views))
    model = replace(model, astigmatism=np.array([60.0, -40.0]) if sectors > 1 else np.zeros(2))
    power = expect(data, model, SCOPE).power
    if noise:
        power = power * rng.gamma(400, 1 / 400, power.shape)
    return replace(data, power=power), model


def test_derivatives_are_those_of_differences(rng):
    data, model = made(rng, noise=False)
    at = expect(data, model, SCOPE)
    for step, change, derivative in (
        (0.1, {"defocus_nm": model.defocus_nm + 0.1}, at.to_defocus),
        (0.1, {"phase_deg": 0.1}, np.deg2rad(1) * at.to_phase),
        (1e-4, {"own": model.own + np.array([1e-4, 0, 0, 0])}, at.to_strength),
    ):
        moved = expect(data, replace(model, **change), SCOPE)
        np.testing.assert_allclose(
            (np.log(moved.power) - np.log(at.power)) / step, derivative, atol=2e-2 * np.abs(derivative).max()
        )


def test_a_fit_finds_the_model_that_made_the_spectra(rng):
    data, model = made(rng, noise=False)
    found = fit_rings(data, first_model(data, 2700.0, 1.0), SCOPE, np.zeros((4, 4)), scale=1.0)
    np.testing.assert_allclose(found.model.defocus_nm, model.defocus_nm, atol=1.0)
    assert deviance(data, found.at.power) < 1


def test_astigmatism_gradient_and_phase_are_found_when_free(rng):
    data, model = made(rng, sectors=6, noise=False)
    free = np.array([True, True, True, False])
    found = fit_rings(data, first_model(data, 2900.0, 0.8), SCOPE, np.zeros((4, 4)), scale=1.0, free=free)
    np.testing.assert_allclose(found.model.astigmatism, model.astigmatism, atol=1.0)
    assert found.model.gradient == pytest.approx(1.0, abs=0.02)
    shifted = replace(data, power=expect(data, replace(model, phase_deg=60.0), SCOPE).power)
    start = replace(first_model(data, 2950.0, 1.0), phase_deg=40.0, astigmatism=model.astigmatism)
    found = fit_rings(shifted, start, SCOPE, np.zeros((4, 4)), scale=1.0, free=np.array([False, False, False, True]))
    assert found.model.phase_deg == pytest.approx(60.0, abs=1.5)


def test_standard_errors_are_those_of_repeated_noise():
    errors, claims = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        data, model = made(rng)
        found = fit_rings(data, model, SCOPE, np.zeros((4, 4)), scale=1.0)
        errors.append(found.model.defocus_nm - model.defocus_nm)
        claims.append(np.sqrt(np.diag(np.linalg.inv(found.equations.information))[:4]))
    z = np.array(errors) / np.array(claims)
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1.0, abs=0.2)


def test_eliminating_gives_the_step_of_the_whole_system(rng):
    a = rng.normal(size=(3, 20, 7))
    information, score = np.swapaxes(a, 1, 2) @ a, rng.normal(size=(3, 7))
    whole = np.linalg.solve(information, score[..., None])[..., 0]
    less = eliminate(information, score, 4)
    rest = np.linalg.solve(less.information, less.score[..., None])[..., 0]
    np.testing.assert_allclose(rest, whole[:, 4:])
    np.testing.assert_allclose(less.back(rest), whole[:, :4])


def test_a_fit_never_ends_above_where_it_began(rng):
    data, _ = made(rng)
    for defocus in (800.0, 1700.0, 6000.0):
        start = first_model(data, defocus, 1.0)
        found = fit_rings(data, start, SCOPE, np.zeros((4, 4)), scale=1.0, free=NOTHING)
        assert found.cost <= deviance(data, expect(data, start, SCOPE).power)


def test_where_a_spectrum_falls_the_rings_of_a_shell_are_further_in(rng):
    data, model = made(rng)
    falling, flat = model.shared.copy(), np.zeros_like(model.shared)
    falling[-4] = -3.0
    assert np.all(recentred(data, falling).s2[20:] < data.s2[20:])
    np.testing.assert_allclose(recentred(data, flat).s2 - data.s**2, 2 / 3 / data.tile_nm**2)
    assert isinstance(recentred(data, flat), RingData)
