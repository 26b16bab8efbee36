"""Plots: what is drawn lies where the axes say that it lies, and nothing that can be drawn breaks them."""

from __future__ import annotations

import base64
import io
import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.report.read_svg import ROUNDING, Drawing, parts

from tiltflow.report.charts import BAD, FIRST, GOOD, INK, SECOND, draw
from tiltflow.report.strokes import text_width

SIZE = (400.0, 194.0)
NUMBERS = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)
ANYTHING = st.floats(allow_nan=True, allow_infinity=True)


def drawn(paint, size=SIZE):
    return Drawing(draw("what it shows", paint, size=size))


def near(drawing, found, expected):
    """Whether points, `(n, 2)`, are those expected, to the tenth of a unit that the drawing tells them by."""
    tolerance = [ROUNDING / drawing.unit("x"), ROUNDING / drawing.unit("y")]
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and bool((np.abs(found - expected) <= 2 * np.array(tolerance) + 1e-9).all())


def test_points_and_the_line_through_them_lie_at_their_numbers():
    x, y = np.linspace(-60, 60, 41), np.random.default_rng(0).normal(3, 20, 41)
    seen = drawn(lambda axes: axes.plot(x, y, FIRST, mark="o"))
    (line,), points = seen.paths("stroke:var(--plot-1)")
    assert near(seen, line, np.column_stack((x, y)))
    assert near(seen, [point[0] for point in points], np.column_stack((x, y)))


def test_up_is_up_and_right_is_right():
    seen = drawn(lambda axes: axes.plot([0, 1], [0, 1], FIRST))
    (start, stop) = parts(seen.axes.find("path").get("d"))[0]
    assert start[0] < stop[0]
    assert start[1] > stop[1]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_all_that_is_drawn_lies_within_the_axes_whose_ticks_are_few_and_all_different(points):
    svg = draw("", lambda axes: axes.plot(*zip(*points, strict=True), FIRST, mark="s"), size=SIZE)
    assert "nan" not in svg
    assert "inf" not in svg
    seen = Drawing(svg)
    corners = np.concatenate([part for path in seen.axes.iter("path") for part in parts(path.get("d"))])
    assert (corners >= 0).all()
    assert (corners <= [seen.right - seen.left, seen.bottom - seen.top]).all()
    for axis, (low, high) in {"x": (seen.left, seen.right), "y": (seen.top, seen.bottom)}.items():
        ticks = seen.ticks(axis)
        assert 2 <= len(ticks) <= 9
        assert all(low - ROUNDING <= place <= high + ROUNDING for place in ticks.values())


@given(st.lists(ANYTHING, max_size=12), st.lists(ANYTHING, max_size=12))
def test_no_number_breaks_a_plot(x, y):
    length = min(len(x), len(y))
    x, y = np.array(x[:length]), np.array(y[:length])

    def paint(axes):
        with np.errstate(all="ignore"):
            axes.plot(x, y, FIRST, mark="o", label="one")
            axes.errorbar(x, y, np.abs(y), INK)
            axes.bar(x, y, 0.8, FIRST, bottom=y)
            axes.barh(y, x, 0.5, FIRST)
            axes.stairs(y, np.arange(length + 1.0), SECOND)
            axes.quiver(x, y, y, x, BAD)
            axes.axvline(x, BAD, dash="dotted")
        for number in y[:1]:
            axes.axhline(number, GOOD)
            axes.axhspan(number, 1.0, GOOD)
            axes.axvspan(number, number, GOOD)
            axes.note_above("here", number, "start")

    svg = draw("", paint, size=SIZE)
    assert "nan" not in svg
    assert "inf" not in svg
    seen = Drawing(svg)
    assert seen.ticks("x")
    assert seen.ticks("y")


@pytest.mark.parametrize("value", [0.0, 0.8, -3.0, 1e-7, 123456.0, 7e9, 1e-200, 1e200])
def test_a_single_value_stands_in_the_middle(value):
    seen = drawn(lambda axes: axes.plot([value], [value], FIRST, mark="o", line=False))
    (point,) = parts(seen.axes.find("path").get("d"))
    assert point[0] == pytest.approx([(seen.right - seen.left) / 2, (seen.bottom - seen.top) / 2], abs=0.2)
    assert len(seen.ticks("y")) >= 2


