"""The geometry of the record is that of the volume: a spot is found where the projections of its voxel cross."""

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.interchange.series_geometry import read_geometry
from tiltflow.reconstruct.trim import Trim, TrimParams
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct, volume_shape

SPOTS = np.array([[-14.0, 9.0, 4.0], [11.0, -12.0, -5.0]])
"""x, y, z in the volume, from its centre."""


@pytest.mark.parametrize(
    ("x_axis_tilt", "shift_x", "shift_z", "keep"), [(0, 0, 0, 24), (-9, 0, 0, 24), (0, 3, -2, 24), (7, -4, 3, 19)]
)
def test_a_spot_is_reconstructed_in_the_voxel_that_is_projected_onto_it(results, x_axis_tilt, shift_x, shift_z, keep):
    params = ReconstructParams(
        thickness=24, x_axis_tilt_deg=x_axis_tilt, shift_x=shift_x, shift_z=shift_z, scale_factor=1.0, mode=2, radial_cutoff=0.5
    )
    tilts, ny, nx = np.arange(-60, 61, 3.0), 48, 56
    full = volume_shape((len(tilts), ny, nx), params)
    trim = Trim(full, TrimParams(thickness=float(keep)))
    first = trim.rows
    known = replace(
        read_geometry(results.folder),
        image_shape=(ny, nx),
        transforms=np.tile(np.eye(2, 3), (len(tilts), 1, 1)),
        tilt_deg=tilts,
        pitch_deg=np.full(len(tilts), -float(x_axis_tilt)),
        volume_centre=np.array([-shift_x, 0, shift_z + (24 - first[0] - first[1]) / 2]),
        included=np.ones(len(tilts), bool),
    )
    yy, xx = np.mgrid[:ny, :nx] + 0.5
    for spot in SPOTS:
        seen = known.project(spot)[:, 0]
        views = np.exp(-((xx - seen[:, 0, None, None]) ** 2 + (yy - seen[:, 1, None, None]) ** 2) / (2 * 1.5**2))
        out = np.zeros(trim.output_shape, np.float32)

        def sink(y0, slab, out=out):
            place, block = trim.place(y0, slab)
            out[place] = block

        reconstruct(views.astype(np.float32), tilts, params, sink=sink)
        z, y, x = np.unravel_index(out.argmax(), out.shape)
        near = tuple(slice(max(i - 3, 0), i + 4) for i in (z, y, x))
        weight = np.clip(out[near] - 0.3 * out.max(), 0, None)
        grid = np.mgrid[near]
        centre = [(grid[axis] * weight).sum() / weight.sum() for axis in (2, 1, 0)]
        np.testing.assert_allclose(np.array(centre) + 0.5 - np.array(out.shape[::-1]) / 2, spot, atol=0.15)
