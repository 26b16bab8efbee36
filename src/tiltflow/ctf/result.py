"""What an estimation of the CTF is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.ctf.handedness import Handedness
from tiltflow.ctf.model import Astigmatism, Microscope
from tiltflow.ctf.rings import Rings
from tiltflow.errors import ParameterError
from tiltflow.formats.defocus import DefocusTable

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfParams:
    """How the CTF is estimated.

    Attributes
    ----------
    microscope
        Voltage, spherical aberration and amplitude contrast.
    defocus_span_nm
        Least and greatest mean defocus that is possible (`ScanDefocusRange`).
    lowest
        Lowest frequency that is fitted, 1/nm; at spacings above 4 nm the structure of specimens is not smooth.  With 0.2 the defocus of a
        real series falls by 14 nm, with 0.3 it rises by 7.
    highest
        Highest frequency that is fitted, 1/nm; rings finer than 7 Å are rarely seen in a tilt series.
    astigmatism, phase_shift
        Whether these are looked for (`SearchAstigmatism`, `SearchPhaseShift`).

    Raises
    ------
    ParameterError
        If a range is empty.
    """

    microscope: Microscope = field(default_factory=Microscope)
    defocus_span_nm: tuple[float, float] = (500.0, 10_000.0)
    lowest: float = 0.25
    highest: float = 1.4
    astigmatism: bool = True
    phase_shift: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.defocus_span_nm[0] < self.defocus_span_nm[1] or not 0 < self.lowest < self.highest:
            raise ParameterError(
                f"defocus from {self.defocus_span_nm[0]:g} to {self.defocus_span_nm[1]:g} nm at frequencies from {self.lowest:g} to "
                f"{self.highest:g} per nm: give ranges that rise from above 0"
            )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CtfEstimate:
    """The CTF of a tilt series.

    Attributes
    ----------
    microscope
        What it holds for: a defocus means nothing without the amplitude contrast.
    defocus_nm, error_nm
        Defocus on the tilt axis, mean over directions, underfocus positive, and its standard error, `(views,)`.
    covariance
        Of the defocus, `(views, views)`, nm².
    step_nm
        Standard deviation of the change of the defocus from a view to its neighbour, as learnt.
    astigmatism, astigmatism_error_nm
        In the frame of the views that were given, 0 if it does not pay; and the standard error of either component.
    phase_shift_deg
        0 where it was not looked for.
    hand
        Which way the defocus runs.
    score, spacing_angstrom
        Correlation of measured and fitted rings, and the finest spacing to which they agree, `(views,)`.
    rings
        Profiles to look at.
    confident
        Whether defocus and rings may be used.
    reason
        How well they are known, or why they may not be used; a sentence.
    gain, alias_gain
        Twice the logarithm of the likelihood ratio to a model without rings, and to any other mean defocus.
    """

    microscope: Microscope
    defocus_nm: Floats
    error_nm: Floats
    covariance: Floats
    step_nm: float
    astigmatism: Astigmatism
    astigmatism_error_nm: float
    phase_shift_deg: float
    hand: Handedness
    score: Floats
    spacing_angstrom: Floats
    rings: Rings
    confident: bool
    reason: str
    gain: float
    alias_gain: float

    @property
    def mean_error_nm(self) -> float:
        """Standard error of the mean defocus."""
        return float(np.sqrt(self.covariance.mean()))

    def table(self, tilt_deg: ArrayLike, axis_angle_deg: float = 0.0) -> DefocusTable:
        """Return what :func:`tiltflow.formats.defocus.write_defocus` writes for the aligned stack.

        Parameters
        ----------
        tilt_deg
            `(views,)`.
        axis_angle_deg
            Of the views that were given, by which the aligned ones are turned back; 0 if they were aligned.
        """
        tilt, views = np.asarray(tilt_deg, float), len(self.defocus_nm)
        turned = self.astigmatism.turned(-axis_angle_deg)
        return DefocusTable(
            program="tiltflow",
            views=np.repeat(np.arange(views)[:, None], 2, axis=1),
            defocus_nm=self.defocus_nm,
            astigmatism_nm=np.full(views, turned.nm),
            astigmatism_deg=np.full(views, turned.deg if turned.nm else 0.0),
            phase_shift_deg=np.full(views, self.phase_shift_deg),
            tilt_deg=np.stack([tilt, tilt], axis=1),
            hand=self.hand.sign,
            score=self.score,
            spacing_angstrom=self.spacing_angstrom,
        )
