"""AreTomo: `B.aln`, `B_TLT.txt` and, where the defocus is known, `B_CTF.txt`.

Rows of `.aln` ascend in tilt; SEC is the section of the stack, from 1, as AreTomo3 counts it.  A view that is left out has no row but a
`DarkFrame` line: its place in the order of the tilts from 0, its section from 1, its tilt.

`B_CTF.txt` has a row for each view of the stack: number from 1, largest and smallest defocus, Å, the direction of the largest in the
raw view, phase shift, radians, correlation, and the spacing to which rings are seen, Å.  These are CTFFIND's seven columns; AreTomo's
eighth is its hand, whose sign against that of other programs is not settled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tiltflow import geometry as axes
from tiltflow.formats.acquisition import acquisition_order
from tiltflow.formats.foreign_defocus import render_ctffind
from tiltflow.interchange.rigid_remark import pitch_remarks, rigid_remarks
from tiltflow.interchange.series_geometry import SeriesGeometry

_PROGRAM = "AreTomo"


def write(geometry: SeriesGeometry, folder: Path) -> list[Path]:
    """Write both files into `folder`."""
    alignment, tilts = folder / f"{geometry.name}.aln", folder / f"{geometry.name}_TLT.txt"
    alignment.write_text(render_aln(geometry), encoding="utf-8")
    tilts.write_text(_tilts(geometry), encoding="utf-8")
    made = [alignment, tilts]
    if geometry.defocus is not None:
        ctf = folder / f"{geometry.name}_CTF.txt"
        ctf.write_text(render_ctffind(geometry.defocus.raw), encoding="utf-8")
        made.append(ctf)
    return made


def remarks(geometry: SeriesGeometry) -> list[str]:
    """Return what a user of these files has to know."""
    told = [
        "SEC counts sections of the stack from 1, as AreTomo3 does; AreTomo2, and RELION where it reads .aln, count from 0",
        *pitch_remarks(geometry, _PROGRAM),
        *rigid_remarks(geometry),
    ]
    if geometry.defocus is not None:
        told.append(_of_the_defocus(geometry.defocus.hand))
    if np.any(np.diff(geometry.nominal_tilt_deg) < 0) and not geometry.included.all():
        told.append(
            "the stack is not in the order of the tilts: readers that take the first number of DarkFrame for the section go wrong"
        )
    return told


def render_aln(series: SeriesGeometry) -> str:
    """Return the text of the `.aln`."""
    ny, nx = series.image_shape
    by_tilt = np.argsort(series.nominal_tilt_deg, kind="stable")
    place = np.argsort(by_tilt)
    transforms = series.rigid_transforms()
    rotation, shift = axes.axis_angles(transforms), axes.raw_shifts(transforms)
    head = [
        "# AreTomo Alignment / Priims bprmMn",
        f"# RawSize = {nx} {ny} {series.views}",
        "# NumPatches = 0",
        *(
            f"# DarkFrame = {place[view]:5d} {view + 1:4d} {series.nominal_tilt_deg[view]:8.2f}"
            for view in by_tilt
            if not series.included[view]
        ),
        "# AlphaOffset =     0.00",
        "# BetaOffset =     0.00",
        f"# Thickness = {series.unbinned_volume_shape[0]}",
        "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT",
    ]
    rows = [
        f"{view + 1:5d} {rotation[view]:10.4f} {1:10.5f} {shift[view, 0]:10.3f} {shift[view, 1]:10.3f}"
        f" {1:8.2f} {1:8.2f} {1:8.2f} {0:8.2f} {series.tilt_deg[view]:11.4f}"
        for view in series.kept
    ]
    return "\n".join([*head, *rows]) + "\n"


def _of_the_defocus(hand: int | None) -> str:
    known = "is not known" if hand is None else f"is {hand:+d} by IMOD's convention"
    return f"_CTF.txt has no column for AreTomo's hand, whose sign is not settled; that of this series {known}"


def _tilts(series: SeriesGeometry) -> str:
    """Return a line for each view: its nominal tilt and, where they are known, its place in the acquisition and its exposure."""
    if series.exposure_before is None or series.exposure is None:
        return "".join(f"{tilt:8.2f}\n" for tilt in series.nominal_tilt_deg)
    order = acquisition_order(series.exposure_before)
    rows = zip(series.nominal_tilt_deg, order, series.exposure, strict=True)
    return "".join(f"{tilt:8.2f} {number:4d} {dose:8.2f}\n" for tilt, number, dose in rows)
