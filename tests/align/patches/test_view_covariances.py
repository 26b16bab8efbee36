"""The covariance of the views of a patch, and its inverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tiltflow.align.patches.coherence import Coherence
from tiltflow.align.patches.patch_spectra import FrequencyCells
from tiltflow.align.patches.view_covariances import ViewCovariances

Slab = Callable[[float, float], Coherence]

TILT = np.deg2rad(np.linspace(-60, 60, 13))


def test_the_covariance_of_views_is_a_valid_one_and_unsettled_views_agree_less(cells: FrequencyCells, slab: Slab) -> None:
    model = slab(40.0, 0.9)
    covariances = ViewCovariances.of(cells, TILT, model.heights)
    settled = covariances.settled(model)
    loose = np.linalg.inv(covariances.precision(settled, 1.5).astype(complex))
    np.testing.assert_allclose(np.einsum("bii->bi", loose), 1, atol=1e-4)
    assert np.linalg.eigvalsh(settled).min() > 0
    assert np.linalg.eigvalsh(loose).min() > 0
    between = ~np.eye(len(TILT), dtype=bool)
    assert np.all(np.abs(loose[:, between]) <= np.abs(settled[:, between]) + 1e-4)
    highest = np.argmax(cells.bin_y)
    assert np.abs(loose[highest][between]).max() < 0.2 * np.abs(settled[highest][between]).max()


def test_the_covariance_is_the_transform_of_the_profile_about_its_mean_height(cells: FrequencyCells, slab: Slab) -> None:
    """Also of one bin in five, and of a profile that is not centred."""
    model = slab(40.0, 0.5)
    heights = model.heights
    lopsided = np.tile(np.where((heights > -10) & (heights < 40), 1.0, 0.0), (5, 1))
    lopsided /= lopsided.sum(axis=1, keepdims=True)
    model = replace(model, profile=lopsided, heights=heights - lopsided[0] @ heights)
    covariances = ViewCovariances.of(cells, TILT, heights)
    settled = covariances.settled(model)
    np.testing.assert_array_equal(settled[::5], covariances.settled(model, every=5))
    bin_, i, k = 7, 4, 9
    apart = cells.bin_x[bin_] * (np.tan(TILT[i]) - np.tan(TILT[k]))
    wanted = 0.5 * lopsided[0] @ np.exp(-2j * np.pi * apart * model.heights)
    assert settled[bin_, i, k] == pytest.approx(wanted * np.sinc(apart * (heights[1] - heights[0])) ** 2, abs=0.01)


def test_covariances_are_inverted_and_what_is_none_is_refused(cells: FrequencyCells, slab: Slab) -> None:
    model = slab(40.0, 0.9)
    covariances = ViewCovariances.of(cells, TILT, model.heights)
    settled = covariances.settled(model)
    unit = np.broadcast_to(np.eye(len(TILT)), settled.shape)
    np.testing.assert_allclose(covariances.precision(settled, 0.0) @ settled, unit, atol=2e-4)
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        covariances.precision(2 * settled, 0.0)
