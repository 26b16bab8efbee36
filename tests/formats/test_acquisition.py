"""The exposure before each view, from an `.mdoc` in whatever order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tiltflow.formats.acquisition import (
    acquisition_order,
    exposure_before_each_view,
    exposure_before_sections,
    order_of_sections,
)
from tiltflow.formats.mdoc import parse_mdoc
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.series import read_series

ACQUIRED = (0.0, 3.0, -3.0, -6.0, 6.0)


def write_mdoc(folder: Path, tilts: Sequence[float]) -> Path:
    sections = (
        f"[ZValue = {z}]\nTiltAngle = {tilt}\nPriorRecordDose = {2.5 * ACQUIRED.index(tilt)}\n" for z, tilt in enumerate(tilts)
    )
    (folder / "B.mrc.mdoc").write_text("".join(sections))
    return folder / "B.mrc"


@pytest.mark.parametrize("listed", [ACQUIRED, tuple(sorted(ACQUIRED))])
@pytest.mark.parametrize("views", [ACQUIRED, tuple(sorted(ACQUIRED)), (6.0, -3.0, 3.0, 0.0, -6.0)])
def test_exposures_belong_to_their_angles_whatever_the_order_of_the_mdoc(
    tmp_path: Path, listed: tuple[float, ...], views: tuple[float, ...]
) -> None:
    before = exposure_before_each_view(write_mdoc(tmp_path, listed), np.array(views))
    assert before is not None
    assert before.tolist() == [2.5 * ACQUIRED.index(tilt) for tilt in views]
    assert acquisition_order(before).tolist() == [ACQUIRED.index(tilt) + 1 for tilt in views]


def test_the_order_is_that_of_the_mdoc_where_a_person_gave_the_angles_the_other_sign(tmp_path: Path) -> None:
    rising = np.array(sorted(ACQUIRED))
    before = exposure_before_each_view(write_mdoc(tmp_path, tuple(rising)), -rising)
    assert before is not None
    assert before.tolist() == [2.5 * ACQUIRED.index(tilt) for tilt in rising]


def test_an_mdoc_of_other_views_tells_nothing(tmp_path: Path) -> None:
    assert exposure_before_each_view(write_mdoc(tmp_path, ACQUIRED), np.arange(4.0)) is None


@pytest.mark.parametrize("by", ["PriorRecordDose", "DateTime"])
@pytest.mark.parametrize("listed", [ACQUIRED, tuple(sorted(ACQUIRED))])
def test_a_series_knows_when_each_view_was_taken_and_what_came_before(tmp_path: Path, listed: tuple[float, ...], by: str) -> None:
    rising = sorted(ACQUIRED)
    with MrcWriter(tmp_path / "B.mrc", (5, 8, 8), np.float32, pixel_size_angstrom=3.0, is_stack=True) as out:
        for _ in rising:
            out.write(np.zeros((8, 8), np.float32))
    told = {tilt: f"PriorRecordDose = {2.5 * ACQUIRED.index(tilt)}" for tilt in ACQUIRED}
    if by == "DateTime":
        told = {tilt: f"ExposureDose = 2.5\nDateTime = 25-Nov-26  23:59:{10 + ACQUIRED.index(tilt)}" for tilt in ACQUIRED}
    sections = (f"[ZValue = {z}]\nTiltAngle = {tilt}\nTargetDefocus = -3.5\n{told[tilt]}\n" for z, tilt in enumerate(listed))
    (tmp_path / "B.mrc.mdoc").write_text("Voltage = 300\n" + "".join(sections))
    (tmp_path / "B.rawtlt").write_text("\n".join(map(str, rising)))
    series = read_series(tmp_path / "B.mrc")
    assert series.acquired is not None
    assert series.exposure_before is not None
    assert [rising[view] for view in series.acquired] == list(ACQUIRED)
    assert series.exposure_before.tolist() == [2.5 * ACQUIRED.index(tilt) for tilt in rising]
    assert by in series.provenance["acquired"]
    assert (series.voltage_kv, series.target_defocus_nm) == (300.0, 3500.0)


def test_times_that_two_views_share_tell_no_order() -> None:
    text = "".join(f"[ZValue = {z}]\nExposureDose = 3\nDateTime = 25-Nov-26  10:00:0{z // 2}\n" for z in range(4))
    assert order_of_sections(parse_mdoc(text)) is None
    assert exposure_before_sections(parse_mdoc(text)) is None


@pytest.mark.parametrize("text", ["Voltage = 0", "Voltage = nan", "Voltage = 5", "Voltage = 300000", "Voltage = high"])
def test_a_voltage_that_no_microscope_has_is_not_known(text: str) -> None:
    assert parse_mdoc(f"{text}\n[ZValue = 0]\nTiltAngle = 0\n").voltage_kv is None
