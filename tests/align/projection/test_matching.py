"""How a view changes with its parameters, against finite differences; the gradient, against the likelihood itself."""

import numpy as np
import pytest
from scipy import ndimage

from tiltflow import geometry
from tiltflow.align.projection.covariance_model import em_step, predict
from tiltflow.align.projection.matching import PARAMETERS
from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import ProjectionFit, moved
from tiltflow.align.projection.stretched_views import Frame, StretchedViews, ViewGeometry
from tiltflow.kernels.refine import sensitivities
from tiltflow.preprocess.binned_views import BinnedViews, read_binned

SIZES = np.array([0.3, 0.3, 4e-3, 4e-3, 4e-3, 8e-3])
"""Pixels, radians, fraction, radians, radians, radians: a few tenths of a pixel at the border."""


@pytest.fixture(scope="module")
def smooth():
    image = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(120, 120)), 3.0)
    return BinnedViews(np.asarray(image / image.std(), np.float32)[None], 1, (120, 120))


@pytest.mark.parametrize("kind", range(PARAMETERS))
def test_a_view_changes_with_each_parameter_as_it_is_said_to(smooth, kind):
    """Undoing a change by the geometry removes what the change is computed to have added; the view is flat and smooth."""
    tilt = np.deg2rad(40.0)
    where = ViewGeometry(geometry.rotation(15.0)[None], np.array([[4.0, -3.0]]), np.array([tilt]), 0.1)
    frame = Frame.around(smooth, 15.0, (1.0, 1.0))
    stretched = StretchedViews(smooth, frame, 4.0)

    def density(geometry_there):
        """Without the cosine that the tilt would put before it."""
        return stretched.sample(0, geometry_there)[0] / np.cos(geometry_there.tilts[0])

    here, weight = density(where), stretched.sample(0, where)[1]
    by_y, by_x = np.gradient(here)
    images = np.zeros((1, PARAMETERS, *here.shape), np.float32)
    images[0, :2] = by_x, by_y
    y, x = (each.ravel() for each in frame.coordinates())
    sums, powers, blocks = np.zeros((1, 1, PARAMETERS)), np.zeros((1, 3)), np.zeros(here.shape, np.int32)
    sensitivities(images, np.ones((1, *here.shape), np.float32), where.tilts, y, x, blocks, sums, powers)
    change = np.zeros((1, PARAMETERS))
    change[0, kind] = SIZES[kind]
    low, high = (moved(where, sign * change, 1.0) for sign in (-1, 1))
    if kind == 3:  # a common magnification is taken back
        low, high = (
            ViewGeometry(where.matrices * (1 + sign * SIZES[3]), where.shifts, where.tilts, where.slope) for sign in (-1, 1)
        )
    found = (density(low) - density(high)) / (2 * SIZES[kind])
    inside = ndimage.binary_erosion(weight == 1, iterations=6)
    expected = images[0, kind][inside]
    assert np.corrcoef(found[inside], expected)[0, 1] > 0.99
    assert np.sum(found[inside] * expected) / np.sum(expected**2) == pytest.approx(1, abs=0.05)


@pytest.fixture(scope="module")
def fitted(textured):
    """A fit to small images of the true geometry, its model estimated."""
    views = read_binned(textured.images, np.arange(25), 64, threads=2)
    truth = textured.truth
    fit = ProjectionFit(views, ViewGeometry.from_transforms(truth.transforms(), truth.true_deg), 70.0, threads=2)
    fit.step(FreeParameters(), em_iterations=4)
    return fit


def normal_equations(fit, where):
    matcher, tangents = fit._matcher, np.tan(where.tilts)
    spectra = matcher.spectra(where, None)
    prediction = predict(fit.model, matcher.band, spectra, tangents)
    return matcher.step(where, fit.model, spectra, prediction)


@pytest.mark.parametrize(("view", "kind", "size"), [(5, 0, 0.2), (18, 1, 0.2), (9, 2, 4e-3)])
def test_the_gradient_points_where_the_likelihood_rises(fitted, view, kind, size):
    """A view is displaced either way: the gradients there give the position between, as the likelihoods do."""
    change = np.zeros((25, PARAMETERS))
    change[view, kind] = size
    slopes, values = [], []
    for sign in (-4, 0, 4):
        where = moved(fitted.where, sign * change, fitted.frame.pixel)
        step = normal_equations(fitted, where)
        slopes.append(float(step.gradient.sum(axis=0).reshape(25, PARAMETERS)[view, kind]))
        spectra = fitted._matcher.spectra(where, None)
        values.append(em_step(fitted.model, fitted._matcher.band, spectra, np.tan(where.tilts))[1])
    assert slopes[0] > 0 > slopes[2]
    assert values[1] > max(values[0], values[2])
    curvature = float(step.matrix.reshape(25, PARAMETERS, 25, PARAMETERS)[view, kind, view, kind])
    assert (slopes[0] - slopes[2]) / (8 * size) == pytest.approx(curvature, rel=0.5)


def test_the_matrix_is_symmetric_and_knows_nothing_of_a_shift_of_the_whole_specimen(fitted):
    matrix = normal_equations(fitted, fitted.where).matrix
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-4 * np.abs(matrix).max())
    whole = np.zeros((25, PARAMETERS))
    whole[:, 1] = 1.0
    one = np.zeros((25, PARAMETERS))
    one[12, 1] = 5.0
    assert whole.ravel() @ matrix @ whole.ravel() < 0.2 * one.ravel() @ matrix @ one.ravel()


def test_the_parts_of_the_gradient_add_up_whatever_the_threads(fitted):
    matcher, where = fitted._matcher, fitted.where
    spectra = matcher.spectra(where, None)
    prediction = predict(fitted.model, matcher.band, spectra, np.tan(where.tilts))
    matcher._threads, threads = 1, 2
    alone = matcher.step(where, fitted.model, spectra, prediction)
    matcher._threads = threads
    np.testing.assert_array_equal(alone.gradient, matcher.step(where, fitted.model, spectra, prediction).gradient)
    assert alone.correlation.min() > 0.5


def test_the_correlation_of_a_step_is_that_which_is_asked_for_alone(fitted):
    matcher, where = fitted._matcher, fitted.where
    spectra = matcher.spectra(where, None)
    prediction = predict(fitted.model, matcher.band, spectra, np.tan(where.tilts))
    step = matcher.step(where, fitted.model, spectra, prediction)
    np.testing.assert_allclose(matcher.correlation(where, spectra, prediction), step.correlation, atol=1e-5)
