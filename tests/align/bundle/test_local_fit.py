"""Local areas: a specimen that bends while it is looked at, in points and in the volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.bundle import LocalParams, Solution, SolveParams
from tiltflow.align.bundle.joint_weights import JointWeights
from tiltflow.align.bundle.local_areas import Areas, lay_out_areas
from tiltflow.align.bundle.observations import Observations
from tiltflow.model import Tracks
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack
from tiltflow.reconstruct.local_cells import distortion
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct

Floats = NDArray[np.float64]

NOISE = 0.12
AREAS = SolveParams(local=LocalParams(target_size_px=(250, 250), minimum_tracks=(6, 3)))


def bent(case, dome_px: float, shrink_px: float) -> Floats:
    """Where the points of a case are seen, `(tracks, views, 2)`, if the specimen domes and shrinks unevenly from view to view."""
    truth, half = case.truth, case.truth.size / 2
    x, y, z = case.points.T / half
    grow = np.linspace(-1, 1, len(truth.true_deg))[:, None]
    moved = [
        half * x + shrink_px * grow * np.sin(np.pi * x),
        half * y + shrink_px * grow * x * y,
        half * z + dome_px * grow * (x**2 + y**2 - 0.5),
    ]
    tilt, axis = np.deg2rad(truth.true_deg)[:, None], np.deg2rad(truth.axis_deg)[:, None]
    u, v = np.cos(tilt) * moved[0] + np.sin(tilt) * moved[2], moved[1]
    flat = np.stack([np.cos(axis) * u - np.sin(axis) * v, np.sin(axis) * u + np.cos(axis) * v], axis=-1)
    return np.swapaxes(half + truth.magnification[:, None, None] * flat + truth.shift_px[:, None], 0, 1)


def measured(case, exact: Floats, seed: int = 1) -> Tracks:
    xy = exact + np.random.default_rng(seed).normal(0, NOISE, exact.shape)
    xy[np.isnan(case.tracks.xy)] = np.nan
    return Tracks(xy, "bead")


def blur(solution: Solution, exact: Floats, *, local: bool) -> float:
    """Root mean square of what the alignment leaves of exact positions, pixels: each track with its best point.

    Straight from the definition of an alignment; nothing of the solver is used.
    """
    aligned = geometry.apply(solution.transforms[None], exact - np.array(solution.image_shape[::-1]) / 2)
    left = []
    for xy, point in zip(aligned, solution.points, strict=True):
        tilt = solution.aligned_tilt_deg
        if local:
            seen = distortion(solution.local, None, np.arange(len(tilt)), tilt, 1)
            parts = [
                np.array([np.interp(at, nodes, e) for e in np.eye(len(nodes))])
                for at, nodes in zip(point[:2], (seen.across, seen.along), strict=True)
            ]
            xy = geometry.apply(np.einsum("a,b,abvij->vij", parts[1], parts[0], seen.forward), xy)
            tilt = tilt + np.einsum("a,b,abv->v", parts[1], parts[0], seen.delta_tilt_deg)
        t = np.deg2rad(tilt)
        rays = np.zeros((len(t), 2, 3))
        rays[:, 0, 0], rays[:, 0, 2], rays[:, 1, 1], rays[:, 1, 2] = np.cos(t), np.sin(t), 1, solution.y_per_z
        rays = rays.reshape(-1, 3)
        left.append(xy.ravel() - rays @ np.linalg.lstsq(rays, xy.ravel(), rcond=None)[0])
    return float(np.sqrt(2 * np.mean(np.square(left))))


@pytest.mark.parametrize(("seed", "tracks"), [(1, 25), (2, 45)])
def test_a_specimen_that_bends_is_followed(point_case, seed, tracks):
    case = point_case(seed=seed, tracks=tracks)
    exact = bent(case, dome_px=3, shrink_px=1)
    solution = replace(case, tracks=measured(case, exact)).solve(AREAS)
    rigid, areas = (blur(solution, exact, local=local) for local in (False, True))
    assert rigid > 0.35
    assert areas < 0.45 * rigid
    evidence = solution.evidence
    assert evidence.error_px == pytest.approx(areas, rel=0.35)
    assert evidence.residual_mean_px < 0.7 * evidence.global_residual_mean_px
    assert evidence.leave_out_px < evidence.global_leave_out_px
    assert any("3 x 3 local areas" in note and "leave-out error" in note for note in evidence.notes)
    assert solution.local.transforms.shape == (9, 41, 2, 3)
    assert solution.alignment("gold").local is solution.local


def test_bad_tracks_do_not_bend_the_areas(point_case):
    case = point_case(seed=3, tracks=30)
    exact = bent(case, dome_px=3, shrink_px=1)
    tracks = measured(case, exact)
    rng = np.random.default_rng(2)
    for track in (4, 11):
        tracks.xy[track] += np.cumsum(rng.normal(0, 0.6, tracks.xy[track].shape), axis=0)
    solution = replace(case, tracks=tracks).solve(AREAS)
    assert blur(solution, exact, local=True) < 0.5 * blur(solution, exact, local=False)
    assert solution.weights[[4, 11]].mean() < 0.5 * solution.weights.mean()


def test_patches_weighed_together_over_the_views_bend_as_well(point_case):
    case = point_case(seed=4, tracks=30, missing=0.0)
    exact = bent(case, dome_px=3, shrink_px=1)
    tracks = measured(case, exact)
    joint = np.tile(np.eye(82).reshape(41, 2, 41, 2), (30, 1, 1, 1, 1))
    solution = replace(case, tracks=Tracks(tracks.xy, "patch", joint)).solve(replace(AREAS, weight_whole_tracks=True))
    assert blur(solution, exact, local=True) < 0.5 * blur(solution, exact, local=False)


def test_a_rigid_specimen_keeps_its_global_alignment(point_case):
    case = point_case(seed=5, tracks=25)
    with_areas, without = case.solve(AREAS), case.solve()
    assert with_areas.local is None
    np.testing.assert_array_equal(with_areas.transforms, without.transforms)
    assert any(note.startswith("the global alignment is used: 3 x 3 local areas") for note in with_areas.evidence.notes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"minimum_tracks": (25, 3)}, "must hold 25 tracks, and there are 20"),
        ({"target_size_px": (600.0, 600.0)}, "set smaller ones"),
        ({"minimum_tracks": (19, 3)}, "holds them all"),
    ],
)
def test_where_tracks_do_not_suffice_the_global_alignment_is_used_with_a_note(point_case, change, reason):
    solution = point_case(tracks=20).solve(replace(AREAS, local=replace(AREAS.local, **change)))
    assert solution.local is None
    assert any("no local areas" in note and reason in note for note in solution.evidence.notes)


def test_areas_overlap_as_asked_and_grow_until_they_hold_enough_of_each_surface(rng):
    points = rng.uniform(-500, 500, (200, 3))
    areas = lay_out_areas(points, np.zeros(200, int), LocalParams(target_size_px=(400, 500), overlap=0.5))
    assert isinstance(areas, Areas)
    assert areas.grid == (4, 3)
    assert np.diff(areas.across).max() <= 0.5 * 400
    assert np.diff(areas.along).max() <= 0.5 * 500
    assert areas.held.all()
    inside = np.abs(points[:, 0] - areas.centres[0, 0]) <= 200
    inside &= np.abs(points[:, 1] - areas.centres[0, 1]) <= 250
    np.testing.assert_array_equal(areas.members[0], inside)
    np.testing.assert_allclose(areas.shares(points[:, 0], points[:, 1]).sum(axis=1), 1)
    surface = (rng.random(200) < 0.1).astype(int)
    grown = lay_out_areas(points, surface, LocalParams(target_size_px=(250, 250), minimum_tracks=(8, 3)))
    assert grown.grown > 0
    for one in (0, 1):
        assert (grown.members & (surface == one)).sum(axis=1).min() >= 3
    assert grown.members.sum(axis=1).min() >= 8
    too_few = lay_out_areas(points, np.array([1, 1] + [0] * 198), LocalParams())
    assert "each surface, and one of them has 2" in too_few


@pytest.mark.whole
def test_local_alignments_sharpen_the_beads_of_a_specimen_that_bends(point_case):
    """Beads drawn into raw views, aligned, stacked and reconstructed: how high they stand against those of a rigid specimen."""
    case = point_case(seed=6, tracks=36, views=31, thickness=40.0, size=256)
    params = replace(AREAS, local=LocalParams(target_size_px=(125, 125), minimum_tracks=(6, 3)))

    def heights(exact: Floats, *, local: bool) -> Floats:
        solution = replace(case, tracks=measured(case, exact)).solve(params)
        aligned = np.stack(list(align_stack(_views(exact, 256), solution.transforms, StackParams())))
        slabs: list[NDArray[np.float32]] = []
        reconstruct(
            aligned,
            solution.aligned_tilt_deg,
            ReconstructParams(thickness=72, mode=2, scale_factor=1.0),
            local=solution.local if local else None,
            sink=lambda _, slab: slabs.append(slab),
        )
        return _heights(np.concatenate(slabs), solution.points)

    exact = bent(case, dome_px=8, shrink_px=3)
    best = heights(case.exact_xy, local=False)
    rigid, areas = (heights(exact, local=local) / best for local in (False, True))
    assert np.nanmean(areas) > 0.9 > 0.87 > np.nanmean(rigid)
    worst = slice(0, 8)
    assert np.sort(areas)[worst].mean() > 1.2 * np.sort(rigid)[worst].mean()


def _views(exact: Floats, size: int, radius: float = 1.4) -> NDArray[np.float32]:
    """Views with a Gaussian spot at each position."""
    pixels = np.arange(size) + 0.5
    across, along = (np.exp(-((pixels - exact[..., axis, None]) ** 2) / (2 * radius**2)) for axis in (0, 1))
    return 1000 * np.einsum("pvy,pvx->vyx", along, across, optimize=True).astype(np.float32)


def _heights(sections: NDArray[np.float32], points: Floats, margin: int = 12) -> Floats:
    """Return the highest value of the volume `(y, z, x)` near each point, NaN for those at its edges."""
    ny, nz, nx = sections.shape
    found = np.full(len(points), np.nan)
    for n, (x, y, z) in enumerate(points):
        index = np.round([y + ny / 2 - 0.5, nz / 2 - 0.5 - z, x + nx / 2 - 0.5]).astype(int)
        if margin < index[0] < ny - margin and margin < index[2] < nx - margin:
            found[n] = sections[tuple(slice(max(i - 5, 0), i + 6) for i in index)].max()
    return found


@pytest.mark.parametrize("joint", [False, True])
def test_weights_act_alike_whether_positions_are_weighed_together_or_one_by_one(rng, joint):
    roots = rng.normal(size=(3, 5, 2, 2))
    blocks = roots @ np.swapaxes(roots, -1, -2)
    information = np.stack([blocks[..., 0, 0], blocks[..., 0, 1], blocks[..., 1, 1]], axis=-1)
    whole = np.zeros((3, 5, 2, 5, 2))
    for view in range(5):
        whole[:, view, :, view] = blocks[:, view]
    observations = Observations(
        rng.normal(size=(3, 5, 2)), information, JointWeights.of(whole.reshape(3, 10, 10)) if joint else None
    )
    columns, by_point = rng.normal(size=(10, 4)), rng.normal(size=(5, 2, 3))
    dense = whole.reshape(3, 10, 10)
    np.testing.assert_allclose(observations.weigh(1, columns), dense[1] @ columns)
    normal, right = observations.pull(by_point, observations.xy)
    rays = by_point.reshape(10, 3)
    np.testing.assert_allclose(normal, rays.T @ dense @ rays)
    np.testing.assert_allclose(right, np.einsum("mk,jmn,jn->jk", rays, dense, observations.xy.reshape(3, 10)))
