"""A data set of IMOD: what eTomo, IMOD's programs and readers of their files look for.

The stack is named `B.EXT`, all other files after `B`.  Every file has a line for each view of the stack; those that are left out are in
EXCLUDELIST2 of `tilt.com`, ExcludeList of `align.com` and `Setup.AxisA.ExcludeProjections` of `B.edf`.  The pitch is in `B.xtilt`
with XAXISTILT 0, and the tilt offset in `B.tlt` with OFFSET 0, as readers of these files ignore the two.  The points of `B.fid` are
those of the raw stack, so that `B.prexg` holds unit transforms.

Where the defocus is known it is in `B.defocus`; voltage, spherical aberration, amplitude contrast and hand are in `ctfcorrection.com`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tiltflow.formats.defocus import write_defocus
from tiltflow.formats.edf import edf_entries, render_edf, view_list
from tiltflow.formats.imod_model import StackFrame, render_point_model
from tiltflow.formats.tilts import render_tilts
from tiltflow.formats.transforms import render_transforms
from tiltflow.interchange.command_files import render_command
from tiltflow.interchange.contrast import KnownDefocus
from tiltflow.interchange.links import link, present
from tiltflow.interchange.series_geometry import SeriesGeometry
from tiltflow.model import TiltSeries
from tiltflow.reconstruct.wbp import default_scale_factor

_DECIMALS = 4
_EDF_REVISION = "1.12"


def write(geometry: SeriesGeometry, folder: Path) -> list[Path]:
    """Write the data set into `folder` and return the paths; stack, aligned stack and volume are relative links."""
    series = geometry
    name, stack = series.name, f"{series.name}{series.stack.suffix}"
    texts = {
        ".edf": _edf(series),
        ".rawtlt": render_tilts(series.nominal_tilt_deg),
        ".tlt": render_tilts(series.tilt_deg, _DECIMALS),
        "_fid.tlt": render_tilts(series.tilt_deg, _DECIMALS),
        ".xtilt": render_tilts(series.pitch_deg, _DECIMALS),
        ".xf": render_transforms(series.transforms),
        "_fid.xf": render_transforms(series.transforms),
        ".tltxf": render_transforms(series.transforms),
        ".prexg": render_transforms(np.tile(np.eye(2, 3), (series.views, 1, 1))),
    }
    made = [_write(folder / f"{name}{suffix}", text) for suffix, text in texts.items()]
    made += [
        _write(folder / "newst.com", newst_com(series, stack)),
        _write(folder / "tilt.com", tilt_com(series)),
    ]
    if series.tracks is not None:
        model = folder / f"{name}.fid"
        model.write_bytes(_model(series))
        made += [
            model,
            _write(folder / "track.com", _track_com(series, stack)),
            _write(folder / "align.com", _align_com(series, stack)),
        ]
    if series.defocus is not None:
        defocus = folder / f"{name}.defocus"
        write_defocus(defocus, series.defocus.aligned)
        made += [defocus, _write(folder / "ctfcorrection.com", ctfcorrection_com(series, series.defocus))]
    links = (
        (series.stack, stack),
        (series.folder / f"{name}_ali.mrc", f"{name}_ali.mrc"),
        (series.folder / f"{name}_rec.mrc", f"{name}_rec.mrc"),
    )
    return made + present(*(link(target, folder / place) for target, place in links))


def remarks(geometry: SeriesGeometry) -> list[str]:
    """Return what a user of these files has to know."""
    told = []
    if not geometry.stack.is_file():
        told.append(f"the stack {geometry.stack} is not there, so that there is no link to it: put it beside these files")
    if geometry.tracks is None:
        told.append("the alignment has no tracks, so that there is no model of them (.fid), nor track.com and align.com")
    if geometry.defocus is not None:
        told += _of_the_defocus(geometry.name, geometry.defocus, geometry.voltage_kv)
    return told


def newst_com(series: SeriesGeometry, stack: str) -> str:
    """Return the command file of the aligned stack."""
    _, ny, nx = series.full_shape
    return render_command(
        "newstack",
        [
            ("InputFile", stack),
            ("OutputFile", f"{series.name}_ali.mrc"),
            ("TransformFile", f"{series.name}.xf"),
            ("TaperAtFill", "1,0"),
            ("AdjustOrigin", ""),
            ("SizeToOutputInXandY", f"{nx},{ny}"),
            ("OffsetsInXandY", "0,0"),
            ("ImagesAreBinned", "1"),
            ("BinByFactor", f"{series.binning}"),
        ],
    )


def tilt_com(series: SeriesGeometry, *, centred: bool = False) -> str:
    """Return the command file of the reconstruction, which makes the volume before it is trimmed.

    With `centred` the shift of the volume is in the transforms (:meth:`SeriesGeometry.centred_transforms`), and the volume is the
    trimmed one.
    """
    ny, nx = series.image_shape
    params, binning = series.reconstruct, series.binning
    nz, _, columns = series.volume_shape if centred else series.full_shape
    shift = (0.0, 0.0) if centred else series.shift_xz
    sigma = params.radial_falloff / (1 if params.falloff_is_true_sigma else math.sqrt(2))
    factor = series.scale_factor or params.scale_factor or default_scale_factor(nx, logarithm=params.log_offset is not None)
    left_out = view_list(series.included)
    entries = [
        ("InputProjections", f"{series.name}_ali.mrc"),
        ("OutputFile", f"{series.name}_full_rec.mrc"),
        ("IMAGEBINNED", f"{binning}"),
        ("TILTFILE", f"{series.name}.tlt"),
        ("XTILTFILE", f"{series.name}.xtilt"),
        ("THICKNESS", f"{nz * binning}"),
        ("RADIAL", f"{params.radial_cutoff:g} {sigma:.4g}"),
        ("FalloffIsTrueSigma", "1"),
        ("XAXISTILT", "0.0"),
        *([("LOG", f"{params.log_offset:g}")] if params.log_offset is not None else []),
        ("SCALE", f"{params.scale_offset:g} {factor:g}"),
        ("PERPENDICULAR", ""),
        ("MODE", f"{params.grey_mode}"),
        ("FULLIMAGE", f"{nx} {ny}"),
        ("SUBSETSTART", "0 0"),
        ("AdjustOrigin", ""),
        ("ActionIfGPUFails", "1,2"),
        ("OFFSET", "0.0"),
        ("SHIFT", f"{shift[0]:.4f} {shift[1]:.4f}"),
        *([("WIDTH", f"{columns * binning}")] if columns != nx // binning else []),
        *([("EXCLUDELIST2", left_out)] if left_out else []),
    ]
    return render_command("tilt", entries)


def ctfcorrection_com(series: SeriesGeometry, known: KnownDefocus) -> str:
    """Return the command file of ctfphaseflip; what is not known is left out, or IMOD's default."""
    name = series.name
    entries = [
        ("InputStack", f"{name}_ali.mrc"),
        ("OutputFileName", f"{name}_ali_ctfcorr.mrc"),
        ("AngleFile", f"{name}.tlt"),
        ("TransformFile", f"{name}.xf"),
        ("DefocusFile", f"{name}.defocus"),
        *([] if series.voltage_kv is None else [("Voltage", f"{series.voltage_kv:g}")]),
        ("SphericalAberration", f"{known.cs_mm:g}"),
        ("AmplitudeContrast", f"{known.amplitude_contrast:g}"),
        ("PixelSize", f"{series.pixel_size_angstrom * series.binning / 10:g}"),
        ("DefocusTol", "200"),
        ("InterpolationWidth", "20"),
        *([("InvertTiltAngles", "1")] if known.hand == -1 else []),
    ]
    return render_command("ctfphaseflip", entries)


