"""Defocus that other programs found: CTFFIND's and AreTomo's tables, Warp's tilt series, RELION's star files.

* **CTFFIND** 4 and 5, **AreTomo** 3: rows `view, largest and smallest defocus in Å, direction of the largest in degrees, phase shift in
  radians, correlation, spacing in Å to which rings were fitted`.  An eighth number is AreTomo's hand, whose sign against that of other
  programs is not settled, so that it is not taken over; CTFFIND 5 adds the tilt axis, the tilt and the thickness.
* **Warp**: grids of the defocus and of the difference of largest and smallest, both in µm, of the direction of the largest in degrees,
  and of the phase shift in units of π, each with one node or one a view.  Angles have the opposite sign (:mod:`tiltflow.geometry`).  At
  a positive angle of Warp, positive x is more underfocused; with `AreAnglesInverted` at a negative one.
* **RELION**: `rlnDefocusU`, `rlnDefocusV` in Å, `rlnDefocusAngle`, `rlnPhaseShift` in degrees, one row a view that is kept.  Its
  `rlnTomoHand`, in the table of all series, is more often the default of an import than a finding, and is not taken over.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.errors import FormatError, MissingValueError
from tiltflow.formats.defocus import DefocusTable
from tiltflow.formats.foreign_alignment import read_text
from tiltflow.formats.relion_star import Block, read_star, relion_series_file
from tiltflow.formats.warp_xml import warp_root

Floats = NDArray[np.float64]

_OF_CTFFIND, _WITH_HAND, _OF_CTFFIND_5 = 7, 8, 10
"""Numbers of a row of CTFFIND 4, of AreTomo 3 and of CTFFIND 5."""
_SPACING = 6
"""Column of the spacing, which is infinite where no ring was fitted."""
_ANGSTROM_PER_NM, _NM_PER_UM = 10.0, 1000.0
"""Units."""
_RELION, _RELION_PHASE = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"), "rlnPhaseShift"
_RELION_TILTS = ("rlnTomoNominalStageTiltAngle", "rlnTomoYTilt")


def parse_ctffind(text: str, where: str = "CTFFIND's table") -> DefocusTable:
    r"""Return the defocus in a table of CTFFIND or AreTomo; lines that begin with `#` are left out.

    Raises
    ------
    FormatError
        If a line is not a row of such a table; the message begins with `where` and names the line.

    Examples
    --------
    >>> table = parse_ctffind("1 20100 19900 30 0 0.5 8.0")
    >>> table.defocus_nm, table.astigmatism_nm
    (array([2000.]), array([20.]))
    """
    rows = []
    for place, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            rows.append(_ctffind_row(line.split(), f"{where}, line {place}"))
    if not rows or len({len(row) for row in rows}) > 1:
        raise FormatError(f"{where}: its rows do not have one number of columns; those of CTFFIND and AreTomo have 7, 8 or 10")
    table = np.array(rows)
    first, second, direction = table[:, 1], table[:, 2], table[:, 3]
    number = table[:, 0].astype(np.int64) - 1
    return DefocusTable(
        program="AreTomo" if table.shape[1] == _WITH_HAND else "CTFFIND",
        views=np.stack([number, number], axis=1),
        defocus_nm=(first + second) / (2 * _ANGSTROM_PER_NM),
        astigmatism_nm=np.abs(first - second) / _ANGSTROM_PER_NM,
        astigmatism_deg=direction + 90 * (first < second),
        phase_shift_deg=np.rad2deg(table[:, 4]),
        score=table[:, 5],
        spacing_angstrom=table[:, 6],
    )


def read_ctffind(path: Path) -> DefocusTable:
    """Return the defocus in a file of CTFFIND or AreTomo.

    Raises
    ------
    LocationError, FormatError
        If it cannot be read, or is not such a table.
    """
    return parse_ctffind(read_text(path, "a table of CTFFIND"), str(path))


def render_ctffind(table: DefocusTable) -> str:
    """Return a table of CTFFIND, a row for each view; a correlation that is not known is 0, and a spacing infinite.

    >>> print(render_ctffind(parse_ctffind("1 20100 19900 30 0 0.5 8.0")), end="")
    # view, defocus 1 and 2 (angstrom), angle (deg), phase shift (rad), correlation, spacing (angstrom)
         1   20100.00   19900.00    30.00   0.000000   0.5000     8.00
    """
    half = table.astigmatism_nm / 2
    rows = len(table.views)
    columns = zip(
        table.views[:, 0] + 1,
        (table.defocus_nm + half) * _ANGSTROM_PER_NM,
        (table.defocus_nm - half) * _ANGSTROM_PER_NM,
        table.astigmatism_deg,
        np.deg2rad(table.phase_shift_deg),
        np.zeros(rows) if table.score is None else table.score,
        np.full(rows, np.inf) if table.spacing_angstrom is None else table.spacing_angstrom,
        strict=True,
    )
    head = "# view, defocus 1 and 2 (angstrom), angle (deg), phase shift (rad), correlation, spacing (angstrom)"
    lines = [
        f"{view:6d} {large:10.2f} {small:10.2f} {angle:8.2f} {phase:10.6f} {score:8.4f} {spacing:8.2f}"
        for view, large, small, angle, phase, score, spacing in columns
    ]
    return "\n".join([head, *lines]) + "\n"


def read_warp_defocus(path: Path) -> DefocusTable:
    """Return the defocus in a tilt series of Warp, a row for each of its angles, in its order.

    Raises
    ------
    LocationError, FormatError
        If it cannot be read, or is not a tilt series of Warp.
    MissingValueError
        If it holds no defocus.
    """
    root = warp_root(path)
    angles = _floats((root.findtext("Angles") or "").split(), f"{path}: <Angles>")
    views, zero = len(angles), np.zeros(len(angles))
    defocus = _grid(root, "GridCTF", views, path)
    if defocus is None or not views:
        raise MissingValueError(f"{path}: has no <GridCTF> or no <Angles>: Warp has not estimated the defocus of this series yet")
    found = (_grid(root, f"GridCTF{name}", views, path) for name in ("DefocusDelta", "DefocusAngle", "Phase"))
    delta, direction, phase = (zero if values is None else values for values in found)
    axis = _floats((root.findtext("AxisAngle") or "").split(), f"{path}: <AxisAngle>")
    return DefocusTable(
        program="Warp",
        views=np.repeat(np.arange(views)[:, None], 2, axis=1),
        defocus_nm=defocus * _NM_PER_UM,
        astigmatism_nm=np.abs(delta) * _NM_PER_UM,
        astigmatism_deg=direction + 90 * (delta < 0),
        phase_shift_deg=phase * 180,
        tilt_deg=np.repeat(geometry.warp_angles(angles)[:, None], 2, axis=1),
        hand=1 if root.get("AreAnglesInverted", "False").lower() == "true" else -1,
        axis_deg=float(np.median(axis)) if len(axis) else None,
    )


def read_relion_defocus(path: Path, name: str) -> DefocusTable:
    """Return the defocus in the star file of a series, or by way of the table of all series.

    Rows are counted in the order of the file; their tilts are the nominal ones where the file has them, else the aligned ones.

    Parameters
    ----------
    path
        The star file.
    name
        Name of the series: `rlnTomoName` in the table.

    Raises
    ------
    LocationError, FormatError
        If a file cannot be read.
    MissingValueError
        If the series or a column is missing.
    """
    file = relion_series_file(path, name)
    blocks = read_star(file)
    views = blocks.get(name, next(iter(blocks.values())) if len(blocks) == 1 else {})
    if missing := [column for column in _RELION if column not in views]:
        raise MissingValueError(f"{file}: has no {', '.join(missing)} for {name}: the defocus of this series is not estimated yet")
    first, second, direction = (_column(views, column, file) for column in _RELION)
    tilts = next((column for column in _RELION_TILTS if column in views), None)
    return DefocusTable(
        program="RELION",
        views=np.repeat(np.arange(len(first))[:, None], 2, axis=1),
        defocus_nm=(first + second) / (2 * _ANGSTROM_PER_NM),
        astigmatism_nm=np.abs(first - second) / _ANGSTROM_PER_NM,
        astigmatism_deg=direction + 90 * (first < second),
        phase_shift_deg=_column(views, _RELION_PHASE, file) if _RELION_PHASE in views else np.zeros(len(first)),
        tilt_deg=None if tilts is None else np.repeat(_column(views, tilts, file)[:, None], 2, axis=1),
    )


def _ctffind_row(words: list[str], where: str) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) not in (_OF_CTFFIND, _WITH_HAND, _OF_CTFFIND_5) or not np.isfinite(values[:_SPACING]).all():
        raise FormatError(
            f"{where}: {' '.join(words)[:80]!r} is not: view, two defoci, direction, phase shift, correlation, spacing"
        )
    if values[0] != int(values[0]) or values[0] < 1:
        raise FormatError(f"{where}: {values[0]:g} is not the number of a view; they count from 1")
    return values


def _grid(root: ET.Element, name: str, views: int, path: Path) -> Floats | None:
    """Return the values of a grid for each view, the mean over the field; None where there is no such grid."""
    nodes = root.findall(f"{name}/Node")
    if not nodes:
        return None
    place = _floats([node.get("Z", "0") for node in nodes], f"{path}: <{name}>")
    values = _floats([node.get("Value", "") for node in nodes], f"{path}: <{name}>")
    depth = int(place.max()) + 1
    if depth not in (1, views) or set(place.tolist()) != set(range(depth)):
        raise FormatError(f"{path}: <{name}> has nodes for {depth} views, and <Angles> has {views}; tiltflow reads one or as many")
    mean = np.bincount(place.astype(np.int64), values) / np.bincount(place.astype(np.int64))
    return np.broadcast_to(mean, views).copy() if depth == 1 else mean


def _column(block: Block, name: str, path: Path) -> Floats:
    return _floats(block[name], f"{path}: {name}")


def _floats(words: list[str], where: str) -> Floats:
    try:
        values = np.array(words, float)
    except ValueError as error:
        raise FormatError(f"{where} holds something that is not a number: {error}") from error
    if not np.isfinite(values).all():
        raise FormatError(f"{where} holds a number that is not finite (row {int(np.argmin(np.isfinite(values))) + 1})")
    return values
