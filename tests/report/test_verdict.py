"""The verdict: each number against its limits, the worst of all decides, and nothing unmeasured is good."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltflow.model import Thresholds, Trust
from tiltflow.record import ValueEntry
from tiltflow.report.gather import describe_volume
from tiltflow.report.verdict import entry, examine, from_entry, judge

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
    assert verdict.reasons[0].endswith("without an estimate of its error; its tilt axis disagrees with the header")
    assert "the tilt axis angle differs from the header by 58.0°" in verdict.reasons


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
    assert verdict.reasons[1] == "the alignment is based on 6 beads"
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
