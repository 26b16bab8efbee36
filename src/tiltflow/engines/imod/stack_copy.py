"""The copy of the raw stack that batchruntomo works on: always an MRC file, the only format that it reads tilt series from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tiltflow.disk import copy_file
from tiltflow.formats.extended import axis_angle_in_labels
from tiltflow.formats.mrc import MrcFile, MrcWriter, render_label
from tiltflow.formats.stacks import open_stack
from tiltflow.model import ImageStack, TiltSeries

_MRC_TYPES = ("int8", "uint8", "int16", "uint16")


def safe_name(name: str) -> str:
    """Return the base name under which IMOD works on a series: its own where a shell reads it as one plain word.

    IMOD runs its programs by a shell, with the names of the files in the line.

    >>> safe_name("TS_01.a-2"), safe_name("-rf $(x); 'ö'")
    ('TS_01.a-2', '_rf___x______')
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return re.sub(r"^[.-]", "_", plain)


def copy_stack(series: TiltSeries, folder: Path) -> Path:
    """Copy the stack of a series into a folder, under its :func:`safe_name`, and return the path of the copy.

    An MRC file is copied byte by byte, if IMOD reads it as it is.  The copy of any other, as `B.tif`, is `B.st`,
    whose header holds the metadata as SerialEM writes them: the tilts in an extended header, the pixel size, and the tilt axis in a
    title line.  There batchruntomo reads them (`extract`, `scanHeader`).
    """
    with open_stack(series.path) as stack:
        if isinstance(stack, MrcFile) and stack.is_as_stored:
            return copy_file(series.path, folder / f"{safe_name(series.name)}{series.path.suffix}")
        copy = folder / f"{safe_name(series.name)}.st"
        _write_mrc(stack, series, copy)
        return copy


def _write_mrc(stack: ImageStack, series: TiltSeries, path: Path) -> None:
    """Write a stack section by section; numbers keep their type where IMOD knows it, others become 32-bit reals."""
    with MrcWriter(
        path,
        stack.shape,
        stack.dtype if stack.dtype.name in _MRC_TYPES else np.float32,
        pixel_size_angstrom=series.pixel_size_angstrom,
        labels=[
            f"    Tilt axis angle = {series.axis_angle_deg:.2f}, binning = 1  spot = 0  camera = 0",
            *(label for label in stack.labels if axis_angle_in_labels([label]) is None),
            render_label(f"tiltflow: copy of {series.path.name}"),
        ],
        is_stack=True,
        tilt_deg=series.tilt_deg if series.montage is None else series.tilt_deg[series.montage.view_of_section],
    ) as out:
        for section in range(stack.shape[0]):
            out.write(stack[section])
