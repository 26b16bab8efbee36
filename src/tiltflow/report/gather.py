"""What the pages need of the data, taken while the data are there: a picture of the series, the measure of the volume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tiltflow.ctf.recorded import transfer_of_volume
from tiltflow.errors import ParameterError
from tiltflow.filters.deconvolve import DeconvolveParams, deconvolve_section
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Image, TiltSeries
from tiltflow.preprocess.montage import PieceOffsets, StitchedViews, worst_seam
from tiltflow.preprocess.montage.quick_look import place_pieces
from tiltflow.preprocess.preparation import RepairingStack
from tiltflow.preprocess.xrays import XrayParams
from tiltflow.record import CtfEntry, Recorder, VolumeEntry
from tiltflow.report.measure import VolumeMeasure, measure_volume
from tiltflow.report.pictures import write_seam, write_slices, write_view
from tiltflow.report.specimen import positioned


def gather_view(recorder: Recorder, series: TiltSeries, folder: Path) -> None:
    """Put a picture of the view nearest to zero tilt beside the record."""
    flattest = int(np.argmin(np.abs(series.tilt_deg) + 1e3 * ~series.included))
    with open_stack(series.path) as raw:
        view = raw[flattest] if series.montage is None else place_pieces(raw, series.montage, flattest)
    recorder.record.pictures.append(write_view(folder, view, series.pixel_size_angstrom / 10, float(series.tilt_deg[flattest])))
    recorder.save()


def gather_seam(recorder: Recorder, series: TiltSeries, offsets: PieceOffsets, xrays: XrayParams, folder: Path) -> None:
    """Put a picture of the worst seam of a montage beside the record.

    Parameters
    ----------
    offsets
        Where its pieces lie.
    xrays
        Criteria of the hits that are repaired in the picture.
    folder
        Of the record.
    """
    if series.montage is None:
        return
    with open_stack(series.path) as raw:
        seam = worst_seam(StitchedViews(RepairingStack(raw, xrays), series.montage, offsets))
    if seam is not None:
        picture = write_seam(folder, seam.written, seam.stitched, series.pixel_size_angstrom / 10, seam.sentence)
        recorder.record.pictures.append(picture)
        recorder.save()


def gather_volume(recorder: Recorder, volume: Path, folder: Path, *, threads: int = 1) -> None:
    """Measure the volume for the record, and put its slices beside it."""
    with open_mrc(volume) as voxels:
        voxel_nm = voxels.header.pixel_size_angstrom[0] / 10
        specimen = positioned(recorder.record)
        within = (specimen.low_nm, specimen.high_nm) if specimen is not None else None
        measured = measure_volume(voxels, voxel_nm, within_nm=within, threads=threads)
        rounded = np.issubdtype(voxels.dtype, np.integer) and voxels.dtype.itemsize > 1
    recorder.record.volume = describe_volume(measured, voxel_nm)
    recorder.record.volume.whole_numbers = rounded
    shown = for_viewing(measured, recorder.record.ctf, voxel_nm)
    recorder.record.pictures += write_slices(folder, shown or measured, voxel_nm, "deconvolved" if shown is not None else "")
    recorder.save()


def for_viewing(measured: VolumeMeasure, ctf: CtfEntry | None, voxel_nm: float) -> VolumeMeasure | None:
    """Return the slices deconvolved with the CTF, as ice can be read then; None where the defocus is not known, or values are missing."""
    transfer = transfer_of_volume(ctf)
    if ctf is None or transfer is None:
        return None
    params = DeconvolveParams(phase_flipped=ctf.applied)

    def seen(plane: Image) -> Image:
        return deconvolve_section(plane, voxel_nm, transfer, params)

    try:
        if measured.z_step == 1:
            return replace(measured, xy=seen(measured.xy), xz=seen(measured.xz), yz=seen(measured.yz))
        return replace(measured, xy=seen(measured.xy))  # the others have another step along z
    except ParameterError:
        return None


def describe_volume(measured: VolumeMeasure, voxel_nm: float) -> VolumeEntry:
    """Return a measure as the record keeps it: lengths in nm, heights from the middle of the volume."""
    nz, ny, nx = measured.shape
    extent = measured.extent
    return VolumeEntry(
        sections=nz,
        height_px=ny,
        width_px=nx,
        voxel_nm=voxel_nm,
        mean=measured.mean,
        sd=measured.sd,
        histogram_low=measured.histogram_range[0],
        histogram_high=measured.histogram_range[1],
        histogram_counts=measured.histogram.tolist(),
        window_low=measured.window[0],
        window_high=measured.window[1],
        spectrum_per_nm=[float(f"{value:.5g}") for value in measured.frequency / voxel_nm],
        spectrum_power=[float(f"{value:.5g}") for value in measured.power],
        texture_z_nm=[float(f"{(z + 0.5 - nz / 2) * voxel_nm:.5g}") for z in measured.sections],
        texture=[float(f"{value:.5g}") for value in measured.texture],
        contrast=measured.contrast,
        section_low_nm=(extent.low - nz / 2) * voxel_nm if extent else None,
        section_high_nm=(extent.high + 1 - nz / 2) * voxel_nm if extent else None,
        section_cut=extent.cut if extent else False,
        section_least=extent.least if extent else False,
    )
