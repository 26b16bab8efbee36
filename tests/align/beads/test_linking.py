"""Joining spots into tracks, on spots whose tracks are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.beads.cameras import Cameras, cameras_of_transforms
from tiltflow.align.beads.linking import Links, assign, link, local_drift
from tiltflow.align.beads.registration import agreed_shift, chain_views
from tiltflow.align.beads.spot_field import SearchLimits, SpotField, make_spot_field

VIEWS, SIZE, AXIS = 41, 1000, 5.0
TILTS = np.linspace(-60, 60, VIEWS)
REACH = SearchLimits(depth=300.0, search=20.0, area=600.0)


@dataclass(frozen=True)
class Scene:
    """Spots of known beads among spots of chance: `owner` of each spot, -1 for chance."""

    field: SpotField
    owner: np.ndarray
    cameras: Cameras
    shifts: np.ndarray
    seen: np.ndarray


def make_scene(rng, beads=40, chance=15, warp_px=0.0, noise_px=0.1, depths=(-50, 50)):
    points = np.column_stack([rng.uniform(-470, 470, (beads, 2)), rng.choice(depths, beads) + rng.normal(0, 3, beads)])
    for n in range(1, beads):
        while np.hypot(*(points[:n, :2] - points[n, :2]).T).min() < 15:
            points[n, :2] = rng.uniform(-470, 470, 2)
    shifts = rng.normal(0, 4, (VIEWS, 2))
    cameras = cameras_of_transforms(geometry.from_axis_and_shifts(AXIS, shifts), TILTS)
    x, y = points[:, :1] / 250, points[:, 1:2] / 280
    warp = np.stack([np.sin(x) * np.cos(y) * np.sin(TILTS / 25), np.cos(x) * np.sin(y) * np.cos(TILTS / 30)], axis=-1)
    xy = cameras.project(points) + warp_px * warp + rng.normal(0, noise_px, (beads, VIEWS, 2))
    seen = (np.abs(xy) < 490).all(axis=-1)
    spots = [np.concatenate([xy[seen[:, v], v], rng.uniform(-490, 490, (chance, 2))]) + SIZE / 2 for v in range(VIEWS)]
    owner = np.concatenate([np.concatenate([np.flatnonzero(seen[:, v]), np.full(chance, -1)]) for v in range(VIEWS)])
    return Scene(make_spot_field(spots, TILTS, np.ones(VIEWS, bool), (SIZE, SIZE), 10.0), owner, cameras, shifts, seen)


def found_and_wrong(scene: Scene, links: Links) -> tuple[float, int]:
    """Return the share of all sightings that are in a track of their bead, and the number of spots in a wrong one."""
    owners = np.where(links.spot >= 0, scene.owner[links.spot], -2)
    right = wrong = 0
    for row in owners:
        bead = np.bincount(row[row >= 0], minlength=1).argmax()
        right += int((row == bead).sum())
        wrong += int(((row != bead) & (row != -2)).sum())
    return right / scene.seen.sum(), wrong


def start_of(scene: Scene, rng, error_px=2.0, axis_error_deg=0.0, jumps=None):
    shifts = scene.shifts + rng.normal(0, error_px, scene.shifts.shape)
    if jumps is not None:
        shifts = shifts + jumps
    return geometry.from_axis_and_shifts(AXIS + axis_error_deg, shifts)


@pytest.mark.parametrize(("beads", "chance"), [(6, 10), (20, 15), (120, 40)])
def test_every_sighting_of_every_bead_ends_in_its_track(rng, beads, chance):
    scene = make_scene(rng, beads, chance)
    share, wrong = found_and_wrong(scene, link(scene.field, start_of(scene, rng), REACH))
    assert share > 0.995
    assert wrong <= 2


def test_an_axis_that_is_degrees_off_does_no_harm(rng):
    scene = make_scene(rng)
    share, wrong = found_and_wrong(scene, link(scene.field, start_of(scene, rng, axis_error_deg=4.0), REACH))
    assert share > 0.995
    assert wrong <= 1


def test_views_that_the_start_misplaces_by_a_tenth_of_the_field_are_put_right(rng):
    scene = make_scene(rng)
    jumps = np.zeros((VIEWS, 2))
    jumps[[4, 20, 33]] = [[90, -40], [-60, 70], [35, 100]]
    jumps[26:] += [45, -30]
    share, wrong = found_and_wrong(scene, link(scene.field, start_of(scene, rng, jumps=jumps), REACH))
    assert share > 0.995
    assert wrong <= 1


def test_a_specimen_that_warps_is_followed(rng):
    scene = make_scene(rng, beads=60, warp_px=3.0)
    start = start_of(scene, rng)
    share, wrong = found_and_wrong(scene, link(scene.field, start, REACH))
    rigid, _ = found_and_wrong(scene, link(scene.field, start, SearchLimits(300.0, 20.0, None)))
    assert share > 0.95
    assert share > rigid
    assert wrong <= 3


def test_chance_makes_no_tracks(rng):
    spots = [rng.uniform(0, SIZE, (40, 2)) for _ in range(VIEWS)]
    field = make_spot_field(spots, TILTS, np.ones(VIEWS, bool), (SIZE, SIZE), 10.0)
    links = link(field, geometry.from_axis_and_shifts(AXIS, np.zeros((VIEWS, 2))), REACH)
    assert len(links.points) == 0


def test_views_that_take_no_part_hold_no_spots(rng):
    scene = make_scene(rng)
    included = np.ones(VIEWS, bool)
    included[[3, 19, 20]] = False
    field = make_spot_field(
        [scene.field.xy[scene.field.of(v)] + SIZE / 2 for v in range(VIEWS)], TILTS, included, (SIZE, SIZE), 10.0
    )
    links = link(field, start_of(scene, rng), REACH)
    assert len(links.points) >= 40
    assert (links.spot[:, ~included] == -1).all()


def test_the_points_are_where_the_beads_are(rng):
    scene = make_scene(rng)
    links = link(scene.field, start_of(scene, rng), REACH)
    error = links.cameras.project(links.points) - scene.field.positions(links.spot)
    assert np.nanmedian(np.hypot(*np.moveaxis(error, -1, 0))) < 0.2


def test_the_shift_that_most_agree_on_is_found_among_chance(rng):
    scene = make_scene(rng, beads=12, chance=40)
    expected = scene.field.xy[scene.field.of(20)][:12] - [31.0, -22.0]
    shift = agreed_shift(scene.field, expected, 20, (10.0, 60.0), 2.0)
    np.testing.assert_allclose(shift, [31.0, -22.0], atol=0.5)


def test_a_shift_that_chance_explains_is_none(rng):
    spots = [rng.uniform(0, SIZE, (60, 2)) for _ in range(VIEWS)]
    field = make_spot_field(spots, TILTS, np.ones(VIEWS, bool), (SIZE, SIZE), 10.0)
    found = [agreed_shift(field, rng.uniform(-480, 480, (40, 2)), view, (20.0, 100.0), 4.0) for view in range(VIEWS)]
    assert sum(shift is not None for shift in found) <= 1


def test_chained_views_agree_with_their_neighbours(rng):
    scene = make_scene(rng, depths=(0,))
    jumps = rng.normal(0, 15, (VIEWS, 2))
    chained = chain_views(scene.field, start_of(scene, rng, jumps=jumps), REACH)
    shifts = cameras_of_transforms(chained, TILTS).shifts
    error = shifts - scene.shifts
    steps = np.diff(error, axis=0)
    assert np.abs(steps).max() < 2.0


def test_no_spot_is_given_to_two_tracks(rng):
    scene = make_scene(rng)
    expected = np.zeros((3, VIEWS, 2))
    spot = scene.field.xy[scene.field.of(7)][0]
    expected[:, 7] = spot + np.array([[1.0, 0], [0.2, 0], [200, 300]])
    links = assign(scene.field, expected, np.array([7]), 3.0)
    assert links[1, 7] == scene.field.first[7]
    assert links[0, 7] == -1
    assert (links[:, np.arange(VIEWS) != 7] == -1).all()


def test_drift_is_shared_by_neighbours_and_not_by_one_bad_track(rng):
    points = np.column_stack([rng.uniform(-300, 300, (60, 2)), np.zeros(60)])
    predicted = rng.uniform(-300, 300, (60, VIEWS, 2))
    drift = np.where(points[:, :1, None] > 0, 3.0, -1.0) * np.ones((60, VIEWS, 2))
    xy = predicted + drift
    xy[7] += 25.0
    found = local_drift(xy, predicted, points, TILTS, 300.0)
    far = np.abs(points[:, 0]) > 100
    np.testing.assert_allclose(found[far], drift[far], atol=1e-9)
    assert not local_drift(xy, predicted, points, TILTS, None).any()


def test_a_point_is_located_where_its_sightings_say(rng):
    points = rng.uniform(-100, 100, (5, 3))
    transforms = geometry.transform(
        np.stack([geometry.rotation(a) for a in rng.uniform(-9, 9, VIEWS)]), rng.normal(0, 9, (VIEWS, 2))
    )
    cameras = cameras_of_transforms(transforms, TILTS)
    xy = cameras.project(points)
    aligned = geometry.apply(transforms[None], xy)
    np.testing.assert_allclose(aligned, np.moveaxis(geometry.project(points, TILTS), 0, 1), atol=1e-9)
    xy[0, 10:] = np.nan
    np.testing.assert_allclose(cameras.locate(xy, 1e6), points, atol=1e-3)


def test_a_ray_passes_through_the_sightings_of_its_point(rng):
    points = rng.uniform(-100, 100, (4, 3))
    cameras = cameras_of_transforms(geometry.from_axis_and_shifts(AXIS, rng.normal(0, 9, (VIEWS, 2))), TILTS)
    seen = cameras.project(points)
    base, step = cameras.ray(13, seen[:, 13])
    np.testing.assert_allclose(base + points[:, None, 2:] * step, seen, atol=1e-9)
