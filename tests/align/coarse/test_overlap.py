"""Correlation coefficients over what two views share."""

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.coarse.overlap import OverlapCorrelator
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.preprocess.binned_views import BinnedViews


@pytest.fixture
def pair(rng):
    """Two views at zero tilt of the same field, the second with its content 20 px farther along x and 7 along y."""
    scene = rng.normal(size=(120, 120)).astype(np.float32)
    images = np.stack([scene[20:84, 30:94], scene[13:77, 10:74]])
    where = ViewGeometry(np.array([geometry.rotation(0.0)] * 2), np.zeros((2, 2)), np.zeros(2))
    return OverlapCorrelator(BinnedViews(images, 1, (64, 64)), where)


def test_the_coefficient_is_one_where_two_views_show_the_same_however_little_they_share(pair):
    found = pair.correlate(0, 1)
    assert np.unravel_index(found.coefficients.argmax(), found.coefficients.shape) == (7, 20)
    assert found.coefficients.max() == pytest.approx(1.0, abs=0.03)
    assert found.shared[7, 20] == pytest.approx(57 * 44 / 64**2, abs=0.05)
    back = pair.correlate(1, 0)
    assert back.coefficients[-7, -20] == pytest.approx(found.coefficients[7, 20], abs=1e-3)


def test_nothing_is_said_of_displacements_at_which_hardly_anything_is_shared(pair):
    found = pair.correlate(0, 1)
    assert (found.coefficients[found.shared < 0.3] == -1).all()
