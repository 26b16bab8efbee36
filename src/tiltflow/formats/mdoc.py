"""SerialEM's and Tomography 5's `.mdoc`: what the microscope recorded of each view.

An invalid field never costs the others: only fields that are used are read, capitals and order do not matter, and an invalid field
is left out and reported.

The tilt axis is given in a title, `[T =     Tilt axis angle = -4.3, binning = 1 ...]`, or by `TiltAxisAngle`.  `RotationAngle` of
a view is the axis only in files of Tomography 5; in SerialEM's it is the rotation of the image against the stage, which is
some multiple of 90 degrees away, so it is not used there.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.extended import axis_angle_in_labels
from tiltflow.model import Problem

_SECTION = re.compile(r"\[\s*(\w+)\s*=\s*(.*?)\s*\]?\s*$")
_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class MdocView:
    """One `[ZValue = n]` section; None for fields that it lacks.

    Attributes
    ----------
    z
        The number of the view, from 0.
    tilt_deg, rotation_angle_deg
        `TiltAngle`, `RotationAngle`.
    exposure, prior_exposure
        `ExposureDose` and `PriorRecordDose`, electrons per square ångström.
    pixel_size_angstrom
        `PixelSpacing` of the view.
    frames
        `SubFramePath` as written, often with backslashes.
    acquired
        `DateTime` as written.
    """

    z: int
    tilt_deg: float | None = None
    rotation_angle_deg: float | None = None
    exposure: float | None = None
    prior_exposure: float | None = None
    pixel_size_angstrom: float | None = None
    frames: str | None = None
    acquired: str | None = None


@dataclass(frozen=True, slots=True)
class Mdoc:
    """A whole file: its views by increasing `ZValue`, and the values that hold for all of them.

    Attributes
    ----------
    path
        The file.
    views
        By increasing `ZValue`.
    titles
        Text of the `[T = ...]` lines.
    pixel_size_angstrom
        Pixel size.
    image_size
        `(nx, ny)` of the images it was written for.
    axis_angle_deg
        Tilt axis from vertical, counter-clockwise positive.
    axis_source
        Entry that gave the axis.
    problems
        Fields that had to be left out.
    """

    path: Path
    views: tuple[MdocView, ...]
    titles: tuple[str, ...] = ()
    pixel_size_angstrom: float | None = None
    image_size: tuple[int, int] | None = None
    axis_angle_deg: float | None = None
    axis_source: str = ""
    problems: tuple[Problem, ...] = ()

    @property
    def tilt_deg(self) -> NDArray[np.float64]:
        """Tilt of each view, `(views,)`; NaN where missing."""
        return np.array([np.nan if view.tilt_deg is None else view.tilt_deg for view in self.views], float)

    @property
    def exposure(self) -> NDArray[np.float64] | None:
        """Electrons per square ångström of each view, `(views,)`, or None unless every view gives it and one is not 0."""
        values = [view.exposure for view in self.views]
        known = [value for value in values if value is not None]
        return np.array(known, float) if values and len(known) == len(values) and any(known) else None


def _number(text: str) -> float | None:
    """Return a number, None for one that is not finite, as programs write for an unknown value."""
    value = float(text)
    return value if math.isfinite(value) else None


def _image_size(text: str) -> tuple[int, int]:
    nx, ny = map(int, text.split())
    if min(nx, ny) < 1:
        raise ValueError(text)
    return nx, ny


def _axis(text: str) -> float:
    """Return the angle at the start of a text that may go on, as a title does."""
    angle = axis_angle_in_labels([f"Tilt axis angle = {text}"])
    if angle is None:
        raise ValueError(text)
    return angle


_Fields = Mapping[str, tuple[str, Callable[[str], Any]]]

_HEADER_FIELDS: _Fields = {
    "PixelSpacing": ("pixel_size_angstrom", _number),
    "ImageSize": ("image_size", _image_size),
    "TiltAxisAngle": ("axis_angle_deg", _axis),
}
"""Fields of the header: the name of the value, and its parser, whose ValueError leaves the field out."""

_VIEW_FIELDS: _Fields = {
    "TiltAngle": ("tilt_deg", _number),
    "RotationAngle": ("rotation_angle_deg", _number),
    "ExposureDose": ("exposure", _number),
    "PriorRecordDose": ("prior_exposure", _number),
    "PixelSpacing": ("pixel_size_angstrom", _number),
    "SubFramePath": ("frames", str),
    "DateTime": ("acquired", str),
}
"""Fields of the section of a view: the attribute of :class:`MdocView`, and its parser."""


def read_mdoc(path: str | os.PathLike[str]) -> Mdoc:
    """Return the contents of an `.mdoc` file.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It has no section of a view.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_mdoc(text, path)


