"""What a record knows of the contrast transfer of a series, in the frames that other programs want.

**Hand.**  Ours is +1 if at positive tilts the right side of the aligned view is more underfocused, as IMOD has it: the defocus is
`D0 + hand x tan t`.  RELION adds `rlnTomoHand` times the height to the defocus, and a point of the untilted plane lies at `-x tan t`:
its hand is minus ours.  Warp's angles are minus our tilts, and its gradient is that of IMOD for its own angles, so that
`AreAnglesInverted` is true for our +1.

**Angles.**  The record has the direction of the largest defocus in the aligned views.  These are turned by minus the angle of the tilt
axis, and so the direction in the raw views, which all programs but IMOD ask for, is larger by that angle; rows of images are counted from
the bottom in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.ctf.recorded import defocus_table
from tiltflow.formats.defocus import DefocusTable
from tiltflow.model import ASSUMED
from tiltflow.record import CtfEntry, SeriesRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KnownDefocus:
    """The defocus of each view, and the constants that it was found with.

    Attributes
    ----------
    cs_mm, amplitude_contrast
        Spherical aberration and the part of the contrast that is absorption.
    hand
        Sign of the defocus gradient, as the record has it; None where it is not known.
    aligned
        One row a view; the direction of the largest defocus is that in the aligned view.
    raw
        The same with directions in the raw views.
    corrected
        Whether the aligned views, and so the volume, are corrected.
    measured
        Whether it was measured on these images.
    """

    cs_mm: float
    amplitude_contrast: float
    hand: int | None
    aligned: DefocusTable
    raw: DefocusTable
    corrected: bool
    measured: bool

    @property
    def relion_hand(self) -> int | None:
        """The same hand as `rlnTomoHand`."""
        return None if self.hand is None else -self.hand

    @property
    def warp_inverted(self) -> bool | None:
        """The same hand as Warp's `AreAnglesInverted`."""
        return None if self.hand is None else self.hand > 0

    @property
    def is_astigmatic(self) -> bool:
        """Whether any view is astigmatic."""
        return bool(np.any(self.raw.astigmatism_nm))

    @property
    def has_phase_shift(self) -> bool:
        """Whether any view has a phase shift."""
        return bool(np.any(self.raw.phase_shift_deg))


def known_voltage(record: SeriesRecord) -> float | None:
    """Return the voltage of the microscope, kV: as stated or read; None where nothing tells it, or it was only assumed."""
    if record.ctf is not None and record.ctf.voltage_kv is not None:
        return None if record.ctf.voltage_source.startswith(ASSUMED) else record.ctf.voltage_kv
    stated = ((record.recipe.stages.get("ctf") if record.recipe is not None else None) or {}).get("voltage_kv")
    read = record.input.get("voltage")
    value = stated if stated is not None else None if read is None else read.value
    return None if value is None else float(value)


def known_defocus(entry: CtfEntry | None, transforms: Floats, included: NDArray[np.bool_], tilt_deg: Floats) -> KnownDefocus | None:
    """Return the defocus of the record; None where it is not known.

    Parameters
    ----------
    entry
        The entry of the record.
    transforms
        `(views, 2, 3)`, raw to aligned views.
    included
        `(views,)`: the views that the alignment uses, over which its axis is taken.
    tilt_deg
        `(views,)`: tilts that the table gets.
    """
    if entry is None or len(entry.defocus_nm) != len(tilt_deg):
        return None
    axis = float(np.median(geometry.axis_angles(transforms)[included]))
    return KnownDefocus(
        cs_mm=entry.cs_mm,
        amplitude_contrast=entry.amplitude_contrast,
        hand=entry.hand or None,
        aligned=defocus_table(entry, tilt_deg),
        raw=defocus_table(entry, tilt_deg, axis),
        corrected=entry.applied,
        measured=entry.measured,
    )
