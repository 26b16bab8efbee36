"""Range, gaps and order of the tilts, and what their lack does to a point."""

import numpy as np
import pytest

from tiltflow.report.checks import examine
from tiltflow.report.rows import row_of
from tiltflow.report.tilts import coverage_of, elongation, scheme, scheme_of
from tiltflow.report.verdict import judge
from tiltflow.work import Quantity, Thresholds, Trust

LIMITS = Thresholds()


def set_tilts(record, tilts):
    found = record.alignment
    found.tilt_deg, found.included = [float(tilt) for tilt in tilts], [True] * len(tilts)
    return record


@pytest.mark.parametrize(
    ("tilts", "levels"),
    [
        (np.arange(-60, 61, 3), "good good good"),
        (np.arange(-60, 61, 6), "good good good"),
        (np.arange(-60, 61, 12), "good good good"),
        (np.arange(-40, 41, 4), "good good good"),
        (np.arange(-39, 40, 3), "good doubtful good"),
        (np.arange(-20, 21, 4), "good doubtful good"),
        (np.arange(-19, 20, 2), "good poor good"),
        (np.arange(0, 61, 6), "good doubtful good"),  # half a series
        (np.arange(-60, -5, 6), "doubtful doubtful good"),
        (np.arange(-12, 13, 6), "poor poor good"),
        (np.arange(0, 25, 6), "poor poor good"),
        (np.linspace(-60, 60, 7), "doubtful good doubtful"),
        (np.linspace(-60, 60, 6), "poor good doubtful"),
        ([*range(-60, -17, 3), *range(-3, 61, 3)], "good good good"),
        ([*range(-60, -18, 3), *range(-3, 61, 3)], "good good doubtful"),
        ([*range(-60, -33, 3), *range(-3, 61, 3)], "good good poor"),
        ([0], "poor poor good"),
    ],
    ids=str,
)
def test_few_tilts_over_a_small_range_or_with_a_gap_are_not_good(record, tilts, levels):
    checks = {check.name: check for check in examine(set_tilts(record, tilts), LIMITS)}
    assert " ".join(checks[name].level for name in ("views", "tilt range", "tilt gap")) == levels
    assert (judge(record, LIMITS).level is Trust.GOOD) is (set(levels.split()) == {"good"})


def test_views_that_are_left_out_are_tilts_that_are_missing(record):
    set_tilts(record, np.arange(-60, 61, 3))
    record.alignment.included = [not -36 < tilt < 0 for tilt in record.alignment.tilt_deg]
    seen = coverage_of(record.alignment)
    assert (seen.views, seen.gap_deg, seen.gap_at_deg) == (30, 36, -18)
    checks = {check.name: check for check in examine(record, LIMITS)}
    assert checks["tilt gap"].finding == "the largest gap between tilts is 36.0°, at -18°"
    assert checks["tilt gap"].number == Quantity(36.0, "deg")
    record.alignment.included = [False] * 41
    assert coverage_of(record.alignment) is None
    assert "tilt gap" not in {check.name for check in examine(record, LIMITS)}


def test_limits_of_the_site_hold_for_tilts(record):
    set_tilts(record, np.arange(-40, 41, 4))
    strict = Thresholds(tilt_range_good_deg=100, tilt_gap_good_deg=3, views_good=30)
    checks = {check.name: check for check in examine(record, strict)}
    assert [checks[name].limits for name in ("views", "tilt range", "tilt gap")] == [
        "good from 30, poor below 7",
        "good from 100°, poor below 40°",
        "good up to 3°, poor above 30°",
    ]
    assert {checks[name].level for name in ("views", "tilt range", "tilt gap")} == {Trust.DOUBTFUL}


@pytest.mark.parametrize(
    ("tilts", "one_sided"),
    [([0, 30, 60], True), ([-60, -30, -6], True), ([-2, 30, 60], True), ([-3, 30, 60], False), ([-60, 0, 60], False), ([5], False)],
)
def test_a_series_from_one_side_is_told_so(record, tilts, one_sided):
    finding = {check.name: check.finding for check in examine(set_tilts(record, tilts), LIMITS)}["tilt range"]
    assert ("half of a series" in finding) is one_sided


def test_the_range_is_told_with_what_it_does_to_the_volume(record):
    finding = {check.name: check.finding for check in examine(set_tilts(record, [-0.04, 6, 12, 18, 24]), LIMITS)}["tilt range"]
    assert finding == (
        "the tilts range from 0° to 24°, 24° in all, which draws out the volume 8.2 times along z; all are on one side of zero, "
        "as in half of a series"
    )


def test_the_elongation_is_that_of_the_mean_of_squares_over_the_tilts():
    for range_deg in (24, 80, 120, 140):
        tilt = np.radians(np.linspace(-range_deg / 2, range_deg / 2, 20001))
        assert elongation(range_deg) == pytest.approx(np.sqrt(np.mean(np.cos(tilt) ** 2) / np.mean(np.sin(tilt) ** 2)), rel=1e-3)
    assert elongation(0.5) is None
    assert elongation(200) == 1


@pytest.mark.parametrize(
    ("tilts", "said"),
    [
        (np.arange(-60, 61, 3), "in order of tilt"),
        (np.arange(60, -61, -3), "in order of tilt"),
        ([0, 3, -3, -6, 6, 9, -9, -12, 12], "dose-symmetric"),
        ([0, 3, 6, -3, -6, 9, 12, -9, -12, 15, 18, -15, -18], "dose-symmetric"),
        ([10, 13, 7, 4, 16, 19, 1, -2, 22], "dose-symmetric"),  # of a lamella that was milled at 10 degrees
        ([0, 3, 6, 9, 12, -3, -6, -9, -12], "bidirectional"),
        ([-20, -17, -14, -11, -8, -23, -26, -29], "bidirectional"),
        ([5, -40, 20, 3, -11, 30, -2], ""),
        ([0, 3], ""),
        ([], ""),
    ],
    ids=str,
)
def test_the_scheme_follows_from_the_order_of_the_views(tilts, said):
    assert scheme(list(tilts)) == said


def test_the_scheme_is_that_of_the_tilts_as_read(record):
    assert scheme_of(record) == "in order of tilt"
    del record.input["tilt_angles"]
    assert scheme_of(record) == ""


def test_metrics_have_the_tilts(record):
    values = row_of(set_tilts(record, np.arange(-60, 61, 6)), LIMITS, "").metrics()
    names = ("tilt_low_deg", "tilt_high_deg", "tilt_range_deg", "tilt_gap_deg", "elongation")
    assert [values[name] for name in names] == [-60, 60, 120, 6, 1.55]
    record.alignment = None
    assert row_of(record, LIMITS, "").metrics()["tilt_range_deg"] is None
