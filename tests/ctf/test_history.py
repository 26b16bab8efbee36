"""Which exposures and which order of the views are believed, and what is said where neither is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.ctf.history import ExposureHistory, bidirectional_order, dose_symmetric_order, exposure_history
from tiltflow.ctf.requests import ExposureRequest
from tiltflow.errors import FormatError, LocationError, ParameterError
from tiltflow.model import TiltSeries

TILT = np.array([-6.0, -3.0, 0.0, 3.0, 6.0])
TAKEN = np.array([2, 3, 1, 0, 4])
"""Views in the order of acquisition."""
BEFORE = np.array([9.0, 6.0, 0.0, 3.0, 12.0])


def series(**known: Any) -> TiltSeries:
    return replace(TiltSeries.from_images(np.zeros((5, 8, 8), np.float32), TILT, pixel_size_angstrom=3.0), **known)


@pytest.mark.parametrize(
    ("known", "asked", "before", "source"),
    [
        ({"exposure": np.full(5, 3.0), "exposure_before": BEFORE}, {}, BEFORE, "before each"),
        ({"exposure_before": BEFORE}, {}, BEFORE, "differences"),
        ({"exposure": np.full(5, 3.0), "acquired": TAKEN}, {}, BEFORE, "the order of"),
        ({"exposure": np.full(5, 3.0), "acquired": TAKEN}, {"initial": 5.0}, BEFORE + 5, "the order of"),
        ({"acquired": TAKEN}, {"each": 2.0}, BEFORE * 2 / 3, "as stated"),
        ({}, {"each": 3.0, "scheme": "dose-symmetric"}, [12.0, 6.0, 0.0, 3.0, 9.0], "dose-symmetric"),
        ({}, {"each": 3.0, "scheme": "bidirectional", "first_views": 3}, [6.0, 3.0, 0.0, 9.0, 12.0], "bidirectional"),
        # What is stated comes before what the series tells.
        (
            {"exposure": np.full(5, 3.0), "exposure_before": BEFORE},
            {"each": 1.0, "scheme": "dose-symmetric"},
            [4, 2, 0, 1, 3],
            "stated",
        ),
        ({"exposure": np.full(5, 3.0)}, {"weight": "yes"}, [0.0, 3.0, 6.0, 9.0, 12.0], "order of the file"),
    ],
)
def test_the_exposure_before_each_view(known: dict[str, Any], asked: dict[str, Any], before: Any, source: str) -> None:
    found = exposure_history(series(**known), ExposureRequest(**({"weight": "if known"} | asked)))
    assert isinstance(found, ExposureHistory), found
    assert found.before.tolist() == pytest.approx(np.asarray(before, float).tolist())
    assert source in found.source
    assert found.assumed is ("order of the file" in found.source)
    assert (found.at_views == found.before + found.each / 2).all()
    assert (np.diff(found.before[found.order]) >= 0).all()


@pytest.mark.parametrize(
    ("known", "asked", "why"),
    [
        ({}, {}, "no source gives the exposures"),
        ({"acquired": TAKEN}, {}, "no source gives the exposures"),
        ({"exposure": np.full(5, 3.0)}, {}, "nothing tells the order"),
        ({}, {"each": 3.0}, "nothing tells the order"),
    ],
)
def test_what_is_not_known_is_not_assumed_unless_weighting_is_required(
    known: dict[str, Any], asked: dict[str, Any], why: str
) -> None:
    found = exposure_history(series(**known), ExposureRequest(weight="if known", **asked))
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize(
    ("columns", "text", "before", "each"),
    [
        (1, "3\n3\n3\n3\n3\n", [0, 3, 6, 9, 12], [3] * 5),
        (2, "9 3\n6 3\n0 3\n3 3\n12 3\n", BEFORE, [3] * 5),
        (3, "9,12\n6,9\n0,3\n3,6\n\n12,15\n", BEFORE, [3] * 5),
        (2, "9,0 3,0\n6,0 3,0\n0,0 3,0\n3,0 3,0\n12,0 3,0\n", BEFORE, [3] * 5),
    ],
)
def test_a_file_of_exposures(tmp_path: Path, columns: int, text: str, before: Any, each: list[float]) -> None:
    path = tmp_path / "doses.txt"
    path.write_text(text)
    found = exposure_history(series(), ExposureRequest(weight="yes", file=str(path), columns=columns))
    assert isinstance(found, ExposureHistory)
    assert (found.before.tolist(), found.each.tolist()) == (list(before), each)
    assert found.assumed is (columns == 1)


@pytest.mark.parametrize(
    ("columns", "text", "message"),
    [
        (1, "3\n3\n", "has 2 lines for 5 views"),
        (2, "3\n" * 5, "line 1: '3' does not begin with 2 numbers"),
        (1, "3\nthree\n" + "3\n" * 3, "line 2: 'three' does not begin with 1 number "),
        (1, "-3\n" * 5, "at least 0"),
        (1, "\udcff", "is not text"),
        (1, "nan\n" * 5, "at least 0"),
        (3, "3 2\n" * 5, "is less than what came before"),
    ],
)
def test_a_file_of_exposures_that_does_not_fit_is_refused_by_name(tmp_path: Path, columns: int, text: str, message: str) -> None:
    path = tmp_path / "doses.txt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FormatError, match=message) as error:
        exposure_history(series(), ExposureRequest(weight="yes", file=str(path), columns=columns))
    assert str(path) in str(error.value)


def test_a_file_of_exposures_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match=r"doses\.txt: the file of exposures cannot be read"):
        exposure_history(series(), ExposureRequest(weight="yes", file=str(tmp_path / "doses.txt")))


@given(st.integers(1, 60), st.data())
def test_the_orders_of_schemes_name_every_view_once(views: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, views))
    assert sorted(bidirectional_order(views, first)) == list(range(views))
    tilt = np.linspace(-60, 60, views)
    order = dose_symmetric_order(tilt)
    assert sorted(order) == list(range(views))
    assert (np.diff(np.abs(tilt[order] - tilt[order[0]])) >= -1e-3).all()


def test_the_stated_scheme_of_a_real_series_is_right_to_two_views() -> None:
    tilt = np.arange(-60, 61, 3.0)
    real = [*(117, 114, 105, 102, 93, 90, 81, 78, 69, 66, 57, 54, 45, 42, 33, 30, 21, 18, 9, 6, 0)]
    real += [*(3, 12, 15, 24, 27, 36, 39, 48, 51, 60, 63, 72, 75, 84, 87, 96, 99, 108, 111, 120)]
    known = replace(series(), tilt_deg=tilt, shape=(41, 8, 8))
    found = exposure_history(known, ExposureRequest(weight="yes", each=3.0, scheme="dose-symmetric"))
    assert isinstance(found, ExposureHistory)
    assert np.abs(found.before - np.array(real)).max() <= 6.0


@pytest.mark.parametrize(("first", "refused"), [(4, False), (5, False), (6, True), (50, True)])
def test_a_first_branch_of_more_views_than_there_are_is_refused_by_its_directive(first: int, refused: bool) -> None:
    asked = ExposureRequest(weight="yes", each=3.0, scheme="bidirectional", first_views=first)
    if not refused:
        assert isinstance(exposure_history(series(), asked), ExposureHistory)
        return
    with pytest.raises(ParameterError, match=rf"mtffilter\.BidirectionalNumViews = {first}: series has 5 views"):
        exposure_history(series(), asked)


def of_41(order: Any) -> TiltSeries:
    tilts = np.linspace(-60, 60, 41)
    made = TiltSeries.from_images(np.zeros((41, 8, 8), np.float32), tilts, pixel_size_angstrom=3.0)
    return replace(made, acquired=np.asarray(order), provenance={**made.provenance, "acquired": "TS.mdoc (DateTime)"})


SYMMETRIC = dose_symmetric_order(np.linspace(-60, 60, 41))
IN_FIVES = np.concatenate([[20], *(np.concatenate([np.arange(21, 26) + 5 * k, np.arange(19, 14, -1) - 5 * k]) for k in range(4))])


@pytest.mark.parametrize(
    ("taken", "asked", "doubted"),
    [
        (SYMMETRIC, {"scheme": "dose-symmetric"}, False),
        (40 - SYMMETRIC, {"scheme": "dose-symmetric"}, False),  # the negative side first
        (IN_FIVES, {"scheme": "dose-symmetric"}, False),
        (bidirectional_order(41, 21), {"scheme": "dose-symmetric"}, True),
        (SYMMETRIC, {"scheme": "bidirectional", "first_views": 21}, True),
        (bidirectional_order(41, 19), {"scheme": "bidirectional", "first_views": 21}, False),
        (np.arange(41), {"scheme": "bidirectional", "first_views": 21}, True),
        (np.arange(41), {"scheme": "told"}, False),
    ],
)
def test_a_stated_order_is_followed_and_doubted_where_the_series_tells_another(
    taken: Any, asked: dict[str, Any], doubted: bool
) -> None:
    found = exposure_history(of_41(taken), ExposureRequest(weight="yes", each=3.0, **asked))
    assert isinstance(found, ExposureHistory)
    assert bool(found.doubt) is doubted
    assert ("is not that of TS.mdoc (DateTime): views are" in found.doubt) is doubted
