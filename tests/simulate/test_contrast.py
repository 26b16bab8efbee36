"""Phase contrast of tilted specimens: which defocus is seen where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.ctf.model import Microscope
from tiltflow.errors import ParameterError
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.projection import phase_contrast, project
from tiltflow.simulate.scene import set_scene

FLAT = SimulationParams(
    size=256, views=3, regime="cryo", beads=0, particle_px=1.0, pixel_nm=0.5, thickness_px=40, defocus_um=2.0, axis_deg=0,
    rotation_jitter_deg=0, tilt_error_deg=0, magnification_jitter=0, shift_px=0, pitch_deg=0, ice=5.0,
)  # fmt: skip


def seen(params, view):
    return phase_contrast(set_scene(params, np.random.default_rng(params.seed)), view, params)


def best_defocus(image, pixel_nm, candidates):
    """Return the defocus whose squared transfer correlates best with the spectrum of an image."""
    window = np.outer(*(np.hanning(n) for n in image.shape))
    power = np.abs(np.fft.rfft2(image * window)) ** 2
    s2 = np.fft.fftfreq(image.shape[0], pixel_nm)[:, None] ** 2 + np.fft.rfftfreq(image.shape[1], pixel_nm)[None] ** 2
    band = (s2 > 0.3**2) & (s2 < 0.8**2)
    scores = [np.corrcoef(power[band], Microscope().ctf(s2[band], d) ** 2)[0, 1] for d in candidates]
    return candidates[int(np.argmax(scores))]


@pytest.mark.parametrize("hand", [-1, 0, 1])
def test_the_defocus_runs_across_the_tilt_axis_as_the_hand_says(hand):
    image = seen(replace(FLAT, defocus_hand=hand, size=512), 2)
    candidates = np.arange(1600, 2401, 25.0)
    left, right = (best_defocus(image[:, part], 0.5, candidates) for part in (slice(0, 170), slice(-170, None)))
    expected = hand * np.tan(np.deg2rad(60)) * (512 - 170) * 0.5
    assert right - left == pytest.approx(expected, abs=80)


def test_astigmatism_lies_where_it_is_asked_for():
    image = seen(replace(FLAT, astigmatism_nm=400.0, astigmatism_deg=90.0), 1)
    power = np.abs(np.fft.rfft2(image * np.outer(*(np.hanning(256),) * 2))) ** 2
    candidates = np.arange(1600, 2401, 25.0)
    s = np.fft.rfftfreq(256, 0.5)[:128]
    band = (s > 0.3) & (s < 0.8)
    rings = [Microscope().ctf(s[band] ** 2, defocus) ** 2 for defocus in candidates]
    lines = power[:12, :128].mean(axis=0)[band], power[:128, :12].mean(axis=1)[band]
    x, y = (candidates[int(np.argmax([np.corrcoef(line, ring)[0, 1] for ring in rings]))] for line in lines)
    assert y - x == pytest.approx(400, abs=120)


def test_the_defocus_drifts_and_slopes_but_not_at_zero_tilt():
    params = replace(FLAT, views=9, defocus_slope_nm=3.0, defocus_drift_nm=20.0)
    truth = set_scene(params, np.random.default_rng(1)).truth
    assert truth.defocus_nm[4] == 2000
    steps = np.diff(truth.defocus_nm - 3 * truth.nominal_deg)
    assert 5 < steps.std() < 60
    assert set_scene(replace(params, regime="plastic"), np.random.default_rng(1)).truth.defocus_nm is None


def test_a_plastic_section_has_no_phase_contrast():
    with pytest.raises(ParameterError, match="no phase contrast"):
        seen(replace(FLAT, regime="plastic"), 0)


def test_ice_is_another_in_every_view_and_not_in_views_of_nothing():
    assert seen(FLAT, 0).std() > 1
    assert abs(np.corrcoef(seen(FLAT, 1).ravel(), seen(replace(FLAT, seed=2), 1).ravel())[0, 1]) < 0.05
    assert seen(replace(FLAT, noise_views=(1,)), 1).std() == 0


def test_slabs_together_are_the_projection():
    params = replace(FLAT, ice=0.0, beads=5, particle_px=None)
    scene = set_scene(params, np.random.default_rng(1))
    with_gradient, without = (seen(replace(params, defocus_hand=hand), 1) for hand in (1, 0))
    np.testing.assert_allclose(with_gradient[40:-40, 40:-40], without[40:-40, 40:-40], atol=0.25 * project(scene, 1, params).std())
