"""A specimen that does not keep its shape: parts of it move smoothly, in three dimensions.

Sections shrink and dome under the beam, and films drum.  The displacement is a sum of few long plane waves, which a low polynomial of
local alignments follows well and a rigid alignment does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.simulate.parameters import SimulationParams

Floats = NDArray[np.float64]

_SUBJECT = 3
"""Of random numbers apart."""
_WAVES = 3
"""Waves that make the field."""
_WAVELENGTH = 1.5
"""Their length over the size of the images: the field sees one hill or valley, as of a section that domes."""


@dataclass(frozen=True, slots=True, eq=False)
class Deformation:
    """Plane waves of displacement in each view.

    Attributes
    ----------
    along_px
        Amplitude and direction, `(views, waves, 3)`, pixels.
    waves
        Wave vectors in the plane of the section, `(views, waves, 2)`, radians per pixel.
    phases
        `(views, waves)`, radians.
    """

    along_px: Floats
    waves: Floats
    phases: Floats

    def moved(self, points: Floats, view: int) -> Floats:
        """Return where points of the specimen, `(points, 3)` pixels from its centre, are in a view."""
        return np.asarray(points + np.sin(points[:, :2] @ self.waves[view].T + self.phases[view]) @ self.along_px[view])


def deformation(params: SimulationParams, views: int) -> Deformation:
    """Return a field that displaces no point by more than `deformation_px`: growing from the first view, or another in each view."""
    rng, growing = params.apart(_SUBJECT), params.deformation == "growing"
    fields = 1 if growing else views
    along = rng.normal(size=(fields, _WAVES, 3))
    along *= params.deformation_px / _WAVES / np.linalg.norm(along, axis=2, keepdims=True)
    towards, phases = rng.uniform(0, 2 * np.pi, (2, fields, _WAVES))
    waves = 2 * np.pi / (_WAVELENGTH * params.size) * np.stack([np.cos(towards), np.sin(towards)], axis=-1)
    if growing:
        along = np.linspace(0, 1, views)[:, None, None] * along
    return Deformation(along, *(np.broadcast_to(part, (views, *part.shape[1:])) for part in (waves, phases)))
