"""RELION-5: `tomograms.star` and `tilt_series/B.star`.

A row for each view of the tomogram, by increasing nominal tilt; a view that is left out has none.  RELION takes an angle and a shift a
view: magnification and stretch are left out.  Shifts are those of the transforms, as RELION's own import of IMOD's files has them: its
centre of an image of even size lies half a pixel from ours, and nothing is added for that.

Defocus is that at the centre of each view, as CTFFIND's; :mod:`tiltflow.interchange.contrast` turns its angle and the hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry as axes
from tiltflow.formats.star import render_star
from tiltflow.interchange.links import link, present
from tiltflow.interchange.rigid_remark import rigid_remarks
from tiltflow.interchange.series_geometry import SeriesGeometry

VOLTAGE_KV, SPHERICAL_ABERRATION_MM, AMPLITUDE_CONTRAST, HAND = 300.0, 2.7, 0.1, -1
"""What RELION's import assumes unless told otherwise, for what is not known of a series."""
_NM_PER_ANGSTROM = 0.1
_ANGSTROM_PER_NM = 10.0


def write(geometry: SeriesGeometry, folder: Path) -> list[Path]:
    """Write the two files, and a relative link to the stack, whose views they name, into `folder`."""
    series = geometry
    (folder / "tilt_series").mkdir(parents=True)
    stack = f"tilt_series/{series.name}.mrcs"
    views = folder / "tilt_series" / f"{series.name}.star"
    views.write_text(render_star(series.name, _views(series, stack)), encoding="utf-8")
    tomograms = folder / "tomograms.star"
    tomograms.write_text(render_star("global", {key: [value] for key, value in _tomogram(series).items()}), encoding="utf-8")
    return [tomograms, views, *present(link(series.stack, folder / stack))]


def collect(exports: Sequence[tuple[SeriesGeometry, Path]], folder: Path) -> list[Path]:
    """Write one `tomograms.star` of all series of a run, each with the folder of its export, and links to what it names."""
    rows = [_tomogram(series) for series, _ in exports]
    common = [name for name in rows[0] if all(name in row for row in rows)]
    tomograms = folder / "tomograms.star"
    tomograms.write_text(render_star("global", {name: [row[name] for row in rows] for name in common}), encoding="utf-8")
    names = [(place, f"tilt_series/{series.name}{suffix}") for series, place in exports for suffix in (".star", ".mrcs")]
    return [tomograms, *present(*(link(place / name, folder / name) for place, name in names))]


def remarks(geometry: SeriesGeometry) -> list[str]:
    """Return what a user of these files has to know."""
    told = [
        *_assumed(geometry),
        "RELION's centre of an image of even size is half a pixel from IMOD's, as with its own import of IMOD's files",
        "paths are relative to this folder: take it as the project, or set them in tomograms.star",
        *rigid_remarks(geometry),
    ]
    if geometry.exposure_assumed:
        told.append("the exposure before each view is summed in an order of the views that is only assumed")
    if geometry.exposure_before is None:
        told.append(
            "no .mdoc gives the exposure before each view: rlnMicrographPreExposure is 0 for all of them, set it before weighting "
            "by exposure"
        )
    if not geometry.stack.is_file():
        told.append(f"the stack {geometry.stack} is not there: link it as tilt_series/{geometry.name}.mrcs")
    return told


def _optics(series: SeriesGeometry) -> dict[str, tuple[float, bool]]:
    """Return the constants of the microscope and the hand, each with whether it is known."""
    found = series.defocus
    hand = None if found is None else found.relion_hand
    return {
        "rlnTomoHand": (HAND if hand is None else hand, hand is not None),
        "rlnVoltage": (series.voltage_kv or VOLTAGE_KV, series.voltage_kv is not None),
        "rlnSphericalAberration": (SPHERICAL_ABERRATION_MM if found is None else found.cs_mm, found is not None),
        "rlnAmplitudeContrast": (AMPLITUDE_CONTRAST if found is None else found.amplitude_contrast, found is not None),
    }


