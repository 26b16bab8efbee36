"""Hot and dead lines, blocks and pixels of the camera are found; specimens, beads and lattices are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.preprocess.camera_faults import find_camera_faults
from tiltflow.preprocess.xrays import RepairedStack, find_xrays
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

HOT = 32_000


@pytest.fixture(scope="module")
def images():
    return simulate(SimulationParams(size=256, views=11, hot_pixels=0, beads=25, seed=3)).images


def _set(*places, value=HOT):
    def fault(images):
        for place in places:
            images[(slice(None), *place)] = value

    return fault


def _add(place, noises):
    def fault(images):
        noise = np.median(np.abs(np.diff(images[5].astype(float), axis=1)))
        images[(slice(None), *place)] += int(noises * noise)

    return fault


ALL = slice(None)
FAULTS = {
    "hot column": (_set((ALL, 90)), (90,), (), 0),
    "three dead columns": (_set((ALL, 90), (ALL, 91), (ALL, 200), value=0), (90, 91, 200), (), 0),
    "hot row and column": (_set((60, ALL), (ALL, 90)), (90,), (60,), 0),
    "column at the edge": (_set((ALL, 0)), (0,), (), 0),
    "lower half of a column": (_set((slice(0, 128), 33), value=0), (33,), (), 0),
    "weak column": (_add((ALL, 120), 2.0), (120,), (), 0),
    "eight columns": (_set((ALL, slice(40, 48)), value=0), tuple(range(40, 48)), (), 0),
    "dead block": (_set((slice(30, 50), slice(100, 112)), value=0), (), (), 1),
    "dead pixels": (_set((20, 20), (200, 100), value=0), (), (), 2),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_counted_and_replaced_by_what_may_have_been_there(images, name):
    spoil, columns, rows, blocks = FAULTS[name]
    spoiled = images.copy()
    spoil(spoiled)
    faults = find_camera_faults(spoiled)
    assert (faults.columns, faults.rows, faults.blocks) == (columns, rows, blocks)
    changed = (spoiled != images).any(axis=0)
    assert faults.pixels == pytest.approx(changed.sum(), rel=0.01)
    result = find_xrays(spoiled)
    repaired = RepairedStack(spoiled, result)
    noise = np.std(np.diff(images[0].astype(float), axis=1)) / np.sqrt(2)
    for view in range(11):
        error = (repaired[view].astype(float) - images[view])[changed]
        assert np.sqrt(np.mean(error**2)) < (4 if blocks or name == "eight columns" else 2) * noise
    counted = "8 columns" if len(columns) > 6 else str((columns or rows or (blocks - 1,))[0] + 1)
    assert counted in faults.sentence()


def _stripes(images, period):
    """Fringes along the rows that do not move, as of a crystal."""
    fringes = 1 + 0.2 * np.sign(np.sin(2 * np.pi * np.arange(256) / period))
    return np.asarray(images * fringes[:, None], np.int16)


def _light_bead_clipped_in_all_views(images):
    y, x = np.mgrid[:256, :256] - 128
    return np.where(np.hypot(y, x) < 7, 255, np.clip(images // 30, 0, 200)).astype(np.uint8)


def _moving_lines(images):
    moved = images.copy()
    for view in range(len(moved)):
        moved[view, :, 60 + 3 * view] = HOT
    return moved


def _a_line_in_some_views(images):
    some = images.copy()
    some[:5, :, 77] = HOT
    return some


def _masked(images):
    masked = images.copy()
    masked[:, :30] = 0
    return masked


SOUND = {
    "sound": lambda images: images,
    "normalised": lambda images: ((images - images.mean()) / images.std()).astype(np.float32),
    "lattice of 8": lambda images: _stripes(images, 8),
    "lattice of 5": lambda images: _stripes(images, 5),
    "clipped bead": _light_bead_clipped_in_all_views,
    "moving lines": _moving_lines,
    "in some views": _a_line_in_some_views,
    "a quarter masked": _masked,
    "sparse counts": lambda images: np.random.default_rng(1).poisson(0.3 * images / images.mean()).astype(np.int16),
    "one value": lambda images: np.full_like(images, 7),
    "few views": lambda images: _set((ALL, 90))(kept := images[:4].copy()) or kept,
    "small": lambda images: np.ascontiguousarray(images[:, :20, :20]),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_no_fault_of_the_camera_is_left_alone(images, name):
    faults = find_camera_faults(SOUND[name](images))
    assert faults.pixels == 0
    assert faults.sentence() == ""


def test_an_offset_of_a_hundred_thousand_hides_nothing(images):
    spoiled = (1e5 + images / images.std()).astype(np.float32)
    spoiled[:, :, 90] += 3
    assert find_camera_faults(spoiled).columns == (90,)


def test_many_lines_are_counted_not_listed(images):
    spoiled = images.copy()
    spoiled[:, :, 20:240:24] = 0
    assert "10 columns" in find_camera_faults(spoiled).sentence()
