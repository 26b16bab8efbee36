"""Where beads are in the aligned views: signs, binning, gaps, and the volume that they are found in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.erase.patches import discs
from tiltflow.erase.positions import VolumeFrame, found_beads, project_points, tracked_beads, triangulated
from tiltflow.erase.volume_beads import find_beads
from tiltflow.errors import ParameterError
from tiltflow.model import LocalAlignment, Tracks
from tiltflow.reconstruct.local_cells import distortion

TILTS = np.array([-60.0, -20.0, 0.0, 35.0, 60.0])


@pytest.fixture
def points(rng):
    return rng.uniform(-80, 80, (6, 3)) * [1, 1, 0.3]


def test_a_point_above_the_axis_is_seen_to_the_right_at_positive_tilt():
    right = project_points([[0.0, 0.0, 10.0]], [30.0])[0, 0]
    np.testing.assert_allclose(right, [5.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(project_points([[0.0, 2.0, 10.0]], [-30.0], [0.1])[0, 0], [-5.0, 3.0])


def test_points_come_back_from_their_projections(points):
    skew = np.linspace(-0.02, 0.03, len(TILTS))
    seen = np.swapaxes(project_points(points, TILTS, skew), 0, 1).copy()
    seen[0, 1:4] = np.nan
    np.testing.assert_allclose(triangulated(seen, np.ones(seen.shape[:2]), TILTS, skew), points, atol=1e-8)


def test_a_track_in_one_view_or_at_one_tilt_determines_no_point(points):
    seen = np.swapaxes(project_points(points[:2], [10.0, 10.0]), 0, 1).copy()
    seen[0, 1] = np.nan
    assert np.isnan(triangulated(seen, np.ones((2, 2)), [10.0, 10.0])).all()


def test_a_volume_is_levelled_by_the_pitch_as_geometry_has_it(points):
    level = VolumeFrame(shape=(40, 60, 70), x_axis_tilt_deg=-4.0, top_first=False)
    levelled = level.voxels(points) - np.array([35, 30, 20])
    np.testing.assert_allclose(geometry.project(levelled, TILTS, 4.0), project_points(points, TILTS), atol=1e-10)


@pytest.mark.parametrize("top_first", [True, False])
def test_voxels_and_points_are_each_others_inverse(points, top_first):
    frame = VolumeFrame(shape=(40, 60, 70), binning=2, x_axis_tilt_deg=-4.0, shift_x=6.0, shift_z=-9.0, top_first=top_first)
    np.testing.assert_allclose(frame.points(frame.voxels(points)), points, atol=1e-10)


def test_local_areas_are_those_of_the_reconstruction(points, rng):
    areas, views = 6, len(TILTS)
    x, y = np.meshgrid([-50.0, 0.0, 50.0], [-40.0, 40.0])
    local = LocalAlignment(
        centre_px=np.column_stack([x.ravel(), y.ravel()]),
        grid=(3, 2),
        transforms=geometry.transform(np.eye(2) + rng.normal(0, 0.01, (areas, views, 2, 2)), rng.normal(0, 3, (areas, views, 2))),
        delta_tilt_deg=rng.normal(0, 0.5, (areas, views)),
        tracks=np.full(areas, 5),
    )
    skew = rng.normal(0, 0.01, views)
    reconstruction = distortion(local, skew, np.arange(views), TILTS, 1)
    for point, seen in zip(points, np.swapaxes(project_points(points, TILTS, skew, local), 0, 1), strict=True):
        flat, rise = reconstruction.at(point[:1], point[1:2])
        np.testing.assert_allclose(seen, flat[0, 0] + point[2] * rise[0, 0], atol=1e-9)


@pytest.mark.parametrize("binning", [1, 2])
def test_tracked_beads_are_where_the_views_show_them_and_gaps_are_filled(series, binning):
    size = series.params.size
    shape = size // binning, size // binning
    tracks = series.alignment.tracks
    gaps = tracks.xy.copy()
    gaps[::2, 10:20] = np.nan
    beads = tracked_beads(replace(series.alignment, tracks=Tracks(gaps, "bead")), (size, size), shape, binning)
    whole = tracked_beads(series.alignment, (size, size), shape, binning)
    np.testing.assert_allclose(beads.xy, whole.xy, atol=0.02)
    assert beads.filled[10:20, ::2].all()
    assert not beads.filled[20, ~np.isnan(tracks.xy[:, 20, 0])].any()
    assert not beads.unplaced.any()
    for view in (0, 15, 20, 40):
        image = series.gold[view].reshape(shape[0], binning, shape[1], binning).mean(axis=(1, 3))
        for x, y in beads.xy[view]:
            if min(x, y, *(np.array(shape) - (x, y))) > 3:
                core = image[discs([[x, y]], shape, 3.0 / binning)].mean()
                assert core < image.mean() - image.std(), "gold is dark"


def test_a_position_that_the_solution_rejected_is_replaced_by_the_point(series):
    size = series.params.size
    tracks = series.alignment.tracks
    wrong = tracks.xy.copy()
    wrong[3, 20] += 40
    weights = np.where(tracks.seen, 1.0, 0.0)
    weights[3, 20] = 0
    moved = tracked_beads(
        replace(series.alignment, tracks=Tracks(wrong, "bead"), track_weights=weights), (size, size), (size, size)
    )
    right = tracked_beads(series.alignment, (size, size), (size, size))
    np.testing.assert_allclose(moved.xy[20, 3], right.xy[20, 3], atol=0.05)
    assert moved.filled[20, 3]


def test_gaps_of_a_bead_that_moves_by_itself_are_filled_where_it_goes(series):
    size, views = series.params.size, series.params.views
    moving = series.alignment.tracks.xy.copy()
    way = 6 * np.sin(np.linspace(0, np.pi, views))
    moving[2, :, 1] += way
    true = tracked_beads(replace(series.alignment, tracks=Tracks(moving, "bead")), (size, size), (size, size)).xy[:, 2]
    moving[2, 18:23] = np.nan
    filled = tracked_beads(replace(series.alignment, tracks=Tracks(moving, "bead")), (size, size), (size, size)).xy[:, 2]
    assert np.abs(filled - true).max() < 0.6


def test_a_bead_without_a_point_is_told_of(series):
    size = series.params.size
    few = series.alignment.tracks.xy.copy()
    few[5, 1:] = np.nan
    beads = tracked_beads(replace(series.alignment, tracks=Tracks(few, "bead")), (size, size), (size, size))
    assert np.flatnonzero(beads.unplaced).tolist() == [5]


@pytest.mark.parametrize("tracks", [None, Tracks(np.zeros((3, 41, 2)), "patch")], ids=["none", "patches"])
def test_an_alignment_without_beads_is_refused_in_words(series, tracks):
    with pytest.raises(ParameterError, match="no tracked beads"):
        tracked_beads(replace(series.alignment, tracks=tracks), (192, 192), (192, 192))


PLACES = [
    {},
    {"binning": 2, "parts": {"thickness": 140}},
    {"parts": {"shift_z": 14.0, "shift_x": -9.0, "thickness": 150}},
    {"parts": {"x_axis_tilt_deg": 5.0, "thickness": 150}},
    {"parts": {"x_axis_tilt_deg": -9.0, "thickness": 150}},
]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_beads_of_a_volume_are_found_and_lie_on_the_gold_of_every_view(series, place):
    size, binning, parts = series.params.size, place.get("binning", 1), place.get("parts", {})
    stack = series.gold.reshape(-1, size // binning, binning, size // binning, binning).mean(axis=(2, 4))
    volume = series.volume(stack, binning, **parts)
    frame = VolumeFrame(
        shape=volume.shape,
        binning=binning,
        x_axis_tilt_deg=parts.get("x_axis_tilt_deg", series.alignment.x_axis_tilt_deg),
        shift_x=parts.get("shift_x", 0.0),
        shift_z=parts.get("shift_z", 0.0),
    )
    found = find_beads(volume, 10.0 / binning)
    assert found.clear
    assert found.sign == -1
    assert len(found.voxels) == series.params.beads
    true = tracked_beads(series.alignment, series.gold.shape, series.gold.shape).xy
    seen = found_beads(found.voxels, frame, series.alignment, series.gold.shape)
    apart = np.linalg.norm(seen[:, :, None] - true[:, None], axis=-1)
    nearest = apart[20].argmin(axis=1)
    assert sorted(nearest) == list(range(series.params.beads))
    off = np.take_along_axis(apart, np.broadcast_to(nearest[None, :, None], (*apart.shape[:2], 1)), 2)
    assert off.max() < 1.5


def test_binned_views_have_binned_places(series):
    frame = VolumeFrame(shape=(120, 192, 192))
    whole = found_beads([[100.0, 90.0, 40.0]], frame, series.alignment, (192, 192), offset_deg=2.0, axis_offset=6.0)
    half = found_beads([[100.0, 90.0, 40.0]], frame, series.alignment, (96, 96), 2, offset_deg=2.0, axis_offset=6.0)
    np.testing.assert_allclose(half, whole / 2)
    t = np.deg2rad(series.alignment.tilt_deg[0] + 2.0)
    np.testing.assert_allclose(whole[0, 0], [96 + 6 + 4 * np.cos(t) + 20 * np.sin(t), 90.0])
