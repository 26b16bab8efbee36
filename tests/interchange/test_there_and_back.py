"""What is exported for another program is read back as the same alignment: the writers and the readers agree on every sign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.audit import left_over, seen_by
from tiltflow.align.foreign import given_alignment
from tiltflow.errors import FormatError
from tiltflow.formats.find_alignment import find_alignment, read_alignment
from tiltflow.interchange.export import export_series
from tiltflow.model import Alignment
from tiltflow.observer import SILENT

FILES = {"imod": "TS_01.xf", "relion5": "**/TS_01.star", "aretomo": "TS_01.aln"}


def read_back(known, path: Path) -> Alignment:
    series = known.series
    size = (series.shape[2], series.shape[1])
    found = read_alignment(find_alignment(path, series.name), series.name, size, series.pixel_size_angstrom)
    with SILENT.stage("alignment given") as notes:
        return given_alignment(found, series, notes)


@pytest.mark.parametrize("target", sorted(FILES))
def test_an_export_is_read_back_as_the_same_geometry(write_known, target):
    known = write_known()
    (made,) = export_series(known.folder, [target])
    path = next(iter(sorted(made.folder.glob(FILES[target]))))
    back = read_back(known, path)
    used = known.alignment.included
    np.testing.assert_array_equal(back.included, used)
    # The programs differ in where they put the origin: points are compared after each is moved to its best position.
    rng = np.random.default_rng(0)
    ny, nx = known.series.shape[1:]
    points = np.c_[rng.uniform(-nx / 2, nx / 2, 30), rng.uniform(-ny / 2, ny / 2, 30), rng.uniform(-20, 20, 30)]
    there = left_over(back, seen_by(known.alignment, points))[:, used]
    assert np.abs(there).max() < 0.05
    np.testing.assert_allclose(back.tilt_deg[used], known.alignment.tilt_deg[used], atol=0.02)
    mine, ours = geometry.axis_angles(back.transforms), geometry.axis_angles(known.alignment.transforms)
    np.testing.assert_allclose(mine[used], ours[used], atol=0.01)


def test_what_warp_is_given_is_no_alignment_of_the_stack_and_refused_in_words(write_known):
    known = write_known()
    (made,) = export_series(known.folder, ["warp"])
    with pytest.raises(FormatError, match=r"has 7 views, and TS_01\.mrc has 9"):
        read_back(known, made.folder / "TS_01" / "TS_01.xf")


def test_our_own_files_are_read_back_with_the_pitch_that_was_written(write_known):
    known = write_known()
    back = read_back(known, known.folder / "TS_01.xf")
    assert known.x_axis_tilt_deg != 0
    assert back.x_axis_tilt_deg == pytest.approx(known.x_axis_tilt_deg, abs=0.01)
