"""The formula of the CTF against numbers that stand elsewhere, and the sign of its gradient against geometry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow import geometry
from tiltflow.ctf.model import Astigmatism, Microscope, defocus_at
from tiltflow.errors import ParameterError
from tiltflow.simulate.scene import about


@pytest.mark.parametrize(("kv", "nm"), [(300, 0.0019687), (200, 0.002508), (120, 0.003349)])
def test_wavelengths(kv, nm):
    assert Microscope(voltage_kv=kv).wavelength_nm == pytest.approx(nm, abs=1e-6)


@pytest.mark.parametrize(
    ("defocus", "zeros"),
    [(1000, (0.705, 1.002)), (2000, (0.498, 0.709)), (3000, (0.407, 0.579)), (4000, (0.352, 0.501)), (6000, (0.288, 0.409))],
)
def test_zeros_of_usual_defoci(defocus, zeros):
    np.testing.assert_allclose(Microscope().zeros(defocus, 2), zeros, atol=6e-4)
    np.testing.assert_allclose(Microscope(cs_mm=0).ctf(Microscope().zeros(defocus, 3) ** 2, defocus), 0, atol=1e-12)


def test_dense_matter_is_dark_below_the_first_zero():
    scope = Microscope()
    assert scope.ctf(0.0, 4000) == pytest.approx(-0.07)
    assert scope.ctf(0.3**2, 4000) < -0.5


def test_the_formula_is_that_of_weak_objects():
    scope, s = Microscope(voltage_kv=200, cs_mm=2.0, amplitude_contrast=0.1), np.linspace(0, 2, 50)
    wavelength = scope.wavelength_nm
    chi = np.pi * wavelength * 2500 * s**2 - 0.5 * np.pi * 2.0e6 * wavelength**3 * s**4 + np.deg2rad(30)
    np.testing.assert_allclose(scope.ctf(s**2, 2500, 30), -(np.sqrt(0.99) * np.sin(chi) + 0.1 * np.cos(chi)), atol=1e-12)


@given(st.floats(-80, 80), st.floats(-500, 500), st.floats(-100, 100), st.sampled_from([-1, 1]))
def test_the_gradient_is_the_height_of_the_tilted_specimen(tilt, x, z, hand):
    u, _, height = about("y", tilt) @ [x, 0, z]
    np.testing.assert_allclose(geometry.project([[x, 0, z]], tilt)[0, 0, 0], u, atol=1e-9)
    np.testing.assert_allclose(defocus_at(u, tilt, 4000, hand, z), 4000 - hand * height, rtol=1e-9, atol=1e-6)


def test_at_positive_tilts_the_right_side_is_more_underfocused_with_the_hand_of_imod():
    assert defocus_at(100, 30, 4000, +1) > 4000 > defocus_at(-100, 30, 4000, +1)
    assert defocus_at(100, 30, 4000, -1) < 4000


@given(st.floats(0, 1000), st.floats(-360, 360), st.floats(-360, 360))
def test_astigmatism_and_its_components(nm, deg, turn):
    made = Astigmatism.from_components(*Astigmatism(nm, deg).components)
    direction = np.linspace(0, np.pi, 7)
    np.testing.assert_allclose(made.added(direction), Astigmatism(nm, deg).added(direction), atol=1e-6)
    turned = Astigmatism(nm, deg).turned(turn).added(direction + np.deg2rad(turn))
    np.testing.assert_allclose(turned, made.added(direction), atol=1e-6)


def test_the_largest_defocus_lies_along_the_direction_of_astigmatism():
    np.testing.assert_allclose(Astigmatism(200, 30).added(np.deg2rad([30, 120])), [100, -100])


@pytest.mark.parametrize("parts", [{"voltage_kv": 0}, {"cs_mm": -1}, {"amplitude_contrast": 1.5}])
def test_what_is_no_microscope_is_refused(parts):
    with pytest.raises(ParameterError, match="no microscope"):
        Microscope(**parts)
