"""How much a specimen that deforms adds to the error: what neighbouring views share, and nothing that noise makes."""

import numpy as np
import pytest

from tiltflow.align.bundle.expected_error import specimen_motion
from tiltflow.align.fallback import align_views
from tiltflow.align.methods import AlignParams
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

NOISE_PX = 0.1


def residuals(motion_px: float, seed: int = 0) -> np.ndarray:
    """Return residuals of 20 points in 41 views: noise, and a slow motion along x of each point, of that root mean square."""
    rng = np.random.default_rng(seed)
    slow = np.sin(np.linspace(0, 2 * np.pi, 41)[None] + rng.uniform(0, 2 * np.pi, (20, 1))) * np.sqrt(2) * motion_px
    return np.stack([slow, np.zeros_like(slow)], axis=-1) + rng.normal(0, NOISE_PX, (20, 41, 2))


@pytest.mark.parametrize("motion_px", [0.2, 0.5, 2.0])
def test_a_slow_motion_is_measured_beneath_the_noise(motion_px):
    assert specimen_motion(residuals(motion_px), np.ones((20, 41), bool), NOISE_PX) == pytest.approx(motion_px, rel=0.1)


def test_noise_is_no_motion_nor_is_what_hides_in_it():
    assert specimen_motion(residuals(0.0), np.ones((20, 41), bool), NOISE_PX) == 0
    assert specimen_motion(residuals(0.08), np.ones((20, 41), bool), NOISE_PX) == 0


def test_only_neighbours_that_are_both_seen_are_compared():
    """What stands where nothing was measured does not count."""
    seen = np.ones((20, 41), bool)
    seen[:, ::2] = False
    assert specimen_motion(residuals(2.0), seen, NOISE_PX) == 0
    seen[:, :21], seen[:, 21:] = True, False
    wrong = residuals(0.5)
    wrong[:, 21:] = 100.0
    assert specimen_motion(wrong, seen, NOISE_PX) == pytest.approx(0.5, rel=0.15)


@pytest.mark.whole
@pytest.mark.parametrize(("bends_px", "factor"), [(2.0, 1.3), (4.0, 2.0)])
def test_the_error_that_is_claimed_of_gold_on_a_specimen_that_bends(bends_px, factor):
    """Half of it was claimed before, and with larger bends a fifth."""
    series = simulate(SimulationParams(seed=401, size=320, views=41, deformation_px=bends_px), threads=2)
    params = AlignParams(method="gold", fallback=False)
    found = align_views(series.images, series.nominal_deg, series.header_axis_deg, series.pixel_size_angstrom, params, threads=2)
    assert found.evidence.error_px * factor > series.error_of(found).rms_px > found.evidence.error_px / factor