def _of_the_defocus(name: str, known: KnownDefocus, voltage_kv: float | None) -> list[str]:
    told = []
    if known.corrected:
        told.append(
            f"{name}_ali.mrc is corrected for the CTF already: ctfcorrection.com says with what, and is not to be run on it"
        )
    if known.is_astigmatic or known.has_phase_shift:
        told.append(f"{name}.defocus is of version 3, of newer IMOD: 4.8 takes its first line for a view without defocus")
    if known.hand is None:
        told.append("the hand is not known: ctfcorrection.com has IMOD's default, without InvertTiltAngles")
    if voltage_kv is None:
        told.append("nothing here gives the voltage: set Voltage in ctfcorrection.com")
    return told


def _edf(series: SeriesGeometry) -> str:
    known = TiltSeries(
        path=series.stack,
        shape=(series.views, *series.image_shape),
        tilt_deg=series.nominal_tilt_deg,
        pixel_size_angstrom=series.pixel_size_angstrom,
        axis_angle_deg=series.nominal_axis_deg,
        included=series.included,
    )
    complete = {"Setup.ComScriptsCreated": "true", "ProcessTrack.Setup": "Complete", "Setup.RevisionNumber": _EDF_REVISION}
    return render_edf(
        edf_entries(known, series.included.tolist(), series.gold_nm) | complete, f"exported by tiltflow: {series.name}"
    )


