"""Inverses of positive definite matrices."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def inverse_of_positive(matrix: Floats) -> Floats:
    """Return the inverse of a symmetric positive definite matrix by Cholesky's factors, in half of the time of any other.

    Raises
    ------
    LinAlgError
        If it is not positive definite.
    """
    factor, failed = scipy.linalg.lapack.dpotrf(matrix.T, lower=True)
    if failed:
        raise np.linalg.LinAlgError(f"the matrix is not positive definite: its leading minor of order {failed} is not")
    half = scipy.linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)[0]
    return np.asarray(np.tril(half) + np.tril(half, -1).T)


def inverse_but_for_rounding(matrix: Floats) -> Floats:
    """Return the inverse of a symmetric matrix that is positive definite, or would be but for rounding.

    Raises
    ------
    LinAlgError
        If it is singular.
    """
    try:
        return inverse_of_positive(matrix)
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.inv(matrix), np.float64)
