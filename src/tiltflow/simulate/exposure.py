"""Projections of a specimen, and the electrons that the microscope makes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tiltflow.kernels.phantom import add_ellipsoid
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scene import Scene
from tiltflow.simulate.scoring import Truth

Floats = NDArray[np.float64]

_REACH_MARGIN = 1.05
"""Pixels are drawn to so many times the reach of an ellipsoid, which rounding may not cut."""
_CAMERA_BLUR_PX = 0.55
"""Standard deviation of the camera's point spread, pixels: a transfer of 0.22 at the Nyquist frequency."""
_DARK = 0.02
"""Transmission of a view that a closed shutter darkens, and of a bar of the grid."""
_BEAM_TILT, _BEAM_FALL = 0.05, 0.08
"""Standard deviation of the slope of the beam over the field, and its fall to a distance of one field from the centre, both as
fractions of the beam."""
_PLASTIC_PATH_PX, _PLASTIC_ABSORPTION = 200.0, 0.9
"""Path in pixels over which the resin of a plastic section attenuates the beam by `exp(-0.9)`: a mean free path of 220 nm at 1 nm
pixels, with stained tissue at 200 kV."""
_PLASTIC_CONTRAST = 0.008
"""Absorption of a pixel of density 1: a structure of 30 pixels takes a fifth of the beam."""
_ICE_PATH_PX, _ICE_ABSORPTION = 300.0, 0.5
"""Path in pixels over which ice attenuates the beam by `exp(-0.5)`: a mean free path of 600 nm at 1 nm pixels; with an energy filter
at 300 kV, 200 to 400 nm are measured."""
_ICE_CONTRAST = 0.012
"""Phase contrast of a pixel of density 1."""
_LEAST_INTENSITY = 0.02
"""Fraction of the beam to which intensities are raised, as linear phase contrast goes below 0 in gold."""
_KILOVOLT, _CS_MM, _AMPLITUDE_CONTRAST = 300.0, 2.7, 0.07
"""The microscope of cryo series: a Titan Krios and the usual amplitude contrast of ice."""


def project(scene: Scene, view: int, params: SimulationParams) -> Floats:
    """Return the line integrals of the density that a view shows, `(size, size)`."""
    n = params.size
    image = np.zeros((n, n))
    if view in params.noise_views:
        return image
    objects = scene.strangers if view in params.foreign_views else scene.objects
    centres = [item.centre for item in objects]
    if scene.moves is not None and objects:
        centres = list(scene.moves.moved(np.array(centres), view))
    turn, scale = scene.rotations[view], scene.truth.magnification[view]
    for item, centre in zip(objects, centres, strict=True):
        cx, cy = n / 2 + scale * (turn @ centre)[:2] + scene.truth.shift_px[view]
        margin = 2 * item.reach
        if -margin < cx < n + margin and -margin < cy < n + margin:
            shape = turn @ item.matrix @ turn.T / scale**2
            add_ellipsoid(image, cx, cy, shape, item.reach * scale * _REACH_MARGIN, item.density)
    return image


def expose(image: Floats, view: int, truth: Truth, params: SimulationParams, rng: np.random.Generator) -> Floats:
    """Return the electrons that a projection leaves in each pixel, `(size, size)`, before they are counted."""
    n = params.size
    path = params.thickness_px / np.cos(np.deg2rad(truth.true_deg[view]))
    yy, xx = np.mgrid[:n, :n] / n - 0.5
    beam = 1 + _BEAM_TILT * xx * rng.normal() + _BEAM_TILT * yy * rng.normal() - _BEAM_FALL * (xx**2 + yy**2)
    if params.beam_drift:
        beam = beam * (1 - params.beam_drift * view / max(len(truth.nominal_deg) - 1, 1))
    if params.regime == "plastic":
        electrons = params.dose * beam * np.exp(-_PLASTIC_ABSORPTION * path / _PLASTIC_PATH_PX - _PLASTIC_CONTRAST * image)
    elif params.regime == "haadf":
        # What the plastic section keeps from the bright field arrives on the ring.
        scattered = -np.expm1(-_PLASTIC_ABSORPTION * path / _PLASTIC_PATH_PX - _PLASTIC_CONTRAST * image)
        electrons = params.dose * beam * scattered
    else:
        wave = fft.irfft2(fft.rfft2(image - image.mean()) * _ctf(n, params.pixel_nm, params.defocus_um), (n, n))
        electrons = params.dose * beam * np.exp(-_ICE_ABSORPTION * path / _ICE_PATH_PX)
        electrons = electrons * np.maximum(1 + _ICE_CONTRAST * wave, _LEAST_INTENSITY)
    if params.bar_px is not None:
        electrons = np.where(behind_bar(view, truth, params), _DARK * electrons, electrons)
    electrons = ndimage.gaussian_filter(electrons, _CAMERA_BLUR_PX)
    return np.asarray(electrons * _DARK if view in params.dark_views else electrons)


def behind_bar(view: int, truth: Truth, params: SimulationParams) -> NDArray[np.bool_]:
    """Return which pixels of a view, `(size, size)`, a bar of the grid covers; none without a bar."""
    n = params.size
    if params.bar_px is None:
        return np.zeros((n, n), bool)
    t, axis = np.deg2rad(truth.true_deg[view]), np.deg2rad(truth.axis_deg[view])
    side = np.sign(params.bar_px)
    edges = params.bar_px * np.cos(t), params.bar_px * np.cos(t) - params.bar_depth_px * np.sin(t)
    edge = truth.magnification[view] * min(side * edge for edge in edges)
    y, x = np.mgrid[:n, :n] + 0.5 - n / 2
    along_u = np.cos(axis) * (x - truth.shift_px[view, 0]) + np.sin(axis) * (y - truth.shift_px[view, 1])
    return np.asarray(side * along_u > edge)


def _ctf(n: int, pixel_nm: float, defocus_um: float) -> Floats:
    """Return the contrast transfer of the microscope, `(n, n // 2 + 1)`.

    The wavelength in nm of electrons of V volts is `h / sqrt(2 m e V (1 + e V / (2 m c²)))`: 1.22639 over the root of
    `V + 0.97845e-6 V²`.
    """
    volts = _KILOVOLT * 1e3
    wavelength = 1.22639 / np.sqrt(volts + 0.97845e-6 * volts**2)
    f = np.hypot(fft.fftfreq(n, pixel_nm)[:, None], fft.rfftfreq(n, pixel_nm)[None])
    chi = np.pi * wavelength * defocus_um * 1e3 * f**2 - 0.5 * np.pi * _CS_MM * 1e6 * wavelength**3 * f**4
    return np.asarray(-(np.sqrt(1 - _AMPLITUDE_CONTRAST**2) * np.sin(chi) + _AMPLITUDE_CONTRAST * np.cos(chi)))
