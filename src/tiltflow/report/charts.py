"""Plots as small SVG elements that take their colours and their font from the page: light, dark and printed.

A plot of a page is some lines, bars and points over two axes with round numbers.  This draws just that, in milliseconds; the methods of
:class:`Axes` have the names that those who draw plots know.  Nothing in an element has a name of its own, so that no two can clash.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image as Pillow

from tiltflow.report.scales import Axis, Floats, Limits, Scale, written
from tiltflow.report.strokes import (
    FONT,
    SMALL_FONT,
    Anchor,
    Dash,
    Mark,
    arrow,
    filled,
    joined,
    known,
    lettered,
    marks,
    n,
    shaded,
    stroked,
    text_width,
)

INK = "var(--ink)"
SOFT = "var(--soft)"
FAINT = "var(--line)"
FIRST = "var(--plot-1)"
SECOND = "var(--plot-2)"
THIRD = "var(--plot-3)"
GOOD = "var(--good)"
BAD = "var(--poor)"

Layer = Callable[[Scale, Scale], str]

_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 10.0, 8.0, 34.0
_LEGEND = 16.0
"""Height of the line of text above the axes."""
_X_APART, _Y_APART = 44.0, 22.0
_SWATCH, _GAP = 16.0, 14.0


def draw(description: str, paint: Callable[[Axes], None], *, size: tuple[float, float]) -> str:
    """Return what `paint` draws, as an SVG element.

    Parameters
    ----------
    description
        What those hear who cannot see it.
    size
        Width and height, units of the drawing; its letters are 9 high.
    """
    axes = Axes()
    paint(axes)
    return axes.render(description, size)


class Axes:
    """What is drawn over two axes, whose limits follow the data unless they are set.

    Values that are no numbers leave a gap.  Colours are those of the page, as :data:`INK` and :data:`FIRST`.
    """

    def __init__(self) -> None:
        self._x, self._y = Axis(), Axis()
        self._layers: list[Layer] = []
        self._notes: list[Layer] = []
        self._labels: list[tuple[str, str]] = []
        self._equal = self._box = False

    def plot(
        self,
        x: ArrayLike,
        y: ArrayLike,
        color: str,
        *,
        mark: Mark = "",
        line: bool = True,
        width: float = 1.4,
        label: str = "",
    ) -> None:
        """Draw a line through points, points, or both."""
        across, up = self._x.see(x), self._y.see(y)

        def layer(to_x: Scale, to_y: Scale) -> str:
            at = np.column_stack((to_x(across), to_y(up)))
            return (stroked(joined(at), color, width) if line else "") + (marks(at, color, mark) if mark else "")

        self._layers.append(layer)
        here = np.array([[_SWATCH / 2, 0.0]])
        swatch = (stroked(f"M0 0H{_SWATCH:g}", color, width) if line else "") + (marks(here, color, mark) if mark else "")
        self._labels.append((label, swatch))

    def errorbar(self, x: ArrayLike, y: ArrayLike, error: ArrayLike, color: str) -> None:
        """Draw a bar of one error up and one down at each point."""
        across, middle, half = self._x.see(x), np.atleast_1d(np.asarray(y, float)), np.atleast_1d(np.asarray(error, float))
        low, high = self._y.see(middle - half), self._y.see(middle + half)

        def layer(to_x: Scale, to_y: Scale) -> str:
            ends = zip(to_x(across), to_y(low), to_y(high), strict=True)
            return stroked("".join(f"M{n(at)} {n(a)}V{n(b)}" for at, a, b in ends if known(at, a, b)), color, 0.9)

        self._layers.append(layer)

    def bar(self, x: ArrayLike, height: ArrayLike, width: float, color: str, *, bottom: ArrayLike = 0.0, label: str = "") -> None:
        """Draw upright bars, centred at `x`, from `bottom`."""
        middle, tall = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(height, float))
        low = np.broadcast_to(np.asarray(bottom, float), tall.shape)
        self._boxes(middle - width / 2, middle + width / 2, low, low + tall, color, label)
        self._y.edges.add(0.0)

    def barh(self, y: ArrayLike, length: ArrayLike, height: float, color: str) -> None:
        """Draw bars from the left edge, centred at `y`."""
        middle, long = np.atleast_1d(np.asarray(y, float)), np.atleast_1d(np.asarray(length, float))
        self._boxes(np.zeros_like(long), long, middle - height / 2, middle + height / 2, color, "")
        self._x.edges.add(0.0)

    def stairs(self, values: ArrayLike, edges: ArrayLike, color: str) -> None:
        """Draw a histogram filled down to zero: one value between every two edges."""
        across, up = self._x.see(edges), self._y.see(values)
        self._y.see(0.0)
        self._y.edges.add(0.0)

        def layer(to_x: Scale, to_y: Scale) -> str:
            columns, rows, floor = np.repeat(to_x(across), 2)[1:-1], np.repeat(to_y(np.nan_to_num(up)), 2), float(to_y(0.0)[0])
            outline = "".join(f" {n(at)} {n(height)}" for at, height in zip(columns, rows, strict=True) if known(at))
            return filled(f"M{n(columns[0])} {n(floor)}{outline} {n(columns[-1])} {n(floor)}z", color) if len(columns) else ""

        self._layers.append(layer)

    def axhline(self, y: float, color: str, *, dash: Dash = "", width: float = 1.0, label: str = "") -> None:
        """Draw a level line from edge to edge."""
        (at,) = self._y.see(y)
        self._layers.append(
            lambda to_x, to_y: stroked(f"M{n(to_x.start)} {n(to_y(at)[0])}H{n(to_x.stop)}", color, width, dash) if known(at) else ""
        )
        self._labels.append((label, stroked(f"M0 0H{_SWATCH:g}", color, width, dash)))

    def axvline(self, x: ArrayLike, color: str, *, dash: Dash = "", width: float = 1.0) -> None:
        """Draw an upright line from edge to edge at every value."""
        places = self._x.see(x)

        def layer(to_x: Scale, to_y: Scale) -> str:
            lines = "".join(f"M{n(at)} {n(to_y.start)}V{n(to_y.stop)}" for at in to_x(places) if known(at))
            return stroked(lines, color, width, dash)

        self._layers.append(layer)

    def axhspan(self, low: float, high: float, color: str, *, label: str = "") -> None:
        """Shade from one height to another."""
        ends = self._y.see([low, high])
        self._layers.append(lambda to_x, to_y: shaded((to_x.start, to_x.stop), to_y(ends), color))
        self._labels.append((label, shaded((0.0, _SWATCH), (-3.5, 3.5), color)))

    def axvspan(self, low: float, high: float, color: str, *, label: str = "") -> None:
        """Shade from one place of the lower axis to another."""
        ends = self._x.see([low, high])
        self._layers.append(lambda to_x, to_y: shaded(to_x(ends), (to_y.start, to_y.stop), color))
        self._labels.append((label, shaded((0.0, _SWATCH), (-3.5, 3.5), color)))

    def imshow(self, picture: NDArray[np.uint8], extent: tuple[float, float, float, float]) -> None:
        """Show a grey picture, `(y, x)` with the top row first, from left to right and from bottom to top of `extent`."""
        left, right, bottom, top = extent
        self._x.see([left, right])
        self._y.see([bottom, top])
        buffer = io.BytesIO()
        Pillow.fromarray(picture).save(buffer, "PNG")
        source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"

        def layer(to_x: Scale, to_y: Scale) -> str:
            (x0, x1), (y0, y1) = to_x([left, right]), to_y([top, bottom])
            place = f'x="{n(x0)}" y="{n(y0)}" width="{n(x1 - x0)}" height="{n(y1 - y0)}"'
            return f'<image {place} preserveAspectRatio="none" href="{source}"/>'

        self._layers.append(layer)

    def quiver(self, x: ArrayLike, y: ArrayLike, dx: ArrayLike, dy: ArrayLike, color: str) -> None:
        """Draw an arrow from each point; they do not widen the axes."""
        tails = np.column_stack((self._x.see(x), self._y.see(y)))
        heads = tails + np.column_stack((np.asarray(dx, float), np.asarray(dy, float)))

        def layer(to_x: Scale, to_y: Scale) -> str:
            start = np.column_stack((to_x(tails[:, 0]), to_y(tails[:, 1])))
            stop = np.column_stack((to_x(heads[:, 0]), to_y(heads[:, 1])))
            arrows = "".join(arrow(a, b) for a, b in zip(start, stop, strict=True) if known(*a, *b))
            return f'<path d="{arrows}" stroke-width="1.5" stroke-linejoin="round" style="stroke:{color};fill:{color}"/>'

        self._layers.append(layer)

    def note_above(self, text: str, x: float, anchor: Anchor) -> None:
        """Write above the axes, to one side of a place on the lower axis; to the other where there is no room."""

        def layer(to_x: Scale, to_y: Scale) -> str:
            (at,) = to_x(x)
            side = "end" if anchor == "start" and at + text_width(text) > to_x.stop + _RIGHT else anchor
            return lettered(text, at + {"start": 2, "middle": 0, "end": -2}[side], to_y.stop - 4, side) if known(at) else ""

        self._notes.append(layer)

    def set(
        self,
        *,
        xlabel: str = "",
        ylabel: str = "",
        xlim: Limits = (None, None),
        ylim: Limits = (None, None),
        least_height: float = 0.0,
        equal: bool = False,
        box: bool = False,
    ) -> None:
        """Name the axes and set their limits.

        Parameters
        ----------
        xlabel, ylabel
            What they show, with the unit.
        xlim, ylim
            Limits; an end that is None follows the data.
        least_height
            The smallest range that the upright axis spans.
        equal
            Whether a unit is as long on both axes.
        box
            Whether there are lines on all four sides.
        """
        self._x.name, self._x.limits = xlabel, xlim
        self._y.name, self._y.limits, self._y.least = ylabel, ylim, least_height
        self._equal, self._box = equal, box

    def set_yticks(self, places: Iterable[float], labels: Iterable[str]) -> None:
        """Write these labels at the upright axis, in place of numbers."""
        self._y.ticks = list(zip(map(float, places), labels, strict=True))

    def grid(self, *, x: bool, y: bool) -> None:
        """Choose whether there is a line at every tick of an axis."""
        self._x.grid, self._y.grid = x, y

    def render(self, description: str, size: tuple[float, float]) -> str:
        """Return the plot as an SVG element."""
        to_x, to_y = self._scales(*size)
        x_ticks, y_ticks = _ticks(self._x, to_x, _X_APART), _ticks(self._y, to_y, self._y_apart)
        left, top, width, height = to_x.start, to_y.stop, to_x.stop - to_x.start, to_y.start - to_y.stop
        # Within an element of its own, what lies beyond the axes is cut off.
        inside = "".join(layer(_at_zero(to_x), _at_zero(to_y)) for layer in self._layers)
        parts = (
            _grid(self._x, [at for at, _ in x_ticks], f"V{n(top)}", lambda at: f"M{n(at)} {n(top + height)}"),
            _grid(self._y, [at for at, _ in y_ticks], f"H{n(left + width)}", lambda at: f"M{n(left)} {n(at)}"),
            f'<svg x="{n(left)}" y="{n(top)}" width="{n(width)}" height="{n(height)}">{inside}</svg>',
            _frame(left, top, width, height, closed=self._box),
            *(lettered(label, _inside(at, label, size[0]), top + height + 12, "middle") for at, label in x_ticks),
            *(lettered(label, left - 5, at + 3.2, "end") for at, label in y_ticks),
            lettered(self._x.name, left + width / 2, top + height + 27, "middle"),
            lettered(
                self._y.name, 0, 0, "middle", f' transform="translate({n(self._name_at(left))} {n(top + height / 2)})rotate(-90)"'
            ),
            *(note(to_x, to_y) for note in self._notes),
            self._legend(left, top - 9),
        )
        head = f'<svg class="plot" role="img" aria-label="{escape(description)}" viewBox="0 0 {n(size[0])} {n(size[1])}">'
        return f'{head}<g font-size="{FONT:g}" style="fill:{INK}">{"".join(parts)}</g></svg>'

    def _scales(self, width: float, height: float) -> tuple[Scale, Scale]:
        """Return both scales; there is as much room at the left as the labels there take."""
        top = _TOP + (_LEGEND if self._notes or any(label for label, _ in self._labels) else 0.0)
        to_y = self._y.scale(height - _BOTTOM, top)
        widest = max((text_width(label) for _, label in _ticks(self._y, to_y, self._y_apart)), default=0.0)
        left = min(width / 2, max(_LEFT, widest + (26 if self._y.name else 12)))
        to_x = self._x.scale(left, width - _RIGHT)
        return _of_equal_units(to_x, to_y) if self._equal else (to_x, to_y)

    @property
    def _y_apart(self) -> float:
        return _X_APART if self._equal else _Y_APART

    def _name_at(self, left: float) -> float:
        """Return where the name of the upright axis stands: beside it, or at the edge of the drawing."""
        return 11.0 if not self._equal else max(11.0, left - _LEFT + 11.0)

    def _boxes(self, left: Floats, right: Floats, low: Floats, high: Floats, color: str, label: str) -> None:
        sides, ends = (self._x.see(left), self._x.see(right)), (self._y.see(low), self._y.see(high))

        def layer(to_x: Scale, to_y: Scale) -> str:
            corners = zip(*map(to_x, sides), *map(to_y, ends), strict=True)
            boxes = (f"M{n(a)} {n(c)}V{n(d)}H{n(b)}V{n(c)}z" for a, b, c, d in corners if known(a, b, c, d))
            return filled("".join(boxes), color)

        self._layers.append(layer)
        self._labels.append((label, filled(f"M3 -3.5H{_SWATCH - 3:g}V3.5H3z", color)))

    def _legend(self, left: float, middle: float) -> str:
        """Return the legend: one line above the axes, where it covers no data."""
        parts, at, smaller = [], left, f' font-size="{SMALL_FONT:g}"'
        for label, swatch in self._labels:
            if label:
                parts.append(
                    f'<g transform="translate({n(at)} {n(middle)})">{swatch}{lettered(label, _SWATCH + 4, 3, "start", smaller)}</g>'
                )
                at += _SWATCH + 4 + text_width(label, SMALL_FONT) + _GAP
        return "".join(parts)


def _inside(at: float, label: str, width: float) -> float:
    """Return the middle of a label, moved as far as it takes for the drawing not to cut it off."""
    return min(at, width - text_width(label) / 2)


def _ticks(axis: Axis, scale: Scale, apart: float) -> list[tuple[float, str]]:
    """Return where the ticks of an axis lie in the drawing, and their labels."""
    if axis.ticks is None:
        values = scale.ticks(apart)
        return list(zip(scale(values).tolist() if values else [], written(values), strict=True))
    return [(float(scale(value)[0]), label) for value, label in axis.ticks]


def _of_equal_units(to_x: Scale, to_y: Scale) -> tuple[Scale, Scale]:
    """Return scales on which a unit is as long on both axes, within the room of those given, and in the middle of it."""
    wide, tall = (to_x.stop - to_x.start) / (to_x.high - to_x.low), (to_y.start - to_y.stop) / (to_y.high - to_y.low)
    unit = min(wide, tall)
    spare_x, spare_y = (to_x.high - to_x.low) * (wide - unit) / 2, (to_y.high - to_y.low) * (tall - unit) / 2
    return (
        Scale(to_x.low, to_x.high, to_x.start + spare_x, to_x.stop - spare_x),
        Scale(to_y.low, to_y.high, to_y.start - spare_y, to_y.stop + spare_y),
    )


def _at_zero(scale: Scale) -> Scale:
    """Return a scale for an element that begins where the axes do."""
    first = min(scale.start, scale.stop)
    return Scale(scale.low, scale.high, scale.start - first, scale.stop - first)


def _grid(axis: Axis, places: Sequence[float], across: str, start: Callable[[float], str]) -> str:
    return stroked("".join(start(at) + across for at in places), FAINT, 0.5) if axis.grid and places else ""


def _frame(left: float, top: float, width: float, height: float, *, closed: bool) -> str:
    corner = f"M{n(left)} {n(top)}V{n(top + height)}H{n(left + width)}"
    return stroked(corner + (f"V{n(top)}z" if closed else ""), FAINT, 0.8)
