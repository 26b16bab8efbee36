"""A golden case of ccderaser, and a simulated series with gold whose alignment is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.model import Alignment, Tracks
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct
from tiltflow.simulate.camera import count
from tiltflow.simulate.exposure import expose
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scene import Scene, set_scene

THICKNESS = 120


@dataclass(frozen=True)
class Golden:
    """Views, points of each, and what ccderaser made of them at 0, 2 and 3 iterations, 0 where it changed nothing."""

    raw: NDArray[np.float32]
    points: list[NDArray[np.float64]]
    imod: dict[int, NDArray[np.float64]]


@pytest.fixture(scope="session")
def golden(data) -> Golden:
    with np.load(data / "erase" / "ccderaser.npz") as file:
        points = file["points"].astype(float)
        return Golden(
            raw=file["raw"] * np.float32(25),
            points=[points[points[:, 2] == view, :2] for view in range(3)],
            imod={n: file[f"expand{n}"].astype(float) for n in (0, 2, 3)},
        )


@dataclass(frozen=True)
class Series:
    """An aligned stack with gold, the same specimen without, and the true alignment with the tracks of the beads."""

    gold: NDArray[np.float32]
    bare: NDArray[np.float32]
    alignment: Alignment
    params: SimulationParams

    def volume(self, stack: NDArray[Any], binning: int = 1, **parts: Any) -> NDArray[np.float32]:
        """Return the volume of a stack, `(z, y, x)`, the top first."""
        slabs: list[NDArray[Any]] = []
        usual = {"thickness": THICKNESS, "binning": binning, "x_axis_tilt_deg": self.alignment.x_axis_tilt_deg, "mode": 2}
        params = ReconstructParams(**{**usual, **parts})
        reconstruct(stack, self.alignment.tilt_deg, params, sink=lambda _, slab: slabs.append(slab.copy()))
        return np.concatenate(slabs).swapaxes(0, 1)


@pytest.fixture(scope="session")
def series() -> Series:
    """41 views of 10 beads in ice, 192 x 192 pixels of 1 nm; where a bead has left the field its track has a gap."""
    params = SimulationParams(seed=4, size=192, regime="cryo", beads=10, dose=100.0, hot_pixels=0, thickness_px=70.0, pitch_deg=3.0)
    scene = set_scene(params, np.random.default_rng(params.seed))
    xy = np.swapaxes(scene.truth.beads_xy, 0, 1)
    inside = ((xy > 0) & (xy < params.size)).all(axis=-1, keepdims=True)
    alignment = Alignment(
        transforms=scene.truth.transforms(),
        tilt_deg=scene.truth.true_deg,
        included=np.ones(params.views, bool),
        method="gold",
        x_axis_tilt_deg=-params.pitch_deg,
        tracks=Tracks(np.where(inside, xy, np.nan), "bead"),
    )
    bare = replace(scene, objects=scene.objects[len(xy) :])
    return Series(imaged(scene, params, 1), imaged(bare, params, 2), alignment, params)


def imaged(scene: Scene, params: SimulationParams, noise: int) -> NDArray[np.float32]:
    seeds = np.random.default_rng(noise).spawn(params.views)
    raw = np.stack([count(expose(scene, v, params, seeds[v]), v, params, seeds[v]) for v in range(params.views)])
    return np.stack(list(align_stack(raw, scene.truth.transforms(), StackParams())))
