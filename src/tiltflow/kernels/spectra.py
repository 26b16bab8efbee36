"""Sums of the power of a spectrum over classes of its frequencies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel


@kernel(fastmath=True)
def add_power(spectrum: NDArray[np.complex64], classes: NDArray[np.int32], out: NDArray[np.float64]) -> None:
    """Add the squared magnitude of every `spectrum[j, i]` to `out[classes[j, i]]`; classes below 0 are left out."""
    for j in range(spectrum.shape[0]):
        for i in range(spectrum.shape[1]):
            of = classes[j, i]
            if of >= 0:
                value = spectrum[j, i]
                out[of] += value.real * value.real + value.imag * value.imag
