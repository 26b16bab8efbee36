"""OME-Zarr pyramids: version 0.4 of the format, in the layout that bioformats2raw writes; 0.5, and other layouts, on request.

    B_rec.zarr/            bioformats2raw.layout 3
        OME/METADATA.ome.xml
        0/                 the series: multiscales with axes t c z y x, and the display window (omero)
            0/ 1/ 2/ ...   the levels: Zarr 2, chunks of 128 x 128 x 128, keys with slashes, blosc zstd

:mod:`tiltflow.formats.zarrlayout` says which version, which axes, whether the multiscales lie in the root itself and not in the
series `0`, and which way the rows run.  Version 0.5 is Zarr 3: all metadata are in the `zarr.json` of each folder, under `ome`.

Each level halves every axis that is longer than one voxel, rounding up, so that no voxel is lost: the last one of an odd axis is
the mean of those that exist.  The scale of a level is exactly the voxel size times two to the level.  OME-Zarr places the
centre of the first voxel at the origin; the translation of a level says that its first voxel is larger and its centre lies further
in.  Without it Neuroglancer shows the levels shifted against each other by up to half a coarse voxel.

Sources: https://ngff.openmicroscopy.org/0.4/, https://ngff.openmicroscopy.org/0.5/ and the OME model of June 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec

from tiltflow.errors import ParameterError
from tiltflow.formats.zarrlayout import BIOFORMATS2RAW, PyramidLayout

CHUNK = 128
"""Side of a chunk, voxels: 2 to 8 MB, which a browser loads in one request."""
LARGEST_COARSEST = 256
"""Levels are added until the largest side is at most this, voxels: a coarsest level of at most eight chunks."""

_ROWS = {
    "top-down": "row 0 is the top of the picture, the last row of a section of the MRC file",
    "bottom-up": "row 0 is the first row of a section of the MRC file, the bottom of the picture",
}

_SERIES = "0"
_COMPRESSOR: dict[str, Any] = {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_PIXEL_TYPES = {"int8": "int8", "uint8": "uint8", "int16": "int16", "uint16": "uint16", "float32": "float"}


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """One level.

    Attributes
    ----------
    shape
        `(nz, ny, nx)`.
    factors
        How many voxels of the full resolution one of its voxels spans along z, y, x.
    """

    shape: tuple[int, int, int]
    factors: tuple[int, int, int]

    @property
    def chunks(self) -> tuple[int, int, int]:
        """Shape of a chunk."""
        nz, ny, nx = self.shape
        return min(nz, CHUNK), min(ny, CHUNK), min(nx, CHUNK)


def plan_levels(shape: tuple[int, int, int]) -> tuple[PyramidLevel, ...]:
    """Return the levels of a volume `(nz, ny, nx)`, the full resolution first.

    >>> [level.shape for level in plan_levels((200, 630, 652))]
    [(200, 630, 652), (100, 315, 326), (50, 158, 163)]
    """
    levels = [PyramidLevel(shape, (1, 1, 1))]
    while max(levels[-1].shape) > LARGEST_COARSEST:
        last = levels[-1]
        sizes = [(n + 1) // 2 for n in last.shape]
        factors = [by * 2 if n > 1 else by for n, by in zip(last.shape, last.factors, strict=True)]
        levels.append(PyramidLevel((sizes[0], sizes[1], sizes[2]), (factors[0], factors[1], factors[2])))
    return tuple(levels)


class OmeZarrWriter:
    """Write a pyramid chunk by chunk; threads may write different chunks at once.

    Parameters
    ----------
    path
        The folder to make; must not exist.
    name
        Name of the image.
    shape
        `(nz, ny, nx)` at full resolution.
    dtype
        `int8`, `uint8`, `int16`, `uint16` or `float32`.
    voxel_size_angstrom
        Along x, y, z; positive.
    layout
        Version, axes and place of the arrays.  Blocks are written as they are given: whoever gives them turns them over.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        voxel_size_angstrom: tuple[float, float, float],
        layout: PyramidLayout = BIOFORMATS2RAW,
    ) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype.name not in _PIXEL_TYPES:
            raise ParameterError(f"{path}: a pyramid of {self.dtype.name} is not supported; choose {', '.join(_PIXEL_TYPES)}")
        if not all(np.isfinite(size) and size > 0 for size in voxel_size_angstrom):
            raise ParameterError(f"{path}: voxel size {voxel_size_angstrom} Å is not positive; give the pixel size of the series")
        self.levels = plan_levels(shape)
        self.name = name
        self._voxel_size = voxel_size_angstrom
        self.layout = layout
        of_root = layout.attributes({"bioformats2raw.layout": 3} if layout.series_folder else {})
        root = zarr.open_group(path, mode="w-", zarr_format=layout.zarr_format, attributes=of_root)
        self._series = root
        if layout.series_folder:
            root.create_group("OME", attributes=layout.attributes({"series": [_SERIES]}))
            xml = ome_xml(name, shape, self.dtype, voxel_size_angstrom)
            (path / "OME" / "METADATA.ome.xml").write_text(xml, encoding="utf-8")
            self._series = root.create_group(_SERIES)
        self._arrays = [self._create(index) for index in range(len(self.levels))]

    def _create(self, index: int) -> zarr.Array[Any]:
        level, ones = self.levels[index], (1,) * self.layout.extra_axes
        zarr_2 = self.layout.zarr_format == 2
        # Every chunk is written, also an empty one: viewers may take the reply of an object store for a missing file as an error.
        return self._series.create_array(
            str(index),
            shape=(*ones, *level.shape),
            chunks=(*ones, *level.chunks),
            dtype=self.dtype,
            fill_value=0,
            compressors=_COMPRESSOR if zarr_2 else BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
            chunk_key_encoding={"name": "v2" if zarr_2 else "default", "separator": "/"},
            dimension_names=None if zarr_2 else tuple(self.layout.axes),
            config={"write_empty_chunks": True},
        )

    def write(self, level: int, block: NDArray[Any], z: int, y: int, x: int) -> None:
        """Write a block, `(z, y, x)`, that begins on a chunk and covers whole chunks, except at the end of the volume."""
        nz, ny, nx = block.shape
        extra = self.layout.extra_axes
        place = (*(slice(1),) * extra, slice(z, z + nz), slice(y, y + ny), slice(x, x + nx))
        self._arrays[level][place] = block[(None,) * extra]

    def finish(self, window: tuple[float, float], shown: tuple[float, float]) -> None:
        """Write the metadata that make the folder a pyramid.

        Parameters
        ----------
        window
            The least and the greatest voxel value.
        shown
            The voxel values to show as black and as white.
        """
        multiscales = multiscales_metadata(self.name, self.levels, self._voxel_size, self.layout)
        omero = omero_metadata(self.name, self.levels[0].shape[0], window, shown, self.layout)
        self._series.attrs.update(self.layout.attributes({"multiscales": [multiscales], "omero": omero}))


