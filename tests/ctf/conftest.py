"""Series of ice alone, whose defocus is known: quick to make, and all rings."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

MakeIce = Callable[..., SimulatedSeries]


@pytest.fixture(scope="session")
def ice() -> MakeIce:
    """Return a function that makes a series of ice, 384 x 384 pixels of 0.5 nm, 13 views; the same parameters give the same object."""
    made: dict[SimulationParams, SimulatedSeries] = {}

    def make(**parts: object) -> SimulatedSeries:
        usual: dict[str, object] = {
            "seed": 1, "regime": "cryo", "size": 384, "views": 13, "pixel_nm": 0.5, "beads": 0, "particle_px": 1.0, "hot_pixels": 0,
            "ice": 6.0, "dose": 80.0, "defocus_um": 3.0, "defocus_hand": 1, "thickness_px": 120.0,
        }  # fmt: skip
        params = SimulationParams(**{**usual, **parts})  # type: ignore[arg-type]
        if params not in made:
            made[params] = simulate(params)
        return made[params]

    return make
