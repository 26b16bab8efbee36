"""The verdict: each number against its limits, the worst of all decides, and nothing unmeasured is good."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltflow.record import ValueEntry
from tiltflow.report.check import Check
from tiltflow.report.checks import axis_off_deg, examine
from tiltflow.report.gather import describe_volume
from tiltflow.report.lengths import pixel_size_nm
from tiltflow.report.verdict import entry, faults, from_entry, headline, judge, leading_figures
from tiltflow.work import Quantity, Thresholds, Trust, Verdict

LIMITS = Thresholds()
ORDER = [Trust.GOOD, Trust.DOUBTFUL, Trust.POOR]


def level(record, name, thresholds=LIMITS):
    return {check.name: check.level for check in examine(record, thresholds)}[name]


def test_a_sound_series_is_good_and_says_by_which_numbers(record):
    verdict = judge(record, LIMITS)
    assert verdict.level is Trust.GOOD
    assert verdict.reasons[0] == "the estimated alignment error is 0.12 px (0.12 nm)"
    assert list(verdict.numbers)[:2] == ["alignment error", "leave-out error"]
    assert verdict.numbers["alignment error"].value == 0.12


@pytest.mark.parametrize(
    ("field", "name"),
    [("error_px", "alignment error"), ("leave_out_px", "leave-out error"), ("residual_mean_px", "residual")],
)
def test_lengths_are_good_up_to_one_limit_and_poor_beyond_the_other(record, field, name):
    stem = field.removesuffix("_px").removesuffix("_mean")
    good, poor = getattr(LIMITS, f"{stem}_good_px"), getattr(LIMITS, f"{stem}_poor_px")
    for value, expected in ((good, Trust.GOOD), (good + 0.01, Trust.DOUBTFUL), (poor, Trust.DOUBTFUL), (poor + 0.01, Trust.POOR)):
        setattr(record.alignment, field, value)
        assert level(record, name) is expected


def test_an_error_that_other_figures_contradict_is_not_good(record):
    record.alignment.method, record.alignment.leave_out_px, record.alignment.residual_mean_px = "patches", 2.6, 3.0
    said = {check.name: check for check in examine(record, LIMITS)}
    assert said["alignment error"].level is Trust.DOUBTFUL
    assert said["alignment error"].finding.endswith("which the leave-out error and the residual contradict")
    record.alignment.leave_out_px = 0.3
    assert level(record, "alignment error") is Trust.DOUBTFUL
    record.alignment.residual_mean_px = 0.3
    assert level(record, "alignment error") is Trust.GOOD


@pytest.mark.parametrize(
    ("share", "cut", "judged", "expected"),
    [(0.6, False, True, Trust.GOOD), (0.8, False, False, Trust.GOOD), (0.8, True, True, Trust.DOUBTFUL)],
)
def test_a_specimen_that_fills_its_volume_is_not_said_to_end_in_it(record, measured, make, share, cut, judged, expected):
    seen = record.volume = describe_volume(measured, make.voxel_nm)
    half = share * seen.sections * seen.voxel_nm / 2
    seen.section_low_nm, seen.section_high_nm, seen.section_cut = -half, half, cut
    (check,) = [check for check in examine(record, LIMITS) if check.name == "thickness"]
    assert (check.judged, check.level, bool(check.limits)) == (judged, expected, judged)


@pytest.mark.parametrize(("field", "name"), [("leave_out_px", "leave-out error"), ("residual_mean_px", "residual")])
def test_patches_may_drift_by_more_than_beads_where_the_error_is_estimated(record, field, name):
    setattr(record.alignment, field, 1.0)
    assert level(record, name) is Trust.DOUBTFUL
    record.alignment.method = "patches"
    assert level(record, name) is Trust.GOOD
    setattr(record.alignment, field, 2.0)
    assert level(record, name) is Trust.DOUBTFUL
    setattr(record.alignment, field, 3.0)
    assert level(record, name) is Trust.POOR
    setattr(record.alignment, field, 1.0)
    nanometres = replace(LIMITS, leave_out_good_nm=0.4, residual_good_nm=0.4)
    assert level(record, name, nanometres) is Trust.DOUBTFUL
    record.alignment.error_px = None
    assert level(record, name) is Trust.DOUBTFUL


def test_a_limit_in_nanometres_is_to_be_kept_as_well(record):
    strict = replace(LIMITS, error_good_nm=0.1, error_poor_nm=5.0)
    assert level(record, "alignment error", strict) is Trust.DOUBTFUL
    lenient = replace(LIMITS, error_good_px=0.01, error_good_nm=100.0)
    assert level(record, "alignment error", lenient) is Trust.DOUBTFUL
    record.input["pixel_size"].value = 500.0
    assert level(record, "alignment error", strict) is Trust.POOR


def test_nanometres_follow_the_pixel_size(record):
    record.input["pixel_size"].value = 25.0
    assert judge(record, LIMITS).reasons[0].endswith("0.12 px (0.30 nm)")


@pytest.mark.parametrize(
    ("header_deg", "expected"), [(-9.0, Trust.GOOD), (171.0, Trust.GOOD), (20.0, Trust.DOUBTFUL), (82.0, Trust.DOUBTFUL)]
)
def test_an_axis_far_from_the_headers_is_a_doubt_whichever_way_it_is_written(record, header_deg, expected):
    record.input["axis_angle"] = ValueEntry(value=header_deg, unit="deg", source="title line")
    assert level(record, "tilt axis difference") is expected
    assert judge(record, LIMITS).level is expected


def test_what_nobody_knows_of_the_input_is_a_doubt_and_an_assumed_axis_is_compared_with_nothing(record, measured, make):
    mirrored = "no source gives the tilt axis angle, so that the tomogram may be mirrored"
    record.input["axis_angle"] = ValueEntry(value=82.0, unit="deg", source="assumed: 0 degrees, no source gives it", doubt=mirrored)
    record.volume = describe_volume(measured, make.voxel_nm)
    record.volume.section_low_nm = record.volume.section_high_nm = None
    verdict = judge(record, LIMITS)
    assert (verdict.level, verdict.reasons[0]) == (Trust.DOUBTFUL, mirrored)
    assert not any("that which was read" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("read_deg", "found_deg", "mirrored"),
    [
        (-85.0, 84.8, True),
        (-85.0, 95.2, False),
        (-85.0, -95.0, True),
        (-85.0, -85.1, False),
        (-83.0, 90.0, False),
        (12.0, -12.5, True),
        (1.0, -1.0, False),
    ],
)
def test_an_axis_with_the_sign_of_the_headers_opposite_may_be_mirrored(record, read_deg, found_deg, mirrored):
    record.input["axis_angle"] = ValueEntry(value=read_deg, unit="deg", source="extended header")
    record.alignment.rotation_deg = [found_deg] * 21
    said = next(check for check in examine(record, LIMITS) if check.name == "tilt axis difference")
    assert ("the tomogram may be mirrored" in said.finding) == mirrored
    if mirrored:
        assert said.level is Trust.DOUBTFUL
        assert said.finding.endswith(f"give setupset.copyarg.rotation = {-read_deg:g}")


@pytest.mark.parametrize(
    ("read_deg", "found_deg", "open_"), [(83.5, 83.0, False), (83.5, 96.5, True), (89.5, 90.0, True), (0.5, 0.4, True)]
)
def test_the_sign_of_an_axis_is_open_until_the_images_tell_it(record, read_deg, found_deg, open_):
    record.input["axis_angle"] = ValueEntry(value=read_deg, unit="deg", source="B.txt", doubt="its sign is open")
    record.alignment.rotation_deg = [found_deg] * 21
    assert ("its sign is open" in judge(record, LIMITS).reasons) == open_


def test_an_axis_of_its_own_and_an_empty_volume_are_a_lost_alignment_whatever_it_claims(record, measured, make):
    record.input["axis_angle"] = ValueEntry(value=50.0, unit="deg", source="title line")
    record.volume = describe_volume(measured, make.voxel_nm)
    assert judge(record, LIMITS).level is Trust.DOUBTFUL
    record.volume.section_low_nm = record.volume.section_high_nm = None
    assert judge(record, LIMITS).level is Trust.POOR


def unmeasured(record):
    """Leave an alignment nothing that measures its error."""
    record.alignment.error_px = record.alignment.leave_out_px = record.alignment.residual_mean_px = None
    record.alignment.tracks_used = None
    return record


def test_what_nobody_measured_is_poor_when_the_axis_speaks_against_it_too(record):
    unmeasured(record).input["axis_angle"] = ValueEntry(value=50.0, unit="deg", source="title line")
    verdict = judge(record, LIMITS)
    assert verdict.level is Trust.POOR
    assert verdict.reasons[0].endswith("without an estimate of its error; its tilt axis disagrees with the one that was read")
    assert "the tilt axis angle differs by 58.0° from that which was read (title line)" in verdict.reasons


def test_what_nobody_measured_is_poor_when_no_specimen_is_to_be_seen(record, measured, make):
    unmeasured(record).volume = describe_volume(measured, make.voxel_nm)
    assert judge(record, LIMITS).level is Trust.DOUBTFUL
    record.volume.section_low_nm = record.volume.section_high_nm = None
    verdict = judge(record, LIMITS)
    assert verdict.level is Trust.POOR
    assert "no specimen stands out" in verdict.reasons[0]


def test_without_a_pixel_size_the_pixels_are_judged_alone(record):
    del record.input["pixel_size"]
    verdict = judge(record, replace(LIMITS, error_good_nm=0.001))
    assert verdict.level is Trust.GOOD
    assert verdict.reasons[0].endswith("0.12 px")


def test_an_engine_that_says_nothing_is_doubted(record):
    record.alignment = None
    verdict = judge(record, LIMITS)
    assert verdict.level is Trust.DOUBTFUL
    assert "its quality is unknown" in verdict.reasons[0]


def test_a_coarse_alignment_is_never_good_because_nothing_measures_it(make):
    record = make.record(method="coarse")
    record.alignment.error_px = record.alignment.leave_out_px = None
    verdict = judge(record, LIMITS)
    assert verdict.level is Trust.DOUBTFUL
    assert "without an estimate of its error" in verdict.reasons[0]


def test_a_low_residual_alone_is_not_trusted(record):
    record.alignment.error_px = record.alignment.leave_out_px = None
    record.alignment.residual_mean_px = 0.05
    assert judge(record, LIMITS).level is Trust.DOUBTFUL


@pytest.mark.parametrize(
    ("method", "error_px", "warnings", "residual_px", "expected", "first", "shown"),
    [
        ("patches", None, ["views hardly stand out"], 3.0, Trust.POOR, "views hardly stand out", False),
        ("patches", None, ["views hardly stand out"], 0.3, Trust.DOUBTFUL, "views hardly stand out", False),
        ("projection", None, ["2 views do not correlate", "other"], 3.0, Trust.POOR, "2 views do not correlate", False),
        ("patches", 0.3, ["a doubt"], 3.0, Trust.POOR, "the mean residual is 3.00 px (3.00 nm)", True),
        ("patches", None, [], 3.0, Trust.POOR, "the mean residual is 3.00 px (3.00 nm)", True),
        ("gold", None, ["few beads"], 3.0, Trust.POOR, "the mean residual is 3.00 px (3.00 nm)", True),
    ],
)
def test_figures_of_a_fit_whose_error_is_withheld_are_not_shown(
    record, method, error_px, warnings, residual_px, expected, first, shown
):
    """What counts then is why; a fit that is poor even so is no better for that."""
    found = record.alignment
    found.method, found.error_px, found.leave_out_px, found.residual_mean_px = method, error_px, None, residual_px
    found.trust_warnings = warnings
    verdict = judge(record, LIMITS)
    assert (verdict.level, verdict.reasons[0]) == (expected, first)
    assert ("residual" in verdict.numbers) is shown


def test_a_trust_warning_of_the_engine_is_a_reason(record):
    record.alignment.trust_warnings = ["only two beads could be followed"]
    verdict = judge(record, LIMITS)
    assert verdict.level is Trust.DOUBTFUL
    assert verdict.reasons[0] == "only two beads could be followed"


@pytest.mark.parametrize(("tracks", "expected"), [(8, Trust.GOOD), (7, Trust.DOUBTFUL), (4, Trust.DOUBTFUL), (3, Trust.POOR)])
def test_few_tracks_are_doubted(record, tracks, expected):
    record.alignment.tracks_used = tracks
    assert level(record, "tracks") is expected


@pytest.mark.parametrize(("out", "expected"), [(2, Trust.GOOD), (3, Trust.DOUBTFUL), (7, Trust.POOR)])
def test_many_views_left_out_are_doubted(record, out, expected):
    record.alignment.included = [view >= out for view in range(21)]
    assert level(record, "views left out") is expected


def test_a_specimen_that_is_cut_off_is_doubted(record, measured, make):
    record.volume = describe_volume(measured, make.voxel_nm)
    assert level(record, "thickness") is Trust.GOOD
    record.volume.section_cut = True
    assert level(record, "thickness") is Trust.DOUBTFUL
    reason = judge(record, LIMITS).reasons[0]
    assert "cut off" in reason
    assert "sampleType" in reason


def test_a_specimen_that_cannot_be_told_from_the_rest_has_no_thickness(record, measured, make):
    record.volume = describe_volume(measured, make.voxel_nm)
    record.volume.section_low_nm = record.volume.section_high_nm = None
    record.volume.contrast = 1.05
    assert "thickness" not in judge(record, LIMITS).numbers
    assert level(record, "contrast") is Trust.GOOD
    assert level(record, "contrast", replace(LIMITS, contrast_good=1.2, contrast_poor=1.1)) is Trust.POOR


@pytest.mark.parametrize(
    ("value", "expected_nm"), [(10.0, 1.0), (25, 2.5), (0.8, 0.08), (0.0, None), (-1.0, None), ("unknown", None), (None, None)]
)
def test_a_pixel_size_counts_where_it_is_a_number_above_zero(record, value, expected_nm):
    record.input["pixel_size"].value = value
    assert pixel_size_nm(record) == expected_nm


@pytest.mark.parametrize("measured_field", ["error_px", "leave_out_px"])
def test_an_alignment_with_one_of_both_errors_is_not_without_an_estimate(record, measured_field):
    value = getattr(record.alignment, measured_field)
    setattr(unmeasured(record).alignment, measured_field, value)
    assert "alignment" not in [check.name for check in examine(record, LIMITS)]
    assert judge(record, LIMITS).level is Trust.GOOD


@pytest.mark.parametrize(
    ("off_deg", "with_an_estimate", "without_one"),
    [(9.75, Trust.GOOD, Trust.DOUBTFUL), (10.0, Trust.GOOD, Trust.DOUBTFUL), (10.25, Trust.DOUBTFUL, Trust.POOR)],
)
def test_an_axis_is_off_beyond_its_limit_and_not_at_it(record, off_deg, with_an_estimate, without_one):
    record.alignment.rotation_deg = [-8.0] * len(record.alignment.included)
    record.input["axis_angle"] = ValueEntry(value=-8.0 - off_deg, unit="deg", source="title line")
    limits = replace(LIMITS, axis_good_deg=10.0)
    assert level(record, "tilt axis difference", limits) is with_an_estimate
    assert level(unmeasured(record), "alignment", limits) is without_one


def test_the_axis_is_that_of_the_views_that_take_part(record):
    found = record.alignment
    found.rotation_deg = [-8.0 if used else 60.0 for used in found.included]
    record.input["axis_angle"] = ValueEntry(value=-8.0, unit="deg", source="title line")
    assert axis_off_deg(record, found) == 0
    found.included = [not used for used in found.included]
    assert axis_off_deg(record, found) == pytest.approx(68)
    found.included = [False] * len(found.included)
    assert axis_off_deg(record, found) is None


@pytest.mark.parametrize(
    ("good_nm", "poor_nm", "expected"),
    [
        (0.5, 1.0, Trust.GOOD),
        (0.25, 0.5, Trust.DOUBTFUL),
        (0.25, 0.25, Trust.POOR),
        (None, 0.25, Trust.POOR),
        (0.25, None, Trust.DOUBTFUL),
    ],
)
def test_a_limit_in_nanometres_is_kept_up_to_its_value(record, good_nm, poor_nm, expected):
    """An error of 0.25 px is 0.5 nm here; the limits in pixels lie beyond it."""
    record.input["pixel_size"].value = 20.0
    record.alignment.error_px = 0.25
    limits = replace(LIMITS, error_good_px=0.3, error_poor_px=0.6, error_good_nm=good_nm, error_poor_nm=poor_nm)
    assert level(record, "alignment error", limits) is expected


def test_a_verdict_keeps_a_length_to_a_ten_thousandth_of_a_pixel(record):
    record.alignment.error_px = 0.123456
    assert judge(record, LIMITS).numbers["alignment error"] == Quantity(0.1235, "px")


@pytest.mark.parametrize(
    ("out", "said"), [(0, "no view was left out"), (1, "1 of 21 views was left out"), (2, "2 of 21 views were left out")]
)
def test_views_left_out_are_counted_in_words_and_against_percentages(record, out, said):
    record.alignment.included = [view >= out for view in range(21)]
    limits = replace(LIMITS, excluded_good=0.1, excluded_poor=0.3)
    (check,) = [check for check in examine(record, limits) if check.name == "views left out"]
    assert (check.finding, check.limits) == (said, "good up to 10 %, poor above 30 %")
    assert check.number == Quantity(out)


@pytest.mark.parametrize(
    ("out", "good", "poor", "expected"),
    [(4, 0.25, 0.5, Trust.GOOD), (5, 0.25, 0.5, Trust.DOUBTFUL), (8, 0.25, 0.5, Trust.DOUBTFUL), (9, 0.25, 0.5, Trust.POOR)],
)
def test_a_share_of_views_is_good_and_doubtful_up_to_its_limit(record, out, good, poor, expected):
    record.alignment.included = [view >= out for view in range(16)]
    assert level(record, "views left out", replace(LIMITS, excluded_good=good, excluded_poor=poor)) is expected


@pytest.mark.parametrize(
    ("low", "high", "contrast_says", "has_thickness"),
    [
        (80.0, 176.26, "the texture of the specimen is 1.50 times", True),
        (None, None, "the specimen hardly stands out: its texture is 1.50 times", False),
        (80.0, None, "the texture of the specimen is 1.50 times", False),
    ],
)
def test_a_volume_says_what_stands_out_and_how_thick_it_is(record, measured, make, low, high, contrast_says, has_thickness):
    record.volume = describe_volume(measured, make.voxel_nm)
    record.volume.contrast, record.volume.section_low_nm, record.volume.section_high_nm = 1.5, low, high
    checks = {check.name: check for check in examine(record, LIMITS)}
    assert checks["contrast"].finding.startswith(contrast_says)
    assert ("thickness" in checks) is has_thickness
    if has_thickness:
        assert checks["thickness"].number == Quantity(96.3, "nm")
        assert checks["thickness"].finding == "the specimen is about 96 nm thick"


@pytest.mark.parametrize(
    ("value", "expected"), [(1.99, Trust.DOUBTFUL), (2.0, Trust.GOOD), (1.0, Trust.DOUBTFUL), (0.99, Trust.POOR)]
)
def test_a_contrast_is_good_from_one_limit_and_poor_below_the_other(record, measured, make, value, expected):
    record.volume = describe_volume(measured, make.voxel_nm)
    record.volume.contrast = value
    assert level(record, "contrast", replace(LIMITS, contrast_good=2.0, contrast_poor=1.0)) is expected


@pytest.mark.parametrize(
    ("header_deg", "used_deg", "off_deg"),
    [(-8.0, -8.0, 0), (172.0, -8.0, 0), (-8.0, 170.0, 2), (80.0, -10.0, 90), (0.0, 89.0, 89), (0.0, 91.0, 89), (-170.0, 170.0, 20)],
)
def test_an_axis_and_its_opposite_are_the_same_axis(record, header_deg, used_deg, off_deg):
    record.alignment.rotation_deg = [used_deg] * len(record.alignment.included)
    record.input["axis_angle"] = ValueEntry(value=header_deg, unit="deg", source="title line")
    assert axis_off_deg(record, record.alignment) == pytest.approx(off_deg)


@pytest.mark.parametrize("value", ["unknown", None, [1.0, 2.0]])
def test_an_axis_that_the_header_does_not_tell_is_compared_with_nothing(record, value):
    record.input["axis_angle"] = ValueEntry(value=value, unit="deg", source="title line")
    assert axis_off_deg(record, record.alignment) is None
    assert "tilt axis difference" not in judge(record, LIMITS).numbers


@pytest.mark.parametrize(
    ("method", "said"), [("coarse", "this is a coarse alignment only"), ("projection", "this is an alignment by projection")]
)
def test_an_alignment_without_an_estimate_is_called_by_its_method(record, method, said):
    unmeasured(record).alignment.method = method
    assert judge(record, LIMITS).reasons[0] == f"{said}, without an estimate of its error"


def test_the_limits_are_said_with_what_they_are_compared_with(record):
    limits = replace(LIMITS, error_good_px=0.5, error_good_nm=2.0, error_poor_px=1.0, error_poor_nm=None, axis_good_deg=10.0)
    record.input["axis_angle"] = ValueEntry(value=-7.0, unit="deg", source="title line")
    record.alignment.rotation_deg = [-8.1234] * len(record.alignment.included)
    checks = {check.name: check for check in examine(record, limits)}
    assert checks["alignment error"].limits == "good up to 0.5 px and 2 nm, poor above 1 px"
    assert checks["tilt axis difference"].limits == "good up to 10°, poor above when the volume is empty"
    assert checks["tilt axis difference"].number == Quantity(1.12, "deg")


@pytest.mark.parametrize(
    ("levels", "count"), [("GOOD GOOD", 0), ("DOUBTFUL GOOD GOOD", 1), ("POOR DOUBTFUL GOOD", 2), ("POOR POOR", 2), ("", 3)]
)
def test_the_faults_are_the_reasons_that_are_not_good_ones(levels, count):
    checks = [Check(name, Trust[name], "") for name in levels.split()]
    assert faults(Verdict(Trust.DOUBTFUL, ("one", "two", "three")), checks) == count


def test_a_failure_names_its_stage(make):
    verdict = judge(make.failed(), LIMITS)
    assert verdict.level is Trust.FAILED
    assert verdict.reasons == ("it failed at read: the file ends in view 7 of 41",)


def test_work_that_goes_on_is_unfinished_and_names_the_stage_it_is_in(record):
    record.status = "running"
    record.stages[-1].status = "running"
    verdict = judge(record, LIMITS)
    assert verdict.level is Trust.UNFINISHED
    assert "gen_zarr" in verdict.reasons[0]


def test_the_worst_reason_comes_first(record):
    record.alignment.residual_mean_px = 9.0
    record.alignment.tracks_used = 6
    verdict = judge(record, LIMITS)
    assert verdict.level is Trust.POOR
    assert verdict.reasons[0] == "the mean residual is 9.00 px (9.00 nm)"
    assert verdict.reasons[1] == "the estimated alignment error is 0.12 px (0.12 nm), which the residual contradicts"
    assert verdict.reasons[2] == "the alignment is based on 6 beads"
    assert next(iter(verdict.numbers)) == "residual"


def test_a_verdict_survives_the_record(record):
    verdict = judge(record, LIMITS)
    kept = entry(verdict, LIMITS)
    assert from_entry(kept) == verdict
    assert kept.thresholds["error_good_px"] == LIMITS.error_good_px


@settings(max_examples=50)
@given(
    error=st.floats(0, 5),
    leave_out=st.floats(0, 5),
    residual=st.floats(0, 5),
    tracks=st.integers(0, 60),
    worse=st.floats(0, 5),
)
def test_the_verdict_is_that_of_the_worst_check_and_never_better_for_worse_numbers(make, error, leave_out, residual, tracks, worse):
    record = make.record()
    found = record.alignment
    found.error_px, found.leave_out_px, found.residual_mean_px, found.tracks_used = error, leave_out, residual, tracks
    before = judge(record, LIMITS).level
    assert before == max((check.level for check in examine(record, LIMITS)), key=ORDER.index)
    found.error_px = error + worse
    assert ORDER.index(judge(record, LIMITS).level) >= ORDER.index(before)


NUMBERS = {"views left out": Quantity(9), "residual": Quantity(0.7, "px"), "leave-out error": Quantity(0.5, "px")}


@pytest.mark.parametrize(
    ("level", "reasons", "numbers", "said"),
    [
        (Trust.POOR, ("9 of 31 views were left out", "all else"), NUMBERS, "POOR: 9 of 31 views were left out ({}, {})"),
        (
            Trust.DOUBTFUL,
            ("the leave-out error is 0.50 px", "x"),
            NUMBERS,
            "DOUBTFUL: the leave-out error is 0.50 px (residual 0.70 px)",
        ),
        (Trust.GOOD, ("the leave-out error is 0.50 px", "x"), NUMBERS, "GOOD ({}, {})"),
        (Trust.GOOD, ("all is well",), {}, "GOOD: all is well"),
        (Trust.DOUBTFUL, ("its quality is unknown",), {}, "DOUBTFUL: its quality is unknown"),
        (Trust.DOUBTFUL, (), {}, "DOUBTFUL"),
    ],
)
def test_one_line_says_what_is_worst_and_then_figures_that_it_does_not_say(level, reasons, numbers, said):
    line = headline(Verdict(level, reasons, numbers)).replace(", views left out 9", "")
    assert line == said.format("leave-out error 0.50 px", "residual 0.70 px")


def test_figures_of_the_alignment_come_before_others_which_say_nothing_beside_a_fault():
    assert list(leading_figures(Verdict(Trust.POOR, ("the axis is off",), NUMBERS))) == ["leave-out error", "residual"]
    assert list(leading_figures(Verdict(Trust.POOR, ("x",), {"views": Quantity(5)}))) == []
    assert list(leading_figures(Verdict(Trust.GOOD, ("x",), {"views": Quantity(5)}))) == ["views"]


def test_the_worst_reason_is_that_of_the_worst_check(record):
    record.alignment.included = [view >= 9 for view in range(21)]
    line = headline(judge(record, LIMITS))
    assert line.startswith("POOR: 9 of 21 views were left out (alignment error 0.12 px, ")


@pytest.mark.parametrize(
    ("tilt_deg", "error_deg", "method", "level", "said"),
    [
        (-1.5, 0.4, "gold", Trust.GOOD, "an x-axis tilt of -1.5°, known to ± 0.4°, levels the specimen along the tilt axis"),
        (6.0, 2.5, "gold", Trust.DOUBTFUL, "an x-axis tilt of 6.0°, known to ± 2.5°, levels the specimen along the tilt axis"),
        (0.0, None, "patches", Trust.GOOD, "the x-axis tilt is not known and 0 is taken"),
        (3.0, None, "gold", None, ""),
        (0.0, None, "projection", None, ""),
    ],
)
def test_the_verdict_knows_how_well_the_specimen_is_levelled(record, tilt_deg, error_deg, method, level, said):
    found = record.alignment
    found.x_axis_tilt_deg, found.x_axis_tilt_error_deg, found.method = tilt_deg, error_deg, method
    checks = [check for check in examine(record, LIMITS) if check.name == "x-axis tilt"]
    assert [check.level for check in checks] == ([level] if level else [])
    assert all(said in check.finding for check in checks)


def jagged(record, size_deg, seed=5):
    """Let the refined tilts lie up to `size_deg` to either side of the nominal ones."""
    nominal = np.array(record.input["tilt_angles"].value)
    record.alignment.tilt_deg = (nominal + np.random.default_rng(seed).uniform(-size_deg, size_deg, len(nominal))).tolist()
    return record


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tilt: tilt + 6.0, None),  # the tilt of the specimen, and no refinement
        (lambda tilt: 1.05 * tilt + 0.002 * tilt**2 + 2.0, Trust.GOOD),
        (lambda tilt: -tilt, Trust.GOOD),  # tilts of an alignment that counts the other way
        (lambda tilt: tilt + 0.95 * (-1) ** np.arange(len(tilt)), Trust.GOOD),
        (lambda tilt: tilt + 1.1 * (-1) ** np.arange(len(tilt)), Trust.DOUBTFUL),
    ],
)
def test_refined_tilts_may_differ_from_the_nominal_ones_smoothly_and_not_by_jumps(record, change, expected):
    record.alignment.tilt_deg = change(np.array(record.input["tilt_angles"].value)).tolist()
    levels = [check.level for check in examine(record, LIMITS) if check.name == "tilt scatter"]
    assert levels == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("size_deg", "expected"), [(0.2, Trust.GOOD), (1.2, Trust.GOOD), (2.5, Trust.DOUBTFUL), (3.5, Trust.DOUBTFUL)]
)
def test_tilts_that_jump_make_a_result_doubtful_and_the_view_is_named(record, size_deg, expected):
    verdict = judge(jagged(record, size_deg), LIMITS)
    assert verdict.level is expected
    assert ("the refined tilts scatter by" in verdict.reasons[0] and "most in view" in verdict.reasons[0]) is (
        expected is Trust.DOUBTFUL
    )


def test_the_view_that_jumps_is_counted_among_all_views(record):
    jagged(record, 0.0).alignment.tilt_deg[10] += 12.0
    reason = judge(record, LIMITS).reasons[0]
    assert "most in view 11 (+1" in reason


def test_tilts_that_nobody_read_or_that_are_not_used_are_compared_with_nothing(record):
    jagged(record, 3.5).input["tilt_angles"].source = "assumed: -60 to 60 degrees"
    assert "tilt scatter" not in judge(record, LIMITS).numbers
    record.input["tilt_angles"].source = "extended header"
    record.alignment.included = [view < 4 for view in range(21)]
    assert "tilt scatter" not in judge(record, LIMITS).numbers
    del record.input["tilt_angles"]
    assert "tilt scatter" not in judge(record, LIMITS).numbers


@pytest.mark.parametrize(
    ("sd", "whole_numbers", "expected"),
    [
        (1.9, True, Trust.DOUBTFUL),
        (2.0, True, Trust.GOOD),
        (9.9, True, Trust.GOOD),
        (10.0, True, None),
        (1.0, False, None),
    ],
)
def test_a_volume_of_few_grey_values_says_what_gives_more(record, measured, make, sd, whole_numbers, expected):
    record.volume = describe_volume(measured, make.voxel_nm)
    record.volume.sd, record.volume.whole_numbers = sd, whole_numbers
    found = [check for check in examine(record, LIMITS) if check.name == "grey values"]
    assert [check.level for check in found] == ([expected] if expected else [])
    assert all("comparam.tilt.tilt.SCALE" in check.finding for check in found)
    assert [check.judged for check in found] == [True] * (expected is Trust.DOUBTFUL) + [False] * (expected is Trust.GOOD)
