"""Tilt angle files in IMOD's form."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.tilts import parse_tilt_column, parse_tilts, read_tilts, render_tilts, write_tilts


@pytest.mark.parametrize("name", ["sim.tlt", "sim.rawtlt"])
def test_a_file_of_imod_is_written_back_to_the_byte(data: Path, tmp_path: Path, name: str) -> None:
    source = data / "formats" / name
    angles = read_tilts(source)
    write_tilts(tmp_path / name, angles)
    assert len(angles) == 41
    assert (tmp_path / name).read_bytes() == source.read_bytes()


def test_every_tilt_file_of_the_references_is_written_back_to_the_byte(data: Path) -> None:
    files = [file for file in sorted(data.glob("*/*tlt")) if file.parent.name != "montage"]  # that of a simulator
    assert len(files) >= 6
    for file in files:
        assert render_tilts(read_tilts(file)) == file.read_text()


@given(st.lists(st.integers(-18000, 18000), min_size=1))
def test_angles_of_two_decimals_survive_the_round_trip(hundredths: list[int]) -> None:
    angles = np.array(hundredths) / 100
    assert np.array_equal(parse_tilts(render_tilts(angles)), angles)


@given(st.text(string.printable + "°−é"))
def test_a_text_gives_angles_or_an_error_that_names_the_line(text: str) -> None:
    message = "B.rawtlt, line "
    try:
        angles = parse_tilts(text, "B.rawtlt")
    except FormatError as error:
        message = str(error)
    else:
        assert np.isfinite(angles).all()
    assert message.startswith("B.rawtlt, line ")


def test_blank_lines_comments_and_several_angles_a_line_are_understood() -> None:
    assert parse_tilts("# first axis\n\n-60.5, -57\r\n  0.00 3e1  # last\n").tolist() == [-60.5, -57, 0, 30]


@pytest.mark.parametrize(
    ("text", "found"), [("1\ntwo\n", "'two'"), ("1\nnan\n", "nan"), ("1\n4000\n", "4000"), ("1\ninf\n", "inf")]
)
def test_a_word_that_is_no_angle_is_named_with_its_line(text: str, found: str) -> None:
    with pytest.raises(FormatError, match=f"B.tlt, line 2: {found}"):
        parse_tilts(text, "B.tlt")


@pytest.mark.parametrize(
    ("text", "angles"),
    [
        ("-60,00\n-57,5\n0,00\n", [-60, -57.5, 0]),
        ("-60,00 -57,50\n", [-60, -57.5]),
        ("-60,-57\n", [-60, -57]),
        ("-60.5,-57.5\n", [-60.5, -57.5]),
        ("-60,00\n-57.0\n", [-60, 0, -57]),
        ("0,3,6\n", [0, 3, 6]),
    ],
)
def test_commas_are_decimal_if_every_number_has_one(text: str, angles: list[float]) -> None:
    assert parse_tilts(text).tolist() == angles


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ("{tilt} {dose}", "column 1 of 2"),
        ("{number} {tilt}", "column 2 of 2"),
        ("{number} {tilt} {dose}", "column 2 of 3"),
        ("{number} {tilt} frame_{number}.tif", "column 2 of 3"),
        ("{tilt},{dose}", "column 1 of 2"),
        ("{tilt}", ""),
    ],
)
def test_the_column_of_the_angles_is_found_among_others(rows: str, column: str) -> None:
    tilts = [-60.0, -57.0, 0.0, 12.5]
    text = "\n".join(rows.format(tilt=tilt, dose=100.0 * place, number=place + 1) for place, tilt in enumerate(tilts))
    angles, found = parse_tilt_column(text, 4)
    assert (angles.tolist(), found) == (tilts, column)


@pytest.mark.parametrize("text", ["1 3\n2 6\n3 9\n", "-3 -1\n0 0\n3 1\n"])
def test_columns_of_which_none_or_several_may_be_the_angles_are_an_error(text: str) -> None:
    with pytest.raises(FormatError, match=r"B.rawtlt: has 2 numbers on each of its 3 lines, and it cannot be told which"):
        parse_tilt_column(text, 3, "B.rawtlt")


def test_several_angles_a_line_are_no_columns() -> None:
    assert parse_tilt_column("-6 -3\n0 3\n", 4)[0].tolist() == [-6, -3, 0, 3]
    assert parse_tilt_column("-6 -3\n0\n", 2)[0].tolist() == [-6, -3, 0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_angles_are_read_in_the_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "B.rawtlt").write_bytes("-60.00\r\n-57.00\r\n".encode(encoding))
    assert read_tilts(tmp_path / "B.rawtlt").tolist() == [-60, -57]


def test_a_binary_file_and_a_missing_one_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "B.tlt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(FormatError, match="is not text"):
        read_tilts(tmp_path / "B.tlt")
    with pytest.raises(LocationError, match="No such file"):
        read_tilts(tmp_path / "C.tlt")