def parse_mdoc(text: str, path: Path = Path("mdoc")) -> Mdoc:
    """Return the contents of the text of an `.mdoc`; `path` is named in messages.

    Raises
    ------
    FormatError
        It has no section of a view.
    """
    header, titles, sections = _split(text)
    if not sections:
        raise FormatError(f"{path}: has no [ZValue = ...] section, so it describes no view; is it the .mdoc of a tilt series?")
    problems: list[Problem] = []
    common = _understood(_HEADER_FIELDS, header, f"{path}, header", problems)
    views = []
    for number, (name, fields) in enumerate(sections):
        where = f"{path}, section {name}"
        if not _NUMBER.fullmatch(name):
            problems.append(Problem(f"the section [ZValue = {name}] is not numbered; it is taken as view {number}", where))
            name = str(number)
        views.append(MdocView(int(name), **_understood(_VIEW_FIELDS, fields, where, problems)))
    views.sort(key=lambda view: view.z)
    axis, source = _axis_angle(titles, common, views)
    spacings = (common.get("pixel_size_angstrom"), *(view.pixel_size_angstrom for view in views))
    return Mdoc(
        path=path,
        views=tuple(views),
        titles=titles,
        pixel_size_angstrom=next((spacing for spacing in spacings if spacing is not None and 0 < spacing < 1e6), None),
        image_size=common.get("image_size"),
        axis_angle_deg=axis,
        axis_source=source,
        problems=tuple(problems),
    )


def _split(text: str) -> tuple[dict[str, str], tuple[str, ...], list[tuple[str, dict[str, str]]]]:
    """Return the fields of the header by their names in lower case, the titles, and the name and fields of each view."""
    header: dict[str, str] = {}
    titles: list[str] = []
    sections: list[tuple[str, dict[str, str]]] = []
    fields = header
    for line in map(str.strip, text.splitlines()):
        if section := _SECTION.match(line):
            kind, name = section.groups()
            if kind.lower() == "t":
                titles.append(name)
                continue
            fields = {}
            if kind.lower() == "zvalue":
                sections.append((name, fields))
        elif "=" in line:
            key, value = map(str.strip, line.split("=", 1))
            if value:
                fields[key.lower()] = value
    return header, tuple(titles), sections


def _understood(known: _Fields, written: Mapping[str, str], where: str, problems: list[Problem]) -> dict[str, Any]:
    """Return the values of the known fields; what is wrong with the others is added to `problems`."""
    values = {}
    for field, (name, parse) in known.items():
        text = written.get(field.lower())
        if text is None:
            continue
        try:
            values[name] = parse(text)
        except ValueError:
            problems.append(Problem(f"{field} = {text!r} is not understood and left out", where))
    return values


def _axis_angle(titles: Sequence[str], common: Mapping[str, Any], views: Sequence[MdocView]) -> tuple[float | None, str]:
    angle = axis_angle_in_labels(titles)
    if angle is not None:
        return angle, "title"
    if "axis_angle_deg" in common:
        return common["axis_angle_deg"], "TiltAxisAngle"
    rotations = [view.rotation_angle_deg for view in views if view.rotation_angle_deg is not None]
    if rotations and not any("serialem" in title.lower() for title in titles):
        return float(np.median(rotations)), "RotationAngle"
    return None, ""
