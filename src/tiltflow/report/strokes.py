"""Pieces of SVG: lines, points, arrows, areas and texts, in places to a tenth of a unit; what lies nowhere is left out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Literal

import numpy as np

from tiltflow.report.scales import Floats

Anchor = Literal["start", "middle", "end"]
Dash = Literal["", "dashed", "dotted"]
Mark = Literal["", "o", "s"]

FONT, SMALL_FONT = 9.0, 8.5

_MARK = 4.2
_DASHES = {"": "", "dashed": "5 2.5", "dotted": "1 2.5"}
_CAPS = {"o": "round", "s": "square"}
_HEAD, _HEAD_SHARE, _HEAD_SLOPE = 5.0, 0.5, 0.45
"""Of an arrow: the length of its head, the most of the arrow that it takes, and half its width by its length."""


def text_width(text: str, size: float = FONT) -> float:
    """Return about how wide a text is in a common font, rather too much than too little, units of the drawing."""
    return size * sum(0.36 if letter in " .,:;'|!()[]fijlrtI" else 0.95 if letter in "mwMW@%" else 0.63 for letter in text)


def joined(at: Floats) -> str:
    """Return the path of lines through points, `(n, 2)` where one is unknown."""
    path, begun = [], False
    for x, y in at.tolist():
        there = known(x, y)
        if there:
            path.append(f"{' ' if begun else 'M'}{n(x)} {n(y)}")
        begun = there
    return "".join(path)


def marks(at: Floats, color: str, mark: Mark) -> str:
    """Return points, `(n, 2)`, as lines of no length, of which only the ends are seen."""
    path = "".join(f"M{n(x)} {n(y)}h0" for x, y in at.tolist() if known(x, y))
    size = _MARK if mark == "o" else 0.88 * _MARK
    return f'<path d="{path}" stroke-width="{size:g}" stroke-linecap="{_CAPS[mark]}" style="stroke:{color}"/>'


def arrow(start: Floats, stop: Floats) -> str:
    """Return the path of an arrow, a shaft and a head, from one point to another."""
    along = stop - start
    length = math.hypot(*along)
    if length < 0.1:
        return ""
    head = along * min(_HEAD / length, _HEAD_SHARE)
    side = _HEAD_SLOPE * np.array([-head[1], head[0]])
    neck = stop - head
    points = (start, neck, neck + side, stop, neck - side, neck)
    return "M" + " ".join(f"{n(x)} {n(y)}" for x, y in points) + "z"


def stroked(path: str, color: str, width: float, dash: Dash = "") -> str:
    """Return a path as a line."""
    if not path:
        return ""
    dashes = f' stroke-dasharray="{_DASHES[dash]}"' if dash else ""
    return f'<path d="{path}" fill="none" stroke-width="{width:g}"{dashes} stroke-linejoin="round" style="stroke:{color}"/>'


def filled(path: str, color: str) -> str:
    """Return a path as an area."""
    return f'<path d="{path}" style="fill:{color}"/>' if path else ""


def shaded(across: Iterable[float], up: Iterable[float], color: str) -> str:
    """Return a rectangle that what lies below it shows through."""
    (left, right), (top, bottom) = sorted(across), sorted(up)
    if not known(left, right, top, bottom):
        return ""
    return f'<path d="M{n(left)} {n(top)}H{n(right)}V{n(bottom)}H{n(left)}z" fill-opacity=".17" style="fill:{color}"/>'


def lettered(text: str, x: float, y: float, anchor: Anchor, more: str = "") -> str:
    """Return a text, escaped, with more attributes."""
    return f'<text x="{n(x)}" y="{n(y)}" text-anchor="{anchor}"{more}>{escape(text)}</text>' if text else ""


def known(*values: float) -> bool:
    """Return whether all are numbers."""
    return all(map(math.isfinite, values))


def n(value: float) -> str:
    """Return a coordinate to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")
