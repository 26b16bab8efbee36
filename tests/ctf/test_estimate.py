"""The CTF of whole series whose defocus is known."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.ctf.estimate import estimate_ctf
from tiltflow.ctf.model import Astigmatism, Microscope
from tiltflow.ctf.result import CtfParams
from tiltflow.errors import ParameterError
from tiltflow.formats.defocus import parse_defocus, render_defocus

USUAL = CtfParams()


def estimated(series, params=USUAL, **parts):
    truth = series.truth
    return estimate_ctf(series.images, truth.transforms(), truth.true_deg, series.pixel_size_angstrom / 10, params, **parts)


def z_scores(found, series):
    return (found.defocus_nm - series.truth.defocus_nm) / found.error_nm


@pytest.mark.parametrize(("defocus", "hand"), [(1.8, -1), (3.0, 1), (5.5, -1)])
def test_defocus_and_hand_are_found_within_their_errors(ice, defocus, hand):
    series = ice(defocus_um=defocus, defocus_hand=hand, defocus_drift_nm=20.0, seed=round(10 * defocus) + hand)
    found = estimated(series)
    assert found.confident, found.reason
    assert found.hand.sign == hand
    assert found.hand.certainty > 0.99
    assert abs(found.hand.factor - hand) < 4 * found.hand.factor_error
    assert np.sqrt(np.mean(z_scores(found, series) ** 2)) < 2.0
    assert found.mean_error_nm < 0.01 * 1000 * defocus
    assert np.median(found.score) > 0.6
    assert np.median(found.spacing_angstrom) < 20


def test_standard_errors_are_right(ice):
    z = []
    for seed in range(5):
        series = ice(seed=100 + seed, defocus_um=2 + 0.4 * seed, defocus_drift_nm=25.0, dose=40.0, size=320, views=11)
        z.append(z_scores(estimated(series), series))
    assert 0.7 < np.sqrt(np.mean(np.square(z))) < 1.4


def test_near_zero_tilt_no_hand_is_decided(ice):
    found = estimated(ice(max_tilt_deg=6.0, seed=4))
    assert found.confident
    assert found.hand.sign is None
    assert found.hand.certainty < 0.999


def test_astigmatism_is_found_where_it_pays(ice):
    bent, level = (estimated(ice(seed=7, astigmatism_nm=nm, astigmatism_deg=30.0, axis_deg=0.0)) for nm in (200.0, 0.0))
    off = np.array(bent.astigmatism.components) - Astigmatism(200, 30).components
    assert np.abs(off).max() < 4 * bent.astigmatism_error_nm
    assert bent.astigmatism_error_nm < 40
    assert level.astigmatism.nm == 0
    assert (
        estimated(
            ice(seed=7, astigmatism_nm=200.0, astigmatism_deg=30.0, axis_deg=0.0), CtfParams(astigmatism=False)
        ).astigmatism.nm
        == 0
    )


def test_the_wrong_amplitude_contrast_moves_the_defocus_as_the_formula_says(ice):
    series = ice(seed=11, defocus_um=2.0)
    a, b = (estimated(series, CtfParams(microscope=Microscope(amplitude_contrast=part))) for part in (0.07, 0.20))
    turn = np.arcsin(0.20) - np.arcsin(0.07)
    s2 = turn / (Microscope().per_defocus * (a.defocus_nm.mean() - b.defocus_nm.mean()))
    assert 0.2 < np.sqrt(s2) < 1.2, "the shift belongs to a frequency where rings are seen"


def test_a_phase_shift_is_found_on_request(ice):
    """A phase plate that nobody simulated: the amplitude contrast stands for it, since it adds to the phase as a shift does."""
    series = ice(seed=12, defocus_um=2.5)
    found = estimated(series, CtfParams(microscope=Microscope(amplitude_contrast=0.0), phase_shift=True))
    assert found.phase_shift_deg == pytest.approx(np.rad2deg(np.arcsin(0.07)), abs=12)
    np.testing.assert_allclose(found.defocus_nm, series.truth.defocus_nm, atol=120)


def test_noise_has_no_rings_and_says_so(ice):
    found = estimated(ice(ice=0.0, seed=5))
    assert not found.confident
    assert "no rings" in found.reason


def test_a_view_that_is_left_out_follows_from_its_neighbours(ice):
    series = ice(seed=1)
    images = series.images.copy()
    images[4] = np.random.default_rng(0).poisson(4000, images[4].shape)
    included = np.arange(len(images)) != 4
    truth = series.truth
    found = estimate_ctf(images, truth.transforms(), truth.true_deg, 0.5, CtfParams(), included=included)
    assert abs(z_scores(found, series)[4]) < 3
    assert found.score[4] == 0
    assert not np.isfinite(found.spacing_angstrom[4])
    assert found.error_nm[4] > found.error_nm[5]


def test_a_turned_and_shifted_stack_gives_the_same(ice):
    series = ice(seed=1, axis_deg=0.0, rotation_jitter_deg=0.0, shift_px=0.0, magnification_jitter=0.0)
    turned = np.ascontiguousarray(np.rot90(series.images, axes=(1, 2)))
    transforms = geometry.from_axis_and_shifts(np.full(13, -90.0), np.zeros((13, 2)))
    plain = estimated(series)
    found = estimate_ctf(turned, transforms, series.truth.true_deg, 0.5, CtfParams())
    np.testing.assert_allclose(found.defocus_nm, plain.defocus_nm, atol=3)
    assert found.hand.sign == plain.hand.sign


def test_the_order_of_acquisition_is_used_where_it_explains_more(ice):
    series = ice(seed=2)
    order = np.argsort(np.abs(series.truth.true_deg), kind="stable")
    found = estimated(series, order=order)
    assert np.sqrt(np.mean(z_scores(found, series) ** 2)) < 2.0


def test_the_file_for_imod_holds_what_was_found(ice):
    series = ice(seed=1)
    found = estimated(series)
    again = parse_defocus(render_defocus(found.table(series.truth.true_deg, -8.0)))
    np.testing.assert_allclose(again.defocus_nm, found.defocus_nm, atol=0.1)


def test_what_cannot_be_estimated_is_refused(ice):
    series = ice(seed=1)
    truth = series.truth
    with pytest.raises(ParameterError, match="too coarse"):
        estimate_ctf(series.images, truth.transforms(), truth.true_deg, 3.0, CtfParams())
    with pytest.raises(ParameterError, match="no views"):
        estimated(series, included=np.zeros(13, bool))
    with pytest.raises(ParameterError, match="12 tilts"):
        estimate_ctf(series.images, truth.transforms(), truth.true_deg[1:], 0.5, CtfParams())
    with pytest.raises(ParameterError, match="ranges that rise"):
        CtfParams(defocus_span_nm=(0.0, 100.0))
