"""What a simulated specimen is made of: gold beads, and a cell, a particle or a lattice.

Every object is an ellipsoid, so every projection is an exact line integral: no interpolation of a voxel volume blurs the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.simulate.parameters import SimulationParams

Floats = NDArray[np.float64]

_GOLD_DENSITY = 14.0
"""Density of gold over that of a membrane; in plastic a bead of 10 pixels takes two thirds of the beam."""
_BEAD_FIELD = 0.46
"""Beads lie within this part of the field to either side of its centre, so that most are whole in the untilted view."""
_BEAD_APART = 1.6
"""Least distance of two beads in the untilted view, diameters."""
_BEAD_HEIGHT_SD = 0.02
"""Standard deviation of the height of beads about their surface, fractions of the thickness: a section is not flat."""
_BEAD_TRIES = 20_000
"""Random positions tried for beads; a field too small for all of them gets fewer."""

_FIELD_X, _FIELD_Y = 1.2, 0.7
"""Half the extent of the structures over the size of the images: at 60 degrees and with drift, views see the double along x."""
_VOLUME_PER_OBJECT = 6.0e5
"""Cubic pixels for each vesicle: they fill a tenth of a section 90 pixels thick."""
_VESICLE_RADIUS = 0.12, 0.45
"""Range of the radius of vesicles over the thickness."""
_VESICLE_FIELD = 0.25
"""Fraction of the field that takes the place of the thickness, if it is less: no vesicle fills the images."""
_LEAST_HEIGHT_PX, _LEAST_LUMEN_PX = 2.0, 1.0
"""Range of the heights of centres at least, and half axes of the inside of a vesicle at least, in thin sections; pixels."""
_VESICLE_AXES = 0.75, 1.0
"""Range of their half axes over the radius."""
_MEMBRANE_PX, _MEMBRANE_PART = 2.0, 0.08
"""Thickness of their membrane: pixels at least, or a part of the radius."""
_LUMEN = -0.9
"""Density inside a vesicle, added to that of its membrane of 1."""
_BLOBS_PER_OBJECT, _BLOB_RADIUS_PX, _BLOB_AXES, _BLOB_DENSITY = 6, (3.0, 6.5), (0.8, 1.2), 1.2
"""Blobs for each vesicle, the ranges of their radius and of their half axes over it, and their density: ribosomes of 13 nm at 1 to
2 nm pixels."""
_BLOB_MARGIN_PX, _FILAMENT_MARGIN_PX = 6.0, 8.0
"""Distance of centres of blobs, and of the beginnings of filaments, from the surfaces."""
_FILAMENT_AXES_PX, _FILAMENT_STEP_PX, _FILAMENT_DENSITY = (4.5, 2.6, 2.6), 4.0, 0.8
"""A filament is a row of ellipsoids of these half axes, this far apart, of this density."""
_FILAMENT_STEPS = 30, 90
"""Range of the number of its ellipsoids."""
_FILAMENT_SLOPE = 0.15
"""Standard deviation of its direction along z over that along x and y: filaments in sections lie flat."""

_PARTICLE_DENSITY = 0.4
"""Density of the body of a particle, below that of its grains: its edge alone tells where it is, as in a virus or a nanoparticle."""
_GRAINS = 0.15
"""Fraction of a particle's volume that its grains fill; they are blobs as a cell has them."""
_GRAIN_REACH = 0.85
"""Centres of grains lie within this part of its radius, so that the body stays round."""
_LATTICE_RADIUS = 0.3
"""Radius of the bodies of a lattice over its pitch: gaps are as wide as two thirds of a body."""


@dataclass(frozen=True, slots=True, eq=False)
class Ellipsoid:
    """The points p with `(p - centre)' matrix (p - centre) < 1`.

    Attributes
    ----------
    centre
        `(3,)`, pixels from the centre of the specimen.
    matrix
        `(3, 3)`, symmetric.
    reach
        Longest half axis, pixels.
    density
        Added within it.
    """

    centre: Floats
    matrix: Floats
    reach: float
    density: float


def structures(params: SimulationParams, rng: np.random.Generator) -> list[Ellipsoid]:
    """Return all but gold: a particle, a lattice, or the structures of a cell."""
    if params.particle_px is None and params.lattice_px is None:
        return _cell(params, rng)
    particle = [] if params.particle_px is None else _particle(params.particle_px, params.z_offset_px, rng)
    return particle + ([] if params.lattice_px is None else _lattice(params.lattice_px, params, rng))


def gold_beads(params: SimulationParams, rng: np.random.Generator) -> list[Ellipsoid]:
    """Return beads on one surface or both, no two closer than :data:`_BEAD_APART` in the untilted view."""
    diameter = params.bead_nm / params.pixel_nm
    beads: list[Floats] = []
    for _ in range(_BEAD_TRIES):
        if len(beads) == params.beads:
            break
        side = 0.5 if not params.two_surfaces or rng.random() < 0.5 else -0.5
        z = params.z_offset_px + side * params.thickness_px + rng.normal(0, _BEAD_HEIGHT_SD * params.thickness_px)
        centre = np.array([*(rng.uniform(-_BEAD_FIELD, _BEAD_FIELD, 2) * params.size), z])
        if all(np.hypot(*(centre - other)[:2]) > _BEAD_APART * diameter for other in beads):
            beads.append(centre)
    radius = diameter / 2
    return [Ellipsoid(centre, np.eye(3) / radius**2, radius, _GOLD_DENSITY) for centre in beads]


