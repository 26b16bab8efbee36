"""Patches of a specimen whose coherence is known, at 13 tilts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.align.patches.coherence import Coherence
from tiltflow.align.patches.patch_spectra import FrequencyCells, choose_cells
from tiltflow.align.patches.view_covariances import ViewCovariances

TILT = np.deg2rad(np.linspace(-60, 60, 13))
HIGHEST = 0.25


def _slab(thickness_px: float, signal: float) -> Coherence:
    """A model of specimen spread evenly over a thickness."""
    heights = np.linspace(-60, 60, 81)
    inside = np.where(np.abs(heights) <= thickness_px / 2, 1.0, 0.0)
    edges = HIGHEST * np.array([0.0, 0.1, 0.2, 0.35, 0.6, 1.3])
    return Coherence(edges, heights, np.tile(inside / inside.sum(), (5, 1)), np.full(5, signal), np.ones(len(TILT)))


def _draw(model: Coherence, cells: FrequencyCells, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Spectra of one patch, by chance, of views in place."""
    shape = (len(cells.x), len(TILT), cells.x.shape[1])
    noise = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2)
    factor = np.linalg.cholesky(
        ViewCovariances.of(cells, TILT, model.heights, model.depth_px).settled(model).astype(complex) + 1e-6 * np.eye(len(TILT))
    )
    return np.asarray((factor @ noise) * cells.valid[:, None], np.complex64)


def _each_inverted(covariances: ViewCovariances) -> ViewCovariances:
    bins = np.arange(len(covariances.share))
    return replace(covariances, between=np.stack([bins, bins], axis=1))


@pytest.fixture
def slab() -> Callable[[float, float], Coherence]:
    """Return a function that makes the model of specimen spread evenly over a thickness, in pixels, with some signal."""
    return _slab


@pytest.fixture
def draw() -> Callable[..., NDArray[np.complex64]]:
    """Return a function that draws the spectra of one patch, by chance, of views in place."""
    return _draw


@pytest.fixture
def each_inverted() -> Callable[[ViewCovariances], ViewCovariances]:
    """Return a function that has every covariance inverted, as is best where neighbouring frequencies are not mixed by a taper."""
    return _each_inverted


@pytest.fixture(scope="session")
def cells() -> FrequencyCells:
    """Frequencies of patches of 72 pixels."""
    return choose_cells((72, 72), 1, 0.03, HIGHEST)
