"""Warp's and M's tilt series, `NAME.xml`: elements `Angles`, `AxisAngle`, `AxisOffsetX`, `AxisOffsetY`, `UseTilt`, one line a view.

Warp projects a point p, measured from the centre of its volume, to

    Rz(AxisAngle) Ry(-(Angle + LevelAngleY)) Rx(LevelAngleX) p + (AxisOffsetX, AxisOffsetY)

so that its angles have the opposite sign of tiltflow's: at an angle a, x is seen at `x cos a - z sin a`.  With the tilt -a the volume
is the one that Warp makes.  (Beads do not show the sign, because a mirrored volume fits them as well.  The plane that Warp fits to the
defocus does, against the plane of the beads.)  Offsets are Å of the raw view.  Rows are in the order of the nominal tilts of the
microscope, rising; where Warp inverts angles, as it does unless told otherwise, they fall along the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.errors import FormatError, MissingValueError
from tiltflow.formats.foreign_alignment import ForeignAlignment, read_text

Floats = NDArray[np.float64]

_UNIT_MAGNIFICATION = (1.0, 0.0, 0.0, 1.0)
_GRIDS = (
    "GridMovementX",
    "GridMovementY",
    "GridVolumeWarpX",
    "GridVolumeWarpY",
    "GridVolumeWarpZ",
    "GridAngleX",
    "GridAngleY",
    "GridAngleZ",
)
"""Deformations of images and volume, and changes of angles, that M fits."""


def read_warp_xml(path: Path, pixel_size_angstrom: float) -> ForeignAlignment:
    """Return the alignment in a tilt series of Warp.

    Parameters
    ----------
    path
        The XML file.
    pixel_size_angstrom
        Of a raw pixel.

    Raises
    ------
    LocationError, FormatError
        If it cannot be read, or is not a tilt series of Warp.
    MissingValueError
        If it holds no alignment.
    """
    root = warp_root(path)
    angles = _numbers(root, "Angles", path)
    rows = len(angles)
    axis, x, y = (_numbers(root, name, path, rows) for name in ("AxisAngle", "AxisOffsetX", "AxisOffsetY"))
    shifts = np.stack([x, y], axis=1) / pixel_size_angstrom
    rising = angles[-1] >= angles[0]
    return ForeignAlignment(
        program="Warp",
        files=(path,),
        transforms=geometry.from_axis_and_shifts(axis, shifts),
        tilt_deg=-(angles + _attribute(root, "LevelAngleY", path)),
        used=_used(root, path, rows),
        nominal_deg=angles if rising else -angles,
        x_tilt_deg=_attribute(root, "LevelAngleX", path),
        notes=tuple(_not_taken(root, path)),
    )


def warp_root(path: Path) -> ET.Element:
    """Return the root of a tilt series of Warp.

    Raises
    ------
    LocationError, FormatError
        If it cannot be read, or is not a tilt series of Warp.
    """
    text = read_text(path, "a tilt series of Warp")
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):  # entities could unfold to any size
        raise FormatError(f"{path}: declares a document type, which Warp never writes; the file is not read")
    try:
        root = ET.fromstring(text)  # noqa: S314 - without a document type there are no entities
    except ET.ParseError as error:
        raise FormatError(f"{path}: is not XML: {error}") from error
    if root.tag != "TiltSeries":
        raise FormatError(f"{path}: its root is <{root.tag[:40]}> and not <TiltSeries>, so it is not a tilt series of Warp")
    return root


def _lines(root: ET.Element, name: str, path: Path, rows: int | None = None) -> list[str]:
    found = root.find(name)
    values = found.text.split() if found is not None and found.text else []
    if not values:
        raise MissingValueError(f"{path}: has no <{name}>: this series is not aligned yet")
    if rows is not None and len(values) != rows:
        raise FormatError(f"{path}: <{name}> has {len(values)} values, and <Angles> has {rows}; each view takes one of both")
    return values


def _numbers(root: ET.Element, name: str, path: Path, rows: int | None = None) -> Floats:
    words = _lines(root, name, path, rows)
    try:
        values = np.array(words, float)
    except ValueError as error:
        raise FormatError(f"{path}: <{name}> holds something that is not a number: {error}") from error
    if not np.isfinite(values).all():
        raise FormatError(f"{path}: <{name}> holds a number that is not finite (row {int(np.argmin(np.isfinite(values))) + 1})")
    return values


def _used(root: ET.Element, path: Path, rows: int) -> NDArray[np.bool_]:
    if root.find("UseTilt") is None:
        return np.ones(rows, bool)
    return np.array([word.lower() == "true" for word in _lines(root, "UseTilt", path, rows)])


def _attribute(root: ET.Element, name: str, path: Path) -> float:
    text = root.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise FormatError(f"{path}: {name} {text[:40]!r} is not a number of degrees")
    return value


def _not_taken(root: ET.Element, path: Path) -> list[str]:
    """Return what of the geometry has no place in an alignment of tiltflow."""
    moving = [name for name in _GRIDS if any(_value(node.get("Value")) != 0 for node in root.findall(f"{name}/Node"))]
    notes = []
    if moving:
        notes.append(f"{path.name}: its deformations ({', '.join(moving)}) are not taken over")
    scale = tuple(_value(word) for word in root.get("MagnificationCorrection", "1,0,0,1").split(","))
    if scale != _UNIT_MAGNIFICATION:
        notes.append(f"{path.name}: its MagnificationCorrection {scale} is not taken over")
    return notes


def _value(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return np.nan
