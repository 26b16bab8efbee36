"""Trimming and turning the volume: from sections along y to sections along z."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimParams:
    """How the volume is cut and turned; defaults as IMOD's `trimvol` under batchruntomo.

    Attributes
    ----------
    reorient
        0 leaves sections along y, 1 swaps y and z, 2 turns about x (`runtime.Trimvol.any.reorient`).
    x_range, y_range, z_range
        First and last pixel kept, counted from 1, z along the beam (`trimvol -x -y -z`); None for all.
    size_x, size_y, thickness
        Size kept about the centre, pixels, or a fraction of the whole if at most 1; None for all.
    to_bytes
        Scale to bytes by the contrast of the middle.
    scale_z_fraction
        Part of the thickness, about the middle, whose contrast decides the scaling to bytes.
    """

    reorient: int = 2
    x_range: tuple[int, int] | None = None
    y_range: tuple[int, int] | None = None
    z_range: tuple[int, int] | None = None
    size_x: float | None = None
    size_y: float | None = None
    thickness: float | None = None
    to_bytes: bool = False
    scale_z_fraction: float = 1 / 3


class Trim:
    """Where each slab of the full volume goes in the trimmed one."""

    def __init__(self, full_shape: tuple[int, int, int], params: TrimParams) -> None:
        raise NotImplementedError

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """`(sections, rows, columns)` of the trimmed volume."""
        raise NotImplementedError

    def place(self, y0: int, slab: NDArray[np.generic]) -> tuple[tuple[slice, slice, slice], NDArray[np.generic]] | None:
        """Return the index into the trimmed volume and the block that goes there; None if the slab is cut away."""
        raise NotImplementedError
