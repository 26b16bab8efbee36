"""The CTF of a series in the form of Warp's tilt series: `B_ctf.xml`, a row for each view of the stack, by increasing nominal tilt.

Warp has no command that imports a defocus: this is for programs that read its tilt series, and to take the elements over into those of a
processing folder.  Views that are left out are there with `UseTilt` False, as in Warp's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET

import numpy as np

from tiltflow import geometry as axes
from tiltflow.formats.defocus import DefocusTable
from tiltflow.interchange.contrast import Floats, KnownDefocus
from tiltflow.interchange.series_geometry import SeriesGeometry

_NM_PER_UM = 1000.0


def render_ctf(series: SeriesGeometry, known: KnownDefocus) -> str:
    """Return the text of the file: angles, doses, axis and offsets, and the grids of the CTF, µm, degrees and units of π."""
    rows = np.argsort(series.nominal_tilt_deg, kind="stable")
    transforms = series.rigid_transforms()
    offset = axes.raw_shifts(transforms) * series.pixel_size_angstrom
    inverted = known.warp_inverted
    root = ET.Element("TiltSeries", {} if inverted is None else {"AreAnglesInverted": str(inverted)})
    lines: dict[str, Iterable[object]] = {"Angles": _numbers(axes.warp_angles(series.tilt_deg)[rows])}
    if series.exposure_before is not None:
        lines["Dose"] = _numbers(series.exposure_before[rows])
    lines |= {
        "UseTilt": series.included[rows].tolist(),
        "AxisAngle": _numbers(axes.axis_angles(transforms)[rows]),
        "AxisOffsetX": _numbers(offset[rows, 0]),
        "AxisOffsetY": _numbers(offset[rows, 1]),
    }
    for name, values in lines.items():
        ET.SubElement(root, name).text = "\n".join(map(str, values))
    _constants(ET.SubElement(root, "CTF"), series, known)
    for name, values in _grids(known.raw).items():
        _grid(root, name, values[rows])
    ET.indent(root, "\t")
    return ET.tostring(root, encoding="unicode", xml_declaration=True).replace("\r", "") + "\n"


def _constants(parent: ET.Element, series: SeriesGeometry, known: KnownDefocus) -> None:
    middle = int(np.argmin(np.abs(series.nominal_tilt_deg)))
    params = {
        "PixelSize": series.pixel_size_angstrom,
        **({} if series.voltage_kv is None else {"Voltage": series.voltage_kv}),
        "Cs": known.cs_mm,
        "Amplitude": known.amplitude_contrast,
        **{name: values[middle] for name, values in zip(_CENTRAL, _grids(known.raw).values(), strict=True)},
    }
    for name, value in params.items():
        ET.SubElement(parent, "Param", Name=name, Value=f"{value:g}")


_CENTRAL = ("Defocus", "DefocusDelta", "DefocusAngle", "PhaseShift")
"""Names of the four grids where Warp has one number for the whole series."""


def _grids(table: DefocusTable) -> dict[str, Floats]:
    return {
        "GridCTF": table.defocus_nm / _NM_PER_UM,
        "GridCTFDefocusDelta": table.astigmatism_nm / _NM_PER_UM,
        "GridCTFDefocusAngle": table.astigmatism_deg,
        "GridCTFPhase": table.phase_shift_deg / 180,
    }


def _grid(root: ET.Element, name: str, values: Floats) -> None:
    size = {"Width": "1", "Height": "1", "Depth": f"{len(values)}"}
    grid = ET.SubElement(root, name, size | dict.fromkeys(("MarginX", "MarginY", "MarginZ"), "0"))
    for z, value in enumerate(values):
        ET.SubElement(grid, "Node", X="0", Y="0", Z=f"{z}", Value=f"{value:.6g}")


def _numbers(values: Floats) -> list[str]:
    return [f"{value:.6g}" for value in values]