def test_nothing_gives_empty_axes():
    seen = drawn(lambda axes: axes.plot([], [], FIRST, mark="o"))
    assert seen.limits("x") == pytest.approx((-0.05, 1.05), abs=0.01)
    assert not [path for path in seen.axes.iter("path") if path.get("d")]


def test_what_is_no_number_is_a_gap_in_a_line():
    seen = drawn(lambda axes: axes.plot(range(6), [0, 1, math.nan, 3, math.inf, 5], FIRST))
    (line,) = seen.paths("stroke:var(--plot-1)")
    assert [len(part) for part in line] == [2, 1, 1]
    assert seen.limits("y")[1] < 6


def test_bars_stand_on_what_is_below_them_and_reach_their_heights():
    x, low, more = np.array([-10.0, 0.0, 10.0]), np.array([3.0, 4.0, 5.0]), np.array([2.0, 0.0, 1.0])

    def paint(axes):
        axes.bar(x, low, 8, FIRST)
        axes.bar(x, more, 8, SECOND, bottom=low)

    seen = drawn(paint)
    ((first,), (second,)) = ([seen.paths(f"fill:{color}")[0]] for color in (FIRST, SECOND))
    for box, at, bottom, top in [
        *zip(first, x, (0, 0, 0), low, strict=True),
        *zip(second, x, low, low + more, strict=True),
    ]:
        assert near(seen, [box.min(axis=0), box.max(axis=0)], [[at - 4, bottom], [at + 4, top]])
    assert seen.limits("y")[0] == pytest.approx(0, abs=0.02), "there is nothing below the floor that bars stand on"


def test_bars_across_begin_at_the_left_edge_beside_their_names():
    def paint(axes):
        axes.barh([1, 0], [5.0, 2.0], 0.7, FIRST)
        axes.set_yticks([1, 0], ["the long one", "short"])
        axes.grid(x=True, y=False)

    seen = drawn(paint)
    ((long, short),) = ([part[:, 0] for part in path] for path in [parts(seen.axes.find("path").get("d"))])
    assert long.min() == short.min() == 0
    assert seen.values("x", long.max() + seen.left) == pytest.approx(5, abs=0.02)
    names = seen.ticks("y")
    assert names["the long one"] < names["short"]
    assert seen.left >= text_width("the long one"), "names have the room that they need"


def test_a_histogram_is_a_staircase_from_edge_to_edge():
    seen = drawn(lambda axes: axes.stairs([1.0, 4.0, 2.0], [0.0, 1.0, 2.0, 3.0], FIRST))
    ((outline,),) = seen.paths("fill:var(--plot-1)")
    assert near(seen, outline, [[0, 0], [0, 1], [1, 1], [1, 4], [2, 4], [2, 2], [3, 2], [3, 0]])


def test_errors_reach_one_error_up_and_down():
    seen = drawn(lambda axes: axes.errorbar([1, 2], [10, 20], [3, 0.5], INK))
    ((first, second),) = seen.paths("stroke:var(--ink)")
    assert near(seen, [*first, *second], [[1, 7], [1, 13], [2, 19.5], [2, 20.5]])


def test_lines_and_shades_over_the_whole_width_lie_at_their_numbers():
    def paint(axes):
        axes.plot([0, 10], [0, 1], FIRST)
        axes.axhline(2.0, GOOD, dash="dashed", label="good up to 2")
        axes.axvline([3.0, 7.0], BAD, dash="dotted")
        axes.axhspan(0.5, 0.75, SECOND)

    seen = drawn(paint)
    ((level,),) = seen.paths(f"stroke:{GOOD}", stroke_dasharray="5 2.5")
    assert near(seen, level, [[seen.limits("x")[0], 2], [seen.limits("x")[1], 2]])
    ((three, seven),) = seen.paths(f"stroke:{BAD}")
    assert [three[0, 0], seven[0, 0]] == pytest.approx([3, 7], abs=0.02)
    ((shade,),) = seen.paths(f"fill:{SECOND}")
    assert [shade[:, 1].min(), shade[:, 1].max()] == pytest.approx([0.5, 0.75], abs=0.02)
    assert seen.limits("y")[1] > 2, "a limit that is drawn is seen"


