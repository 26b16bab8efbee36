"""Tests of the back-projection with local alignments and heights displaced along the axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tiltflow.errors import ParameterError
from tiltflow.model import LocalAlignment
from tiltflow.reconstruct.local_cells import distortion
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct

TILT = np.linspace(-60, 60, 41)
NY, NX, NZ = 64, 200, 40
X, Y = np.array([-60.0, 0.0, 60.0]), np.array([-16.0, 16.0])
POINTS = np.array([[-70.0, -12, 9], [-33.0, 20, -12], [-2.0, 3, 14], [31.0, -19, -7], [52.0, 8, 12], [80.0, 15, -10]])


def local_alignment(strength: float = 1.0) -> LocalAlignment:
    """Areas of which each is shifted, turned, magnified and tilted in its own way, differently in every view."""
    rng = np.random.default_rng(8)
    waves = rng.normal(size=(6, 5)) @ np.stack([np.sin(k * np.deg2rad(TILT) + k) for k in range(1, 6)]) / 2
    areas = len(X) * len(Y)
    transforms = np.tile(np.eye(2, 3), (areas, len(TILT), 1, 1))
    for area in range(areas):
        wave = np.roll(waves, area, axis=0) * strength
        turn, grow = np.deg2rad(0.4) * wave[0], 1 + 0.003 * wave[1]
        transforms[area, :, 0, 0] = transforms[area, :, 1, 1] = grow
        transforms[area, :, 1, 0], transforms[area, :, 0, 1] = turn, -turn
        transforms[area, :, 0, 2], transforms[area, :, 1, 2] = 1.5 * wave[2], 1.0 * wave[3]
    delta = 0.4 * strength * np.stack([np.roll(waves, area, axis=0)[4] for area in range(areas)])
    centres = np.array([[x, y] for y in Y for x in X])
    return LocalAlignment(centres, (len(X), len(Y)), transforms, delta, np.full(areas, 9))


def seen_at(points: np.ndarray, local: LocalAlignment | None, y_per_z: np.ndarray, pitch_deg: float = 0.0) -> np.ndarray:
    """Where points are seen in globally aligned views, `(points, views, 2)`: straight from the definition, one by one."""
    p = np.deg2rad(pitch_deg)
    out = np.empty((len(points), len(TILT), 2))
    for n, (x, y0, z0) in enumerate(points):
        y, z = y0 * np.cos(p) - z0 * np.sin(p), y0 * np.sin(p) + z0 * np.cos(p)
        for v, nominal in enumerate(TILT):
            matrix, tilt = np.eye(2, 3), nominal
            if local is not None:
                a, b = np.interp(x, X, range(3)), np.interp(y, Y, range(2))
                share = np.maximum(1 - np.abs(np.arange(2)[:, None] - b), 0) * np.maximum(1 - np.abs(np.arange(3) - a), 0)
                matrix = np.tensordot(share.ravel(), local.transforms[:, v], 1)
                tilt = nominal + share.ravel() @ local.delta_tilt_deg[:, v]
            t = np.deg2rad(tilt)
            aligned = np.array([x * np.cos(t) + z * np.sin(t), y + y_per_z[v] * z])
            out[n, v] = np.linalg.solve(matrix[:, :2], aligned - matrix[:, 2])
    return out


def spots(positions: np.ndarray, binning: int = 1, radius: float = 1.7) -> np.ndarray:
    """Views with a Gaussian spot at each position."""
    rows, columns = np.arange(NY) + 0.5 - NY / 2, np.arange(NX) + 0.5 - NX / 2
    across = np.exp(-((columns - positions[..., 0, None] / binning) ** 2) / (2 * radius**2))
    along = np.exp(-((rows - positions[..., 1, None] / binning) ** 2) / (2 * radius**2))
    return 1000 * np.einsum("pvy,pvx->vyx", along, across).astype(np.float32)


def volume(views: np.ndarray, *, threads: int = 1, local: LocalAlignment | None = None, y_per_z: Any = None, **changes: Any):
    params = ReconstructParams(**({"thickness": NZ, "mode": 2, "density_neighbours": 0} | changes))
    slabs: list[np.ndarray] = []
    reconstruct(views, TILT, params, local=local, y_per_z=y_per_z, threads=threads, sink=lambda _, slab: slabs.append(slab))
    return np.concatenate(slabs)


def peaks(slices: np.ndarray, points: np.ndarray, reach: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """How far the centre of mass (x, y, z) around each point is from it, and how high the volume is there."""
    off, height = [], []
    for point in points:
        index = np.array([point[1] + NY / 2, slices.shape[1] / 2 - point[2], point[0] + NX / 2]) - 0.5
        box = tuple(slice(max(c - reach, 0), c + reach + 1) for c in np.round(index).astype(int))
        weight = slices[box].astype(float)
        height.append(weight.max())
        weight = np.maximum(weight - 0.4 * weight.max(), 0)
        grids = np.mgrid[box]
        found = np.array([(weight * grid).sum() / weight.sum() for grid in grids])
        off.append((found - index)[[2, 0, 1]] * [1, 1, -1])
    return np.array(off), np.array(height)


SKEW = 0.15 * np.sin(np.deg2rad(TILT))


@pytest.mark.parametrize(
    ("local", "y_per_z", "changes"),
    [
        (local_alignment(), np.zeros(41), {}),
        (None, SKEW, {}),
        (local_alignment(), SKEW, {}),
        (local_alignment(), np.zeros(41), {"x_axis_tilt_deg": -4.0}),
        (local_alignment(), np.zeros(41), {"shift_z": 6.0, "thickness": 52}),
    ],
)
def test_points_land_where_geometry_says(local: LocalAlignment | None, y_per_z: np.ndarray, changes: dict[str, Any]) -> None:
    views = spots(seen_at(POINTS, local, y_per_z, -changes.get("x_axis_tilt_deg", 0.0)))
    expected = POINTS - [0, 0, changes.get("shift_z", 0.0)]
    off, height = peaks(volume(views, local=local, y_per_z=y_per_z, **changes), expected)
    assert np.abs(off).max() < 0.06
    _, best = peaks(volume(spots(seen_at(POINTS, None, 0 * y_per_z))), POINTS)
    assert np.all(height > 0.9 * best)
    rigid, blurred = peaks(volume(views, **changes), expected)
    assert np.abs(rigid).max() > 4 * np.abs(off).max() or np.median(blurred) < 0.97 * np.median(height)


def test_a_stack_that_is_binned_takes_the_alignment_in_raw_pixels() -> None:
    local = local_alignment(2.0)
    local = LocalAlignment(2 * local.centre_px, local.grid, local.transforms, local.delta_tilt_deg, local.tracks)
    positions = np.array([seen_at(POINTS[n : n + 1], _halved(local), np.zeros(41))[0] for n in range(len(POINTS))])
    off, _ = peaks(volume(spots(positions), local=local, binning=2, thickness=2 * NZ), POINTS)
    assert np.abs(off).max() < 0.06


def _halved(local: LocalAlignment) -> LocalAlignment:
    transforms = local.transforms.copy()
    transforms[..., 2] /= 2
    return LocalAlignment(local.centre_px / 2, local.grid, transforms, local.delta_tilt_deg, local.tracks)


def test_an_alignment_that_changes_nothing_gives_the_plain_volume(rng: np.random.Generator) -> None:
    views = rng.normal(1000, 100, (41, 24, 300)).astype(np.float32)
    idle = LocalAlignment(np.zeros((1, 2)), (1, 1), np.tile(np.eye(2, 3), (1, 41, 1, 1)), np.zeros((1, 41)), np.array([9]))
    plain, cells = volume(views), volume(views, local=idle)
    inner = (slice(1, -1), slice(None), slice(40, -40))
    # Samples fall between other pixels, which smooths white noise differently.
    assert np.corrcoef(plain[inner].ravel(), cells[inner].ravel())[0, 1] > 0.99
    assert cells.mean() == pytest.approx(plain.mean(), rel=1e-3)
    assert cells.std() == pytest.approx(plain.std(), rel=0.03)


def test_slabs_do_not_depend_on_the_threads() -> None:
    views = spots(seen_at(POINTS, local_alignment(), SKEW))
    one = volume(views, local=local_alignment(), y_per_z=SKEW)
    np.testing.assert_array_equal(one, volume(views, local=local_alignment(), y_per_z=SKEW, threads=3))


def test_a_skew_too_small_to_matter_costs_nothing_and_changes_nothing(rng: np.random.Generator) -> None:
    views = rng.normal(1000, 100, (41, 12, 80)).astype(np.float32)
    np.testing.assert_array_equal(volume(views), volume(views, y_per_z=np.full(41, 1e-3)))


def test_a_tilt_that_local_alignment_makes_too_steep_is_refused() -> None:
    local = local_alignment()
    local.delta_tilt_deg[0] += 30
    with pytest.raises(ParameterError, match="88 degrees"):
        distortion(local, None, np.arange(41), TILT, 1)
