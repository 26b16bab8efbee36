"""Files of the MTF of a camera."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.mtf import read_mtf


def test_two_columns_are_read(tmp_path):
    path = tmp_path / "camera.mtf"
    path.write_text("# a camera\n0.1 0.9\n\n 0.3\t0.5  # half\n0.5, 0.1\n")
    mtf = read_mtf(path)
    assert mtf.at([0, 0.05, 0.1, 0.2, 0.5, 0.7]) == pytest.approx([1, 0.95, 0.9, 0.7, 0.1, 0.1])


def test_decimal_commas_are_read(tmp_path):
    path = tmp_path / "camera.mtf"
    path.write_text("0,1 0,9\n0,5 0,1\n")
    np.testing.assert_array_equal(read_mtf(path).frequency, [0.1, 0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least two lines"),
        ("0.1 0.9\n", "1 found"),
        ("0.1 0.9\n0.5 half\n", "line 2: '0.5 half'"),
        ("0.1 0.9 1\n0.5 0.2\n", "line 1"),
        ("0.1\n0.5 0.2\n", "line 1"),
        ("0.1 0.9\n0.5 -0.2\n", "line 2.*0 to 2"),
        ("-0.1 0.9\n0.5 0.2\n", "line 1"),
        ("0.1 nan\n0.5 0.2\n", "line 1"),
        ("0.1 0.9\n0.1 0.8\n0.5 0.2\n", "0.1 follows 0.1"),
        ("0.1 0.9\n10 0.2\n", "end at 10"),
        ("0.1 0.9\n0.2 0.2\n", "end at 0.2"),
    ],
)
def test_what_is_no_mtf_is_refused(tmp_path, text, message):
    path = tmp_path / "camera.mtf"
    path.write_text(text)
    with pytest.raises(FormatError, match=message) as caught:
        read_mtf(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(LocationError, match=r"camera\.mtf"):
        read_mtf(tmp_path / "camera.mtf")
    (tmp_path / "other").write_bytes(b"\xff\xfe\xff\x00\x81")
    with pytest.raises(FormatError):
        read_mtf(tmp_path / "other")