def test_arrows_point_from_the_tail_to_the_head_and_are_as_long_as_the_vector():
    def paint(axes):
        axes.quiver([10, 50], [10, 50], [30, 0], [0, -20], BAD)
        axes.set(xlim=(0, 100), ylim=(0, 100), equal=True)

    seen = drawn(paint, (400, 400))
    ((right, down),) = seen.paths(f"fill:{BAD}")
    assert near(seen, [right[0], right[np.argmax(right[:, 0])]], [[10, 10], [40, 10]])
    assert near(seen, [down[0], down[np.argmin(down[:, 1])]], [[50, 50], [50, 30]])


@pytest.mark.parametrize(("width", "height"), [(512, 512), (1024, 300), (300, 1024)])
def test_a_picture_lies_under_the_points_in_true_proportions(width, height):
    picture = np.zeros((8, 16), np.uint8)
    picture[0, 0] = 200

    def paint(axes):
        axes.imshow(picture, (0, width, 0, height))
        axes.plot([0, width], [height, 0], FIRST, mark="o", line=False)
        axes.set(xlabel="x, px", ylabel="y, px", xlim=(0, width), ylim=(0, height), equal=True, box=True)

    seen = drawn(paint, (400, 309))
    assert seen.unit("x") == pytest.approx(seen.unit("y"), rel=0.01)
    image = seen.axes.find("image")
    size = [float(image.get(name)) for name in ("x", "y", "width", "height")]
    assert size == pytest.approx([0, 0, seen.right - seen.left, seen.bottom - seen.top], abs=0.2)
    content = base64.b64decode(image.get("href").split(",")[1])
    with Image.open(io.BytesIO(content)) as shown:
        assert (np.asarray(shown) == picture).all(), "the top row is the first"
    first, last = parts(seen.axes.find("path").get("d"))
    assert first[0].tolist() == [0, 0], "the upper left corner of the picture is x = 0, y = height"
    assert last[0] == pytest.approx(size[2:], abs=0.2)


def test_limits_that_are_set_hold_and_the_other_end_follows_the_data():
    def paint(axes):
        axes.plot([2, 4], [-5, 8], FIRST)
        axes.set(xlim=(0, None), ylim=(-1, 1), xlabel="time, s", ylabel="height, m")

    seen = drawn(paint)
    assert seen.limits("x")[0] == pytest.approx(0, abs=0.02)
    assert seen.limits("x")[1] >= 4
    assert seen.limits("y") == pytest.approx((-1, 1), abs=0.02)
    assert {"time, s", "height, m"} <= set(seen.texts)


def test_a_range_is_never_less_than_the_least():
    def paint(axes):
        axes.plot([0, 1], [5.0, 5.1], FIRST)
        axes.set(least_height=1.0)

    low, high = drawn(paint).limits("y")
    assert high - low == pytest.approx(1.0, abs=0.02)
    assert (low + high) / 2 == pytest.approx(5.05, abs=0.02)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-60.0, 60.0, ["−60", "−40", "−20", "0", "20", "40", "60"]),
        (0.0, 0.12, ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10", "0.12"]),
        (3.0, 3.004, ["3.000", "3.001", "3.002", "3.003", "3.004"]),
        (-8e6, 8e6, ["−5e6", "0", "5e6"]),
        (0.0, 5e-6, ["0", "1e-6", "2e-6", "3e-6", "4e-6", "5e-6"]),
    ],
)
def test_ticks_are_round_numbers_with_as_many_decimals_as_they_need(low, high, expected):
    assert list(drawn(lambda axes: axes.plot([low, high], [0, 1], FIRST)).ticks("x")) == expected


