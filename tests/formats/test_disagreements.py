"""What kind of disagreement there is between two sources."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.formats.disagreements import compare_axes, compare_pixels, compare_tilts

SYMMETRIC = np.arange(-60.0, 61, 3)
LOPSIDED = np.arange(-50.0, 63, 2)
DOSE_SYMMETRIC = np.array([0, 3, -3, 6, -6, 9, -9.0])


def test_rounding_to_two_decimals_is_no_disagreement(rng: np.random.Generator) -> None:
    assert compare_tilts(SYMMETRIC, SYMMETRIC + rng.uniform(-0.05, 0.05, len(SYMMETRIC))) is None


@pytest.mark.parametrize(
    ("used", "other", "kind"),
    [
        (LOPSIDED, -LOPSIDED, "have the opposite sign"),
        (LOPSIDED, LOPSIDED[::-1], "are in reverse order"),
        (SYMMETRIC, -SYMMETRIC, "opposite sign or the reverse order"),
        (DOSE_SYMMETRIC, np.sort(DOSE_SYMMETRIC), "the same angles in another order"),
        (LOPSIDED, LOPSIDED + 2.5, "differ by a constant +2.50 degrees"),
        (LOPSIDED, LOPSIDED * 1.1, "differ by up to 6.20 degrees, in view 57: 68.20 against 62.00"),
    ],
)
def test_the_kind_of_disagreement_between_tilts_is_named(used: np.ndarray, other: np.ndarray, kind: str) -> None:
    assert kind in (compare_tilts(used, other) or "")


@pytest.mark.parametrize(
    ("used", "other", "kind"),
    [
        (85.0, 85.1, None),
        (-179.95, 180.0, None),
        (12.0, -12.0, "has the opposite sign"),
        (85.0, -95.0, "180 degrees"),
        (85.3, 175.3, "90 degrees"),
        (85.3, 87.3, "differs by 2.0 degrees"),
    ],
)
def test_the_kind_of_disagreement_between_axes_is_named(used: float, other: float, kind: str | None) -> None:
    found = compare_axes(used, other)
    assert found is None if kind is None else kind in (found or "")


@given(st.floats(-360, 360), st.integers(-2, 2))
def test_whole_turns_of_the_axis_are_no_disagreement(angle: float, turns: int) -> None:
    assert compare_axes(angle, angle + 360 * turns) is None


@pytest.mark.parametrize(
    ("used", "other", "kind"),
    [(2.0, 2.015, None), (2.0, 8.0, "4 times as large"), (10.0, 5.0, "2 times smaller"), (2.0, 3.1, "+55.0 %")],
)
def test_the_kind_of_disagreement_between_pixels_is_named(used: float, other: float, kind: str | None) -> None:
    found = compare_pixels(used, other)
    assert found is None if kind is None else kind in (found or "")
