"""Diffusion: a reference in NumPy, what is conserved, and edges that stay."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tiltflow.errors import FormatError, LocationError, ParameterError
from tiltflow.filters.diffuse import DiffuseParams, diffuse_file, diffuse_volume
from tiltflow.filters.volumes import ArrayVolume
from tiltflow.formats.mrc import MrcWriter, open_mrc


def diffused(volume, tmp_path, params, **parts):
    out = np.full(volume.shape, np.nan, np.float32)
    diffuse_volume(ArrayVolume(volume), ArrayVolume(out), params, scratch=tmp_path, **parts)
    return out


def difference(u, axis):
    """Return half the difference of the next and the last voxel, where the ends repeat."""
    padded = np.pad(u, [(1, 1) if a == axis else (0, 0) for a in range(3)], "edge")
    n = u.shape[axis]
    return (np.take(padded, range(2, n + 2), axis) - np.take(padded, range(n), axis)) / 2


def reference(u, params):
    """Return one iteration in whole arrays: tensors from eigenvectors, fluxes at the faces between voxels."""
    u = u.astype(float)
    smooth = gaussian_filter(u, params.sigma, mode="nearest", truncate=3.0) if params.sigma else u
    gradient = np.stack([difference(smooth, axis) for axis in range(3)], -1)
    length = np.linalg.norm(gradient, axis=-1, keepdims=True)
    normal = gradient / np.maximum(length, 1e-30)
    with np.errstate(divide="ignore"):
        across = 1 - np.exp(-3.31488 / (length / params.k) ** 8)
    tensor = np.eye(3) - (1 - across)[..., None] * normal[..., :, None] * normal[..., None, :]
    change = np.zeros_like(u)
    slopes = [difference(u, axis) for axis in range(3)]
    for axis in range(3):
        n = u.shape[axis]
        face = lambda a, axis=axis, n=n: (np.take(a, range(n - 1), axis) + np.take(a, range(1, n), axis)) / 2  # noqa: E731
        flux = face(tensor[..., axis, axis]) * np.diff(u, axis=axis)
        for other in {0, 1, 2} - {axis}:
            flux += face(tensor[..., axis, other]) * face(slopes[other])
        ends = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        change += np.diff(np.pad(flux, ends), axis=axis)
    return u + params.step * change


@pytest.mark.parametrize("sigma", [0.0, 1.0])
@pytest.mark.parametrize("k", [0.3, 1.0, 30.0])
def test_it_is_the_reference(tmp_path, rng, sigma, k):
    volume = rng.normal(0, 1, (9, 11, 13)).astype(np.float32)
    params = DiffuseParams(k=k, iterations=3, sigma=sigma)
    expected = volume
    for _ in range(params.iterations):
        expected = reference(expected, params)
    np.testing.assert_allclose(diffused(volume, tmp_path, params), expected, atol=2e-5)


def test_with_a_large_k_it_is_a_gaussian(tmp_path):
    volume = np.zeros((25, 25, 25), np.float32)
    volume[12, 12, 12] = 1
    found = diffused(volume, tmp_path, DiffuseParams(k=1e3, iterations=20, step=0.1))
    x = np.arange(25) - 12
    for axis in range(3):
        profile = found.sum(axis=tuple({0, 1, 2} - {axis}))
        assert (profile * x**2).sum() == pytest.approx(2 * 20 * 0.1, rel=1e-3)


@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_the_mean_stays_and_nothing_grows(tmp_path, rng, sigma):
    volume = rng.normal(100, 20, (20, 30, 25)).astype(np.float32)
    found = diffused(volume, tmp_path, DiffuseParams(k=10, iterations=30, sigma=sigma, step=1 / 6))
    assert found.mean(dtype=float) == pytest.approx(volume.mean(dtype=float), rel=1e-6)
    assert found.std() < volume.std()


@pytest.mark.parametrize(("iterations", "sigma"), [(1, 0.0), (2, 1.0), (5, 0.0)])
def test_neither_blocks_nor_threads_change_anything(tmp_path, rng, iterations, sigma):
    volume = rng.normal(0, 1, (60, 40, 20)).astype(np.float32)
    params = DiffuseParams(k=0.7, iterations=iterations, sigma=sigma)
    told = []
    pieces = diffused(volume, tmp_path, params, threads=2, memory_bytes=1 << 20, progress=told.append)
    np.testing.assert_array_equal(pieces, diffused(volume, tmp_path, params))
    np.testing.assert_array_equal(pieces, diffused(volume, tmp_path, params, memory_bytes=1))
    assert told == sorted(told)
    assert told[-1] == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("noise", "k"), [(0.15, 0.1), (0.3, 0.1)])
def test_an_edge_stays_sharper_than_under_a_gaussian_that_takes_as_much_noise(tmp_path, rng, noise, k):
    z, y, x = np.indices((40, 40, 40)) - 20
    r = np.sqrt(x**2 + y**2 + z**2)
    ball = 1 / (1 + np.exp((r - 12) / 0.3))
    grain = rng.normal(0, noise, ball.shape)
    seen = (ball + grain).astype(np.float32)
    found = diffused(seen, tmp_path, DiffuseParams(k=k, iterations=20, step=0.15))
    inside = r < 8
    left = found[inside].std()
    assert left < 0.2 * noise
    sigma = next(s for s in np.arange(0.5, 5, 0.05) if gaussian_filter(grain, s)[inside].std() <= left)

    def steepest(volume):
        return max(
            volume[(r >= q - 0.5) & (r < q + 0.5)].mean() - volume[(r >= q + 0.5) & (r < q + 1.5)].mean() for q in range(8, 16)
        )

    blurred = gaussian_filter(seen, sigma)
    assert steepest(found) > 1.5 * steepest(blurred)
    assert np.sqrt(np.mean((found - ball) ** 2)) < 0.6 * np.sqrt(np.mean((blurred - ball) ** 2))


def test_the_memory_is_that_of_blocks(tmp_path, rng):
    shape = (120, 256, 256)
    with MrcWriter(tmp_path / "rec.mrc", shape, np.int8, pixel_size_angstrom=8) as out:
        for _ in range(shape[0]):
            out.write(rng.normal(0, 20, shape[1:]).astype(np.float32))
    tracemalloc.start()
    diffuse_file(tmp_path / "rec.mrc", tmp_path / "nad.mrc", DiffuseParams(k=10, iterations=3), memory_bytes=16 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20, "the volume as float32 has 30 MiB, all that is needed of it 300"


def test_files(tmp_path, rng):
    volume = rng.normal(0, 20, (10, 20, 30)).astype(np.float32)
    source, target = tmp_path / "rec.mrc", tmp_path / "nad.mrc"
    with MrcWriter(source, volume.shape, np.float32, pixel_size_angstrom=8, labels=["a tomogram"], origin=(1, 2, 3)) as out:
        out.write(volume)
    params = DiffuseParams(k=10, iterations=4)
    diffuse_file(source, target, params)
    with open_mrc(target) as made:
        np.testing.assert_array_equal(made.read_block(), diffused(volume, tmp_path, params))
        assert made.header.pixel_size_angstrom == (8, 8, 8)
        assert made.header.origin == (1, 2, 3)
        assert made.header.labels[0] == "a tomogram"
        assert "diffused, K 10, 4 iterations" in made.header.labels[1]
    assert {path.name for path in tmp_path.iterdir()} == {"rec.mrc", "nad.mrc"}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 7), (6, 1, 2)])
def test_thin_volumes(tmp_path, rng, shape):
    volume = rng.normal(0, 1, shape).astype(np.float32)
    params = DiffuseParams(k=1, iterations=1)
    np.testing.assert_allclose(diffused(volume, tmp_path, params), reference(volume, params), atol=1e-5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"k": 0}, "a K of 0"),
        ({"k": np.nan}, "a K of nan"),
        ({"iterations": 0}, "0 iterations"),
        ({"sigma": -1}, "sigma of -1"),
        ({"sigma": 11}, "sigma of 11"),
        ({"step": 0}, "time step of 0"),
        ({"step": 0.17}, "at most 1/6"),
    ],
)
def test_what_is_out_of_range_is_refused(parts, message):
    with pytest.raises(ParameterError, match=message):
        DiffuseParams(**{"k": 1.0, **parts})


def test_voxels_that_are_not_finite_are_named(tmp_path, rng):
    volume = rng.normal(0, 1, (5, 20, 20)).astype(np.float32)
    volume[3, 4, 5] = np.inf
    with pytest.raises(ParameterError, match="sections 1 to 5"):
        diffused(volume, tmp_path, DiffuseParams(k=1))
    with MrcWriter(tmp_path / "rec.mrc", volume.shape, np.float32, pixel_size_angstrom=8) as out:
        out.write(volume)
    with pytest.raises(FormatError, match=r"rec\.mrc: sections 1 to 5"):
        diffuse_file(tmp_path / "rec.mrc", tmp_path / "nad.mrc", DiffuseParams(k=1))
    with pytest.raises(LocationError, match=r"none\.mrc"):
        diffuse_file(tmp_path / "none.mrc", tmp_path / "nad.mrc", DiffuseParams(k=1))
    assert {path.name for path in tmp_path.iterdir()} == {"rec.mrc"}
