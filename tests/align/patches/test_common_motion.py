"""What all patches have in common: where the coarse alignment strays."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.align.patches.common_motion import CommonDisplacement, common_displacement


def test_how_far_the_coarse_alignment_strays_is_learnt_from_patches_that_are_sure(rng: np.random.Generator) -> None:
    tilt = np.deg2rad(np.linspace(-60, 60, 41))
    strays = rng.normal(0, 0.6, (41, 2)) * [1.0, 0.5]
    each = 2000.0 * np.eye(82)
    joint, pull = common_displacement(each, (each @ strays.ravel())[None] * np.ones((8, 1)), np.ones(8), tilt)
    learnt = CommonDisplacement().learnt(joint, pull, tilt)
    assert learnt.scatter_px[0] == pytest.approx(0.6, rel=0.3)
    assert learnt.scatter_px[1] == pytest.approx(0.3, rel=0.3)
    assert max(learnt.drift_px) < 0.1
    unsure = CommonDisplacement().learnt(1e-6 * joint, 1e-6 * pull, tilt)
    np.testing.assert_allclose(unsure.scatter_px, CommonDisplacement().scatter_px, rtol=0.01)
