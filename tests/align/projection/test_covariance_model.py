"""The Gaussian model of a series against plain linear algebra, and against data drawn from itself."""

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.align.projection.covariance_model import (
    CovarianceModel,
    em_step,
    precisions,
    predict,
    predict_unseen,
    resolution_noise,
)
from tiltflow.align.projection.frequency_band import FrequencyBand

TANGENTS = np.tan(np.deg2rad(np.linspace(-60, 60, 13)))
BAND = FrequencyBand.up_to((40, 48), 0.35, 4)


def gaussian(rng, *shape):
    return ((rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2)).astype(np.complex64)


def covariance(model, index, group, tangents=TANGENTS):
    """Of the views at one frequency, from the definition."""
    z = model.z[None, None, :]
    apart = (tangents[:, None] - tangents[None, :])[..., None]
    kernel = np.sum(model.profile * np.exp(-2j * np.pi * BAND.q[index] * z * apart), axis=2)
    noise = model.noise[group] * model.view_noise + resolution_noise(BAND.q[index], tangents) + 1e-6
    return model.signal[group] * (kernel + np.diag(noise))


def drawn(model, rng, band=BAND, tangents=TANGENTS):
    """Views of a random specimen that is as the model has it, `(q, views, p)`, and noise."""
    spectra = np.empty((len(band.q), len(tangents), len(band.p)), np.complex64)
    for index, q in enumerate(band.q):
        content = gaussian(rng, len(model.z), len(band.p)) * np.sqrt(model.profile)[:, None]
        variance = model.noise[band.group[index]] * model.view_noise[:, None] + resolution_noise(q, tangents)[:, None]
        noise = np.sqrt(variance) * gaussian(rng, len(tangents), len(band.p))
        spectra[index] = np.sqrt(model.signal[band.group[index]]) * (
            np.exp(-2j * np.pi * q * tangents[:, None] * model.z) @ content + noise
        )
    return spectra


@pytest.fixture
def model(rng):
    vague = CovarianceModel.initial(14.0, 4, len(TANGENTS))
    return replace(
        vague, signal=np.array([9.0, 4.0, 2.0, 1.0]), noise=np.array([0.05, 0.1, 0.3, 1.0]), view_noise=rng.uniform(0.5, 2, 13)
    )


def test_a_band_is_cut_out_of_a_transform_and_put_back(rng):
    image = rng.normal(size=BAND.shape).astype(np.float32)
    values = BAND.crop(np.fft.rfft2(image).astype(np.complex64))
    assert values.shape == (len(BAND.q), len(BAND.p))
    np.testing.assert_array_equal(BAND.crop(BAND.embed(values)), values)


def test_the_rings_of_a_q_hold_every_frequency_of_the_band_once():
    for index, rings in enumerate(BAND.rings):
        for k, part in rings:
            members = rings.order[part]
            assert set(BAND.group[index][members]) == {rings.groups[k]}
        assert sorted(rings.order) == np.flatnonzero(BAND.group[index] >= 0).tolist()


def test_precisions_are_the_inverses_of_the_covariances_and_their_determinants(model, rng):
    groups = BAND.rings[6].groups
    model = replace(model, profile=rng.dirichlet(np.ones(len(model.z))))  # of no symmetry
    inverses, determinants = precisions(model, BAND.q[6], TANGENTS, groups)
    for inverse, determinant, group in zip(inverses, determinants, groups, strict=True):
        expected = covariance(model, 6, group) / model.signal[group]
        np.testing.assert_allclose(inverse @ expected, np.eye(13), atol=1e-9)
        np.testing.assert_allclose(determinant, -np.linalg.slogdet(expected)[1])


def test_a_model_that_is_none_is_refused(model):
    broken = replace(model, noise=np.full(4, -2.0))
    with pytest.raises(np.linalg.LinAlgError):
        precisions(broken, 0.1, TANGENTS, np.arange(4))


def test_a_prediction_is_the_conditional_mean_given_the_other_views(model, rng):
    spectra = gaussian(rng, len(BAND.q), 13, len(BAND.p))
    found = predict(model, BAND, spectra, TANGENTS)
    for index, place in ((0, 3), (5, 0), (9, 7)):
        group = BAND.group[index, place]
        full, data = covariance(model, index, group), spectra[index][:, place]
        for view in (0, 6, 12):
            others = np.delete(np.arange(13), view)
            weights = np.linalg.solve(full[np.ix_(others, others)], full[others, view]).conj()
            np.testing.assert_allclose(found.predicted[index, view, place], weights @ data[others], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.weighted[index][:, place], np.linalg.solve(full, data), rtol=1e-3, atol=1e-4)


def test_how_a_prediction_changes_with_the_tilt_of_its_view(model, rng):
    spectra = gaussian(rng, len(BAND.q), 13, len(BAND.p))
    found, view, by = predict(model, BAND, spectra, TANGENTS), 3, 1e-4
    tilts = np.arctan(TANGENTS)
    low, high = (np.tan(tilts + sign * by * (np.arange(13) == view)) for sign in (-1, 1))
    slope = (predict(model, BAND, spectra, high).predicted - predict(model, BAND, spectra, low).predicted)[:, view] / (2 * by)
    scale = np.abs(slope).max()
    np.testing.assert_allclose(found.by_tilt[:, view], slope, atol=0.01 * scale)


