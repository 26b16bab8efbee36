"""The CryoET Data Portal and copick: an alignment in IMOD's files, three JSON files, and a pyramid with axes z y x.

The portal takes an angle and a shift a view and ignores XAXISTILT, OFFSET and SHIFT of `tilt.com`: transforms are rigid, the pitch is
in `B.xtilt`, and the shift of the volume is in the transforms.  Offsets of a section are in pixels, as the portal's own code has them
although its schema says ångström; the unit stands beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow import geometry as axes
from tiltflow.formats.acquisition import acquisition_order
from tiltflow.formats.defocus import DefocusTable
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.tilts import render_tilts
from tiltflow.formats.transforms import render_transforms
from tiltflow.interchange.imod_set import newst_com, tilt_com
from tiltflow.interchange.portal_pyramid import SCALES, write_pyramid
from tiltflow.interchange.rigid_remark import rigid_remarks
from tiltflow.interchange.series_geometry import SeriesGeometry
from tiltflow.version import __version__

_DECIMALS = 4
_METHODS = {"gold": "fiducial_based", "patches": "patch_tracking", "projection": "projection_matching"}
_IDENTITY = np.eye(4).tolist()


def write(geometry: SeriesGeometry, folder: Path) -> list[Path]:
    """Write alignment, metadata and, where the volume is in the folder of the results, the pyramid into `folder`."""
    series, name = geometry, geometry.name
    texts = {
        f"{name}.xf": render_transforms(series.rigid_transforms()),
        f"{name}.tlt": render_tilts(series.tilt_deg, _DECIMALS),
        f"{name}.xtilt": render_tilts(series.pitch_deg, _DECIMALS),
        f"{name}.rawtlt": render_tilts(series.nominal_tilt_deg),
        "tilt.com": tilt_com(series, centred=True),
        "newst.com": newst_com(series, f"{name}{series.stack.suffix}"),
        "alignment_metadata.json": _json(alignment_metadata(series)),
        "tiltseries_metadata.json": _json(tiltseries_metadata(series)),
    }
    volume = _volume(series)
    if volume.is_file():
        texts["tomogram_metadata.json"] = _json(tomogram_metadata(series))
    made = []
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
        made.append(folder / file)
    if volume.is_file():
        write_pyramid(volume, folder / f"{name}.zarr", _voxel_angstrom(series))
        made.append(folder / f"{name}.zarr")
    return made


def remarks(geometry: SeriesGeometry) -> list[str]:
    """Return what a user of these files has to know."""
    told = [
        "x_offset and y_offset of alignment_metadata.json are pixels of the raw images, as in the portal's own files",
        f"what no file here gives is null: {', '.join(_unknown(geometry))}",
        *rigid_remarks(geometry),
    ]
    if not _volume(geometry).is_file():
        told.append(f"{_volume(geometry)} is not there, so that there is no pyramid and no tomogram_metadata.json")
    return told


def alignment_metadata(series: SeriesGeometry) -> dict[str, Any]:
    """Return `alignment_metadata.json`: an entry for each view of the tomogram, by its section from 0."""
    transforms = series.rigid_transforms()
    angle, shift = axes.axis_angles(transforms), axes.raw_shifts(transforms)
    nz, ny, nx = series.unbinned_volume_shape
    pixel, name = series.pixel_size_angstrom, series.name
    return {
        "affine_transformation_matrix": _IDENTITY,
        "alignment_type": "GLOBAL",
        "format": "IMOD",
        "is_portal_standard": False,
        "method_type": _METHODS.get(series.alignment.method, "undefined"),
        "tilt_offset": 0.0,
        "x_rotation_offset": 0.0,
        "volume_offset": {"x": 0.0, "y": 0.0, "z": 0.0},
        "volume_dimension": {"x": nx * pixel, "y": ny * pixel, "z": nz * pixel},
        "offset_unit": "pixel",
        "per_section_alignment_parameters": [
            {
                "z_index": int(view),
                "tilt_angle": round(float(series.tilt_deg[view]), 4),
                "volume_x_rotation": round(float(series.pitch_deg[view]), 4),
                "in_plane_rotation": axes.rotation(float(angle[view])).tolist(),
                "x_offset": round(float(shift[view, 0]), 4),
                "y_offset": round(float(shift[view, 1]), 4),
                "beam_tilt": 0.0,
            }
            for view in np.flatnonzero(series.included)
        ],
        "alignment_path": f"{name}.xf",
        "tilt_path": f"{name}.tlt",
        "tiltx_path": f"{name}.xtilt",
        "files": [f"{name}.xf", f"{name}.tlt", f"{name}.xtilt", "tilt.com", "newst.com"],
    }


def tiltseries_metadata(series: SeriesGeometry) -> dict[str, Any]:
    """Return `tiltseries_metadata.json`."""
    ny, nx = series.image_shape
    tilts = series.nominal_tilt_deg
    order = None if series.exposure_before is None else acquisition_order(series.exposure_before) - 1
    steps = np.diff(np.sort(tilts))
    ctf = [{}] * series.views if series.defocus is None else _ctf_of_sections(series.defocus.raw)
    return {
        "run_name": series.name,
        "size": {"x": nx, "y": ny, "z": series.views},
        "pixel_spacing": series.pixel_size_angstrom,
        "raw_tlt_path": f"{series.name}.rawtlt",
        "tilt_axis": series.nominal_axis_deg,
        "tilt_range": {"min": float(tilts.min()), "max": float(tilts.max())},
        "tilt_step": round(float(np.median(steps)), 3) if len(steps) else None,
        "total_flux": None if series.exposure is None else round(float(series.exposure.sum()), 3),
        "is_aligned": False,
        "aligned_tiltseries_binning": series.binning,
        "tilt_alignment_software": f"tiltflow {__version__}",
        "acceleration_voltage": None if series.voltage_kv is None else round(series.voltage_kv * 1000),
        "spherical_aberration_constant": None if series.defocus is None else series.defocus.cs_mm,
        "camera": None,
        "microscope": None,
        "per_section_parameter": [
            {
                "z_index": view,
                "raw_angle": round(float(tilts[view]), 3),
                "frame_acquisition_order": None if order is None else int(order[view]),
                **ctf[view],
            }
            for view in range(series.views)
        ],
    }


def tomogram_metadata(series: SeriesGeometry) -> dict[str, Any]:
    """Return `tomogram_metadata.json`; rows of the pyramid are those of the MRC file, which is said in its own metadata too."""
    nz, ny, nx = _shape(series)
    return {
        "run_name": series.name,
        "voxel_spacing": round(_voxel_angstrom(series), 3),
        "size": {"x": nx, "y": ny, "z": nz},
        "scales": [{"x": -(-nx // by), "y": -(-ny // by), "z": -(-nz // by)} for by in SCALES],
        "offset": {"x": 0, "y": 0, "z": 0},
        "affine_transformation_matrix": _IDENTITY,
        "fiducial_alignment_status": "FIDUCIAL" if series.alignment.method == "gold" else "NON_FIDUCIAL",
        "ctf_corrected": series.defocus is not None and series.defocus.corrected,
        "align_software": f"tiltflow {__version__}",
        "reconstruction_method": "SIRT" if series.by_sirt else "WBP",
        "reconstruction_software": f"tiltflow {__version__}",
        "processing": "raw",
        "processing_software": f"tiltflow {__version__}",
        "tomogram_version": 1,
        "omezarr_dir": f"{series.name}.zarr",
        "mrc_file": f"{series.name}_rec.mrc",
        "alignment_metadata_path": "alignment_metadata.json",
    }


def _unknown(series: SeriesGeometry) -> list[str]:
    names = ["microscope", "camera"]
    return names + ["voltage"] * (series.voltage_kv is None) + ["spherical aberration"] * (series.defocus is None)


def _ctf_of_sections(found: DefocusTable) -> list[dict[str, float]]:
    """Return the CTF of each section: ångström, degrees in the raw view, radians; correlation and resolution where they are known."""
    half = found.astigmatism_nm / 2
    entries = [
        {
            "major_defocus": round(float(defocus + spread) * 10, 1),
            "minor_defocus": round(float(defocus - spread) * 10, 1),
            "astigmatic_angle": round(float(angle), 2),
            "phase_shift": round(float(np.deg2rad(phase)), 5),
        }
        for defocus, spread, angle, phase in zip(found.defocus_nm, half, found.astigmatism_deg, found.phase_shift_deg, strict=True)
    ]
    for name, values in (("max_resolution", found.spacing_angstrom), ("cross_correlation", found.score)):
        for entry, value in zip(entries, () if values is None else values, strict=False):
            if np.isfinite(value):
                entry[name] = round(float(value), 4)
    return entries


def _volume(series: SeriesGeometry) -> Path:
    return series.folder / f"{series.name}_rec.mrc"


def _shape(series: SeriesGeometry) -> tuple[int, int, int]:
    """Return `(nz, ny, nx)` of the volume in the file."""
    with open_mrc(_volume(series)) as volume:
        return volume.shape


def _voxel_angstrom(series: SeriesGeometry) -> float:
    return series.pixel_size_angstrom * series.binning


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1) + "\n"
