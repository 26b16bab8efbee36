"""Correction of the CTF: IMOD's output, and a specimen that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.ctf.correct import CorrectParams, ViewCtf, correct_stack, correct_view
from tiltflow.ctf.model import Astigmatism, Microscope, defocus_at
from tiltflow.errors import ParameterError
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.projection import phase_contrast, project
from tiltflow.simulate.scene import set_scene

SCOPE = Microscope()
TILTS, STRIPS = (-60.0, 0.0, 60.0), (128, 256, 128)
TAPER_PX = 9


def correlation(a, b):
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def in_strips(view, tilt, width, hand):
    """Return a phase flip as ctfphaseflip makes it: strips every 20 px, each with the defocus of its centre, blended linearly."""
    ny, nx = view.shape
    centres = np.unique(np.append(np.arange(width // 2, nx - width // 2 + 1, 20), nx - width // 2))
    edges = [np.minimum((np.arange(n) + 0.5) / TAPER_PX, 1) for n in (ny, width)]
    taper = np.outer(*(np.minimum(edge, edge[::-1]) for edge in edges))
    s2 = np.fft.fftfreq(ny, 0.5)[:, None] ** 2 + np.fft.rfftfreq(width, 0.5) ** 2
    flipped = []
    for centre in centres:
        strip = view.mean() + (view[:, centre - width // 2 : centre - width // 2 + width] - view.mean()) * taper
        sign = np.where(SCOPE.ctf(s2, defocus_at((centre - nx / 2) * 0.5, tilt, 4000, hand)) > 0, -1, 1)
        sign[0, 0] = 1
        flipped.append(np.fft.irfft2(np.fft.rfft2(strip) * sign, strip.shape))
    out = np.empty(view.shape)
    for i in range(nx):
        place = np.interp(i + 0.5, centres, np.arange(len(centres)))
        low = int(place)
        high = min(low + 1, len(centres) - 1)
        columns = [flipped[k][:, np.clip(i - centres[k] + width // 2, 0, width - 1)] for k in (low, high)]
        out[:, i] = (1 - place + low) * columns[0] + (place - low) * columns[1]
    return out


@pytest.fixture(scope="module")
def golden(data):
    with np.load(data / "ctf" / "phaseflip.npz") as file:
        return 10.0 * file["raw"], file["imod"].astype(float)


@pytest.mark.parametrize("view", range(3))
def test_strips_with_our_formula_and_sign_are_those_of_imod(golden, view):
    raw, imod = golden[0][view], golden[1][view]
    right = correlation(imod, in_strips(raw, TILTS[view], STRIPS[view], 1))
    assert right > 0.98
    if TILTS[view]:
        assert right - correlation(imod, in_strips(raw, TILTS[view], STRIPS[view], 0)) > 0.05
        assert right - correlation(imod, in_strips(raw, TILTS[view], STRIPS[view], -1)) > 0.2


@pytest.mark.parametrize("view", range(3))
def test_blended_images_are_close_to_imods_strips(golden, view):
    raw, imod = golden[0][view], golden[1][view]
    same, other, none = (
        correlation(imod, correct_view(raw, made(TILTS[view], hand), 0.5, CorrectParams(step_nm=50))) for hand in (1, -1, 0)
    )
    assert same > 0.92, "IMOD's strips of 96 rows lose what the microscope has delocalised"
    if TILTS[view]:
        assert same > none + 0.05 > other


def made(tilt=0.0, hand=1, **parts):
    return ViewCtf(**{"microscope": SCOPE, "defocus_nm": 4000.0, "tilt_deg": tilt, "hand": hand, **parts})


@pytest.fixture(scope="module")
def imaged():
    """Return the phase contrast of a specimen in three views, without noise, and the same without the microscope."""
    params = SimulationParams(
        size=384, views=3, regime="cryo", beads=0, pixel_nm=0.5, thickness_px=60, defocus_um=4.0, defocus_hand=1, axis_deg=0,
        rotation_jitter_deg=0, tilt_error_deg=0, magnification_jitter=0, shift_px=0, pitch_deg=0, crowding=6.0, ice=0.0,
    )  # fmt: skip
    scene = set_scene(params, np.random.default_rng(1))
    return [(t, phase_contrast(scene, v, params), -project(scene, v, params)) for v, t in enumerate(scene.truth.true_deg)]


def in_band(a, b, low, high):
    """Return the correlation of two images of 0.5 nm pixels between two frequencies, 1/nm."""
    window = np.outer(*(np.hanning(n) for n in a.shape))
    f = np.hypot(np.fft.fftfreq(a.shape[0], 0.5)[:, None], np.fft.rfftfreq(a.shape[1], 0.5))
    of = (f >= low) & (f < high)
    x, y = (np.fft.rfft2((image - image.mean()) * window)[of] for image in (a, b))
    return float((x * y.conj()).real.sum() / np.sqrt((np.abs(x) ** 2).sum() * (np.abs(y) ** 2).sum()))


@pytest.mark.parametrize("view", range(3))
def test_a_specimen_that_is_known_comes_back_beyond_the_first_zero(imaged, view):
    tilt, image, truth = imaged[view]
    flipped, wrong, level = (correct_view(image, made(tilt, hand), 0.5, CorrectParams()) for hand in (1, -1, 0))
    assert in_band(image, truth, 0.37, 0.49) < -0.8, "between the first two zeros the contrast is reversed"
    assert in_band(flipped, truth, 0.37, 0.49) > 0.9
    assert in_band(flipped, truth, 0.5, 0.8) > 0.85
    if tilt:
        assert in_band(flipped, truth, 0.5, 1.0) > in_band(level, truth, 0.5, 1.0) > in_band(wrong, truth, 0.5, 1.0)
    wiener = correct_view(image, made(tilt), 0.5, CorrectParams(method="wiener"))
    assert correlation(wiener, truth) > correlation(flipped, truth) > correlation(image, truth)


def test_finer_steps_change_little(imaged):
    tilt, image, truth = imaged[2]
    fine, usual = (correlation(correct_view(image, made(tilt), 0.5, CorrectParams(step_nm=step)), truth) for step in (25.0, 100.0))
    assert usual == pytest.approx(fine, abs=5e-4)


@pytest.mark.parametrize("method", ["flip", "multiply", "wiener"])
def test_the_mean_stays(rng, method):
    view = rng.normal(1000, 30, (96, 100))
    assert correct_view(view, made(40.0), 0.5, CorrectParams(method=method)).mean() == pytest.approx(view.mean(), rel=2e-3)


def test_flipping_changes_no_amplitude_of_noise(rng):
    inner = correct_view(rng.normal(0, 1, (512, 512)), made(), 0.5, CorrectParams())[100:-100, 100:-100]
    assert inner.std() == pytest.approx(1, abs=0.02)


def test_astigmatism_is_corrected_along_its_direction():
    y, x = np.mgrid[:256, :256] * 0.5
    s = SCOPE.zeros(4000, 1)[0]
    view_x, view_y = np.cos(2 * np.pi * s * x), np.cos(2 * np.pi * s * y)
    signs = [np.sign(-SCOPE.ctf(s**2, 4000 + half)) for half in (500, -500)]
    assert signs[0] != signs[1]
    bent = made(hand=0, astigmatism=Astigmatism(1000.0, 0.0))
    for view, sign in zip((view_x, view_y), signs, strict=True):
        inner = correct_view(view, bent, 0.5, CorrectParams())[80:-80, 80:-80]
        assert correlation(inner, view[80:-80, 80:-80]) * sign > 0.95


def test_an_edge_on_view_is_corrected_without_a_gradient(rng):
    view = rng.normal(0, 1, (96, 96))
    steep = correct_view(view, made(89.0), 0.5, CorrectParams())
    np.testing.assert_array_equal(steep, correct_view(view, made(0.0), 0.5, CorrectParams()))


def test_a_stack_is_corrected_view_by_view(rng):
    stack = rng.normal(0, 1, (3, 96, 96))
    ctfs, told = [made(t) for t in (-30.0, 0.0, 30.0)], []
    images = list(correct_stack(stack, ctfs, 0.5, CorrectParams(), threads=2, progress=told.append))
    for image, view, ctf in zip(images, stack, ctfs, strict=True):
        np.testing.assert_array_equal(image, correct_view(view, ctf, 0.5, CorrectParams()))
    assert told == pytest.approx([1 / 3, 2 / 3, 1])
    with pytest.raises(ParameterError, match="2 CTFs for 3 views"):
        list(correct_stack(stack, ctfs[:2], 0.5, CorrectParams()))


@pytest.mark.parametrize("parts", [{"step_nm": 0.0}, {"snr": -1.0}])
def test_steps_and_ratios_must_be_above_0(parts):
    with pytest.raises(ParameterError, match="above 0"):
        replace(CorrectParams(), **parts)
