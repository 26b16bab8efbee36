"""The likelihood of displacements: its slope and curvature, and where it is greatest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.align.patches.coherence import Coherence, cross_spectra
from tiltflow.align.patches.likelihood import compare, drift_shapes, expected_curvature, own_place, settle
from tiltflow.align.patches.patch_spectra import FrequencyCells
from tiltflow.align.patches.view_covariances import ViewCovariances

Floats = NDArray[np.float64]
Slab = Callable[[float, float], Coherence]
Draw = Callable[..., NDArray[np.complex64]]
EachInverted = Callable[[ViewCovariances], ViewCovariances]

TILT = np.deg2rad(np.linspace(-60, 60, 13))


def test_slope_and_curvature_are_those_of_the_likelihood(
    cells: FrequencyCells, rng: np.random.Generator, slab: Slab, draw: Draw
) -> None:
    model = slab(40.0, 0.6)
    spectra = draw(model, cells, rng).astype(complex)
    settled = ViewCovariances.of(cells, TILT, model.heights, model.depth_px).settled(model)
    precision = np.linalg.inv(settled)

    def likelihood(moved: Floats) -> float:
        phase = 2 * np.pi * (cells.x[:, None] * moved[:, :1] + cells.y[:, None] * moved[:, 1:])
        a = spectra * np.exp(1j * phase)
        return -float((a.conj() * (precision @ a)).real.sum())

    def finite(*moves: tuple[int, int]) -> float:
        h, total = 0.05, 0.0
        for signs in np.ndindex(*(2,) * len(moves)):
            moved = np.zeros((len(TILT), 2))
            for sign, place in zip(signs, moves, strict=True):
                moved[place] += h * (1 - 2 * sign)
            total += (-1) ** sum(signs) * likelihood(moved)
        return total / (2 * h) ** len(moves)

    single = spectra.astype(np.complex64)
    compared = compare(single, cross_spectra(single), precision, expected_curvature(precision, settled, cells, 1.0), cells, 1.0)
    scale = np.abs(compared.slope).max()
    for place in [(0, 0), (4, 0), (6, 1), (12, 1)]:
        assert compared.slope[place] == pytest.approx(finite(place), abs=0.02 * scale)
    for one, other in [((4, 0), (5, 0)), ((6, 0), (8, 0))]:
        assert compared.curvature[(*one, *other)] == pytest.approx(-finite(one, other), rel=0.03)
    # Along y the frequencies of a bin are taken together.
    assert compared.curvature[6, 1, 7, 1] == pytest.approx(-finite((6, 1), (7, 1)), rel=0.15)
    # By chance as expected: the mean of all springs.
    assert np.trace(compared.curvature.reshape(26, 26)) == pytest.approx(np.trace(compared.expected.reshape(26, 26)), rel=0.15)
    assert 0.3 < compared.agreement.mean() < 1


def test_displaced_views_are_put_back(
    cells: FrequencyCells, rng: np.random.Generator, slab: Slab, draw: Draw, each_inverted: EachInverted
) -> None:
    model, moved = slab(30.0, 0.7), rng.normal(0, 0.2, (len(TILT), 2))
    moved -= moved.mean(axis=0)
    phase = np.exp(-2j * np.pi * (cells.x[:, None] * moved[:, :1] + cells.y[:, None] * moved[:, 1:])).astype(np.complex64)
    covariances = each_inverted(ViewCovariances.of(cells, TILT, model.heights, model.depth_px))
    settled = covariances.settled(model)
    precision = covariances.precision(settled, 0.2)
    expected = expected_curvature(precision, settled, cells, 1.0)
    compared, without = [], []
    for _ in range(6):
        spectra = draw(model, cells, rng) * phase
        given = spectra, cross_spectra(spectra), precision, expected, cells, 1.0
        compared.append(compare(*given))
        without.append(compare(*given, observed=False))
    found = settle(compared, 1.0, 1.0).moved.mean(axis=0)
    error = (found - moved).ravel()
    assert all(each.curvature is None for each in without)
    np.testing.assert_array_equal(settle(without, 1.0, 1.0).moved.mean(axis=0), found)
    place = np.linalg.qr(own_place(TILT))[0]
    assert np.sqrt(np.mean((error - place @ (place.T @ error)) ** 2)) < 0.06


def test_drifts_hold_nothing_that_a_place_or_a_height_explains() -> None:
    shapes, place = drift_shapes(TILT), own_place(TILT)
    np.testing.assert_allclose(place.T @ shapes, 0, atol=1e-9 * len(TILT))
    np.testing.assert_allclose((shapes**2).sum(axis=0), len(TILT))