def test_the_prediction_of_one_view_from_some_others(model, rng):
    spectra, trust = gaussian(rng, len(BAND.q), 4, len(BAND.p)), np.array([1.0, 0.2, 0.5, 1.0])
    tangents, sought = TANGENTS[4:8], TANGENTS[8]
    predicted, variance = predict_unseen(model, BAND, spectra, tangents, trust, sought)
    even = replace(model, view_noise=np.ones(5))
    for index, place in ((0, 2), (7, 5)):
        group = BAND.group[index, place]
        full = covariance(even, index, group, np.append(tangents, sought)) / model.signal[group]
        known = full[:4, :4] + np.diag(model.noise[group] * (1 / trust - 1))
        weights = np.linalg.solve(known, full[:4, 4])
        np.testing.assert_allclose(predicted[index, place], weights.conj() @ spectra[index][:, place], rtol=1e-3, atol=1e-4)
        left = np.real(full[4, 4] - full[:4, 4].conj() @ weights) * model.signal[group]
        np.testing.assert_allclose(variance[index, place], left, rtol=1e-3)


def test_thickness_and_noise_are_learnt_from_the_views(rng):
    profile = np.where(np.abs(np.arange(-20, 21) - 3) <= 8, 1.0, 1e-4)
    band = FrequencyBand.up_to((64, 72), 0.35, 4)
    truth = replace(
        CovarianceModel.initial(27.0, 4, 13),
        z=np.arange(-20.0, 21.0),
        profile=profile / profile.sum(),
        signal=np.array([30.0, 10.0, 3.0, 1.0]),
        noise=np.array([0.02, 0.1, 0.4, 1.5]),
        view_noise=np.where(np.arange(13) == 4, 5.0, 1.0),
    )
    spectra = drawn(truth, rng, band)
    found, likelihoods = CovarianceModel.initial(26.0, 4, 13), []
    for _ in range(15):
        found, value = em_step(found, band, spectra, TANGENTS)
        likelihoods.append(value)
    assert np.all(np.diff(likelihoods[1:]) > -1e-6 * abs(likelihoods[-1]))
    assert found.thickness == pytest.approx(17, abs=2)
    assert found.middle == pytest.approx(3, abs=0.7)
    np.testing.assert_allclose(found.signal, truth.signal, rtol=0.25)
    np.testing.assert_allclose(found.noise, truth.noise, rtol=0.3)
    assert found.view_noise[4] == pytest.approx(5, rel=0.3)


def test_the_true_tilts_are_more_likely_than_others(model, rng):
    spectra = drawn(model, rng)
    likelihood = {scale: em_step(model, BAND, spectra, scale * TANGENTS)[1] for scale in (0.9, 1.0, 1.1)}
    assert max(likelihood, key=likelihood.get) == 1.0


def test_a_broadened_model_is_thicker_about_the_same_middle(model):
    profile = np.where(np.abs(model.z - 2) < 3, 1.0, 1e-3)
    thin = replace(model, profile=profile / profile.sum())
    loose = thin.broadened()
    assert loose.thickness > thin.thickness
    assert loose.middle == pytest.approx(thin.middle, abs=0.5)
    assert loose.profile.sum() == pytest.approx(1)


def thicker(model):
    """The same model over more depths than there are views, with nothing at those added."""
    beyond = len(TANGENTS)
    half = len(model.z) // 2 + beyond
    return replace(model, z=np.arange(-half, half + 1, dtype=float), profile=np.pad(model.profile, beyond))


def test_matrices_over_depths_and_over_views_tell_the_same(rng):
    thin = replace(CovarianceModel.initial(5.0, 4, len(TANGENTS)), view_noise=rng.uniform(0.5, 2, 13))
    thick = thicker(thin)
    assert len(thin.z) <= len(TANGENTS) < len(thick.z)
    spectra = drawn(thin, rng)
    (after, likelihood), (after_thick, likelihood_thick) = (em_step(each, BAND, spectra, TANGENTS) for each in (thin, thick))
    assert likelihood == pytest.approx(likelihood_thick, rel=1e-9)
    for name in ("signal", "noise", "view_noise"):
        np.testing.assert_allclose(getattr(after, name), getattr(after_thick, name), rtol=1e-6)
    np.testing.assert_allclose(after.profile, after_thick.profile[13:-13], rtol=1e-6)
    predictions, predictions_thick = (predict(each, BAND, spectra, TANGENTS) for each in (thin, thick))
    for name in ("predicted", "by_tilt", "weighted", "precision"):
        np.testing.assert_allclose(getattr(predictions, name), getattr(predictions_thick, name), rtol=1e-3, atol=1e-4)


def test_a_depth_whose_power_has_died_out_stays_so(rng):
    thin = CovarianceModel.initial(5.0, 4, len(TANGENTS))
    profile = np.where(thin.z == thin.z[-1], 0.0, thin.profile)
    after, _ = em_step(replace(thin, profile=profile / profile.sum()), BAND, drawn(thin, rng), TANGENTS)
    assert after.profile[-1] == 0
    assert np.isfinite(after.profile).all()
