"""The expected error against views that are drawn from their covariance."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.bundle.expected_error import expected_error, field_points
from tiltflow.align.bundle.normal_equations import Geometry

VIEWS, HALF = 7, (200.0, 150.0)


@pytest.mark.parametrize("common", [0.0, 1e3], ids=["views apart", "and a specimen that is elsewhere"])
def test_it_is_the_root_mean_square_of_what_moves_against_the_specimen(rng: np.random.Generator, common: float) -> None:
    views = np.zeros((VIEWS, 7))
    views[:, 2], views[:, 3] = 0.2, np.deg2rad(np.linspace(-60, 60, VIEWS))
    fitted = Geometry(views, rng.normal(0, [100.0, 100.0, 30.0], (12, 3)))
    root = rng.normal(size=(7 * VIEWS, 7 * VIEWS)) * np.tile([0.3, 0.3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3], VIEWS)[:, None]
    # A specimen that is elsewhere moves every view as its own points do, and blurs nothing.
    elsewhere = np.zeros((VIEWS, 7, 3))
    elsewhere[:, :2] = fitted.point_jacobians()
    elsewhere = common * elsewhere.reshape(-1, 3)
    found = expected_error(fitted, root @ root.T + elsewhere @ elsewhere.T, HALF)

    draws = root @ rng.normal(size=(7 * VIEWS, 4000))
    rays = np.linalg.qr(fitted.point_jacobians().reshape(-1, 3))[0]
    squares = []
    for moves in fitted.view_jacobians(field_points(fitted.points, HALF)):
        moved = (moves @ draws.reshape(VIEWS, 7, -1)).reshape(2 * VIEWS, -1)
        squares.append((moved - rays @ (rays.T @ moved)) ** 2)
    assert found == pytest.approx(np.sqrt(2 * np.mean(squares)), rel=0.02)
