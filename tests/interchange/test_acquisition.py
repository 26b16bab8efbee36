"""The exposure before each view, from an `.mdoc` in whatever order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tiltflow.interchange.acquisition import acquisition_order, exposure_before_each_view

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
