"""The search for the mean defocus: wide fields, aliases, and spectra without rings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.ctf.model import Microscope
from tiltflow.ctf.ring_model import expect, first_model, ring_data
from tiltflow.ctf.search import search
from tiltflow.ctf.spectra import SeriesSpectra

SCOPE, SPAN = Microscope(), (500.0, 10_000.0)
TILT = np.linspace(-60, 60, 13)


def spectra(defocus, hand, *, half_nm=900.0, columns=5, rings=True, highest=1.2, seed=1):
    """Return noisy spectra of a wide field, in which the defocus changes by 1.7 times its half width at 60 degrees."""
    s, shape = np.linspace(0.2, highest, 90), (13, columns, 1, 90)
    u = np.tile(np.linspace(-half_nm, half_nm, columns), (13, 1))
    empty = SeriesSpectra(np.ones(shape), np.full(shape, 300.0), s**2, np.zeros(1), u, np.full((13, columns), 30.0), 128.0)
    data = ring_data(empty, TILT, 0.25, highest)
    model = first_model(data, defocus if rings else 1e6, hand)
    rng = np.random.default_rng(seed)
    return replace(data, power=expect(data, model, SCOPE).power * rng.gamma(300, 1 / 300, shape[:3] + data.power.shape[3:]))


@pytest.mark.parametrize(("defocus", "hand"), [(900.0, 1.0), (2500.0, -1.0), (7000.0, 1.0)])
def test_the_defocus_of_a_wide_field_is_found_with_its_hand(defocus, hand):
    found = search(spectra(defocus, hand), TILT, SCOPE, SPAN, 1.0, phase=False)
    assert found.fit.model.defocus_nm.mean() == pytest.approx(defocus, rel=0.01)
    assert found.fit.model.gradient == hand
    assert found.gain > 100
    assert found.alias_gain > 50


def test_a_single_ring_is_not_taken_for_the_second():
    data = spectra(1950.0, -1.0, half_nm=300.0, highest=0.68)
    found = search(data, TILT, SCOPE, SPAN, 1.0, phase=False)
    assert found.fit.model.defocus_nm.mean() == pytest.approx(1950.0, rel=0.02)
    assert found.alias_gain > 20


def test_spectra_without_rings_gain_nothing():
    found = search(spectra(2500.0, 1.0, rings=False), TILT, SCOPE, SPAN, 1.0, phase=False)
    assert found.gain < 40
