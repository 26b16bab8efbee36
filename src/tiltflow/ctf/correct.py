"""Correction of the CTF in aligned views, with the gradient of the defocus across the tilt axis.

A view is corrected as a whole at a few values of the defocus, and the images are blended linearly between the columns where each value
holds.  This does better than the strips of IMOD's ctfphaseflip, each of which sees only a part of what the microscope has delocalised;
both agree on the sign: where the CTF is positive the phase is flipped, so that dense matter is dark at all frequencies.  The mean of a
view is kept.

=========  =============================================================================================
flip       sign of the CTF: no amplitude changes, noise stays as it is
multiply   the CTF itself: safest at its zeros, but dampens low frequencies
wiener     CTF / (CTF^2 + 1 / SNR), with one signal-to-noise ratio for all frequencies
=========  =============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.ctf.model import Astigmatism, Microscope, defocus_at
from tiltflow.errors import ParameterError
from tiltflow.geometry import edge_on
from tiltflow.model import Image, Progress, Stack
from tiltflow.parallel import map_views

Floats = NDArray[np.float64]

_PAD_NM, _LEAST_PAD_PX = 30.0, 64
"""Border over which a view goes linearly to its mean: images are delocalised by lambda D s, 12 nm at 6 µm and 1/nm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectParams:
    """How the CTF is corrected.

    Attributes
    ----------
    method
        What a view is multiplied with in Fourier space.
    step_nm
        Difference of the defocus of two images that are blended; steps of 25 to 100 nm correlate equally with the truth, to 0.0002, and
        one of 200 by 0.001 less (:file:`docs/explanation/ctf.md`).  IMOD's strips have a DefocusTol of 200.
    snr
        Of `wiener`.

    Raises
    ------
    ParameterError
        If a step or a ratio is not above 0.
    """

    method: Literal["flip", "multiply", "wiener"] = "flip"
    step_nm: float = 100.0
    snr: float = 10.0

    def __post_init__(self) -> None:
        if not (self.step_nm > 0 and self.snr > 0):
            raise ParameterError(f"steps of {self.step_nm} nm and a signal-to-noise ratio of {self.snr}: both must be above 0")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ViewCtf:
    """The CTF of one aligned view.

    Attributes
    ----------
    microscope
        Voltage, spherical aberration, amplitude contrast.
    defocus_nm
        On the tilt axis.
    tilt_deg
        Tilt of the view.
    hand
        Sign of the gradient; 0 for the same defocus everywhere.
    astigmatism
        In the frame of the aligned view.
    phase_shift_deg
        Of a phase plate.
    """

    microscope: Microscope
    defocus_nm: float
    tilt_deg: float
    hand: int
    astigmatism: Astigmatism = field(default_factory=Astigmatism)
    phase_shift_deg: float = 0.0


def correct_stack(
    aligned: Stack,
    ctf_of: list[ViewCtf],
    pixel_nm: float,
    params: CorrectParams,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> Iterator[Image]:
    """Yield corrected views, in the order of the stack.

    Parameters
    ----------
    aligned
        Views with the tilt axis along y, through the centre; at most `2 * threads + 1` corrected ones exist at a time.
    ctf_of
        CTF of each view.
    pixel_nm
        Size of a pixel.
    params
        Method and step.
    threads
        Views corrected at the same time.
    progress
        Called with the fraction done.

    Yields
    ------
    Image
        `(ny, nx)`, float32.

    Raises
    ------
    ParameterError
        If there is not one CTF for each view.
    """
    views = aligned.shape[0]
    if len(ctf_of) != views:
        raise ParameterError(f"{len(ctf_of)} CTFs for {views} views; give one for each")
    yield from map_views(lambda v: correct_view(aligned[v], ctf_of[v], pixel_nm, params), views, threads, progress)


def correct_view(view: NDArray[np.generic], ctf: ViewCtf, pixel_nm: float, params: CorrectParams) -> Image:
    """Return an aligned view, `(ny, nx)`, corrected; one that is seen edge-on has the defocus of the axis everywhere."""
    ny, nx = view.shape
    pad = max(round(_PAD_NM / pixel_nm), _LEAST_PAD_PX)
    padded = _padded(view.astype(np.float32), pad)
    spectrum = scipy.fft.rfft2(padded)
    hand = 0 if bool(edge_on(ctf.tilt_deg)) else ctf.hand
    across = defocus_at((np.arange(nx) + 0.5 - nx / 2) * pixel_nm, ctf.tilt_deg if hand else 0.0, ctf.defocus_nm, hand)
    count = int(np.ceil(np.ptp(across) / params.step_nm)) + 1
    nodes = np.linspace(across.min(), across.max(), count) if count > 1 else np.array([across.mean()])
    spacing = max(float(nodes[-1] - nodes[0]) / max(count - 1, 1), 1.0)
    steady, per_defocus = _phases(padded.shape, ctf, pixel_nm)
    out = np.zeros((ny, nx), np.float32)
    for node in nodes.tolist():
        weight = np.maximum(1 - np.abs(across - node) / spacing, 0).astype(np.float32)
        seen = np.flatnonzero(weight)
        gain = _gain(-np.sin(steady + np.float32(node) * per_defocus), params)
        image = scipy.fft.irfft2(spectrum * gain, padded.shape)
        columns = slice(int(seen[0]), int(seen[-1]) + 1)
        out[:, columns] += weight[columns] * image[pad : pad + ny, pad + columns.start : pad + columns.stop]
    return out


def _phases(shape: tuple[int, ...], ctf: ViewCtf, pixel_nm: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the phase at a defocus of 0, and what it gains per nm, at the frequencies of a real transform."""
    fy, fx = scipy.fft.fftfreq(shape[0], pixel_nm)[:, None], scipy.fft.rfftfreq(shape[1], pixel_nm)
    s2 = fx**2 + fy**2
    added = ctf.astigmatism.added(np.arctan2(fy, fx)) if ctf.astigmatism.nm else 0.0
    steady = ctf.microscope.phase(s2, added, ctf.phase_shift_deg)
    return steady.astype(np.float32), (ctf.microscope.per_defocus * s2).astype(np.float32)


def _gain(transfer: NDArray[np.float32], params: CorrectParams) -> NDArray[np.float32]:
    if params.method == "flip":
        gain = np.where(transfer > 0, np.float32(-1), np.float32(1))
    elif params.method == "multiply":
        gain = -transfer
    else:
        gain = -transfer / (transfer**2 + np.float32(1 / params.snr))
    gain[0, 0] = 1  # the mean stays
    return np.asarray(gain, np.float32)


def _padded(image: Image, pad: int) -> Image:
    """Return a view in a border over which its edge goes to its mean."""
    mean = image.mean(dtype=np.float64)
    ny, nx = (scipy.fft.next_fast_len(side + 2 * pad, real=True) for side in image.shape)
    border = ((pad, ny - image.shape[0] - pad), (pad, nx - image.shape[1] - pad))
    return np.pad(image, border, "linear_ramp", end_values=np.float32(mean))
