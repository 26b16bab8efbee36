"""Transform files in IMOD's form."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow import geometry
from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.transforms import parse_transforms, read_transforms, render_transforms, write_transforms


@pytest.mark.parametrize(("name", "views"), [("sim.xf", 41), ("BBa.prexg", 61), ("BBa.tltxf", 61)])
def test_a_file_of_imod_is_written_back_to_the_byte(data: Path, tmp_path: Path, name: str, views: int) -> None:
    source = data / "formats" / name
    transforms = read_transforms(source)
    write_transforms(tmp_path / name, transforms)
    assert transforms.shape == (views, 2, 3)
    assert (tmp_path / name).read_bytes() == source.read_bytes()


def test_the_six_numbers_are_matrix_by_rows_then_shift(data: Path) -> None:
    first = read_transforms(data / "formats" / "sim.xf")[0]
    assert first.tolist() == [[0.9903022, -0.1389341, 31.148], [0.1389341, 0.9903022, -1.724]]


def test_the_transform_of_a_simulated_series_undoes_its_axis_angle(data: Path) -> None:
    transforms = read_transforms(data / "formats" / "sim.xf")
    assert np.allclose(geometry.axis_angles(transforms), -8, atol=0.25)


@given(
    st.lists(
        st.tuples(*[st.integers(-(10**8), 10**8)] * 4, *[st.integers(-(10**6), 10**6)] * 2),
        min_size=1,
    )
)
def test_numbers_of_the_decimals_written_survive_the_round_trip(rows: list[tuple[int, ...]]) -> None:
    six = np.array(rows) / np.array([1e7] * 4 + [1e3] * 2)
    transforms = geometry.transform(six[:, :4].reshape(-1, 2, 2), six[:, 4:])
    assert np.array_equal(parse_transforms(render_transforms(transforms)), transforms)


@given(st.text(string.digits + "+-.eE naninf\t\n", max_size=200))
def test_a_text_gives_transforms_or_an_error_that_names_the_line(text: str) -> None:
    message = "B.xf, line "
    try:
        transforms = parse_transforms(text, "B.xf")
    except FormatError as error:
        message = str(error)
    else:
        assert transforms.shape[1:] == (2, 3)
        assert np.isfinite(transforms).all()
    assert message.startswith("B.xf, line ")


def test_one_transform_alone_is_written_as_one_line() -> None:
    assert render_transforms(np.eye(2, 3)) == f"{1:12.7f}{0:12.7f}{0:12.7f}{1:12.7f}{0:12.3f}{0:12.3f}\n"


@pytest.mark.parametrize("line", ["1 0 0 1 0", "1 0 0 1 0 0 0", "1 0 0 1 0 x", "1 0 0 1 0 nan"])
def test_a_line_that_is_no_transform_is_quoted(line: str) -> None:
    with pytest.raises(FormatError, match=f"B.xf, line 2: '{line}' is not a transform"):
        parse_transforms(f"1 0 0 1 0 0\n{line}\n", "B.xf")


def test_a_binary_file_and_a_missing_one_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "B.xf").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(FormatError, match="is not text"):
        read_transforms(tmp_path / "B.xf")
    with pytest.raises(LocationError, match="No such file"):
        read_transforms(tmp_path / "C.xf")
