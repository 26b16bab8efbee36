"""Inverses of positive matrices against NumPy's of any."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.positive import inverse_but_for_rounding, inverse_of_positive


@pytest.fixture
def root(rng: np.random.Generator) -> np.ndarray:
    """A square root of a matrix over variables of different units."""
    return rng.normal(size=(12, 12)) * np.logspace(-3, 3, 12)


@pytest.mark.parametrize("inverse", [inverse_of_positive, inverse_but_for_rounding])
def test_the_inverse_is_that_of_any_other_way(root, inverse):
    matrix = root.T @ root
    before = matrix.copy()
    found = inverse(matrix)
    scale = np.sqrt(np.diag(matrix))
    np.testing.assert_allclose(found * np.outer(scale, scale), np.linalg.inv(matrix) * np.outer(scale, scale), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(matrix, before)


def test_what_is_not_positive_is_refused_or_inverted_all_the_same():
    matrix = np.diag([1.0, -1e-9, 2.0])
    with pytest.raises(np.linalg.LinAlgError, match="order 2"):
        inverse_of_positive(matrix)
    np.testing.assert_allclose(inverse_but_for_rounding(matrix), np.diag([1.0, -1e9, 0.5]))


def test_a_singular_matrix_has_no_inverse():
    with pytest.raises(np.linalg.LinAlgError):
        inverse_but_for_rounding(np.zeros((3, 3)))