def _cell(params: SimulationParams, rng: np.random.Generator) -> list[Ellipsoid]:
    """Return vesicles, ribosome-like blobs and filaments, over all that tilt and drift bring into view."""
    reach_x, reach_y = _FIELD_X * params.size, _FIELD_Y * params.size
    thickness = params.thickness_px
    count = int(params.crowding * 4 * reach_x * reach_y * thickness / _VOLUME_PER_OBJECT)
    objects: list[Ellipsoid] = []

    def place(margin: float) -> Floats:
        z = params.z_offset_px + rng.uniform(-0.5, 0.5) * max(thickness - 2 * margin, _LEAST_HEIGHT_PX)
        return np.array([rng.uniform(-reach_x, reach_x), rng.uniform(-reach_y, reach_y), z])

    def add(centre: Floats, axes: Floats, turn: Floats, density: float) -> None:
        objects.append(Ellipsoid(centre, turn @ np.diag(1.0 / axes**2) @ turn.T, float(axes.max()), density))

    for _ in range(count):
        radius = rng.uniform(*_VESICLE_RADIUS) * min(thickness, _VESICLE_FIELD * params.size)
        axes = radius * rng.uniform(*_VESICLE_AXES, 3)
        turn, centre = _random_rotation(rng), place(radius)
        add(centre, axes, turn, 1.0)
        add(centre, np.maximum(axes - max(_MEMBRANE_PX, _MEMBRANE_PART * radius), _LEAST_LUMEN_PX), turn, _LUMEN)
    for _ in range(_BLOBS_PER_OBJECT * count):
        centre = place(_BLOB_MARGIN_PX)
        add(centre, rng.uniform(*_BLOB_RADIUS_PX) * rng.uniform(*_BLOB_AXES, 3), _random_rotation(rng), _BLOB_DENSITY)
    for _ in range(count // 2 + 1):
        start, direction = place(_FILAMENT_MARGIN_PX), rng.normal(size=3) * [1, 1, _FILAMENT_SLOPE]
        direction /= np.linalg.norm(direction)
        axes = np.array(_FILAMENT_AXES_PX)
        for step in range(int(rng.uniform(*_FILAMENT_STEPS))):
            centre = start + _FILAMENT_STEP_PX * step * direction
            if abs(centre[2] - params.z_offset_px) <= thickness / 2 - axes[2]:
                add(centre, axes, np.eye(3), _FILAMENT_DENSITY)
    return objects


def _particle(diameter: float, height: float, rng: np.random.Generator) -> list[Ellipsoid]:
    """Return a round body with grains, alone in the centre of the field."""
    radius, centre = diameter / 2, np.array([0.0, 0.0, height])
    body = Ellipsoid(centre, np.eye(3) / radius**2, radius, _PARTICLE_DENSITY)
    grains = []
    for _ in range(round(_GRAINS * (radius / np.mean(_BLOB_RADIUS_PX)) ** 3)):
        direction = rng.normal(size=3)
        where = direction / np.linalg.norm(direction) * radius * _GRAIN_REACH * rng.random() ** (1 / 3)
        axes, turn = rng.uniform(*_BLOB_RADIUS_PX) * rng.uniform(*_BLOB_AXES, 3), _random_rotation(rng)
        grains.append(Ellipsoid(centre + where, turn @ np.diag(1 / axes**2) @ turn.T, float(axes.max()), _BLOB_DENSITY))
    return [body, *grains]


def _lattice(pitch: float, params: SimulationParams, rng: np.random.Generator) -> list[Ellipsoid]:
    """Return a square lattice, turned at random about z, of as many layers as the section holds, and of one at least."""
    angle, radius = rng.uniform(0, np.pi / 2), _LATTICE_RADIUS * pitch
    reach_x, reach_y = _FIELD_X * params.size, _FIELD_Y * params.size
    count = int(np.hypot(reach_x, reach_y) / pitch)
    steps, layers = pitch * np.arange(-count, count + 1), max(int(params.thickness_px / pitch), 1)
    heights = params.z_offset_px + pitch * (np.arange(layers) - (layers - 1) / 2)
    a, b, z = (side.ravel() for side in np.meshgrid(steps, steps, heights))
    x, y = np.cos(angle) * a - np.sin(angle) * b, np.sin(angle) * a + np.cos(angle) * b
    inside = (np.abs(x) < reach_x) & (np.abs(y) < reach_y)
    centres = np.stack([x, y, z], axis=1)[inside]
    return [Ellipsoid(centre, np.eye(3) / radius**2, radius, _BLOB_DENSITY) for centre in centres]


def _random_rotation(rng: np.random.Generator) -> Floats:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))
