"""IMOD's local alignments: the layout of the file, and the direction of its transforms, by a recorded run."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.audit import left_over
from tiltflow.align.foreign import METHOD
from tiltflow.engines.imod.tracked_points import read_tracked_points
from tiltflow.formats.imod_local import read_local_alignment
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.model import Alignment

SIZE = (512, 512)


@pytest.fixture(scope="module")
def folder(data):
    return data / "imod_runs" / "two_surfaces_local"


@pytest.fixture(scope="module")
def local(folder):
    return read_local_alignment(folder / "twolocal.xf", 41, SIZE, 10.0)[0]


def test_the_layout(folder, local):
    np.testing.assert_array_equal(local.centre_px, [[-77, -76], [76, -76], [-77, 74], [76, 74]])
    assert local.grid == (2, 2)
    assert local.delta_tilt_deg.shape == (4, 41)
    np.testing.assert_array_equal(local.delta_tilt_deg[0, :4], [0.01, 0.0, -0.01, -0.02])
    np.testing.assert_allclose(
        geometry.invert(local.transforms[0, 0]), [[0.9999999, -0.0005067, -0.024], [0.0005067, 0.9999999, 0.059]], atol=1e-12
    )
    assert local.tracks.shape == (4,)


def test_another_pixel_size_scales_places_and_shifts(folder, local):
    half, _ = read_local_alignment(folder / "twolocal.xf", 41, (1024, 1024), 5.0)
    np.testing.assert_array_equal(half.centre_px, 2 * local.centre_px)
    np.testing.assert_allclose(half.transforms[..., 2], 2 * local.transforms[..., 2], atol=1e-12)
    np.testing.assert_allclose(half.transforms[..., :2], local.transforms[..., :2])


def test_the_areas_remove_what_the_global_fit_leaves(folder, local):
    """In every area the local transform moves points against their mean residual under the global alignment; its inverse adds to it."""
    alignment = Alignment(read_transforms(folder / "two.xf"), read_tilts(folder / "two.tlt"), np.ones(41, bool), METHOD)
    xy = read_tracked_points(folder / "two.resid", folder / "two.prexg", SIZE, 1.0, "bead").xy - 256
    left = left_over(alignment, xy)
    aligned = geometry.apply(alignment.transforms, np.where(np.isnan(xy), 0, xy))
    place = aligned[:, 20]
    for centre, transforms in zip(local.centre_px, local.transforms, strict=True):
        inside = (np.abs(place - centre) < 180).all(axis=1)
        moved = np.where(np.isnan(left), np.nan, geometry.apply(transforms, aligned) - aligned)[inside]
        slope = np.polyfit(np.nanmean(left[inside, :, 0], axis=0), np.nanmean(moved[..., 0], axis=0), 1)[0]
        assert slope < -0.5


def test_x_tilts_by_area_cannot_be_followed(tmp_path):
    path = tmp_path / "Slocal.xf"
    path.write_text("1 1 8 8 1 1 1 10 0\n0 0\n0.5 0\n" + "1 0 0 1 0 0\n" * 2)
    local, notes = read_local_alignment(path, 2, (16, 16), 10.0)
    assert local is None
    assert "tilted about x" in notes[0]


def test_z_factors_by_area_are_read_over_with_a_note(tmp_path):
    path = tmp_path / "Slocal.xf"
    path.write_text("1 1 8 8 1 1 0 10 1\n0.1 0.2\n0.001 0.002 0.003 0.004\n" + "1 0 0 1 0 0\n1 0 0 1 2 3\n")
    local, notes = read_local_alignment(path, 2, (16, 16), 10.0)
    np.testing.assert_array_equal(local.delta_tilt_deg, [[0.1, 0.2]])
    np.testing.assert_array_equal(local.transforms[0, 1, :, 2], [-2, -3])
    assert "z factors" in notes[0]
