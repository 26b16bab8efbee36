"""eTomo's data file."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.formats.edf import parse_edf, render_edf, view_list


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_list_of_views_stands_for_exactly_those_that_are_left_out(included):
    views: set[int] = set()
    for part in filter(None, view_list(included).split(",")):
        first, _, last = part.partition("-")
        views.update(range(int(first), int(last or first) + 1))
    assert views == {int(view) + 1 for view in np.flatnonzero(~np.array(included))}


def test_what_is_written_is_read():
    entries = {"Setup.DatasetName": "TS_01", "Setup.ImageRotationA": "-8", "Setup.AxisA.ExcludeProjections": ""}
    text = render_edf(entries, "Mon Jan 5")
    assert text.startswith("#Mon Jan 5\n")
    assert parse_edf(text) == entries


def test_comments_and_lines_without_an_equals_sign_are_no_entries():
    assert parse_edf("#a=b\n!c=d\nnothing\nk = v = w\n") == {"k": "v = w"}
