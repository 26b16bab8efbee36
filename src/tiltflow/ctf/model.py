"""The contrast transfer function (CTF), and the defocus at each place of a tilted view.

At the spatial frequency s (1/nm) and the defocus D (nm, underfocus positive) the phase is

    chi = pi lambda D s^2 - (pi / 2) Cs lambda^3 s^4 + phi

with the wavelength lambda, the spherical aberration Cs and the shift phi of a phase plate, and the transfer of a weak object with the
amplitude contrast A is

    CTF = -sin(chi + asin A)

negative below the first zero, where dense matter is dark (Wade 1992, doi:10.1016/0304-3991(92)90011-8).  Astigmatism a makes the
defocus along the direction b `D + a / 2 cos 2(b - b0)`, with the largest defocus at b0, counter-clockwise from x; this is the
definition of CTFFIND (Rohou & Grigorieff 2015, doi:10.1016/j.jsb.2015.08.008).

**Gradient.**  In an aligned view (:mod:`tiltflow.geometry`) the specimen's plane z = 0 is at the height `-u tan t` above the tilt axis at
the distance u to its right, so that the defocus there is

    D(u) = D + hand u tan t

A hand of +1 means that at positive tilts the right side is more underfocused, which IMOD's ctfphaseflip expects unless told
InvertTiltAngles.  It depends on the sign of the tilts and on which way the axis points, not on whether the tomogram is mirrored.  A
specimen at the height z adds `-hand z / cos t`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError

Floats = NDArray[np.float64]

_WAVELENGTH, _RELATIVISTIC = 1.22639, 0.97845e-6
"""h / sqrt(2 m e) in nm V^(1/2), and e / (2 m c²) in 1/V."""
_NM_PER_MM = 1e6
"""Unit of the spherical aberration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Microscope:
    """What the transfer depends on besides the defocus.

    Attributes
    ----------
    voltage_kv
        Accelerating voltage.
    cs_mm
        Spherical aberration; 2.7 is that of a Titan Krios.
    amplitude_contrast
        Part of the contrast that is absorption: 0.07 to 0.1 for ice.  A larger one by 0.03 shifts the defocus found near the first
        zero by -20 nm at 2 µm.

    Raises
    ------
    ParameterError
        If a value is out of range.
    """

    voltage_kv: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.07

    def __post_init__(self) -> None:
        if self.voltage_kv <= 0 or self.cs_mm < 0 or not 0 <= self.amplitude_contrast <= 1:
            raise ParameterError(
                f"{self.voltage_kv} kV, Cs {self.cs_mm} mm and amplitude contrast {self.amplitude_contrast} are no microscope: give a "
                "voltage above 0, a Cs of at least 0 and a contrast from 0 to 1"
            )

    @property
    def wavelength_nm(self) -> float:
        """Wavelength of the electrons, nm.

        >>> round(Microscope().wavelength_nm, 7)
        0.0019687
        """
        volts = self.voltage_kv * 1e3
        return float(_WAVELENGTH / np.sqrt(volts + _RELATIVISTIC * volts**2))

    def phase(self, s2: ArrayLike, defocus_nm: ArrayLike, phase_shift_deg: ArrayLike = 0.0) -> Floats:
        """Return `chi + asin A`, radians, at squared frequencies `s2`, 1/nm²; all are broadcast."""
        s2 = np.asarray(s2, float)
        return np.asarray(
            s2 * np.asarray(defocus_nm, float) * self.per_defocus
            - 0.5 * np.pi * self.cs_mm * _NM_PER_MM * self.wavelength_nm**3 * s2**2
            + np.deg2rad(phase_shift_deg)
            + np.arcsin(self.amplitude_contrast)
        )

    @property
    def per_defocus(self) -> float:
        """Change of the phase per nm of defocus and 1/nm² of squared frequency, radians."""
        return float(np.pi * self.wavelength_nm)

    def ctf(self, s2: ArrayLike, defocus_nm: ArrayLike, phase_shift_deg: ArrayLike = 0.0) -> Floats:
        """Return the transfer at squared frequencies `s2`, 1/nm²; all are broadcast.

        >>> Microscope().ctf([0.0, 0.25], 1000.0).round(3)
        array([-0.07 , -0.999])
        """
        return np.asarray(-np.sin(self.phase(s2, defocus_nm, phase_shift_deg)))

    def zeros(self, defocus_nm: float, count: int, phase_shift_deg: float = 0.0) -> Floats:
        """Return the frequencies, 1/nm, of the first zeros, where Cs is negligible against the defocus.

        >>> Microscope().zeros(4000.0, 2).round(3)
        array([0.352, 0.501])
        """
        turns = np.arange(1, count + 1) * np.pi - np.arcsin(self.amplitude_contrast) - np.deg2rad(phase_shift_deg)
        return np.asarray(np.sqrt(turns / (self.per_defocus * defocus_nm)))


@dataclass(frozen=True, slots=True)
class Astigmatism:
    """Difference of the largest and the smallest defocus, nm, and the direction of the largest, degrees counter-clockwise from x."""

    nm: float = 0.0
    deg: float = 0.0

    @classmethod
    def from_components(cls, along: float, across: float) -> Astigmatism:
        """Return the astigmatism `along cos 2b + across sin 2b`, twice what it adds to the defocus along the direction b."""
        return cls(float(np.hypot(along, across)), float(np.rad2deg(np.arctan2(across, along)) / 2 % 180))

    @property
    def components(self) -> tuple[float, float]:
        """Twice what it adds to the defocus along x and along the diagonal, nm."""
        return float(self.nm * np.cos(np.deg2rad(2 * self.deg))), float(self.nm * np.sin(np.deg2rad(2 * self.deg)))

    def turned(self, by_deg: float) -> Astigmatism:
        """Return it in an image that is turned counter-clockwise."""
        return Astigmatism(self.nm, (self.deg + by_deg) % 180)

    def added(self, direction: ArrayLike) -> Floats:
        """Return what it adds to the defocus along directions in radians, nm."""
        return np.asarray(0.5 * self.nm * np.cos(2 * (np.asarray(direction, float) - np.deg2rad(self.deg))))


def defocus_at(u_nm: ArrayLike, tilt_deg: ArrayLike, defocus_nm: ArrayLike, hand: float, z_nm: ArrayLike = 0.0) -> Floats:
    """Return the defocus, nm, in aligned views; all are broadcast.

    Parameters
    ----------
    u_nm
        Distance to the right of the tilt axis, nm.
    tilt_deg, defocus_nm
        Tilt of the view, and its defocus on the tilt axis.
    hand
        Sign of the gradient.
    z_nm
        Height of the specimen above the plane through the tilt axis, in the specimen, nm.

    Examples
    --------
    >>> float(defocus_at(100.0, 45.0, 4000.0, +1).round(3))
    4100.0
    """
    t = np.deg2rad(np.asarray(tilt_deg, float))
    # A point of the specimen at u and z is seen at u = x cos t + z sin t, h = -x sin t + z cos t; without x, h = -u tan t + z / cos t.
    height = -np.asarray(u_nm, float) * np.tan(t) + np.asarray(z_nm, float) / np.cos(t)
    return np.asarray(np.asarray(defocus_nm, float) - hand * height)
