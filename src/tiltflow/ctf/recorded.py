"""The CTF of a series, as its record has it, in the forms that corrections, filters and files want."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.ctf.correct import ViewCtf
from tiltflow.ctf.model import Astigmatism, Microscope
from tiltflow.errors import StageError
from tiltflow.formats.defocus import DefocusTable
from tiltflow.record import CtfEntry

Floats = NDArray[np.float64]


def ctf_of_views(entry: CtfEntry, tilt_deg: Floats) -> list[ViewCtf]:
    """Return the CTF of each aligned view.

    Raises
    ------
    StageError
        If the voltage is not known.
    """
    scope = _microscope(entry)
    if scope is None:
        raise StageError("a CTF without a voltage cannot be corrected")
    return [
        ViewCtf(
            microscope=scope,
            defocus_nm=defocus,
            tilt_deg=float(tilt),
            hand=0,
            astigmatism=Astigmatism(entry.astigmatism_nm, entry.astigmatism_deg),
            phase_shift_deg=entry.phase_shift_deg,
        )
        for defocus, tilt in zip(entry.defocus_nm, tilt_deg, strict=True)
    ]


def transfer_of_volume(entry: CtfEntry | None) -> Callable[[Floats], Floats] | None:
    """Return the CTF of a volume as a function of the frequency, 1/nm: that of the median defocus; None where it is not known."""
    scope = None if entry is None else _microscope(entry)
    if entry is None or scope is None or not entry.defocus_nm:
        return None
    defocus, phase_deg = float(np.median(entry.defocus_nm)), entry.phase_shift_deg
    return lambda frequency: scope.ctf(np.square(frequency), defocus, phase_deg)


def defocus_table(entry: CtfEntry, tilt_deg: ArrayLike, turned_deg: float = 0.0) -> DefocusTable:
    """Return a table with one row a view.

    Parameters
    ----------
    tilt_deg
        `(views,)`: tilts that the table gets.
    turned_deg
        Added to the direction of the largest defocus, which in the record is that in the aligned views.
    """
    views, tilts = len(entry.defocus_nm), np.asarray(tilt_deg, float)
    spacing = [np.inf if each is None else each for each in entry.spacing_angstrom]
    direction = (entry.astigmatism_deg + turned_deg) % 180 if entry.astigmatism_nm else 0.0
    return DefocusTable(
        program="tiltflow",
        views=np.repeat(np.arange(views)[:, None], 2, axis=1),
        defocus_nm=np.array(entry.defocus_nm, float),
        astigmatism_nm=np.full(views, entry.astigmatism_nm),
        astigmatism_deg=np.full(views, direction),
        phase_shift_deg=np.full(views, entry.phase_shift_deg),
        tilt_deg=np.stack([tilts, tilts], axis=1),
        hand=entry.hand or None,
        score=np.array(entry.score, float) if len(entry.score) == views else None,
        spacing_angstrom=np.array(spacing, float) if len(spacing) == views else None,
    )


def _microscope(entry: CtfEntry) -> Microscope | None:
    if entry.voltage_kv is None:
        return None
    return Microscope(voltage_kv=entry.voltage_kv, cs_mm=entry.cs_mm, amplitude_contrast=entry.amplitude_contrast)