def multiscales_metadata(
    name: str,
    levels: Sequence[PyramidLevel],
    voxel_size_angstrom: tuple[float, float, float],
    layout: PyramidLayout = BIOFORMATS2RAW,
) -> Mapping[str, Any]:
    """Return the entry of `multiscales`."""
    size, extra = voxel_size_angstrom[::-1], layout.extra_axes
    datasets = []
    for index, level in enumerate(levels):
        scale = [by * step for by, step in zip(level.factors, size, strict=True)]
        translation = [(by - 1) / 2 * step for by, step in zip(level.factors, size, strict=True)]
        transformations = [
            {"type": "scale", "scale": [1.0] * extra + scale},
            {"type": "translation", "translation": [0.0] * extra + translation},
        ]
        datasets.append({"path": str(index), "coordinateTransformations": transformations})
    first = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}] if extra else []
    return {
        **_version_0_4(layout),
        "name": name,
        "axes": [*first, *({"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx")],
        "datasets": datasets,
        "type": "mean",
        "metadata": {
            "description": f"mean of 2 x 2 x 2 voxels; {_ROWS[layout.rows]}",
            "method": "tiltflow.products.pyramid",
            "rows": layout.rows,
        },
    }


def _version_0_4(layout: PyramidLayout) -> dict[str, str]:
    """Return the version as each entry of 0.4 has it; 0.5 states it once."""
    return {"version": "0.4"} if layout.version == "0.4" else {}


def omero_metadata(
    name: str,
    sections: int,
    window: tuple[float, float],
    shown: tuple[float, float],
    layout: PyramidLayout = BIOFORMATS2RAW,
) -> Mapping[str, Any]:
    """Return the display settings of a volume for viewers of the OMERO family."""
    channel = {
        "label": name,
        "active": True,
        "coefficient": 1.0,
        "color": "FFFFFF",
        "family": "linear",
        "inverted": False,
        "window": {"min": window[0], "max": window[1], "start": shown[0], "end": shown[1]},
    }
    return {
        **_version_0_4(layout),
        "name": name,
        "channels": [channel],
        "rdefs": {"defaultT": 0, "defaultZ": sections // 2, "model": "greyscale"},
    }


def ome_xml(name: str, shape: tuple[int, int, int], dtype: DTypeLike, voxel_size_angstrom: tuple[float, float, float]) -> str:
    """Return the OME-XML of a volume `(nz, ny, nx)`."""
    kind = np.dtype(dtype)
    root = ET.Element("OME", {"xmlns": _OME, "Creator": "tiltflow"})
    image = ET.SubElement(root, "Image", {"ID": "Image:0", "Name": name})
    sizes = dict(zip(("SizeZ", "SizeY", "SizeX"), map(str, shape), strict=True))
    physical: dict[str, str] = {}
    for axis, size in zip("XYZ", voxel_size_angstrom, strict=True):
        physical |= {f"PhysicalSize{axis}": repr(float(size)), f"PhysicalSize{axis}Unit": "Å"}
    pixels = ET.SubElement(
        image,
        "Pixels",
        {
            "ID": "Pixels:0",
            "DimensionOrder": "XYZCT",
            "Type": _PIXEL_TYPES[kind.name],
            "SignificantBits": str(kind.itemsize * 8),
            "BigEndian": "false",
            "Interleaved": "false",
            "SizeC": "1",
            "SizeT": "1",
            **sizes,
            **physical,
        },
    )
    ET.SubElement(pixels, "Channel", {"ID": "Channel:0:0", "SamplesPerPixel": "1"})
    ET.SubElement(pixels, "MetadataOnly")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
