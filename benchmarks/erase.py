"""What gold leaves in a tomogram: not erased, erased with one value a bead, erased with texture; beside the same specimen without gold.

    python benchmarks/erase.py [--series 4] [--size 256] [--views 41] [--record]

Series of 41 views with 10 beads of 10 nm at 1 nm a pixel, cryo and plastic by turns, reconstructed as they are truly aligned.  Of
every bead are taken, in units of the standard deviation of voxels far from beads:

* the profile along z of the mean over the bead's disc, less that of the same specimen without gold: rms over z and beads (`streak`; two
  reconstructions of the specimen without gold, with other noise, differ by what the last row says);
* that within the bead itself, its mean over the beads (`bead`): a hole or a ghost, where it is not 0;
* the standard deviation of voxels in the bead over that without gold (`noise`): below 1 where the filling is too smooth.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from record import Figures, add_option
from tiltflow.erase.positions import TrackedBeads, VolumeFrame, tracked_beads
from tiltflow.erase.views import EraseParams, erase_stack
from tiltflow.model import Alignment, Tracks
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct
from tiltflow.simulate.camera import count
from tiltflow.simulate.exposure import expose
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scene import Scene, set_scene

DIAMETER_NM = 10.0
ROOM_PX = 60
"""Thickness of the volume beyond that of the specimen: streaks are seen where nothing else is."""
FAR = 4.0
"""Diameters from a bead beyond which voxels are far from it."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """A way of erasing; None for none.  Places are off by so many pixels along each axis, at random (standard deviation)."""

    name: str
    params: EraseParams | None
    off_px: float = 0.0


def ways() -> list[Case]:
    """Return the ways that are compared."""
    cases = [Case("gold as it is", None)]
    for fill in ("flat", "texture"):
        for extra, expand, off in ((0.0, 0, 0.0), (0.0, 3, 0.0), (4.0, 0, 0.0), (4.0, 2, 0.0), (4.0, 0, 1.5), (4.0, 2, 1.5)):
            params = EraseParams(diameter_nm=DIAMETER_NM, extra_diameter_px=extra, expand=expand, fill=fill)  # type: ignore[arg-type]
            cases.append(Case(f"{name_of(params)}{f', places off by {off:g} px' if off else ''}", params, off))
    return cases


def name_of(params: EraseParams) -> str:
    return f"{params.fill}, {params.extra_diameter_px:g} px more, {params.expand} iterations"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--series", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--views", type=int, default=41)
    add_option(parser)
    asked = parser.parse_args()
    figures = Figures("erase")
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(1, asked.series + 1):
        regime = "cryo" if seed % 2 else "plastic"
        params = SimulationParams(seed=seed, size=asked.size, views=asked.views, regime=regime, beads=10, dose=100.0, hot_pixels=0)
        for name, values in measured(params):
            rows.setdefault(name, []).append(values)
    with figures.printed():
        print("| | streak | bead | noise |")
        print("|---|---:|---:|---:|")
        for name, values in rows.items():
            streak, bead, noise = np.array(values).T
            print(f"| {name} | {rms(streak):.2f} | {rms(bead):.2f} | {noise.mean():.2f} |")
    usual = EraseParams(diameter_nm=DIAMETER_NM)
    for figure, name in (
        ("streak", name_of(usual)),
        ("streak_flat", name_of(replace(usual, fill="flat"))),
        ("streak_gold", "gold as it is"),
    ):
        figures.keep(figure, rms(np.array(rows[name])[:, 0]), "SD", 2)
    for figure, name in (("noise", name_of(usual)), ("noise_flat", name_of(replace(usual, fill="flat")))):
        figures.keep(figure, float(np.array(rows[name])[:, 2].mean()), "times", 2)
    figures.save(asked)


def measured(params: SimulationParams) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Yield the name of every way of erasing and its three figures."""
    rng = np.random.default_rng(params.seed)
    scene = set_scene(params, rng)
    bare = replace(scene, objects=scene.objects[len(scene.truth.beads_px) :])
    gold, without, again = (aligned(each, params, seed) for each, seed in ((scene, 1), (bare, 1), (bare, 2)))
    alignment = truly_aligned(scene, params)
    thickness = int(params.thickness_px) + ROOM_PX
    beads = tracked_beads(alignment, (params.size, params.size), (params.size, params.size))
    reference = volume(without, alignment, thickness)
    places = places_of(beads, alignment, reference.shape)
    for case in ways():
        yield case.name, figures_of(volume(erased(gold, beads, params, case), alignment, thickness), reference, places, params)
    yield "no gold, other noise", figures_of(volume(again, alignment, thickness), reference, places, params)


