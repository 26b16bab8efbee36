"""What a camera makes of electrons: counts with noise, hits and faults, and the type that they are stored in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.simulate.parameters import SimulationParams

Floats = NDArray[np.float64]

_COUNTS = 4000.0
"""Mean counts of the unattenuated beam, whatever the dose: a camera's gain, below the 32 000 of 16 bits."""
_READOUT_NOISE = 15.0
"""Standard deviation of the readout noise, counts: 1.5 electrons at a dose of 400."""
_COUNT_LIMIT = 32_000
"""Greatest and least count that is written, within 16 bits."""
_HIT_COUNTS = 8_000, 25_000
"""Range of the counts that an x-ray hit adds: two to six times the beam."""
_FULL_COUNTS, _FULL_LIMIT = 60_000.0, 65_535
"""Mean counts of the beam in a camera that uses its 16 bits, and the greatest of them: sections put it to either side of 32 768."""
_NAN_SUBJECT = 4
"""Of random numbers apart, for each view."""
_GREYS = 255
"""Greatest grey value of 8 bits."""
_SAMPLE = 4
"""Every fourth pixel along x and y is asked for the levels of black and white."""


def stored_type(params: SimulationParams) -> np.dtype[Any]:
    """Return the type that a camera's counts are kept in until :func:`as_stored` has seen all views."""
    return np.dtype(np.float32 if params.stored == "float32" else np.int16)


def count(electrons: Floats, view: int, params: SimulationParams, rng: np.random.Generator) -> NDArray[Any]:
    """Return the counts of a view: counting and readout noise, x-ray hits, areas that are dead or hot, pixels that are no numbers."""
    n, wrapped = params.size, params.stored == "wrapped"
    of_beam, limit = (_FULL_COUNTS, _FULL_LIMIT) if wrapped else (_COUNTS, _COUNT_LIMIT)
    counts = rng.poisson(np.maximum(electrons, 0)) * (of_beam / params.dose) + rng.normal(0, _READOUT_NOISE, (n, n))
    hits = rng.integers(n, size=(params.hot_pixels, 2))
    counts[hits[:, 0], hits[:, 1]] += rng.uniform(*_HIT_COUNTS, params.hot_pixels)
    for areas, value in ((params.dead_areas, 0), (params.hot_areas, limit)):
        for x, y, width, height in areas:
            counts[y : y + height, x : x + width] = value
    if params.nan_pixels:
        pixels = params.apart(_NAN_SUBJECT).spawn(view + 1)[view].choice(n * n, params.nan_pixels, replace=False)
        counts.ravel()[pixels] = np.nan
    if wrapped:
        return np.asarray(np.clip(counts, 0, limit), np.uint16).view(np.int16)
    return np.asarray(np.clip(counts, -limit, limit), stored_type(params))


def as_stored(images: NDArray[Any], params: SimulationParams) -> NDArray[Any]:
    """Return views as they are stored, `(views, y, x)`: themselves, or grey values between the black and the white of the series."""
    if params.stored != "uint8":
        return images
    sample = images[:, ::_SAMPLE, ::_SAMPLE]
    black, white = np.quantile(sample, [params.saturated, 1 - params.saturated])
    greys = np.empty(images.shape, np.uint8)
    for view, image in enumerate(images):
        greys[view] = np.clip(np.rint((image - black) * (_GREYS / max(white - black, 1))), 0, _GREYS)
    return greys
