"""A tomogram as a microscope makes it of a specimen that is known."""

from __future__ import annotations

import numpy as np
import pytest
from tests.filters.specimen import DEFOCUS_NM, PIXEL_NM, Imaged, ctf_at, filtered, frequency


@pytest.fixture(scope="session")
def imaged() -> Imaged:
    """Shells of 5 to 18 nm, 2 nm thin, at 6 µm of defocus, with little noise."""
    rng = np.random.default_rng(3)
    shape = (72, 96, 110)
    z, y, x = np.indices(shape, dtype=np.float32)
    density = np.zeros(shape)
    for _ in range(60):
        centre, radius = rng.uniform(0, shape), rng.uniform(3, 11)
        r = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
        density += (r < radius) & (r > radius - 2.5)
    s = frequency(shape)
    density = filtered(density, np.exp(-0.5 * (s * PIXEL_NM * 2 * np.pi * 0.6) ** 2))
    ctf = ctf_at(DEFOCUS_NM)(s)
    noise = rng.normal(0, 0.15, shape)
    raw, flipped = (1000 + 20 * (filtered(density, gain) + noise) for gain in (ctf, -np.abs(ctf)))
    return Imaged(density, raw.astype(np.float32), flipped.astype(np.float32))
