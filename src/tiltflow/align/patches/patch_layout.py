"""Positions of the patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.patches.params import PatchParams
from tiltflow.align.patches.patch_spectra import taper

_FEWEST_ALONG = 3
"""Patches along a side: with two, tilt and magnification of a view cannot be separated from errors of single patches."""
_MARGIN = 0.97
"""Part of the field that patches cover: views are shifted by some per cent of it."""


@dataclass(frozen=True, slots=True, eq=False)
class PatchLayout:
    """Patch centres `(patches, 2)` from the image centre, and the size of a patch along x and y, raw pixels."""

    centres: NDArray[np.float64]
    size_px: tuple[int, int]
    notes: tuple[str, ...]

    @property
    def crowding(self) -> float:
        """Number of patches over the number of independent ones: 1 for patches that do not overlap."""
        shared = np.ones((len(self.centres), len(self.centres)))
        for axis, size in enumerate(self.size_px):
            weight = taper(size).astype(float) ** 2
            alike = np.correlate(weight, weight, "full")[size - 1 :]
            distance = np.abs(self.centres[:, None, axis] - self.centres[None, :, axis])
            shared *= np.interp(distance, np.arange(size), alike / alike[0], right=0.0)
        return float(shared.sum(axis=1).mean())


def lay_out_patches(params: PatchParams, image_shape: tuple[int, int]) -> PatchLayout:
    """Return patches over the field of the untilted view, at least three along each side.

    Patches too large for that are made smaller.  `image_shape` is `(ny, nx)`, raw pixels.
    """
    notes = []
    sizes, places = [], []
    for wanted, side, name in zip(params.size_px, image_shape[::-1], "xy", strict=True):
        largest = int(_MARGIN * side / (1 + (_FEWEST_ALONG - 1) * (1 - params.overlap)))
        size = min(wanted, largest)
        if size < wanted:
            notes.append(f"patches of {wanted} px leave fewer than {_FEWEST_ALONG} along {name} ({side} px): made {size} px")
        room = _MARGIN * side - size
        count = max(int(np.ceil(room / (size * (1 - params.overlap)) - 1e-6)) + 1, _FEWEST_ALONG)
        sizes.append(size)
        places.append(np.linspace(-room / 2, room / 2, count))
    centres = np.array([(x, y) for y in places[1] for x in places[0]])
    return PatchLayout(centres, (sizes[0], sizes[1]), tuple(notes))
