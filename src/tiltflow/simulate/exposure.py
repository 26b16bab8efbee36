"""The electrons that the microscope makes of a projection of the specimen."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.projection import phase_contrast, project
from tiltflow.simulate.scene import Scene
from tiltflow.simulate.scoring import Truth

Floats = NDArray[np.float64]

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


def expose(scene: Scene, view: int, params: SimulationParams, rng: np.random.Generator) -> Floats:
    """Return the electrons that a view leaves in each pixel, `(size, size)`, before they are counted."""
    n, truth = params.size, scene.truth
    path = params.thickness_px / np.cos(np.deg2rad(truth.true_deg[view]))
    yy, xx = np.mgrid[:n, :n] / n - 0.5
    beam = 1 + _BEAM_TILT * xx * rng.normal() + _BEAM_TILT * yy * rng.normal() - _BEAM_FALL * (xx**2 + yy**2)
    if params.beam_drift:
        beam = beam * (1 - params.beam_drift * view / max(len(truth.nominal_deg) - 1, 1))
    if params.regime == "plastic":
        shown = _PLASTIC_CONTRAST * project(scene, view, params)
        electrons = params.dose * beam * np.exp(-_PLASTIC_ABSORPTION * path / _PLASTIC_PATH_PX - shown)
    elif params.regime == "haadf":
        # What the plastic section keeps from the bright field arrives on the ring.
        shown = _PLASTIC_CONTRAST * project(scene, view, params)
        scattered = -np.expm1(-_PLASTIC_ABSORPTION * path / _PLASTIC_PATH_PX - shown)
        electrons = params.dose * beam * scattered
    else:
        electrons = params.dose * beam * np.exp(-_ICE_ABSORPTION * path / _ICE_PATH_PX)
        electrons = electrons * np.maximum(1 + _ICE_CONTRAST * phase_contrast(scene, view, params), _LEAST_INTENSITY)
    if params.bar_px is not None:
        electrons = np.where(behind_bar(view, truth, params), _DARK * electrons, electrons)
    electrons = scipy.ndimage.gaussian_filter(electrons, _CAMERA_BLUR_PX)
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