@pytest.mark.parametrize("high", [1.0, 12.5, 1000.0, 99999.0, 987654.0, 3.00001])
def test_no_number_at_an_axis_is_cut_off_or_runs_into_another(high):
    low = 3.0 if high == 3.00001 else 0.0

    def paint(axes):
        axes.plot([low, high], [low, -high], FIRST)
        axes.set(xlabel="x", ylabel="y")

    seen = drawn(paint)
    for text in seen.group.findall("text"):
        if text.get("transform") is None:
            at, width = float(text.get("x")), text_width(text.text)
            left = at - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor")]
            assert left >= 18 or text.get("text-anchor") != "end", "beside the name of the axis"
            assert left >= 0
            assert left + width <= seen.width + ROUNDING
    places = sorted((place, text_width(label)) for label, place in seen.ticks("x").items())
    for (one, width), (other, more) in itertools.pairwise(places):
        assert other - one >= (width + more) / 2


def test_the_legend_stands_above_the_axes_with_an_example_of_each():
    def paint(axes):
        axes.plot([0, 1], [0, 1], FIRST, mark="o", label="used")
        axes.plot([0, 1], [1, 0], INK)
        axes.bar([0, 1], [1, 1], 0.5, SECOND, label="lost")

    seen = drawn(paint)
    entries = seen.group.findall("g")
    assert [entry.find("text").text for entry in entries] == ["used", "lost"]
    assert [re.findall(r"var\(--[\w-]+\)", entry.find("path").get("style"))[0] for entry in entries] == [FIRST, SECOND]
    places = [list(map(float, re.findall(r"[\d.]+", entry.get("transform")))) for entry in entries]
    assert all(y + 4 < seen.top for _, y in places)
    assert places[1][0] > places[0][0] + 16 + text_width("used", 8.5)


def test_a_plot_without_a_legend_leaves_no_room_for_one():
    assert drawn(lambda axes: axes.plot([0, 1], [0, 1], FIRST)).top < drawn(lambda axes: axes.plot([0], [0], FIRST, label="a")).top


def test_a_note_is_above_its_place_and_turns_where_the_drawing_ends():
    def paint(axes):
        axes.plot([0, 10], [0, 1], FIRST)
        axes.note_above("middle", 5.0, "start")
        axes.note_above("at the end", 10.0, "start")

    seen = drawn(paint)
    notes = {text.text: text for text in seen.group.findall("text")}
    assert notes["middle"].get("text-anchor") == "start"
    assert notes["at the end"].get("text-anchor") == "end"
    assert float(notes["middle"].get("y")) < seen.top
    assert seen.values("x", float(notes["middle"].get("x"))) == pytest.approx(5, abs=0.1)


def test_what_is_written_is_escaped():
    hostile = '"><script>alert(1)</script>&'

    def paint(axes):
        axes.plot([0, 1], [0, 1], FIRST, label=hostile)
        axes.set_yticks([0.5], [hostile])
        axes.note_above(hostile, 0.5, "middle")
        axes.set(xlabel=hostile, ylabel=hostile)

    svg = draw(hostile, paint, size=SIZE)
    assert "<script" not in svg
    seen = Drawing(svg)
    assert seen.root.get("aria-label") == hostile
    assert seen.texts.count(hostile) == 5


def test_an_element_names_nothing_and_refers_to_nothing():
    svg = draw("", lambda axes: axes.plot([0, 1], [0, 1], FIRST, mark="o", label="a"), size=SIZE)
    assert not re.search(r'\bid=|url\(|href=|class="(?!plot")|<style', svg)


def test_what_lies_beyond_limits_that_are_set_is_cut_off():
    def paint(axes):
        axes.plot([0, 1, 2], [0, 1e12, 0], FIRST)
        axes.set(ylim=(0, 1))

    seen = drawn(paint)
    assert seen.axes.get("overflow") is None, "an inner element cuts off what lies outside, unless told otherwise"
    assert abs(parts(seen.axes.find("path").get("d"))[0]).max() < 1e4
