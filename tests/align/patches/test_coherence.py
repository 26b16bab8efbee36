"""How alike views are, by a specimen spread over some depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.align.patches.coherence import (
    Coherence,
    collect_pairs,
    covariance,
    cross_spectra,
    fit_coherence,
    inverse,
    pair_views,
    unsettled,
)
from tiltflow.align.patches.patch_spectra import FrequencyCells

Slab = Callable[[float, float], Coherence]
Draw = Callable[..., NDArray[np.complex64]]

TILT = np.deg2rad(np.linspace(-60, 60, 13))
HIGHEST = 0.25


@pytest.mark.parametrize("thickness", [20.0, 40.0, 70.0])
def test_the_profile_in_depth_is_found_again(
    cells: FrequencyCells, rng: np.random.Generator, thickness: float, slab: Slab, draw: Draw
) -> None:
    truth = slab(thickness, 0.6)
    cross = sum(cross_spectra(draw(truth, cells, rng)) for _ in range(6))
    found = fit_coherence(collect_pairs(np.asarray(cross), pair_views(cells, TILT, HIGHEST, 60.0)))
    # Heights are told apart to about 20 px, as a profile is no rougher than it must be.
    assert 0.95 * thickness < found.depth_px < np.hypot(thickness, 30)
    np.testing.assert_allclose(found.signal[1:4], 0.6, atol=0.08)
    assert found.profile.min() >= 0
    np.testing.assert_allclose(found.profile.sum(axis=1), 1)


def test_the_covariance_of_views_is_a_valid_one_and_unsettled_views_agree_less(cells: FrequencyCells, slab: Slab) -> None:
    settled = covariance(slab(40.0, 0.9), cells, TILT)
    loose = unsettled(settled, cells, TILT, 1.5)
    np.testing.assert_allclose(np.einsum("bii->bi", loose), 1)
    assert np.linalg.eigvalsh(settled).min() > 0
    assert np.linalg.eigvalsh(loose).min() > 0
    between = ~np.eye(len(TILT), dtype=bool)
    assert np.all(np.abs(loose[:, between]) <= np.abs(settled[:, between]) + 1e-6)
    highest = np.argmax(cells.bin_y)
    assert np.abs(loose[highest][between]).max() < 0.2 * np.abs(settled[highest][between]).max()


def test_covariances_are_inverted_and_what_is_none_is_refused(cells: FrequencyCells, slab: Slab) -> None:
    settled = covariance(slab(40.0, 0.9), cells, TILT)
    np.testing.assert_allclose(inverse(settled) @ settled, np.broadcast_to(np.eye(len(TILT)), settled.shape), atol=2e-4)
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        inverse(-settled)
