"""The CTF of a volume as a whole, for deconvolution: that of the mean defocus of its views."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tiltflow.ctf.model import Microscope

Floats = NDArray[np.float64]


def transfer_of_volume(
    voltage_kv: float, cs_mm: float, amplitude_contrast: float, defocus_nm: Sequence[float], phase_shift_deg: float = 0.0
) -> Callable[[Floats], Floats]:
    """Return the CTF as a function of the frequency, 1/nm, at the median defocus of the views."""
    scope = Microscope(voltage_kv=voltage_kv, cs_mm=cs_mm, amplitude_contrast=amplitude_contrast)
    defocus = float(np.median(defocus_nm))
    return lambda frequency: scope.ctf(np.square(frequency), defocus, phase_shift_deg)
