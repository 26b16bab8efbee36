"""Where the section lies in the volume: its two surfaces, found in a low-resolution reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionParams:
    """How the section is looked for.

    Attributes
    ----------
    sample_type
        0 not at all, 1 plastic, 2 cryo (`runtime.Positioning.any.sampleType`).
    thickness
        Of the volume that is searched, raw pixels (`runtime.Positioning.any.thickness`); None for a size by the image.
    whole_tomogram
        Search the whole volume (`wholeTomogram`) instead of samples.
    has_gold_beads
        Gold lies on the section (`hasGoldBeads`), to be left out of the measure of texture.
    extra_thickness
        Added to the thickness found, raw pixels (`extraThickness`).
    """

    sample_type: int = 0
    thickness: int | None = None
    whole_tomogram: bool = True
    has_gold_beads: bool = False
    extra_thickness: float = 0.0


@dataclass(frozen=True, slots=True)
class PositionResult:
    """Where the section lies; lengths in raw pixels.

    Attributes
    ----------
    tilt_offset_deg
        To be added to the tilt angles to level the section.
    x_axis_tilt_deg
        Tilt about x to be undone.
    z_shift
        To be used as `shift_z`, to centre the section.
    thickness
        Of the section.
    confident
        Whether the numbers may be used; if not they are what was asked (no change).
    reason
        What was seen, in a sentence.
    """

    tilt_offset_deg: float
    x_axis_tilt_deg: float
    z_shift: float
    thickness: float
    confident: bool
    reason: str


def find_section(
    volume: NDArray[np.float32],
    params: PositionParams,
    *,
    binning: float = 1.0,
) -> PositionResult:
    """Find the section in a low-resolution volume `(y, z, x)` whose voxels are `binning` raw pixels wide."""
    raise NotImplementedError
