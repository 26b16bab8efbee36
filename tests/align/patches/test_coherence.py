"""How alike views are, by a specimen spread over some depth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.align.patches.coherence import (
    Coherence,
    collect_pairs,
    cross_spectra,
    fit_coherence,
    pair_views,
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
