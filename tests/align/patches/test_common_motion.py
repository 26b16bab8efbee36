"""What all patches have in common: where the coarse alignment strays."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.patches.common_motion import CommonDisplacement, common_displacement


def test_the_error_of_the_coarse_alignment_is_estimated_where_patches_determine_it(rng: np.random.Generator) -> None:
    tilt = np.deg2rad(np.linspace(-60, 60, 41))
    strays = rng.normal(0, 0.6, (41, 2)) * [1.0, 0.5]
    each = 2000.0 * np.eye(82)
    joint, pull = common_displacement(each, (each @ strays.ravel())[None] * np.ones((8, 1)), np.ones(8), tilt)
    estimated = CommonDisplacement().estimated(joint, pull, tilt)
    assert estimated.scatter_px[0] == pytest.approx(0.6, rel=0.3)
    assert estimated.scatter_px[1] == pytest.approx(0.3, rel=0.3)
    assert max(estimated.drift_px) < 0.1
    unsure = CommonDisplacement().estimated(1e-6 * joint, 1e-6 * pull, tilt)
    np.testing.assert_allclose(unsure.scatter_px, CommonDisplacement().scatter_px, rtol=0.01)
