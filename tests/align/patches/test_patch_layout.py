"""Where patches lie, and by how much they overlap."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.patches import PatchParams
from tiltflow.align.patches.patch_layout import lay_out_patches


def test_patches_cover_the_field_with_the_overlap_asked_for() -> None:
    layout = lay_out_patches(PatchParams(size_px=(200, 150), overlap=0.25), (1000, 1200))
    x, y = np.unique(layout.centres[:, 0]), np.unique(layout.centres[:, 1])
    assert layout.size_px == (200, 150)
    assert not layout.notes
    assert len(layout.centres) == len(x) * len(y)
    assert np.diff(x).max() <= 0.75 * 200 + 1e-6
    assert np.diff(y).max() <= 0.75 * 150 + 1e-6
    assert x[-1] + 100 == pytest.approx(0.97 * 600)
    assert y[-1] + 75 == pytest.approx(0.97 * 500)


def test_patches_too_large_for_three_along_a_side_are_made_smaller_and_it_is_said() -> None:
    layout = lay_out_patches(PatchParams(size_px=(300, 300)), (400, 1200))
    assert layout.size_px[0] == 300
    assert layout.size_px[1] < 300
    assert len(np.unique(layout.centres[:, 1])) >= 3
    assert "along y (400 px)" in layout.notes[0]


def test_crowding_counts_what_overlapping_patches_share() -> None:
    apart = lay_out_patches(PatchParams(size_px=(100, 100), overlap=0.0), (400, 400))
    close = lay_out_patches(PatchParams(size_px=(100, 100), overlap=0.5), (400, 400))
    closer = lay_out_patches(PatchParams(size_px=(100, 100), overlap=0.8), (400, 400))
    assert apart.crowding == pytest.approx(1.0, abs=0.02)
    assert 1.1 < close.crowding < closer.crowding
    # Patches laid ever more densely know no more than the field does: the sum over patches grows as their number.
    assert closer.crowding / close.crowding == pytest.approx(len(closer.centres) / len(close.centres), rel=0.35)