def aligned(scene: Scene, params: SimulationParams, noise: int) -> NDArray[np.float32]:
    """Return the aligned stack of a scene."""
    seeds = np.random.default_rng((params.seed, noise)).spawn(params.views)
    raw = np.stack([count(expose(scene, v, params, seeds[v]), v, params, seeds[v]) for v in range(params.views)])
    return np.stack(list(align_stack(raw, scene.truth.transforms(), StackParams(), threads=2)))


def truly_aligned(scene: Scene, params: SimulationParams) -> Alignment:
    """Return the true alignment, with tracks of the beads where they lie in the field."""
    xy = np.swapaxes(scene.truth.beads_xy, 0, 1)
    inside = ((xy > 0) & (xy < params.size)).all(axis=-1, keepdims=True)
    return Alignment(
        transforms=scene.truth.transforms(),
        tilt_deg=scene.truth.true_deg,
        included=np.ones(params.views, bool),
        method="gold",
        x_axis_tilt_deg=-params.pitch_deg,
        tracks=Tracks(np.where(inside, xy, np.nan), "bead"),
    )


def erased(stack: NDArray[Any], beads: TrackedBeads, params: SimulationParams, case: Case) -> NDArray[Any]:
    """Return a stack with its beads erased in one of the ways."""
    if case.params is None:
        return stack
    xy = beads.xy + np.random.default_rng(params.seed).normal(0, case.off_px, beads.xy.shape)
    return np.stack([view.image for view in erase_stack(stack, list(xy), params.pixel_nm, case.params, threads=2)])


def volume(stack: NDArray[Any], alignment: Alignment, thickness: int) -> NDArray[np.float32]:
    """Return the volume of a stack, `(y, z, x)`, the top first."""
    slabs: list[NDArray[Any]] = []
    params = ReconstructParams(thickness=thickness, x_axis_tilt_deg=alignment.x_axis_tilt_deg, mode=2)
    reconstruct(stack, alignment.tilt_deg, params, sink=lambda _, slab: slabs.append(slab.copy()), threads=2)
    return np.concatenate(slabs)


def places_of(beads: TrackedBeads, alignment: Alignment, shape: tuple[int, ...]) -> Floats:
    """Return the voxels of the beads: x, y, z from the corner."""
    ny, nz, nx = shape
    return VolumeFrame(shape=(nz, ny, nx), x_axis_tilt_deg=alignment.x_axis_tilt_deg).voxels(beads.points)


def figures_of(
    made: NDArray[np.float32], reference: NDArray[np.float32], places: Floats, params: SimulationParams
) -> tuple[float, float, float]:
    """Return streak, bead and noise of a volume, against the one of the specimen without gold."""
    radius = DIAMETER_NM / params.pixel_nm / 2
    ny, nz, nx = made.shape
    y, x, z = np.arange(ny)[:, None] + 0.5, np.arange(nx) + 0.5, np.arange(nz) + 0.5
    away = np.min([np.hypot(x - px, y - py) for px, py, _ in places], axis=0)
    sd = float(reference.swapaxes(1, 2)[away > 2 * FAR * radius].std())
    difference, profiles, ghosts, noises = (made - reference) / sd, [], [], []
    for px, py, pz in places:
        disc = np.hypot(x - px, y - py) <= radius
        profiles.append(difference.swapaxes(1, 2)[disc].mean(axis=0))
        ghosts.append(profiles[-1][np.abs(z - pz) <= radius].mean())
        ball = (disc[:, None] & (np.abs(z - pz) <= radius)[:, None]).nonzero()
        noises.append(made[ball].std() / reference[ball].std())
    return rms(np.array(profiles)), float(np.mean(ghosts)), float(np.mean(noises))


def rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    main()
