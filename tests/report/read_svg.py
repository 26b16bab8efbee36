"""A plot as its reader sees it: numbers measured off against the lines of its grid and the labels of their ticks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import numpy as np

ROUNDING = 0.11
"""Of a place that is read, units of the drawing: places are written to a tenth."""


class Drawing:
    """An SVG element as :func:`tiltflow.report.charts.draw` makes it."""

    def __init__(self, svg: str) -> None:
        self.root = ET.fromstring(svg)
        self.width, self.height = (float(number) for number in self.root.get("viewBox").split()[2:])
        (self.group,) = self.root
        (self.axes,) = self.group.findall("svg")
        self.left, self.top = float(self.axes.get("x")), float(self.axes.get("y"))
        self.right, self.bottom = self.left + float(self.axes.get("width")), self.top + float(self.axes.get("height"))

    @property
    def texts(self) -> list[str]:
        return [element.text for element in self.root.iter("text")]

    def ticks(self, axis: str) -> dict[str, float]:
        """Return the labels at an axis, `x` or `y`, and the place of the line of the grid, or else of the label, of each."""
        at_left = axis == "y"
        found = [text for text in self.group.findall("text") if (text.get("text-anchor") == "end") is at_left]
        if not at_left:
            found = [text for text in found if text.get("y") == _n(self.bottom + 12)]
        labels = [text for text in found if float(text.get("x")) < self.left or not at_left]
        places = self._grid(axis) or [float(text.get(axis)) - (3.2 if at_left else 0) for text in labels]
        return dict(zip((text.text for text in labels), places, strict=True))

    def unit(self, axis: str) -> float:
        """Return how long a unit of the data is in the drawing."""
        return abs(self._ruler(axis)[0])

    def values(self, axis: str, places: np.ndarray) -> np.ndarray:
        """Return the numbers that lie at some places."""
        slope, zero = self._ruler(axis)
        return (np.asarray(places, float) - zero) / slope

    def limits(self, axis: str) -> tuple[float, float]:
        low, high = self.values(axis, (self.left, self.right) if axis == "x" else (self.bottom, self.top))
        return float(low), float(high)

    def paths(self, style: str, **attributes: str) -> list[list[np.ndarray]]:
        """Return what is drawn over the axes in a style, such as `stroke:var(--ink)`: of each path its parts, `(n, 2)`, in data."""
        asked = {name.replace("_", "-"): value for name, value in attributes.items()}
        found = [path for path in self.axes.iter("path") if style in path.get("style") and asked.items() <= path.attrib.items()]
        return [[self._in_data(part) for part in parts(path.get("d"))] for path in found]

    def _in_data(self, part: np.ndarray) -> np.ndarray:
        return np.column_stack((self.values("x", part[:, 0] + self.left), self.values("y", part[:, 1] + self.top)))

    def _ruler(self, axis: str) -> tuple[float, float]:
        ticks = self.ticks(axis)
        numbers = [float(label.replace("−", "-")) for label in ticks]
        slope, zero = np.polyfit(numbers, list(ticks.values()), 1)
        return float(slope), float(zero)

    def _grid(self, axis: str) -> list[float]:
        lines = [
            part
            for path in self.group.findall("path")
            if path.get("stroke-width") == "0.5" and ("V" in path.get("d")) is (axis == "x")
            for part in parts(path.get("d"))
        ]
        return [float(line[0][0 if axis == "x" else 1]) for line in lines]


def parts(path: str) -> list[np.ndarray]:
    """Return the parts of a path of straight lines, each with its corners `(n, 2)`."""
    return [np.array(list(_corners(part))) for part in path.split("M") if part]


def _corners(part: str) -> Iterator[tuple[float, float]]:
    x = y = 0.0
    for command, rest in re.findall(r"([MHVhz])([^MHVhz]*)", "M" + part):
        numbers = [float(number) for number in rest.split()]
        if command == "M":
            for x, y in zip(numbers[::2], numbers[1::2], strict=True):
                yield x, y
        elif command in "HV":
            (number,) = numbers
            x, y = (number, y) if command == "H" else (x, number)
            yield x, y


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
