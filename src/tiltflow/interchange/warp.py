"""Warp and M: `B/B.xf`, `B/B.tlt` and `B/B_cutviews0.rawtlt`, as `WarpTools ts_import_alignments` looks for them.

Warp assigns lines to the rows of its `.tomostar`, which ascend in the tilt of the `.mdoc`; only views of the tomogram have one.  It
stores tilts with the other sign and copies `.tlt` unchanged, so that it must hold negative ones; a forgotten sign mirrors the volume,
and nothing complains.

Where the defocus is known, it is in `B/B_ctf.xml` (:mod:`tiltflow.interchange.warp_ctf`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tiltflow import geometry as axes
from tiltflow.formats.tilts import render_tilts
from tiltflow.formats.transforms import render_transforms
from tiltflow.interchange.links import link, present
from tiltflow.interchange.rigid_remark import pitch_remarks, rigid_remarks
from tiltflow.interchange.series_geometry import SeriesGeometry
from tiltflow.interchange.warp_ctf import render_ctf

_PROGRAM = "Warp"
_DECIMALS = 4


def write(geometry: SeriesGeometry, folder: Path) -> list[Path]:
    """Write the files into `folder`, under a folder with the name of the series."""
    series = geometry
    place = folder / series.name
    place.mkdir(parents=True)
    kept = series.kept
    left_out = np.flatnonzero(~series.included)
    texts = {
        ".xf": render_transforms(series.rigid_transforms()[kept]),
        ".tlt": render_tilts(axes.warp_angles(series.tilt_deg[kept]), _DECIMALS),
    }
    if left_out.size:
        texts["_cutviews0.rawtlt"] = render_tilts(axes.warp_angles(series.nominal_tilt_deg[left_out]))
    if series.defocus is not None:
        texts["_ctf.xml"] = render_ctf(series, series.defocus)
    made = []
    for suffix, text in texts.items():
        path = place / f"{series.name}{suffix}"
        path.write_text(text, encoding="utf-8")
        made.append(path)
    return made


def collect(exports: Sequence[tuple[SeriesGeometry, Path]], folder: Path) -> list[Path]:
    """Link the folders of all series of a run, each from the folder of its export: Warp takes one folder with one for each series."""
    return present(*(link(place / series.name, folder / series.name) for series, place in exports))


def remarks(geometry: SeriesGeometry) -> list[str]:
    """Return what a user of these files has to know."""
    command = f"WarpTools ts_import_alignments --alignments THIS_FOLDER --alignment_angpix {geometry.pixel_size_angstrom:g}"
    sign = (
        "tilts are those of Warp, minus ours, for a .tomostar that ts_import made without --dont_invert; where it was made with it, or "
        "the series was aligned on Warp's own tilt stack, change their sign in .tlt and _cutviews0.rawtlt"
    )
    return [
        f"{command}; the folder in it must have the name of the .tomostar",
        sign,
        *_of_the_defocus(geometry),
        *pitch_remarks(geometry, _PROGRAM),
        *rigid_remarks(geometry),
    ]


def _of_the_defocus(geometry: SeriesGeometry) -> list[str]:
    if geometry.defocus is None:
        return []
    inverted = geometry.defocus.warp_inverted
    hand = "the hand is not known" if inverted is None else f"AreAnglesInverted is {inverted}"
    holds = f"{geometry.name}_ctf.xml holds it as Warp's own tilt series do, for tilts of Warp's sign ({hand})"
    return [f"Warp imports no defocus: {holds}; take its elements over, or let ts_ctf find the defocus, and set the hand"]
