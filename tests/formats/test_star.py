"""STAR files as RELION reads them."""

import pytest
import starfile

from tiltflow.errors import ParameterError
from tiltflow.formats.star import render_star


@pytest.mark.parametrize("rows", [1, 3])
def test_a_block_is_read_back_as_it_was_written(tmp_path, rows):
    path = tmp_path / "some.star"
    path.write_text(
        render_star(
            "TS_01", {"rlnTomoYTilt": [-60.25] * rows, "rlnTomoHand": [-1] * rows, "rlnMicrographName": ["1@a.mrcs"] * rows}
        )
    )
    (table,) = starfile.read(path, always_dict=True).values()
    assert list(starfile.read(path, always_dict=True)) == ["TS_01"]
    assert table.to_numpy().tolist() == [[-60.25, -1, "1@a.mrcs"]] * rows


@pytest.mark.parametrize(
    ("block", "columns", "says"),
    [
        ("TS 01", {"a": [1]}, "'TS 01' cannot be written to a STAR file"),
        ("TS_01", {"a": ["my stack.mrc"]}, "'my stack.mrc' cannot"),
        ("TS_01", {"a": [""]}, "'' cannot"),
        ("TS_01", {"a": [1], "b": [1, 2]}, "different lengths"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused(block, columns, says):
    with pytest.raises(ParameterError, match=says):
        render_star(block, columns)
