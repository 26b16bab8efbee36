"""Beads found in a volume."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.erase import volume_beads
from tiltflow.erase.volume_beads import find_beads
from tiltflow.errors import ParameterError


def balls(shape, centres, radius, height=10.0):
    """Return a volume of balls with soft rims; centres are x, y, z."""
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    out = np.zeros(shape)
    for cx, cy, cz in centres:
        away = np.sqrt((x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 + (z + 0.5 - cz) ** 2)
        out += height * np.clip(radius + 0.5 - away, 0, 1)
    return out


CENTRES = np.array([[20.0, 20.0, 15.0], [60.3, 25.7, 20.2], [40.5, 60.5, 30.5], [75.0, 70.0, 10.0]])


def distances(found, centres):
    return np.linalg.norm(found.voxels[:, None] - centres, axis=-1)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("given", [True, False])
def test_beads_of_either_sign_are_found_where_they_are(rng, sign, given):
    volume = rng.normal(0, 1, (40, 90, 100)) + sign * balls((40, 90, 100), CENTRES, 2.5)
    found = find_beads(volume, 5.0, sign=sign if given else None)
    assert found.sign == sign
    assert found.clear
    assert found.voxels.shape == (4, 3)
    assert distances(found, CENTRES).min(axis=0).max() < 0.4


def test_the_strongest_come_first(rng):
    volume = (
        rng.normal(0, 0.3, (40, 90, 100)) + balls((40, 90, 100), CENTRES[:3], 2.5) + balls((40, 90, 100), CENTRES[3:], 2.5, 16.0)
    )
    found = find_beads(volume, 5.0)
    assert (np.diff(found.score) <= 0).all()
    assert distances(found, CENTRES)[0].argmin() == 3


@pytest.mark.parametrize("axis", range(3))
def test_touching_beads_count_singly(rng, axis):
    step = np.eye(3)[axis] * 2.5
    centres = np.concatenate([CENTRES - step, CENTRES + step])
    found = find_beads(rng.normal(0, 1, (40, 90, 100)) + balls((40, 90, 100), centres, 2.5), 5.0)
    assert len(found.score) == 8
    assert distances(found, centres).min(axis=0).max() < 1


def test_a_cluster_counts_singly(rng):
    centres = np.array([[40, 40, 20], [45, 40, 20], [42.5, 44.5, 20], [47.5, 44.5, 20], [42.5, 41.5, 24.5]], float)
    found = find_beads(rng.normal(0, 1, (40, 90, 100)) + balls((40, 90, 100), centres, 2.5), 5.0)
    assert len(found.score) == 5
    assert distances(found, centres).min(axis=0).max() < 1.5


def test_known_beads_tell_the_sign_against_a_stronger_specimen(rng):
    dark, bright = (
        CENTRES[:3],
        np.array([[75.0, 70.0, 10.0], [20.0, 70.0, 25.0], [80.0, 45.0, 20.0], [50.0, 40.0, 10.0], [30.0, 40.0, 30.0]]),
    )
    volume = rng.normal(0, 1, (40, 90, 100)) - balls((40, 90, 100), dark, 2.5) + balls((40, 90, 100), bright, 2.5, 20.0)
    assert find_beads(volume, 5.0).sign == 1
    found = find_beads(volume, 5.0, known=[*dark[:2], [np.nan] * 3])
    assert found.sign == -1
    assert len(found.score) == 3


@pytest.mark.parametrize("seed", range(8))
def test_noise_has_no_clear_beads(seed):
    assert not find_beads(np.random.default_rng(seed).normal(0, 1, (40, 90, 100)), 5.0).clear


def test_a_constant_volume_has_none():
    found = find_beads(np.full((20, 30, 30), 5.0), 5.0)
    assert len(found.score) == 0
    assert not found.clear


@pytest.mark.parametrize(("noise", "height", "count"), [(0.5, 1.5, 60), (0.01, 1.5, 60), (0.01, 1.8, 60), (0.05, 1.5, 5)])
def test_weak_structures_are_left_out_however_far_above_the_noise(rng, noise, height, count):
    blobs = rng.uniform([8, 8, 8], [92, 82, 32], (count, 3))
    blobs = blobs[(np.linalg.norm(blobs[:, None] - CENTRES, axis=-1) > 9).all(axis=1)]
    volume = rng.normal(0, noise, (40, 90, 100)) + balls((40, 90, 100), CENTRES, 2.5) + balls((40, 90, 100), blobs, 2.5, height)
    found = find_beads(volume, 5.0)
    assert len(found.score) == 4
    assert found.clear


@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_give_what_the_whole_gives(rng, monkeypatch, threads, tmp_path):
    centres = np.vstack([CENTRES, [[50.0, 45.0, 20.0], [50.0, 24.0, 20.0]]])
    volume = (rng.normal(0, 1, (40, 90, 100)) + balls((40, 90, 100), centres, 2.5)).astype(np.float32)
    whole = find_beads(volume, 5.0)
    np.save(tmp_path / "volume.npy", volume)
    mapped = np.load(tmp_path / "volume.npy", mmap_mode="r")
    for voxels in (150_000, 400_000):
        monkeypatch.setattr(volume_beads, "_BLOCK_VOXELS", voxels)
        told = []
        parts = find_beads(mapped, 5.0, threads=threads, progress=told.append)
        assert len(told) > 1
        assert told[-1] == 1.0
        np.testing.assert_allclose(parts.voxels, whole.voxels, atol=1e-3)
        np.testing.assert_allclose(parts.score, whole.score, rtol=1e-5)


def test_the_order_of_the_axes_does_not_matter(rng):
    volume = rng.normal(0, 1, (40, 90, 100)) + balls((40, 90, 100), CENTRES, 2.5)
    straight, turned = find_beads(volume, 5.0), find_beads(volume.swapaxes(0, 1), 5.0)
    np.testing.assert_allclose(turned.voxels[:, [0, 2, 1]], straight.voxels, atol=1e-9)


def test_beads_that_are_too_small_are_refused_in_words():
    with pytest.raises(ParameterError, match="lower binning"):
        find_beads(np.zeros((20, 20, 20)), 2.5)
    with pytest.raises(ParameterError, match="-1 for dark"):
        find_beads(np.zeros((20, 20, 20)), 5.0, sign=0)
