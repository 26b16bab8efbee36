"""SerialEM's and Tomography 5's `.mdoc`: what the microscope knew of each view.

Values are read through mdocfile, but nothing a microscope may write can cost the rest: only fields that are used are handed
to it, spelling and order do not matter, and a field that is not what it should be is left out and reported.

The tilt axis is told in a title, `[T =     Tilt axis angle = -4.3, binning = 1 ...]`, or by `TiltAxisAngle`.  `RotationAngle` of
a view is the axis only in files of Tomography 5; in SerialEM's it is the rotation of the image against the stage, which is
some multiple of 90 degrees away, so there it is not taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.extended import axis_angle_in_labels
from tiltflow.model import Problem

_GLOBAL_FIELDS = ("PixelSpacing", "ImageSize", "TiltAxisAngle")
_VIEW_FIELDS = (
    "TiltAngle",
    "PixelSpacing",
    "RotationAngle",
    "ExposureDose",
    "PriorRecordDose",
    "SubFramePath",
    "DateTime",
)
_FIELDS = {field.lower(): field for field in (*_GLOBAL_FIELDS, *_VIEW_FIELDS)}
_SECTION = re.compile(r"\[\s*(\w+)\s*=\s*(.*?)\s*\]?\s*$")
_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class MdocView:
    """One `[ZValue = n]` section; None for what it does not tell.

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
    """A whole file: its views by increasing `ZValue`, and what is said once for all.

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
        Which entry told it.
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
        """Tilt of each view, `(views,)`; NaN where it is not told."""
        return np.array([np.nan if view.tilt_deg is None else view.tilt_deg for view in self.views], float)

    @property
    def exposure(self) -> NDArray[np.float64] | None:
        """Electrons per square ångström of each view, `(views,)`, or None unless every view tells it and one has any."""
        values = [view.exposure for view in self.views]
        known = [value for value in values if value is not None]
        return np.array(known, float) if values and len(known) == len(values) and any(known) else None


def read_mdoc(path: str | os.PathLike[str]) -> Mdoc:
    """Return what an `.mdoc` file tells.

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
    """Return what the text of an `.mdoc` tells; `path` is named in messages."""
    # pandas comes with mdocfile and takes over a second to import.
    from mdocfile.data_models import MdocGlobalData, MdocSectionData

    header, titles, sections = _split(text)
    if not sections:
        raise FormatError(f"{path}: has no [ZValue = ...] section, so it describes no view; is it the .mdoc of a tilt series?")
    problems: list[Problem] = []
    common = _validated(MdocGlobalData, header, f"{path}, header", problems)
    views = []
    for number, (name, fields) in enumerate(sections):
        where = f"{path}, section {name}"
        if not _NUMBER.fullmatch(name):
            problems.append(Problem(f"the section [ZValue = {name}] is not numbered; it is taken as view {number}", where))
            name = str(number)
        views.append(_view(int(name), fields, _validated(MdocSectionData, fields, where, problems)))
    views.sort(key=lambda view: view.z)
    axis, source = _axis_angle(titles, common, views)
    size = common.get("ImageSize")
    spacings = (common.get("PixelSpacing"), *(view.pixel_size_angstrom for view in views))
    return Mdoc(
        path=path,
        views=tuple(views),
        titles=titles,
        pixel_size_angstrom=next((spacing for spacing in spacings if spacing is not None and 0 < spacing < 1e6), None),
        image_size=(int(size[0]), int(size[1])) if size else None,
        axis_angle_deg=axis,
        axis_source=source,
        problems=tuple(problems),
    )


def _split(text: str) -> tuple[dict[str, str], tuple[str, ...], list[tuple[str, dict[str, str]]]]:
    """Return the fields of the header, the titles, and the name and fields of each view."""
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
            if key.lower() in _FIELDS and value:
                fields[_FIELDS[key.lower()]] = value
    return header, tuple(titles), sections


def _validated(model: Any, fields: Mapping[str, str], where: str, problems: list[Problem]) -> dict[str, Any]:
    """Return the fields as mdocfile understands them, without those that it does not."""
    from pydantic import ValidationError

    try:
        checked = model(**fields)
    except ValidationError as error:
        wrong = {str(entry["loc"][0]) for entry in error.errors()}
        problems += [Problem(f"{key} = {fields[key]!r} is not understood and left out", where) for key in sorted(wrong)]
        return _validated(model, {key: value for key, value in fields.items() if key not in wrong}, where, problems)
    return {key: value for key, value in checked.model_dump().items() if value is not None}


def _view(z: int, written: Mapping[str, str], checked: Mapping[str, Any]) -> MdocView:
    numbers = {key: value for key, value in checked.items() if isinstance(value, float) and np.isfinite(value)}
    return MdocView(
        z=z,
        tilt_deg=numbers.get("TiltAngle"),
        rotation_angle_deg=numbers.get("RotationAngle"),
        exposure=numbers.get("ExposureDose"),
        prior_exposure=numbers.get("PriorRecordDose"),
        pixel_size_angstrom=numbers.get("PixelSpacing"),
        frames=written.get("SubFramePath"),
        acquired=written.get("DateTime"),
    )


def _axis_angle(titles: Sequence[str], common: Mapping[str, Any], views: Sequence[MdocView]) -> tuple[float | None, str]:
    angle = axis_angle_in_labels(titles)
    if angle is not None:
        return angle, "title"
    angle = axis_angle_in_labels([f"Tilt axis angle = {common['TiltAxisAngle']}"]) if "TiltAxisAngle" in common else None
    if angle is not None:
        return angle, "TiltAxisAngle"
    rotations = [view.rotation_angle_deg for view in views if view.rotation_angle_deg is not None]
    if rotations and not any("serialem" in title.lower() for title in titles):
        return float(np.median(rotations)), "RotationAngle"
    return None, ""
