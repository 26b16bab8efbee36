"""Tests of the weighted back-projection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.errors import ParameterError
from tiltflow.formats.tilts import read_tilts, write_tilts
from tiltflow.reconstruct.line_weighting import filter_lines
from tiltflow.reconstruct.radial_filters import density_weights, padded_length, radial_filter
from tiltflow.reconstruct.wbp import (
    ReconstructParams,
    ReconstructResult,
    default_scale_factor,
    reconstruct,
    volume_shape,
)

GOLDEN = {
    "wbp": {},
    "wbp_noramp_width": {"radial_cutoff": 0.25, "radial_falloff": 0.03},
    "wbp_xtilt": {"x_axis_tilt_deg": -2.21},
    "wbp_shift_offset": {"shift_x": 6.0, "shift_z": 9.0, "offset_deg": 3.5},
    "wbp_log": {"log_offset": 0.0, "scale_factor": 500.0},
}


def golden_params(name: str) -> ReconstructParams:
    return ReconstructParams(**({"thickness": 96, "binning": 2, "scale_factor": 0.2, "mode": 2} | GOLDEN[name]))


def volume(aligned: np.ndarray, tilt_deg: Any, params: ReconstructParams, **options: Any) -> tuple[np.ndarray, ReconstructResult]:
    slabs: list[np.ndarray] = []

    def sink(y0: int, slab: np.ndarray) -> None:
        assert y0 == sum(map(len, slabs))
        slabs.append(slab)

    result = reconstruct(aligned, tilt_deg, params, sink=sink, **options)
    out = np.concatenate(slabs)
    assert out.shape == result.shape == volume_shape(aligned.shape, params)
    return out, result


@pytest.mark.parametrize("name", GOLDEN)
def test_a_section_has_the_grey_values_of_tilt(data: Path, name: str) -> None:
    golden = np.load(data / "reconstruct" / "tilt.npz")
    slices, result = volume(golden["aligned_rows_60_68"], golden["tilt_deg"], golden_params(name), threads=2)
    assert (result.minimum, result.maximum) == (slices.min(), slices.max())
    assert result.mean == pytest.approx(slices.mean(dtype=float), rel=1e-4)
    ours, theirs = slices[4].astype(float), golden[name].astype(float)
    slope, offset = np.polyfit(ours.ravel(), theirs.ravel(), 1)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9997
    assert slope == pytest.approx(1, abs=0.003)
    assert abs(offset) < 0.3
    # Away from the edges, where the views do not reach, the two differ by rounding alone.
    tolerance = 0.02 if name == "wbp_xtilt" else 0.004
    assert (ours - theirs)[:, 8:-8].std() < tolerance * theirs.std()


def test_an_xtilt_file_makes_the_volume_that_tilt_made_with_xaxistilt(data: Path, tmp_path: Path) -> None:
    """IMOD subtracts XAXISTILT from the file: with the other sign the specimen would be pitched by twice the angle."""
    golden = np.load(data / "reconstruct" / "tilt.npz")
    write_tilts(tmp_path / "B.xtilt", np.full(3, geometry.to_xtilt_file(-2.21)))
    written = read_tilts(tmp_path / "B.xtilt")[0]
    assert written == 2.21

    def made(xtilt: float) -> np.ndarray:
        params = replace(golden_params("wbp"), x_axis_tilt_deg=float(geometry.from_xtilt_file(xtilt)))
        return volume(golden["aligned_rows_60_68"], golden["tilt_deg"], params)[0][4].astype(float).ravel()

    theirs = golden["wbp_xtilt"].astype(float).ravel()
    assert np.corrcoef(made(written), theirs)[0, 1] > 0.9997
    assert np.corrcoef(made(-written), theirs)[0, 1] < 0.95


def spots(points: np.ndarray, tilt_deg: np.ndarray, ny: int, nx: int, pitch_deg: float = 0.0, radius: float = 1.7) -> np.ndarray:
    """Views of Gaussian spots at points (x, y, z) of a specimen pitched about x, the tilt axis along y through the centre."""
    a, t = np.deg2rad(pitch_deg), np.deg2rad(tilt_deg)[:, None]
    y, z = points[:, 1] * np.cos(a) - points[:, 2] * np.sin(a), points[:, 1] * np.sin(a) + points[:, 2] * np.cos(a)
    u = points[:, 0] * np.cos(t) + z * np.sin(t) + nx / 2 - 0.5
    v = np.broadcast_to(y + ny / 2 - 0.5, u.shape)
    rows, columns = np.arange(ny), np.arange(nx)
    across = np.exp(-((columns - u[..., None]) ** 2) / (2 * radius**2))
    along = np.exp(-((rows - v[..., None]) ** 2) / (2 * radius**2))
    return 1000 * np.einsum("vpy,vpx->vyx", along, across).astype(np.float32)


def centroid(slices: np.ndarray, at: tuple[int, int, int], reach: int = 4) -> np.ndarray:
    """Centre of mass (y, z, x index) of the bright voxels around an index."""
    low = [max(c - reach, 0) for c in at]
    box = slices[tuple(slice(a, c + reach + 1) for a, c in zip(low, at, strict=True))].astype(float)
    box = np.maximum(box - 0.4 * box.max(), 0)
    grids = np.meshgrid(*(a + np.arange(n) for a, n in zip(low, box.shape, strict=True)), indexing="ij")
    return np.array([(box * g).sum() / box.sum() for g in grids])


POINTS = np.array([[0.0, 0, 0], [20.3, 5.5, 8.2], [-25.1, -12.3, -9.7], [8.8, 14.6, -12.4], [-12.0, -3.2, 13.1]])
TILT = np.linspace(-60, 60, 61)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"x_axis_tilt_deg": -4.0},
        {"x_axis_tilt_deg": 4.0},
        {"offset_deg": 5.0},
        {"shift_x": 4.0, "shift_z": -3.0},
        {"axis_offset": 3.0},
        {"width": 80},
        {"thickness": 49},
    ],
)
def test_points_of_the_specimen_are_found_where_they_are(change: dict[str, Any]) -> None:
    params = ReconstructParams(**({"thickness": 50, "mode": 2} | change))
    pitch = -params.x_axis_tilt_deg
    views = spots(POINTS, TILT + params.offset_deg, 48, 96, pitch)
    views = np.roll(views, int(params.axis_offset), axis=2)
    out, _ = volume(views, TILT, params)
    ny, nz, nx = out.shape
    for x, y, z in POINTS:
        expected = np.array([y + ny / 2 - 0.5, nz / 2 - 0.5 - z + params.shift_z, x + nx / 2 - 0.5 + params.shift_x])
        found = centroid(out, tuple(np.round(expected).astype(int)))
        np.testing.assert_allclose(found, expected, atol=0.2)


def test_slabs_do_not_depend_on_the_threads(rng: np.random.Generator) -> None:
    views = rng.normal(1000, 100, (9, 70, 40)).astype(np.int16)
    tilt = np.linspace(-50, 50, 9)
    for params in (ReconstructParams(thickness=20), ReconstructParams(thickness=20, x_axis_tilt_deg=6.0)):
        heard: list[float] = []
        one, first = volume(views, tilt, params)
        many, second = volume(views, tilt, params, threads=3, progress=heard.append)
        np.testing.assert_array_equal(one, many)
        assert (first.minimum, first.maximum, first.mean) == (second.minimum, second.maximum, second.mean)
        assert heard[-1] == 1.0
        assert heard == sorted(heard)


class Rows:
    """A stack that gives rows of a view, and fails when asked for all of it more than once."""

    def __init__(self, views: np.ndarray) -> None:
        self.views, self.shape, self.asked = views, views.shape, [0] * len(views)

    def __getitem__(self, view: int, /) -> np.ndarray:
        self.asked[view] += 1
        assert self.asked[view] == 1
        return self.views[view]

    def read_block(self, views: slice, rows: slice, /) -> np.ndarray:
        return self.views[views, rows]


def test_a_stack_that_reads_rows_is_not_read_view_by_view_for_every_slab(rng: np.random.Generator) -> None:
    views = rng.normal(100, 10, (3, 50, 24)).astype(np.float32)
    tilt = [-20, 0, 20]
    expected, _ = volume(views, tilt, ReconstructParams(thickness=6, mode=2))
    by_rows, _ = volume(Rows(views), tilt, ReconstructParams(thickness=6, mode=2))
    np.testing.assert_array_equal(by_rows, expected)


def test_a_crop_along_the_tilt_axis_gives_the_same_sections(rng: np.random.Generator) -> None:
    views = rng.normal(0, 100, (5, 40, 64)).astype(np.float32)
    views -= views.mean()
    tilt = np.linspace(-50, 50, 5)
    whole, _ = volume(views, tilt, ReconstructParams(thickness=16, mode=2))
    part, _ = volume(views[:, 11:17], tilt, ReconstructParams(thickness=16, mode=2))
    np.testing.assert_allclose(whole[11:17, :, 24:40], part[:, :, 24:40], atol=1e-4)


def test_views_left_out_do_not_matter(rng: np.random.Generator) -> None:
    views = rng.normal(1000, 100, (8, 6, 32)).astype(np.float32)
    tilt = np.linspace(-40, 40, 8)
    keep = np.array([0, 1, 3, 4, 5, 7])
    expected, result = volume(views[keep], tilt[keep], ReconstructParams(thickness=10, mode=2))
    spoiled = views.copy()
    spoiled[[2, 6]] = 1e6
    by_list, _ = volume(spoiled, tilt, ReconstructParams(thickness=10, mode=2, exclude_views=(2, 6)))
    included = np.ones(8, bool)
    included[6] = False
    by_both, _ = volume(spoiled, tilt, ReconstructParams(thickness=10, mode=2, exclude_views=(2,)), included=included)
    np.testing.assert_array_equal(by_list, expected)
    np.testing.assert_array_equal(by_both, expected)
    assert result.views == 6
    assert result.voxel_views == 6 * expected.size


def test_the_mode_sets_the_type_and_the_scale_the_values(rng: np.random.Generator) -> None:
    views = rng.normal(1000, 100, (5, 4, 32)).astype(np.float32)
    tilt = np.linspace(-40, 40, 5)
    common = {"thickness": 8, "scale_factor": 0.2}
    reals, _ = volume(views, tilt, ReconstructParams(**common, mode=2))
    integers, _ = volume(views, tilt, ReconstructParams(**common, mode=1))
    assert integers.dtype == np.int16
    np.testing.assert_array_equal(integers, np.floor(reals + 0.5))
    scaled, result = volume(views, tilt, ReconstructParams(thickness=8, scale_factor=0.4, scale_offset=300.0, mode=2))
    np.testing.assert_allclose(scaled, 2 * reals + 120, atol=1e-3)
    assert result.scale_factor == 0.4
    bytes_, _ = volume(views, tilt, ReconstructParams(**common, mode=0))
    assert bytes_.dtype == np.uint8
    np.testing.assert_array_equal(bytes_, np.clip(np.floor(reals + 0.5), 0, 255))


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"radial_cutoff": 0.2, "radial_falloff": 0.1}, {"cutoff": 0.2, "falloff": 0.1}),
        ({"falloff_is_true_sigma": True}, {"true_sigma": True}),
        ({"hamming_start": 0.15}, {"hamming_start": 0.15}),
        ({"fake_sirt_iterations": 8}, {"sirt_iterations": 8}),
    ],
)
def test_the_filter_asked_for_is_the_one_that_lines_pass(rng: np.random.Generator, changes: Any, options: Any) -> None:
    view = rng.normal(0, 100, (1, 4, 64)).astype(np.float32)
    out, _ = volume(view, [0.0], ReconstructParams(thickness=5, mode=2, scale_factor=1.0, **changes))
    radial = radial_filter(padded_length(64), **options).astype(np.float32)
    expected = filter_lines(view, radial[None])[0]
    for row in range(5):
        np.testing.assert_allclose(out[:, row], expected, atol=1e-4 * np.abs(expected).max())
    plain, _ = volume(view, [0.0], ReconstructParams(thickness=5, mode=2, scale_factor=1.0))
    assert np.abs(plain - out).max() > 0.02 * np.abs(plain).max()


@pytest.mark.parametrize("neighbours", [0, 1, 3])
def test_views_weigh_by_the_gaps_around_them(rng: np.random.Generator, neighbours: int) -> None:
    views = rng.normal(0, 100, (6, 2, 48)).astype(np.float32)
    views -= views.mean()
    tilt = np.array([-40.0, -38, -20, 0, 10, 35])
    params = ReconstructParams(thickness=6, mode=2, scale_factor=6.0, density_neighbours=neighbours)
    together, _ = volume(views, tilt, params)
    alone = [volume(views, tilt, replace(params, scale_factor=1.0), included=np.arange(6) == v)[0] for v in range(6)]
    expected = np.tensordot(density_weights(tilt, neighbours), alone, 1)
    inner = (..., slice(12, -12))
    np.testing.assert_allclose(together[inner], expected[inner], atol=2e-3 * np.abs(expected).max())


def test_a_logarithm_of_counts_that_are_not_positive_is_held() -> None:
    views = np.full((3, 4, 16), 100.0, np.float32)
    views[1, 2, 5] = -20
    out, _ = volume(views, [-10, 0, 10], ReconstructParams(thickness=4, log_offset=0.0, mode=2))
    assert np.all(np.isfinite(out))
    with pytest.raises(ParameterError, match="no logarithm"):
        volume(-views, [-10, 0, 10], ReconstructParams(thickness=4, log_offset=0.0))


def test_steep_views_and_single_views_are_reconstructed(rng: np.random.Generator) -> None:
    views = rng.normal(100, 10, (3, 4, 32)).astype(np.float32)
    out, _ = volume(views, [-87, 0, 86.5], ReconstructParams(thickness=8, mode=2))
    assert np.all(np.isfinite(out))
    one, _ = volume(views[:1], [0.0], ReconstructParams(thickness=8, mode=2))
    np.testing.assert_allclose(one[:, 0], one[:, -1], rtol=1e-5)


def test_a_view_beyond_90_degrees_is_the_mirrored_one_at_half_a_turn_less(rng: np.random.Generator) -> None:
    views = rng.normal(100, 10, (6, 4, 32)).astype(np.float32)
    tilt, behind = np.array([-60.0, -40, -20, 0, 20, 40]), views.copy()
    behind[:3] = views[:3, :, ::-1]
    params = ReconstructParams(thickness=16, mode=2, density_neighbours=0)
    expected, _ = volume(views, tilt, params)
    found, _ = volume(behind, np.where(np.arange(6) < 3, tilt + 180, tilt), params)
    np.testing.assert_allclose(found, expected, atol=0.02 * expected.std())


def test_requests_that_make_no_sense_are_refused(rng: np.random.Generator) -> None:
    views = rng.normal(size=(3, 4, 16))
    with pytest.raises(ParameterError, match="leaves no volume"):
        ReconstructParams(thickness=1, binning=4)
    with pytest.raises(ParameterError, match="mode 7"):
        ReconstructParams(thickness=10, mode=7)
    with pytest.raises(ParameterError, match="2 tilt angles for 3"):
        volume(views, [0, 1], ReconstructParams(thickness=4))
    with pytest.raises(ParameterError, match=r"view 2 is tilted by 89\.9"):
        volume(views, [0, 1, 89.9], ReconstructParams(thickness=4))
    with pytest.raises(ParameterError, match="all of the 3 views"):
        volume(views, [0, 1, 2], ReconstructParams(thickness=4), included=[False] * 3)
    with pytest.raises(ParameterError, match="view 6"):
        volume(views, [0, 1, 2], ReconstructParams(thickness=4, exclude_views=(5,)))


def test_the_default_scale_follows_the_width_of_the_images() -> None:
    assert default_scale_factor(256, logarithm=True) == 1000
    assert default_scale_factor(512, logarithm=False) == 0.2
    assert default_scale_factor(4096, logarithm=True) == 125
    assert default_scale_factor(100_000, logarithm=True) == 40