def _model(series: SeriesGeometry) -> bytes:
    tracks, used = series.tracks, series.used
    if tracks is None or used is None:
        return b""
    used = used & series.included
    contours = [
        np.column_stack([tracks.xy[track, views], views])
        for track in range(len(tracks.xy))
        if len(views := np.flatnonzero(used[track]))
    ]
    return render_point_model(contours, StackFrame((series.views, *series.image_shape), series.pixel_size_angstrom))


def _track_com(series: SeriesGeometry, stack: str) -> str:
    left_out = view_list(series.included)
    entries = [
        ("ImageFile", stack),
        ("InputSeedModel", f"{series.name}.seed"),
        ("OutputModel", f"{series.name}.fid"),
        ("RotationAngle", f"{series.nominal_axis_deg:g}"),
        ("ImagesAreBinned", "1"),
        ("TiltFile", f"{series.name}.rawtlt"),
        *([("SkipViews", left_out)] if left_out else []),
    ]
    return render_command("beadtrack", entries)


def _align_com(series: SeriesGeometry, stack: str) -> str:
    name, left_out = series.name, view_list(series.included)
    entries = [
        ("ModelFile", f"{name}.fid"),
        ("ImageFile", stack),
        ("ImagesAreBinned", "1"),
        ("OutputModelFile", f"{name}.3dmod"),
        ("OutputResidualFile", f"{name}.resid"),
        ("OutputFidXYZFile", f"{name}fid.xyz"),
        ("OutputTiltFile", f"{name}.tlt"),
        ("OutputXAxisTiltFile", f"{name}.xtilt"),
        ("OutputTransformFile", f"{name}.tltxf"),
        ("RotationAngle", f"{series.nominal_axis_deg:g}"),
        ("TiltFile", f"{name}.rawtlt"),
        ("AngleOffset", "0.0"),
        ("RotOption", "1"),
        ("RotDefaultGrouping", "5"),
        ("TiltOption", "5"),
        ("TiltDefaultGrouping", "5"),
        ("MagOption", "1"),
        ("MagDefaultGrouping", "4"),
        ("XStretchOption", "0"),
        ("SkewOption", "0"),
        ("SurfacesToAnalyze", "1"),
        ("AxisZShift", "0.0"),
        ("ShiftZFromOriginal", ""),
        ("LocalAlignments", "0"),
        *([("ExcludeList", left_out)] if left_out else []),
    ]
    product = ["$xfproduct -StandardInput", f"InputFile1 {name}.prexg", f"InputFile2 {name}.tltxf", f"OutputFile {name}_fid.xf"]
    copies = [f"$b3dcopy -p {name}_fid.xf {name}.xf", f"$b3dcopy -p {name}.tlt {name}_fid.tlt"]
    return render_command("tiltalign", entries) + "\n".join([*product, *copies]) + "\n"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
