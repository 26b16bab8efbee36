"""One answer to where the specimen lies: positioning's where it is sure, else that of the texture."""

import pytest

from tiltflow.record import NumberEntry, StageEntry
from tiltflow.report.checks import examine
from tiltflow.report.gather import describe_volume
from tiltflow.report.rows import row_of
from tiltflow.report.specimen import specimen_of
from tiltflow.work import Quantity, Thresholds, Trust

LIMITS = Thresholds()


def position(record, thickness=90.0, error=1.4, offset=0.3, status="done"):
    numbers = {"tilt_offset": offset, "x_axis_tilt": 0.0, "z_shift": 0.0}
    numbers |= {"specimen_thickness": thickness, "specimen_thickness_error": error}
    entries = {name: NumberEntry(value=value) for name, value in numbers.items()}
    stage = StageEntry(name="positioning", status=status, started=record.started, seconds=1.0, numbers=entries)
    record.stages.append(stage)
    return record


@pytest.fixture
def textured(record, measured, make):
    record.volume = describe_volume(measured, make.voxel_nm)
    return record


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({}, "positioning"),
        ({"error": 30.0}, "positioning"),
        ({"error": 30.1}, "texture"),
        ({"thickness": 0.0}, "texture"),
        ({"offset": 0.0}, "texture"),  # the specimen was not found
        ({"status": "failed"}, "texture"),
    ],
    ids=str,
)
def test_positioning_is_asked_first_where_it_is_sure(textured, changes, source):
    found = specimen_of(position(textured, **changes))
    assert found.source == source
    if source == "positioning":
        assert (found.low_nm, found.high_nm, found.error_nm) == (-45.0, 45.0, changes.get("error", 1.4))


def test_its_pixels_are_those_of_the_raw_images(textured):
    textured.input["pixel_size"].value = 5.0
    assert specimen_of(position(textured)).thickness_nm == 45.0
    del textured.input["pixel_size"]
    assert specimen_of(textured).source == "texture"


def test_verdict_and_table_give_the_same_thickness(textured):
    position(textured)
    check = {each.name: each for each in examine(textured, LIMITS)}["thickness"]
    assert (check.finding, check.number) == ("the specimen is about 90 ± 1 nm thick", Quantity(90.0, "nm"))
    assert row_of(textured, LIMITS, "").metrics()["thickness_nm"] == 90.0


@pytest.mark.parametrize(("thickness", "level"), [(256.0, Trust.GOOD), (256.5, Trust.DOUBTFUL)])
def test_a_specimen_thicker_than_the_volume_is_cut(textured, thickness, level):
    checks = {each.name: each for each in examine(position(textured, thickness=thickness), LIMITS)}
    assert checks["thickness"].level is level


def test_a_thickness_that_noise_hides_is_a_least_one(textured):
    textured.volume.section_least = True
    finding = {each.name: each.finding for each in examine(textured, LIMITS)}["thickness"]
    assert finding.startswith("the specimen is at least 10")


def test_a_volume_in_which_positioning_found_the_specimen_is_not_empty(textured):
    textured.alignment.error_px = textured.alignment.leave_out_px = None
    textured.volume.section_low_nm = textured.volume.section_high_nm = None
    assert "no specimen" in {each.name: each.finding for each in examine(textured, LIMITS)}["alignment"]
    assert "no specimen" not in {each.name: each.finding for each in examine(position(textured), LIMITS)}["alignment"]


def test_without_either_nothing_is_said(record):
    assert specimen_of(record) is None
    assert row_of(record, LIMITS, "").metrics()["thickness_nm"] is None
