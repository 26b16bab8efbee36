"""Weights of whole tracks against the same thing with a dense matrix for every track."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from tiltflow.align.bundle.joint_weights import JointWeights
from tiltflow.align.bundle.normal_equations import Geometry, normal_equations
from tiltflow.align.bundle.observations import Observations
from tiltflow.align.bundle.variables import Rows

VIEWS, TRACKS, KIND = 6, 9, np.array([0, 0, 2, 0, 1, 0, 2, 0, 0])
SIZE = 2 * VIEWS


@pytest.fixture
def joint(rng: np.random.Generator) -> JointWeights:
    """Three matrices, of which most tracks have the first, each with a factor of its own."""
    roots = rng.normal(size=(3, SIZE, SIZE))
    return JointWeights(roots @ np.swapaxes(roots, 1, 2), KIND, rng.uniform(0.5, 2, TRACKS))


def _dense(joint: JointWeights) -> np.ndarray:
    return joint.factor[:, None, None] * joint.matrices[joint.kind]


def test_equal_matrices_are_kept_once(joint: JointWeights) -> None:
    found = JointWeights.of(joint.matrices[joint.kind])
    assert len(found.matrices) == 3
    np.testing.assert_array_equal(found.matrices[found.kind], joint.matrices[joint.kind])


def test_every_track_has_its_own_weight(joint: JointWeights, rng: np.random.Generator) -> None:
    dense, positions = _dense(joint), rng.normal(size=(TRACKS, VIEWS, 2))
    products = np.einsum("jab,jb->ja", dense, positions.reshape(TRACKS, SIZE)).reshape(positions.shape)
    np.testing.assert_allclose(joint.times(positions), products)
    np.testing.assert_allclose([joint.of_track(track) for track in range(TRACKS)], dense)
    np.testing.assert_allclose(joint.only(4).times(positions[4:5]), products[4:5])
    factor = rng.uniform(size=TRACKS)
    np.testing.assert_allclose(_dense(joint.scaled(factor)), factor[:, None, None] * dense)


@pytest.mark.parametrize("mapped", [False, True])
def test_normal_equations_are_the_products_of_dense_jacobians(joint: JointWeights, rng: np.random.Generator, mapped: bool) -> None:
    spread = np.array([20.0, 20.0, 0.3, 1.0, 0.05, 0.05, 0.05])
    geometry = Geometry(rng.normal(0, spread, (VIEWS, 7)), rng.normal(0, [150.0, 150.0, 40.0], (TRACKS, 3)))
    observations = Observations(rng.normal(0, 100, (TRACKS, VIEWS, 2)), np.ones((TRACKS, VIEWS, 3)), joint)
    shape = (7 * VIEWS, 20)
    map_ = np.where(rng.random(shape) < 0.2, rng.normal(size=shape), 0.0) if mapped else np.eye(7 * VIEWS)
    found = normal_equations(geometry, observations, Rows.of(map_) if mapped else None)

    dense, rays = _dense(joint), geometry.point_jacobians().reshape(SIZE, 3)
    residual = geometry.residual(observations).reshape(TRACKS, SIZE)
    by_views = [linalg.block_diag(*blocks) @ map_ for blocks in geometry.view_jacobians(geometry.points)]
    matrix, right = np.zeros_like(found.matrix), np.zeros_like(found.right)
    for weight, design, left in zip(dense, by_views, residual, strict=True):
        # With its point eliminated, a track weighs what its rays do not explain.
        rest = weight - weight @ rays @ np.linalg.inv(rays.T @ weight @ rays) @ rays.T @ weight
        matrix += design.T @ rest @ design
        right += design.T @ rest @ left
    scale = np.abs(matrix).max()
    np.testing.assert_allclose(found.matrix, matrix, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(found.right, right, rtol=1e-4, atol=1e-6 * np.abs(right).max())
