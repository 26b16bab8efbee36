"""When the sign of the defocus gradient is believed."""

from __future__ import annotations

import pytest

from tiltflow.ctf.handedness import Handedness, decided_sign


@pytest.mark.parametrize(
    ("gain", "factor", "error", "sign"),
    [
        (13.0, 1.0, 0.3, 1),
        (-13.0, -1.0, 0.3, -1),
        (11.0, 1.0, 0.3, None),
        (-11.0, -1.0, 0.3, None),
        (50.0, 1.0, 0.34, None),
        (50.0, -1.0, 0.1, None),
        (0.0, 0.0, float("inf"), None),
    ],
)
def test_both_likelihood_and_slope_must_agree(gain, factor, error, sign):
    assert decided_sign(gain, factor, error) == sign


def test_certainty_is_that_of_the_more_likely_sign():
    assert Handedness(None, 0.0, 0.0, 1.0).certainty == 0.5
    assert Handedness(1, 12.0, 1.0, 0.2).certainty == Handedness(-1, -12.0, -1.0, 0.2).certainty == pytest.approx(0.9975, abs=1e-4)
    assert Handedness(1, 1e6, 1.0, 0.1).certainty == 1.0
