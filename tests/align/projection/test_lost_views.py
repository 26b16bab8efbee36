"""Which views are recognised nowhere, and when some are left out for it."""

import numpy as np
import pytest

from tiltflow.align.projection.lost_views import lost_views, reasons_to_leave_out

SOUND = np.full(10, 0.8)


@pytest.mark.parametrize(
    ("correlation", "height", "rival", "lost"),
    [
        pytest.param(0.04, 3.4, 4.0, True, id="no peak"),
        pytest.param(0.8, 5.9, 1.0, True, id="a peak that noise reaches, however it correlates"),
        pytest.param(0.39, 8.0, 6.7, True, id="another place is nearly as good, and the correlation is poor"),
        pytest.param(0.41, 8.0, 6.7, False, id="the correlation is not poor"),
        pytest.param(0.39, 20.0, 6.7, False, id="no other place is nearly as good"),
    ],
)
def test_a_view_is_lost_that_may_be_anywhere(correlation, height, rival, lost):
    found = lost_views(np.append(SOUND, correlation), np.append(np.full(10, 30.0), height), np.append(np.full(10, 6.0), rival))
    assert found.tolist() == ([10] if lost else [])


@pytest.mark.parametrize(("lost", "left_out"), [(0, 0), (1, 1), (3, 3), (4, 0), (10, 0)])
def test_no_view_is_left_out_where_a_third_of_them_are_lost_or_more(lost, left_out):
    assert len(reasons_to_leave_out(np.arange(lost), SOUND)) == left_out


def test_views_that_take_no_part_are_not_counted():
    correlation = np.append(np.full(3, 0.8), np.full(7, np.nan))
    assert reasons_to_leave_out(np.array([0]), correlation) == {}
