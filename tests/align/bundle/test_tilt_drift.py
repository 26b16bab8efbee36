"""Tracks that drift with tilt, as patches do, stretch the tilts unless errors of the tilts may not drift."""

import numpy as np
import pytest

from tiltflow.align.bundle import SolveParams
from tiltflow.align.bundle.variables import choose_variables

DRIFT_PX = 2.0


def drifting(point_case, seed, **more):
    """Return tracks each of which drifts by about two pixels from one end of the series to the other, as patches do."""
    case = point_case(seed=seed, tracks=16, thickness=60.0, missing=0.0, **more)
    rng = np.random.default_rng(seed)
    t = np.deg2rad(case.truth.nominal_deg)
    shapes = np.stack([t**2, np.abs(t) ** 3 * np.sign(t)])
    return case.with_xy(case.tracks.xy + np.einsum("jak,kv->jva", rng.normal(0, DRIFT_PX, (16, 2, 2)), shapes))


def stretch_of_tilts(case, solution):
    return abs(np.polyfit(case.truth.nominal_deg, solution.aligned_tilt_deg - case.truth.true_deg, 1)[0])


def test_tilts_are_not_stretched_by_tracks_that_drift(point_case):
    def medians(tilt_drift):
        params = SolveParams(tilt_drift=tilt_drift, weight_whole_tracks=True, leave_out=False)
        cases = [drifting(point_case, seed) for seed in range(6)]
        solved = [(case, case.solve(params)) for case in cases]
        return [float(np.median([figure(*each) for each in solved])) for figure in (stretch_of_tilts, lambda c, s: c.error(s))]

    stretched, error_stretched = medians(tilt_drift=True)
    kept, error_kept = medians(tilt_drift=False)
    assert kept < 0.6 * stretched
    assert error_kept < error_stretched


@pytest.mark.parametrize("allowed", [True, False])
def test_the_prior_of_the_tilts_alone_is_without_drift(allowed):
    variables = choose_variables(SolveParams(tilt_drift=allowed), np.linspace(-60, 60, 41))
    assert {kind.name: kind.drifts for kind in variables.kinds} == {"rotation": True, "tilt": allowed, "magnification": True}
