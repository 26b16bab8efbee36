"""A specimen, and what a microscope makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.ctf.model import Microscope

PIXEL_NM, DEFOCUS_NM = 0.8, 6000.0


def ctf_at(defocus_nm: float):
    """Return the CTF at a defocus as a function of frequency."""
    return lambda s: Microscope().ctf(s**2, defocus_nm)


def frequency(shape: tuple[int, ...], pixel: float = PIXEL_NM) -> NDArray[np.float64]:
    """Return the frequencies of a real transform."""
    axes = [np.fft.fftfreq(n, pixel) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1], pixel)]
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))


def filtered(volume: NDArray[np.floating], gain: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return an array multiplied with a gain in Fourier space."""
    axes = tuple(range(volume.ndim))
    return np.fft.irfftn(np.fft.rfftn(volume) * gain, volume.shape, axes)


@dataclass(frozen=True)
class Imaged:
    """Density of a specimen, `(z, y, x)`, and its image with noise, dense matter dark, raw and with flipped phases."""

    truth: NDArray[np.float64]
    raw: NDArray[np.float32]
    flipped: NDArray[np.float32]
