"""A pyramid as the CryoET Data Portal and copick have it: OME-Zarr 0.4 with axes z y x, three levels, rows in the order of the MRC file.

It differs from the pyramid for viewers (:mod:`tiltflow.products.pyramid`) in what copick needs: no axes t and c, no group of series,
no flip.  Chunks are 256 voxels wide, and a level is the mean of 2 x 2 x 2 voxels of the one below it; the last of an odd axis is the
mean of those that exist.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from tiltflow.formats.mrc import open_mrc

CHUNK = 256
"""Side of a chunk, voxels."""
SCALES = (1, 2, 4)
"""Voxels of the full resolution along a side of one of each level."""

_COMPRESSOR: dict[str, Any] = {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}


def write_pyramid(volume: Path, path: Path, voxel_angstrom: float) -> None:
    """Write the pyramid of an MRC volume to the folder `path`, which must not exist: int16, or float32 where that is too small."""
    with open_mrc(volume) as file:
        shape = file.shape
        dtype = np.dtype(np.int16) if file.dtype.name in {"int8", "uint8", "int16"} else np.dtype(np.float32)
        root = zarr.open_group(path, mode="w-", zarr_format=2, attributes={"multiscales": [multiscales(path.stem, voxel_angstrom)]})
        levels = [_level(root, index, shape, by, dtype) for index, by in enumerate(SCALES)]
        for z in range(0, shape[0], CHUNK):
            for y in range(0, shape[1], CHUNK):
                _write(levels, np.asarray(file.read_block(slice(z, z + CHUNK), slice(y, y + CHUNK)), np.float32), z, y, dtype)


def multiscales(name: str, voxel_angstrom: float) -> dict[str, Any]:
    """Return the entry of `multiscales`; the voxel size is rounded as the portal rounds it."""
    return {
        "version": "0.4",
        "name": name,
        "axes": [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"],
        "datasets": [
            {
                "path": str(index),
                "coordinateTransformations": [{"type": "scale", "scale": [round(voxel_angstrom * by, 3)] * 3}],
            }
            for index, by in enumerate(SCALES)
        ],
        "type": "mean",
        "metadata": {
            "description": "mean of 2 x 2 x 2 voxels; rows in the order of the MRC file, the first row at the bottom: not flipped",
            "rows": "MRC order",
        },
    }


def halved(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of 2 x 2 x 2 voxels, or of those that exist at the end of an odd axis.

    >>> halved(np.arange(6, dtype=np.float32).reshape(1, 2, 3)).tolist()
    [[[2.0, 3.5]]]
    """
    for axis, n in enumerate(block.shape):
        starts = np.arange(0, n, 2)
        counts = np.minimum(n - starts, 2).astype(np.float32)
        block = np.add.reduceat(block, starts, axis=axis) / np.expand_dims(counts, [other for other in range(3) if other != axis])
    return block


def _level(root: zarr.Group, index: int, shape: tuple[int, int, int], by: int, dtype: np.dtype[Any]) -> zarr.Array[Any]:
    sizes = tuple(-(-n // by) for n in shape)
    return root.create_array(
        str(index),
        shape=sizes,
        chunks=tuple(min(n, CHUNK) for n in sizes),
        dtype=dtype,
        fill_value=0,
        compressors=_COMPRESSOR,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        config={"write_empty_chunks": True},
    )


def _write(levels: list[zarr.Array[Any]], block: NDArray[np.float32], z: int, y: int, dtype: np.dtype[Any]) -> None:
    """Write a block that begins at `z`, `y` of the full resolution to all levels."""
    for level, by in zip(levels, SCALES, strict=True):
        nz, ny, _ = block.shape
        values = np.rint(block) if dtype.kind == "i" else block
        level[z // by : z // by + nz, y // by : y // by + ny] = values.astype(dtype)
        block = halved(block)
