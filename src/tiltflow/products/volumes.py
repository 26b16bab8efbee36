"""The averaged volume and its binned copy.

:func:`make_averaged_volume` corresponds to `clip avg -2d -iz i-2..i+2 -m 1` for every section i that has two neighbours on both sides,
then `newstack -float 3`: the mean of five sections, cut to a whole number, at a common mean.  :func:`make_binned_volume`
corresponds to `binvol -binning 2`: means of 2 x 2 x 2, rounded, without a remainder at the high ends.

The averages are int16 as IMOD's, or float32 where int16 would lose information: floats that span less than :data:`LEAST_SPAN`
whole numbers, and volumes with more levels than int16 holds, which IMOD would clip.

The first average stands for the third section, so that two sections are missing at either end of the averaged volume.  Its origin in z
says so: laid over each other, both volumes show the same place at the same height.

The header of the averages has the extremes of the voxels as stored.  Those from before the rounding, which IMOD's header has and from
which the contrast of IMOD's movie follows, are kept in a title line (:func:`read_grey_levels`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from tiltflow.formats.mrc import MrcHeader, MrcWriter, render_label
from tiltflow.kernels import products as kernels
from tiltflow.model import Progress
from tiltflow.parallel import map_threads
from tiltflow.products.levels import Levels, common_mean, section_moments
from tiltflow.products.sections import Block, RunningMean, Sections, Voxels, blocks

_LEVELS = "tiltflow: mean of {} sections, {:.7g} to {:.7g}"
_LEVELS_READ = re.compile(r"tiltflow: mean of \d+ sections, (\S+) to (\S+) ")

LEAST_SPAN = 6
"""Floats whose averages span fewer whole numbers than this stay floats."""


@dataclass(frozen=True, slots=True)
class MadeVolume:
    """The volume: its size, its type, and remarks."""

    shape: tuple[int, int, int]
    dtype: str
    notes: tuple[str, ...] = ()


def make_averaged_volume(volume: Path, path: Path, *, threads: int = 1, progress: Progress | None = None) -> MadeVolume:
    """Write the running mean of five sections of `volume` at a common mean; the volume is read twice.

    A volume of fewer than five sections gives one: the mean of all.
    """
    with Voxels(volume, threads=threads) as voxels:
        averages, levels, dtype = _plan(voxels, threads, _part(progress, 0.0, 0.5))
        notes = voxels.notes()
        if dtype == np.float32:
            notes += (f"{path.name} is kept as float32: its levels do not fit whole numbers of 16 bits",)
        if voxels.shape[0] < RunningMean.WINDOW:
            notes += (f"{volume.name} has {voxels.shape[0]} sections, fewer than {RunningMean.WINDOW}: the average is that of all",)
        label = _LEVELS.format(averages.window, levels.minimum, levels.maximum)
        with MrcWriter(
            path,
            averages.shape,
            dtype,
            pixel_size_angstrom=voxels.file.header.pixel_size_angstrom,
            labels=(*voxels.file.header.labels, render_label(label)),
            origin=_moved(voxels.file.header, (averages.window - 1) / 2),
        ) as out:
            _write(averages, levels, dtype, out, threads, _part(progress, 0.5, 1.0))
    return MadeVolume(averages.shape, np.dtype(dtype).name, notes)


def _moved(header: MrcHeader, sections: float) -> tuple[float, float, float]:
    """Return the origin, in IMOD's sense, of a volume whose first section lies so many sections above that of another."""
    x, y, z = header.origin
    return x, y, z - sections * header.pixel_size_angstrom[2]


def read_grey_levels(header: MrcHeader) -> tuple[float, float]:
    """Return the least and the greatest grey level of an averaged volume before it was rounded; else those of the header."""
    found = next((match for label in reversed(header.labels) if (match := _LEVELS_READ.match(label))), None)
    if found is None:
        return header.minimum, header.maximum
    try:
        return float(found[1]), float(found[2])
    except ValueError:
        return header.minimum, header.maximum


def make_binned_volume(volume: Path, path: Path, *, threads: int = 1, progress: Progress | None = None) -> MadeVolume:
    """Write a volume binned by 2 along x, y and z; an axis of one voxel stays as it is."""
    with Voxels(volume, threads=threads) as voxels:
        bin_z, bin_y, bin_x = (2 if n > 1 else 1 for n in voxels.shape)
        nz, ny, nx = voxels.shape[0] // bin_z, voxels.shape[1] // bin_y, voxels.shape[2] // bin_x
        header = voxels.file.header
        x, y, z = header.pixel_size_angstrom
        label = render_label(f"tiltflow: binned by {bin_x} {bin_y} {bin_z}")
        with MrcWriter(
            path,
            (nz, ny, nx),
            voxels.file.dtype,
            pixel_size_angstrom=(x * bin_x, y * bin_y, z * bin_z),
            labels=(*header.labels, label),
            origin=header.origin,
        ) as out:

            def write(place: Block) -> float:
                sections = slice(place.z * bin_z, place.z_end * bin_z)
                block = voxels.read(sections, slice(place.y * bin_y, place.y_end * bin_y))
                means = np.empty((place.z_end - place.z, place.y_end - place.y, nx), np.float32)
                kernels.bin_real(block, bin_z, bin_y, bin_x, np.empty(block.shape[2], np.float32), means)
                out.write_block(means, z=place.z, y=place.y)
                return place.done

            for done in map_threads(write, blocks((nz, ny, nx), sections=8), threads):
                if progress is not None:
                    progress(done)
        return MadeVolume((nz, ny, nx), voxels.file.dtype.name, voxels.notes())


def _plan(voxels: Voxels, threads: int, progress: Progress | None) -> tuple[RunningMean, Levels, DTypeLike]:
    """Return the averages, their levels and the type that holds them."""
    averages = RunningMean(voxels, whole=True)
    levels = common_mean(section_moments(averages, threads=threads, progress=progress))
    fits = levels.maximum < np.iinfo(np.int16).max
    if fits and (voxels.whole or levels.maximum - levels.minimum >= LEAST_SPAN):
        return averages, levels, np.int16
    if voxels.whole:
        return averages, levels, np.float32
    averages = RunningMean(voxels, whole=False)
    return averages, common_mean(section_moments(averages, threads=threads)), np.float32


def _write(averages: Sections, levels: Levels, dtype: DTypeLike, out: MrcWriter, threads: int, progress: Progress | None) -> None:
    def write(place: Block) -> float:
        block = averages.read(place.sections, place.rows)
        changed = np.empty(block.shape, dtype)
        zs = place.sections
        kernels.change_levels(block, levels.scale[zs], levels.offset[zs], averages.whole, changed)
        out.write_block(changed, z=place.z, y=place.y)
        return place.done

    for done in map_threads(write, blocks(averages.shape), threads):
        if progress is not None:
            progress(done)


def _part(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """Return a progress that reports a part of the work as that fraction of the whole."""
    if progress is None:
        return None
    report = progress
    return lambda fraction: report(start + (stop - start) * fraction)
