"""A phantom specimen and its tilt series, with the answer known exactly.

The specimen is a section filled with vesicles, filaments, blobs and gold beads; or a particle, or a lattice
(:mod:`tiltflow.simulate.specimen`).  The stage shows it (:mod:`tiltflow.simulate.scene`), the microscope makes electrons of it
(:mod:`tiltflow.simulate.exposure`), the camera counts (:mod:`tiltflow.simulate.camera`), and alignments are measured against the truth
(:mod:`tiltflow.simulate.scoring`).  What may be wrong with a series, from a wrong axis in its header to a bar of the grid, is asked for
one by one (:mod:`tiltflow.simulate.parameters`), and leaves everything else of the series as it is.

Sizes and densities make images that look like those of plastic sections and lamellae, with the contrast and noise of real series;
benchmarks and thresholds were set with them, so that changing one makes their figures incomparable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels.phantom import fill_ellipsoid
from tiltflow.model import Alignment, Progress, TiltSeries
from tiltflow.parallel import map_views
from tiltflow.simulate.camera import as_stored, count, stored_type
from tiltflow.simulate.exposure import expose
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scene import about, set_scene
from tiltflow.simulate.scoring import Score, Truth, score

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedSeries:
    """Images as a camera gives them, `(views, y, x)`, the values in their header, and the truth.

    Where the header tells no tilt axis angle, `axis_told` is false and `header_axis_deg` the 0 that readers assume.
    """

    images: NDArray[Any]
    nominal_deg: Floats
    header_axis_deg: float
    pixel_size_angstrom: float
    truth: Truth
    axis_told: bool = True

    @property
    def series(self) -> TiltSeries:
        """The series as its reader would see it."""
        return TiltSeries.from_images(
            self.images,
            self.nominal_deg,
            pixel_size_angstrom=self.pixel_size_angstrom,
            axis_angle_deg=self.header_axis_deg,
            name="simulated",
        )

    def error_of(self, alignment: Alignment) -> Score:
        """Return how far an alignment is from the truth, raw pixels, over the views that take part in it."""
        left_out = tuple(sorted({*self.truth.dark_views, *np.flatnonzero(~alignment.included).tolist()}))
        return score(replace(self.truth, dark_views=left_out), alignment.transforms, alignment.tilt_deg)


def simulate(params: SimulationParams, *, threads: int = 1, progress: Progress | None = None) -> SimulatedSeries:
    """Return a tilt series of a random specimen; the same `seed` gives the same series.

    Parameters
    ----------
    params
        Specimen, microscope and errors.
    threads
        Views drawn at the same time.
    progress
        Called with the fraction done.
    """
    rng = np.random.default_rng(params.seed)
    scene = set_scene(params, rng)
    truth = scene.truth
    seeds = rng.spawn(len(truth.nominal_deg))
    images = np.empty((len(seeds), params.size, params.size), stored_type(params))

    def draw(view: int) -> None:
        electrons = expose(scene, view, params, seeds[view])
        images[view] = count(electrons, view, params, seeds[view])

    for _ in map_views(draw, len(seeds), threads, progress):
        pass
    return SimulatedSeries(
        images=as_stored(images, params),
        nominal_deg=truth.nominal_deg,
        header_axis_deg=params.axis_deg + params.axis_error_deg if params.axis_told else 0.0,
        pixel_size_angstrom=params.pixel_nm * 10,
        truth=truth,
        axis_told=params.axis_told,
    )


def render_specimen(params: SimulationParams, thickness: int) -> NDArray[np.float32]:
    """Return the density of the specimen that :func:`simulate` shows.

    It is what a perfect reconstruction would give, up to scale and level: pitched as in the views, before the stage drifts and before it
    deforms.

    Parameters
    ----------
    params
        As for :func:`simulate`.
    thickness
        Of the volume, pixels.

    Returns
    -------
    NDArray
        `(thickness, size, size)`: z upwards, y, x.
    """
    objects = set_scene(params, np.random.default_rng(params.seed)).objects
    turn = about("x", params.pitch_deg)
    volume = np.zeros((thickness, params.size, params.size), np.float32)
    for item in objects:
        x, y, z = turn @ item.centre + np.array([params.size, params.size, thickness]) / 2
        fill_ellipsoid(volume, x, y, z, turn @ item.matrix @ turn.T, item.reach, item.density)
    return volume