_IN_WORDS = {
    "rlnVoltage": "voltage {:g} kV",
    "rlnSphericalAberration": "spherical aberration {:g} mm",
    "rlnAmplitudeContrast": "amplitude contrast {:g}",
    "rlnTomoHand": "hand {:g}",
}


def _assumed(series: SeriesGeometry) -> list[str]:
    optics = _optics(series)
    named = [words.format(optics[name][0]) for name, words in _IN_WORDS.items() if not optics[name][1]]
    if not named:
        return []
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    are = "is the default" if len(named) == 1 else "are the defaults"
    them = "it" if len(named) == 1 else "them"
    return [f"{listed} {are} of RELION's import: nothing here gives {them}, set {them} in tomograms.star"]


def _ctf_columns(series: SeriesGeometry) -> dict[str, NDArray[np.float64]]:
    """Return the columns of the CTF, none where the defocus is not known: U is the larger defocus, in the direction of the angle."""
    if series.defocus is None:
        return {}
    found = series.defocus.raw
    columns = {
        "rlnDefocusU": (found.defocus_nm + found.astigmatism_nm / 2) * _ANGSTROM_PER_NM,
        "rlnDefocusV": (found.defocus_nm - found.astigmatism_nm / 2) * _ANGSTROM_PER_NM,
        "rlnDefocusAngle": found.astigmatism_deg,
    }
    return columns | ({"rlnPhaseShift": found.phase_shift_deg} if series.defocus.has_phase_shift else {})


def _views(series: SeriesGeometry, stack: str) -> dict[str, list[float | str]]:
    kept = series.kept
    transforms = series.rigid_transforms()
    shift = axes.raw_shifts(transforms) * series.pixel_size_angstrom
    before = np.zeros(series.views) if series.exposure_before is None else series.exposure_before
    columns = {
        "rlnTomoNominalStageTiltAngle": series.nominal_tilt_deg,
        "rlnTomoNominalTiltAxisAngle": np.full(series.views, series.nominal_axis_deg),
        "rlnMicrographPreExposure": before,
        "rlnTomoXTilt": series.pitch_deg,
        "rlnTomoYTilt": series.tilt_deg,
        "rlnTomoZRot": axes.axis_angles(transforms),
        "rlnTomoXShiftAngst": shift[:, 0],
        "rlnTomoYShiftAngst": shift[:, 1],
        **_ctf_columns(series),
    }
    names: list[float | str] = [f"{view + 1:06d}@{stack}" for view in kept]
    return {"rlnMicrographName": names} | {name: [float(values[view]) for view in kept] for name, values in columns.items()}


def _tomogram(series: SeriesGeometry) -> dict[str, float | str]:
    nz, ny, nx = series.unbinned_volume_shape
    pixel, found = series.pixel_size_angstrom, series.alignment
    entries: dict[str, float | str] = {
        "rlnTomoName": series.name,
        "rlnTomoTiltSeriesStarFile": f"tilt_series/{series.name}.star",
        "rlnTomoTiltSeriesPixelSize": pixel,
        "rlnMicrographOriginalPixelSize": pixel,
        **{name: value for name, (value, _) in _optics(series).items()},
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnTomoSizeX": nx,
        "rlnTomoSizeY": ny,
        "rlnTomoSizeZ": nz,
    }
    if series.exposure is not None:
        entries["rlnTomoImportFractionalDose"] = float(np.median(series.exposure[series.included]))
    if found.residual_mean_px is not None and found.residual_sd_px is not None:
        entries["rlnIMODResidualErrorMean"] = found.residual_mean_px * pixel * _NM_PER_ANGSTROM
        entries["rlnIMODResidualErrorStddev"] = found.residual_sd_px * pixel * _NM_PER_ANGSTROM
    return entries
