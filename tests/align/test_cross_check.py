"""The error of a markerless alignment, as patches measure it or as an uncertain axis makes it."""

import numpy as np
import pytest

from tiltflow.align.cross_check import check_by_patches
from tiltflow.model import Alignment, Evidence
from tiltflow.observer import SILENT


def markerless(error_px, shift_px=0.0, *warnings):
    transforms = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (21, 1, 1))
    transforms[::2, 1, 2] = 2 * shift_px  # every other view is off along y, so that the views scatter by this much
    tilts = np.linspace(-60, 60, 21)
    return Alignment(transforms, tilts, np.ones(21, bool), "x", evidence=Evidence(error_px=error_px, trust_warnings=warnings))


AXIS_PX = 0.74
"""Error that 0.9 degrees of the axis make in views of 512 pixels between 60 degrees."""


@pytest.mark.parametrize(
    ("found", "patches", "error_px", "warned"),
    [
        pytest.param(markerless(0.1), markerless(0.3), 0.3, False, id="no distance: the error of the patches"),
        pytest.param(markerless(0.1, 0.4), markerless(0.3), 0.5, False, id="distance and error add as squares"),
        pytest.param(markerless(0.1, 3.0), markerless(0.3), 3.015, True, id="more than the limit is a warning"),
        pytest.param(markerless(0.1), None, np.hypot(0.1, AXIS_PX), False, id="without patches: an uncertain axis"),
        pytest.param(markerless(0.9), None, np.hypot(0.9, AXIS_PX), True, id="which may go beyond the limit"),
        pytest.param(
            markerless(0.1), markerless(0.05, 0.0, "a"), np.hypot(0.1, AXIS_PX), False, id="patches with a warning measure nothing"
        ),
        pytest.param(markerless(0.1), markerless(None), np.hypot(0.1, AXIS_PX), False, id="patches without an error"),
        pytest.param(markerless(np.nan), markerless(0.3), np.nan, False, id="what claims nothing is not measured"),
    ],
)
def test_the_error_of_a_markerless_alignment_is_what_patches_say(found, patches, error_px, warned):
    with SILENT.stage("check") as notes:
        checked = check_by_patches(found, patches, (512, 512), 1.0, notes)
    np.testing.assert_allclose(checked.evidence.error_px, error_px, rtol=0.08)
    assert bool(checked.evidence.trust_warnings) == warned
    np.testing.assert_array_equal(checked.transforms, found.transforms)


@pytest.mark.parametrize(
    ("told_deg", "degrees"),
    [(None, 0.9), (0.0, 0.9), (0.5, 0.9), (2.7, 2.7), (-2.7, 2.7), (182.7, 2.7), (-177.3, 2.7)],
)
def test_an_axis_that_no_patches_confirm_is_no_better_known_than_it_was_moved(told_deg, degrees):
    """In small fields it strays from right headers, and would claim what an axis of a degree does."""
    with SILENT.stage("check") as notes:
        checked = check_by_patches(markerless(0.1), None, (512, 512), 9.0, notes, told_deg)
    np.testing.assert_allclose(checked.evidence.error_px, np.hypot(0.1, AXIS_PX * degrees / 0.9), rtol=0.08)
