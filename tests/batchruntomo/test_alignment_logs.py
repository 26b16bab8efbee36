"""The lines of `align.log` and the table of the solution, of alignments that are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.batchruntomo.alignment_logs import render_align_log, render_solution_table
from tiltflow.batchruntomo.batch_log import minutes
from tiltflow.model import Alignment, Evidence, TiltSeries

VIEWS = 3
SERIES = TiltSeries(
    path=Path("TS.mrc"),
    shape=(VIEWS, 64, 64),
    tilt_deg=np.array([-60.0, 0.0, 60.0]),
    pixel_size_angstrom=2.5,
    axis_angle_deg=85.5,
    included=np.ones(VIEWS, bool),
)
EVIDENCE = Evidence(
    residual_mean_px=2.0, residual_sd_px=1.0, residual_weighted_mean_px=1.6, leave_out_px=2.4, residual_per_view_px=(1.0, 2.0, 3.0),
    measurements=120, unknowns=30, error_px=0.8, trust_warnings=("few beads",),
)  # fmt: skip


def raw_to_aligned(rotation_deg=84.0, magnification=1.0, stretch=0.0, skew=0.0):
    forward = magnification * geometry.rotation(rotation_deg) @ np.array([[1 + stretch, 0], [skew, 1]])
    return geometry.invert(np.stack([geometry.transform(forward, (3.0, -2.0))] * VIEWS))


ALIGNMENT = Alignment(
    transforms=raw_to_aligned(),
    tilt_deg=np.array([-59.9, 0.1, 60.1]),
    included=np.ones(VIEWS, bool),
    method="gold",
    x_axis_tilt_deg=1.5,
    evidence=EVIDENCE,
)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (" Residual error mean and sd:", {5: "0.500", 6: "0.250", 7: "nm"}),
        (" Residual error weighted mean:", {4: "0.400", 5: "nm"}),
        (" Global leave-out error", {3: "(60", 5: "0.600", 6: "nm"}),
        ("  Ratio of total measured values to all unknowns =", {-3: "30", -2: "=", -1: "4.00"}),
        (" At minimum tilt, rotation angle is", {-1: "84.00"}),
        (" X axis tilt needed =", {-1: "1.50"}),
        ("  RotationAngle =", {-1: "85.5"}),
        (" WARNING:", {-1: "beads"}),
    ],
)
def test_a_line_has_its_figures_in_nm_at_the_place_where_readers_look(start, words):
    line = next(line for line in render_align_log(SERIES, ALIGNMENT).splitlines() if line.startswith(start))
    for place, word in words.items():
        assert line.replace("/", " / ").split()[place] == word


def test_no_line_gives_an_angle_offset_as_relion_would_subtract_it():
    assert "AngleOffset" not in render_align_log(SERIES, ALIGNMENT)


def test_what_was_not_measured_is_not_printed():
    text = render_align_log(SERIES, replace(ALIGNMENT, method="projection", evidence=Evidence()))
    assert not [word for word in ("Residual", "leave-out", "Ratio", "Estimated", "mean resid") if word in text]
    assert text.endswith("SUCCESSFULLY COMPLETED\n")


def test_the_table_undoes_what_the_transforms_are_made_of():
    alignment = replace(ALIGNMENT, transforms=raw_to_aligned(-8.0, 1.01, 0.02, 0.01))
    _, *rows = render_solution_table(SERIES, alignment).splitlines()
    assert rows[0].split() == ["1", "-8.0", "-59.9", "0.10", "1.0100", "0.0200", "0.57", "0.25"]


def test_the_table_leaves_out_views_that_take_no_part_and_keeps_their_numbers():
    alignment = replace(ALIGNMENT, included=np.array([True, False, True]))
    _, *rows = render_solution_table(SERIES, alignment).splitlines()
    assert [row.split()[0] for row in rows] == ["1", "3"]


def test_zeros_have_no_sign():
    alignment = replace(ALIGNMENT, tilt_deg=SERIES.tilt_deg - 1e-9)
    assert "-0.0" not in render_solution_table(SERIES, alignment)


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "00:00.0"), (59.96, "01:00.0"), (3599.9, "59:59.9"), (6000, "100:00.0")])
def test_times_are_minutes_and_tenths_of_seconds(seconds, text):
    assert minutes(seconds) == text
