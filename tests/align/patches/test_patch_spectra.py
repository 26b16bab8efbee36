"""The frequencies of patches."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.patches.patch_spectra import FrequencyCells, independent_fraction

HIGHEST = 0.25


def test_frequencies_are_those_of_half_the_plane_within_the_limits(cells: FrequencyCells) -> None:
    radius = np.hypot(cells.x, cells.y)[cells.valid]
    assert radius.min() >= 0.03
    assert radius.max() <= HIGHEST
    assert cells.valid.sum() == pytest.approx(np.pi / 2 * (HIGHEST**2 - 0.03**2) * 72**2, rel=0.03)
    np.testing.assert_allclose(np.ptp(cells.x, axis=1), 0)


def test_a_window_that_fades_has_fewer_independent_frequencies() -> None:
    assert 0.4 < independent_fraction((72, 72)) < 0.9
