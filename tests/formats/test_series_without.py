"""A series without something: sources whose count does not fit, that are not understood, or that are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.formats.beside import TILTS, messages, write_mdoc

from tiltflow.errors import FormatError, LocationError, MissingValueError
from tiltflow.formats.series import SeriesHints, read_series
from tiltflow.formats.tilts import write_tilts

MakeMrc = Callable[..., Path]

# Counts that do not fit


def test_an_angle_file_with_another_count_is_an_error_that_names_both(make_series: Callable[..., Path]) -> None:
    path = make_series()
    write_tilts(path.with_suffix(".rawtlt"), TILTS[:4])
    with pytest.raises(FormatError, match=r"B.rawtlt: has 4 angles, but B.mrc has 5 views"):
        read_series(path)
    series = read_series(path, SeriesHints(first_tilt_deg=-40, tilt_increment_deg=20))
    assert "B.rawtlt: has 4 angles, but B.mrc has 5 views" in messages(series)


def test_an_angle_file_that_is_not_understood_is_an_error(make_series: Callable[..., Path]) -> None:
    path = make_series()
    path.with_suffix(".rawtlt").write_text("tilt angles\n")
    with pytest.raises(FormatError, match=r"B.rawtlt, line 1: 'tilt' is not an angle"):
        read_series(path)


def test_other_sources_with_another_count_are_passed_over_and_reported(make_series: Callable[..., Path]) -> None:
    path = make_series()
    write_mdoc(path, tilts=np.arange(9.0))
    write_tilts(path.with_suffix(".tlt"), [1, 2])
    series = read_series(path)
    assert series.provenance["tilt_deg"].startswith("extended header")
    assert series.exposure is None
    assert "B.mrc.mdoc: 9 angles for 5 views; not used" in messages(series)
    assert "B.mrc.mdoc: exposures of 9 views for 5; not used" in messages(series)
    assert "B.tlt: 2 angles for 5 views; not used" in messages(series)


def test_an_mdoc_that_is_not_understood_is_reported_and_passed_over(make_series: Callable[..., Path]) -> None:
    path = make_series()
    path.with_name("B.mdoc").write_text("nothing\n")
    path.with_suffix(".tlt").write_text("nothing\n")
    series = read_series(path)
    assert np.array_equal(series.tilt_deg, TILTS)
    assert "B.mdoc: has no [ZValue = ...] section" in messages(series)
    assert "B.tlt, line 1: 'nothing' is not an angle" in messages(series)


# Nothing to go by


def test_no_angles_anywhere_is_an_error_that_lists_what_was_found_in_each_source(make_series: Callable[..., Path]) -> None:
    path = make_series(np.zeros(5))
    mdoc = write_mdoc(path)
    mdoc.write_text(mdoc.read_text().replace("TiltAngle = 20.0\n", ""))
    with pytest.raises(MissingValueError) as caught:
        read_series(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: no tilt angles for 5 views.")
    for part in (
        "directive setupset.copyarg.firstinc: not given",
        "B.rawtlt: no such file",
        "B.mrc.mdoc: no TiltAngle in 1 of 5 sections (ZValue 3)",
        "extended header (SerialEM): all 5 angles are 0.00",
        "B.tlt: no such file",
        "Put them into B.rawtlt",
    ):
        assert part in message


def test_without_an_extended_header_or_with_an_unknown_one_the_error_says_so(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    with pytest.raises(MissingValueError, match="extended header: none;"):
        read_series(make_mrc(images))
    with pytest.raises(MissingValueError, match="extended header: of an unknown kind;"):
        read_series(make_mrc(images, extended=bytes(1024), kind=b"CCP4"))


def test_an_angle_file_that_is_asked_for_must_be_there_and_hold_angles(make_series: Callable[..., Path]) -> None:
    path, hints = make_series(), SeriesHints(use_rawtlt=True)
    with pytest.raises(MissingValueError, match=r"B.rawtlt: no such file, and setupset.copyarg.userawtlt asks for its angles"):
        read_series(path, hints)
    write_tilts(path.with_suffix(".rawtlt"), np.zeros(5))
    with pytest.raises(MissingValueError, match=r"B.rawtlt: all 5 angles are 0.00, and"):
        read_series(path, hints)
    write_tilts(path.with_suffix(".rawtlt"), TILTS)
    assert read_series(path, hints).provenance["tilt_deg"].startswith("B.rawtlt")


def test_without_an_axis_zero_is_taken_and_said(make_series: Callable[..., Path]) -> None:
    series = read_series(make_series(axis=None))
    assert series.axis_angle_deg == 0
    assert "no source gives the tilt axis angle; it is looked for in the images" in messages(series)
    assert series.provenance["axis_angle_deg"].startswith("assumed")


@pytest.mark.parametrize("cell", [(0, 0, 0), (4, 6, 5)])
def test_without_a_pixel_size_one_angstrom_is_taken_and_said(make_series: Callable[..., Path], cell: tuple[float, ...]) -> None:
    series = read_series(make_series(cell=cell))
    assert series.pixel_size_angstrom == 1
    assert "no source gives the pixel size" in messages(series)
    assert series.provenance["pixel_size_angstrom"].startswith("assumed")


def test_a_missing_stack_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match=r"B.mrc: cannot be read"):
        read_series(tmp_path / "B.mrc")
