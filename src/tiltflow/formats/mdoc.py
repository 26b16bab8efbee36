"""SerialEM's and Tomography 5's `.mdoc`: what the microscope recorded of each view.

An invalid field never costs the others: only fields that are used are read, capitals and order do not matter, and an invalid field
is left out and reported.

The tilt axis is given in SerialEM's title, `[T =     Tilt axis angle = -4.3, binning = 1 ...]`.  Tomography 5 has `TiltAxisAngle` in its
title, which is -(axis + 90), and the axis itself in `RotationAngle` of every view; where the two fit each other, `RotationAngle` is
taken.  In a file of SerialEM, `RotationAngle` is the rotation of the image against the stage, some multiple of 90 degrees
away, so without a sign of Tomography 5 it is not used.

In a montage the sections of the stack are pieces of views: `Montage = 1` in the header, `PieceCoordinates` in every section.  A section
`[MontSection = n]` tells of a whole view, and is left out, as are results of the microscope's own stitching (`AlignedPieceCoords`,
`XedgeDxy`).

Sections come by `ZValue`.  Where a number occurs twice, as in two files joined to one, they come in the order of the file.
A file that ends within a line, without the fields or the decimals that its other sections have, was cut off there, and its
last value is not believed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.extended import axis_angle_in_labels, axis_of_tomography, is_of_tomography, is_pixel_size, turned_axis
from tiltflow.formats.text_files import number, read_text
from tiltflow.model import Problem

_SECTION = re.compile(r"\[\s*(\w+)\s*=")
_NUMBER = re.compile("[0-9]{1,9}")
_LARGEST_COORDINATE = 1 << 24
"""Pixels; greater than the side of any montage."""
_LEAST_KV, _MOST_KV = 20.0, 3000.0
"""Voltages of electron microscopes."""
_TURNED_TOLERANCE_DEG = 0.2
"""Difference of `TiltAxisAngle` from -(RotationAngle + 90) that is rounding."""


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
    target_defocus_um
        `TargetDefocus`, µm, negative where the lens is weaker than in focus.
    voltage_kv
        `Voltage`.
    frames
        `SubFramePath` as written, often with backslashes.
    acquired
        `DateTime` as written.
    piece
        `PieceCoordinates`: x and y of the corner of the piece that the section is, pixels, and the number z of its view.
    """

    z: int
    tilt_deg: float | None = None
    rotation_angle_deg: float | None = None
    exposure: float | None = None
    prior_exposure: float | None = None
    pixel_size_angstrom: float | None = None
    target_defocus_um: float | None = None
    voltage_kv: float | None = None
    frames: str | None = None
    acquired: str | None = None
    piece: tuple[int, int, int] | None = None


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
    voltage_kv
        Accelerating voltage.
    montage
        Whether it says that its sections are pieces of a montage (`Montage = 1`).
    problems
        Fields that had to be left out.
    cut
        Where the file was cut off, the end of a sentence; empty if it is whole.
    """

    path: Path
    views: tuple[MdocView, ...]
    titles: tuple[str, ...] = ()
    pixel_size_angstrom: float | None = None
    image_size: tuple[int, int] | None = None
    axis_angle_deg: float | None = None
    axis_source: str = ""
    voltage_kv: float | None = None
    montage: bool = False
    problems: tuple[Problem, ...] = ()
    cut: str = ""

    @property
    def tilt_deg(self) -> NDArray[np.float64]:
        """Tilt of each view, `(views,)`; NaN where missing."""
        return np.array([np.nan if view.tilt_deg is None else view.tilt_deg for view in self.views], float)

    @property
    def target_defocus_nm(self) -> float | None:
        """Median defocus that was aimed at, nm, underfocus positive; None where no view tells one."""
        known = [view.target_defocus_um for view in self.views if view.target_defocus_um]
        return float(np.median(known)) * -1000 if known else None

    @property
    def exposure(self) -> NDArray[np.float64] | None:
        """Electrons per square ångström of each view, `(views,)`, or None unless every view gives it and one is not 0."""
        values = [view.exposure for view in self.views]
        known = [value for value in values if value is not None]
        return np.array(known, float) if values and len(known) == len(values) and any(known) else None


def _number(text: str) -> float | None:
    """Return a number, None for one that is not finite, as programs write for an unknown value."""
    value = number(text)
    return value if math.isfinite(value) else None


def _pixel(text: str) -> float | None:
    """Return a pixel size; what no microscope has is left out, 0 without a word, as it stands for an unknown one."""
    value = _number(text)
    if not value:
        return None
    if not is_pixel_size(value):
        raise ValueError(text)
    return value


def _voltage(text: str) -> float | None:
    """Return a voltage in kV; 0 stands for an unknown one, and what no microscope has is left out."""
    value = _number(text)
    if not value:
        return None
    if not _LEAST_KV <= value <= _MOST_KV:
        raise ValueError(text)
    return value


def _image_size(text: str) -> tuple[int, int]:
    nx, ny = map(int, text.split())
    if min(nx, ny) < 1:
        raise ValueError(text)
    return nx, ny


def _piece(text: str) -> tuple[int, int, int]:
    x, y, z = map(int, text.split())
    if max(abs(x), abs(y), abs(z)) > _LARGEST_COORDINATE:
        raise ValueError(text)
    return x, y, z


def _flag(text: str) -> bool:
    return int(text) != 0


def _axis(text: str) -> float:
    """Return the angle at the start of a text that may go on, as a title does."""
    angle = axis_angle_in_labels([f"Tilt axis angle = {text}"])
    if angle is None:
        raise ValueError(text)
    return angle


_Fields = Mapping[str, tuple[str, Callable[[str], Any]]]

_HEADER_FIELDS: _Fields = {
    "PixelSpacing": ("pixel_size_angstrom", _pixel),
    "ImageSize": ("image_size", _image_size),
    "TiltAxisAngle": ("axis_angle_deg", _axis),
    "Voltage": ("voltage_kv", _voltage),
    "Montage": ("montage", _flag),
}
"""Fields of the header: the name of the value, and its parser, whose ValueError leaves the field out."""

_VIEW_FIELDS: _Fields = {
    "TiltAngle": ("tilt_deg", _number),
    "RotationAngle": ("rotation_angle_deg", _number),
    "ExposureDose": ("exposure", _number),
    "PriorRecordDose": ("prior_exposure", _number),
    "PixelSpacing": ("pixel_size_angstrom", _number),
    "TargetDefocus": ("target_defocus_um", _number),
    "Voltage": ("voltage_kv", _voltage),
    "SubFramePath": ("frames", str),
    "DateTime": ("acquired", str),
    "PieceCoordinates": ("piece", _piece),
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
        text = read_text(path, errors="replace")
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
    cut = "" if text.endswith(("\n", "\r")) else _leave_out_what_was_cut(sections, path, problems)
    common = _understood(_HEADER_FIELDS, header, f"{path}, header", problems)
    views = []
    for place, (name, fields) in enumerate(sections):
        where = f"{path}, section {name}"
        if not _NUMBER.fullmatch(name):
            problems.append(Problem(f"the section [ZValue = {name}] is not numbered; it is taken as view {place}", where))
            name = str(place)
        views.append(MdocView(int(name), **_understood(_VIEW_FIELDS, fields, where, problems)))
    views = _in_order(views, path, problems)
    axis, source = _axis_angle(titles, common, views, path, problems)
    spacings = (common.get("pixel_size_angstrom"), *(view.pixel_size_angstrom for view in views))
    return Mdoc(
        path=path,
        views=tuple(views),
        titles=titles,
        pixel_size_angstrom=next((spacing for spacing in spacings if spacing and is_pixel_size(spacing)), None),
        image_size=common.get("image_size"),
        axis_angle_deg=axis,
        axis_source=source,
        voltage_kv=next((kv for kv in (common.get("voltage_kv"), *(view.voltage_kv for view in views)) if kv), None),
        montage=common.get("montage", False),
        problems=tuple(problems),
        cut=cut,
    )


def _split(text: str) -> tuple[dict[str, str], tuple[str, ...], list[tuple[str, dict[str, str]]]]:
    """Return the fields of the header by their names in lower case, the titles, and the name and fields of each view."""
    header: dict[str, str] = {}
    titles: list[str] = []
    sections: list[tuple[str, dict[str, str]]] = []
    fields = header
    for line in map(str.strip, text.splitlines()):
        if section := _SECTION.match(line):
            kind, name = section[1], line[section.end() :].removesuffix("]").strip()
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


def _leave_out_what_was_cut(sections: Sequence[tuple[str, dict[str, str]]], path: Path, problems: list[Problem]) -> str:
    """Remove the last value of a file without an end of line if the other sections show that it is not whole, and return where it was."""
    if len(sections) < 2 or not sections[-1][1]:
        return ""
    (name, last), others = sections[-1], [fields for _, fields in sections[:-1]]
    field = next(reversed(last))
    values = [fields[field] for fields in others if field in fields]
    unfinished = any(all(key in fields for fields in others) for key in others[0] if key not in last)
    if not unfinished and (not values or _decimals(last[field]) >= min(map(_decimals, values))):
        return ""
    shown = next((known for known in _VIEW_FIELDS if known.lower() == field), field)
    cut = f"the file ends within {shown} = {last.pop(field)} of [ZValue = {name}]"
    problems.append(Problem(f"{cut}, which is left out: copy it again", str(path)))
    return f"; {cut}"


def _decimals(text: str) -> int:
    """Return the number of decimals of a number, 0 of other text."""
    found = re.fullmatch(r"[-+]?\d*[.,](\d+)", text)
    return len(found[1]) if found else 0


def _in_order(views: list[MdocView], path: Path, problems: list[Problem]) -> list[MdocView]:
    """Return the views by number; in the order of the file, numbered anew, where a number occurs twice."""
    numbers = [view.z for view in views]
    twice = sorted({z for z in numbers if numbers.count(z) > 1}) if len(set(numbers)) < len(numbers) else []
    if not twice:
        return sorted(views, key=lambda view: view.z)
    problems.append(
        Problem(
            f"{len(twice)} of its numbers of views occur more than once ([ZValue = {twice[0]}] is the first), as in files joined "
            f"to one; its {len(views)} sections are taken in the order of the file",
            str(path),
        )
    )
    return [replace(view, z=place) for place, view in enumerate(views)]


def _axis_angle(
    titles: Sequence[str], common: Mapping[str, Any], views: Sequence[MdocView], path: Path, problems: list[Problem]
) -> tuple[float | None, str]:
    """Return the tilt axis, None where nothing tells it, and the entry that does; doubts are added to `problems`."""
    written, source = axis_angle_in_labels(titles), "title"
    if written is None and "axis_angle_deg" in common:
        written, source = common["axis_angle_deg"], "TiltAxisAngle"
    rotations = [view.rotation_angle_deg for view in views if view.rotation_angle_deg is not None]
    rotation = float(np.median(rotations)) if rotations else None
    if rotation is None:
        turned = axis_of_tomography(titles)
        if turned is not None:
            return turned, "-(TiltAxisAngle + 90) of the title"
        return written, source if written is not None else ""
    if written is not None:
        if _spelled_as_tomography(titles, source) and _near(written, turned_axis(rotation)):
            return rotation, "RotationAngle"
        if is_of_tomography(titles) and not _near(written, rotation):
            problems.append(
                Problem(
                    f"TiltAxisAngle {written:g} and RotationAngle {rotation:g} do not fit each other, as they do in files of "
                    f"Tomography: the former is taken; the tomogram may be mirrored",
                    str(path),
                )
            )
        return written, source
    if is_of_tomography(titles):
        return rotation, "RotationAngle"
    problems.append(
        Problem(
            f"no title tells the tilt axis, and RotationAngle, {rotation:g}, is not used: only in files of Tomography is it the axis",
            str(path),
        )
    )
    return None, ""


def _spelled_as_tomography(titles: Sequence[str], source: str) -> bool:
    """Return whether the axis is written in one word, and not by SerialEM, where -90 may stand beside a rotation of 0."""
    written = source == "TiltAxisAngle" or any("tiltaxisangle" in title.lower() for title in titles)
    return written and not any("serialem" in title.lower() for title in titles)


def _near(a_deg: float, b_deg: float) -> bool:
    return abs((a_deg - b_deg + 180) % 360 - 180) <= _TURNED_TOLERANCE_DEG
