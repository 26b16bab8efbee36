"""Radial profiles of beads.

A bead is a sphere, so its image is round at every tilt, whatever the microscope's (round) transfer function and the camera's
blur make of it.  It is therefore a function of the radius, and its Fourier transform one of the radial frequency:

    T(f) = 2 pi  int  p(r) J0(2 pi f r) r dr

A profile is sampled every `STEP` pixels from the centre.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

STEP = 0.1
"""Spacing of the samples of a profile, working pixels: a tenth of what a pixel resolves."""

_BLUR_SAMPLES = 9
_BLUR_SLOPE = 0.9
"""A sphere's profile is blurred over two pixels by this many samples with a triangle that falls to a tenth: the pixel and its
neighbours' share (the true profile is measured from the beads, :mod:`tiltflow.align.beads.bead_model`)."""


def radii(reach_px: float) -> Floats:
    """Return the radii at which a profile is sampled, 0 to `reach_px`."""
    return np.arange(int(np.ceil(reach_px / STEP)) + 1, dtype=float) * STEP


def sphere_profile(diameter_px: float, reach_px: float) -> Floats:
    """Return the path length through a sphere over its diameter, blurred by about a pixel: 1 in the centre, 0 outside."""
    r, radius = radii(reach_px), diameter_px / 2
    spread = np.linspace(-1.0, 1.0, _BLUR_SAMPLES)
    weight = 1 - np.abs(spread) * _BLUR_SLOPE
    paths = np.sqrt(np.maximum(1 - ((r[:, None] + spread) / radius) ** 2, 0))
    blurred = paths @ weight
    return np.asarray(blurred / blurred[0])


def hankel_matrix(frequency: ArrayLike, reach_px: float) -> Floats:
    """Return the matrix from a profile to its 2-D Fourier transform at radial frequencies, cycles per pixel, `(frequencies, radii)`."""
    r = radii(reach_px)
    weight = 2 * np.pi * r * STEP
    # the disc of half a step around the centre
    weight[0] = np.pi * (STEP / 2) ** 2
    return np.asarray(scipy.special.j0(2 * np.pi * np.multiply.outer(np.asarray(frequency, float), r)) * weight)
