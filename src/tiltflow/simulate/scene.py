"""How the stage shows a specimen: what is seen where in each view.

A specimen point p, pixels from the centre of the section, is seen in view i at

    q = Rx(pitch) p,    u = q.x cos t_i + q.z sin t_i,    v = q.y
    raw = size / 2 + mag_i R(axis_i) (u, v) + shift_i

which is :mod:`tiltflow.geometry` with one rotation, magnification and shift per view.  Where the specimen deforms, p moves with the
view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.simulate.deformation import Deformation, deformation
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import Truth
from tiltflow.simulate.specimen import Ellipsoid, gold_beads, structures

Floats = NDArray[np.float64]

_JUMPS, _FOREIGN, _DRIFT = 1, 2, 5
"""Subjects of random numbers apart: directions of jumps, the other specimen, and the drift of the defocus."""
_PROBES = (-0.4, 0.0, 0.4)
"""Points over the field, and through the thickness, where an alignment without beads is scored; fractions of the size."""
_PARTICLE_PROBES = 0.7
"""Part of a particle's diameter that takes the place of the size: the corners of the grid then lie inside it."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A specimen on the stage.

    Attributes
    ----------
    truth
        The geometry of the views.
    rotations
        From the specimen to each view, `(views, 3, 3)`.
    objects, strangers
        What it is made of, and what is seen in foreign views in its place.
    moves
        How it deforms; None if it does not.
    """

    truth: Truth
    rotations: list[Floats]
    objects: list[Ellipsoid]
    strangers: list[Ellipsoid]
    moves: Deformation | None


def set_scene(params: SimulationParams, rng: np.random.Generator) -> Scene:
    """Return a random specimen, and where the stage puts it."""
    nominal = np.delete(np.linspace(-params.max_tilt_deg, params.max_tilt_deg, params.views), list(params.dropped_views))
    views = len(nominal)
    true = nominal + rng.normal(0, params.tilt_error_deg, views)
    shifts = np.cumsum(rng.normal(0, params.shift_px, (views, 2)), axis=0)
    shifts -= shifts[np.argmin(np.abs(nominal))]
    if params.jumped_views:
        towards = params.apart(_JUMPS).uniform(0, 2 * np.pi, len(params.jumped_views))
        shifts[list(params.jumped_views)] += params.jump_px * np.stack([np.cos(towards), np.sin(towards)], axis=1)
    axis = params.axis_deg + np.cumsum(rng.normal(0, params.rotation_jitter_deg / 3, views))
    magnification = 1 + rng.normal(0, params.magnification_jitter, views)
    rotations = [about("z", a) @ about("y", t) @ about("x", params.pitch_deg) for a, t in zip(axis, true, strict=True)]
    gold, rest = gold_beads(params, rng), structures(params, rng)
    moves = deformation(params, views) if params.deformation_px else None
    centres = np.array([bead.centre for bead in gold]).reshape(-1, 3)

    def raw(points: Floats) -> Floats:
        if moves is None:
            seen = np.einsum("vij,bj->vbi", np.array(rotations), points)[..., :2]
        else:
            moved = np.stack([moves.moved(points, view) for view in range(views)])
            seen = np.einsum("vij,vbj->vbi", np.array(rotations), moved)[..., :2]
        return np.asarray(params.size / 2 + magnification[:, None, None] * seen + shifts[:, None])

    truth = Truth(
        size=params.size,
        nominal_deg=nominal,
        true_deg=true,
        axis_deg=axis,
        magnification=magnification,
        shift_px=shifts,
        beads_px=centres,
        beads_xy=raw(centres),
        probes_xy=raw(centres if len(centres) else _grid(params)),
        dark_views=params.dark_views,
        lost_views=params.lost_views,
        defocus_nm=_defocus(params, nominal) if params.regime == "cryo" else None,
    )
    strangers = params.apart(_FOREIGN)
    other = [*gold_beads(params, strangers), *structures(params, strangers)] if params.foreign_views else []
    return Scene(truth, rotations, gold + rest, other, moves)


def about(axis: str, degrees: float) -> Floats:
    """Return the `(3, 3)` matrix that turns the specimen about an axis: towards +x for y, where positive tilts show it."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrices = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(matrices[axis])


def _defocus(params: SimulationParams, nominal_deg: Floats) -> Floats:
    """Return the defocus of the views, nm; that of the least tilted one has not drifted."""
    drift = np.cumsum(params.apart(_DRIFT).normal(0, params.defocus_drift_nm, len(nominal_deg)))
    drift -= drift[np.argmin(np.abs(nominal_deg))]
    return np.asarray(1e3 * params.defocus_um + params.defocus_slope_nm * nominal_deg + drift)


def _grid(params: SimulationParams) -> Floats:
    """Return points over the field and through the thickness of the section, or within a particle, `(27, 3)`."""
    extent = (params.size, params.thickness_px) if params.particle_px is None else (_PARTICLE_PROBES * params.particle_px,) * 2
    side = np.array(_PROBES) * extent[0]
    x, y, z = np.meshgrid(side, side, params.z_offset_px + np.array(_PROBES) * extent[1])
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
