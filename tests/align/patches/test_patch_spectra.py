"""The frequencies of patches."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.patches.patch_spectra import FrequencyCells, choose_cells, independent_fraction
from tiltflow.errors import StageError

HIGHEST = 0.25


def test_frequencies_are_those_of_half_the_plane_within_the_limits(cells: FrequencyCells) -> None:
    radius = np.hypot(cells.x, cells.y)[cells.valid]
    assert radius.min() >= 0.03
    assert radius.max() <= HIGHEST
    assert cells.valid.sum() == pytest.approx(np.pi / 2 * (HIGHEST**2 - 0.03**2) * 72**2, rel=0.03)
    np.testing.assert_allclose(np.ptp(cells.x, axis=1), 0)


def test_a_window_that_fades_has_fewer_independent_frequencies() -> None:
    assert 0.4 < independent_fraction((72, 72)) < 0.9


def test_a_window_too_small_for_its_filter_is_an_error_that_gives_both() -> None:
    with pytest.raises(StageError, match=r"patches of 32 x 24 px hold no frequency between 0.03 and 0.031 .* give larger patches"):
        choose_cells((12, 16), 2, 0.03, 0.031)
