"""X-ray hits are found and repaired; gold is not touched."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.errors import ParameterError
from tiltflow.preprocess.xrays import RepairedStack, XrayParams, find_xrays
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate


def _series(**changes):
    return simulate(SimulationParams(**{"size": 256, "views": 3, "hot_pixels": 0, "beads": 25, "seed": 3} | changes))


@pytest.fixture(scope="module")
def series():
    return _series()


def _hit(images, rng, per_view=30):
    """Return the images with single, square and blurred hits, and where they were put."""
    stack, where = images.astype(np.int32), np.zeros(images.shape, bool)
    blur = np.exp(-(np.arange(-3, 4)[:, None] ** 2 + np.arange(-3, 4) ** 2) / (2 * 0.7**2))
    shapes = [np.ones((1, 1)), np.ones((2, 2)), np.ones((1, 3)), blur]
    for view in range(len(stack)):
        for k, (y, x) in enumerate(rng.integers(8, images.shape[1] - 12, (per_view, 2))):
            shape = shapes[k % len(shapes)]
            box = (view, slice(y, y + shape.shape[0]), slice(x, x + shape.shape[1]))
            stack[box] += np.round(rng.uniform(8000, 20000) * shape).astype(np.int32)
            where[box] |= shape > 0.05
    return np.clip(stack, 0, 32000).astype(np.int16), where


def test_hits_of_all_shapes_are_replaced_by_what_was_there(series, rng):
    hit, where = _hit(series.images, rng)
    result = find_xrays(hit)
    repaired = RepairedStack(hit, result)
    noise = np.std(series.images[0][:40, :40])
    assert repaired.shape == hit.shape
    for view in range(3):
        change = repaired[view].astype(float) - series.images[view]
        assert repaired[view].dtype == np.int16
        assert np.abs(change).max() < 9 * noise
        assert np.sqrt(np.mean(change[where[view]] ** 2)) < 2 * noise
    assert np.all(np.abs(result.hits_per_view - 30) <= 2)


def test_pixels_away_from_hits_are_untouched(series, rng):
    hit, where = _hit(series.images, rng)
    repaired = RepairedStack(hit, find_xrays(hit))
    changed = np.stack([repaired[view] != hit[view] for view in range(3)])
    assert np.mean(changed & ~where) < 2e-4


@pytest.mark.parametrize("polarity", [1, -1], ids=["dark gold", "light gold"])
@pytest.mark.parametrize(("diameter", "dose"), [(4, 40), (4, 4000), (10, 400), (20, 4000)])
def test_gold_of_four_pixels_or_more_is_left_alone(polarity, diameter, dose):
    series = _series(bead_nm=diameter, dose=dose)
    images = series.images if polarity == 1 else 8000 - series.images
    result = find_xrays(images)
    assert result.pixels_per_view.sum() == 0


def test_a_hit_on_a_dark_bead_is_found(series):
    images = series.images.copy()
    x, y = series.truth.beads_xy[0, 0].astype(int)
    before = images[0, y, x]
    images[0, y, x] = before + 3000
    repaired = RepairedStack(images, find_xrays(images))
    assert abs(int(repaired[0][y, x]) - int(before)) < 600


CLUSTERS = [
    [(0, 0), (0, 1)],
    [(0, 0), (0, 1), (1, 0)],
    [(y, x) for y in range(2) for x in range(3)],
    [(y, x) for y in range(3) for x in range(3)],
]
"""Of 2, 3, 6 and 9 pixels."""


@pytest.mark.parametrize("cluster", CLUSTERS, ids=len)
@pytest.mark.parametrize("distance", [0.0, 4.0, 7.0], ids=["on a bead", "on its edge", "beside it"])
def test_clusters_on_and_beside_beads_are_replaced_and_the_beads_stay(series, cluster, distance, rng):
    images = series.images
    hit, where = images.copy(), np.zeros(images.shape, bool)
    for view in range(3):
        for x, y in series.truth.beads_xy[view][::2]:
            angle = rng.uniform(0, 2 * np.pi)
            left, bottom = int(x + distance * np.cos(angle)), int(y + distance * np.sin(angle))
            for dy, dx in cluster:
                if 0 <= bottom + dy < 256 and 0 <= left + dx < 256:
                    where[view, bottom + dy, left + dx] = True
    hit[where] = np.minimum(hit[where].astype(int) + 10_000, 32_000)
    repaired = RepairedStack(hit, find_xrays(hit))
    noise = np.std(images[0][:40, :40])
    for view in range(3):
        change = np.abs(repaired[view].astype(float) - images[view])
        assert change[where[view]].max() < 0.2 * 10_000
        assert np.sqrt(np.mean(change[where[view]] ** 2)) < (4 if distance == 4.0 else 3) * noise
        assert np.sum(change[~where[view]] > 3 * noise) <= 2


def test_hits_on_the_border_are_replaced(series, rng):
    hit = series.images.copy()
    for view in range(3):
        for k in range(12):
            place, depth = int(rng.integers(0, 255)), int(rng.integers(0, 3))
            y, x = [(depth, place), (255 - depth, place), (place, depth), (place, 255 - depth)][k % 4]
            hit[view, y, x] = 25_000
            if k % 3 == 0:
                hit[view, min(y + 1, 255), x] = 20_000
    repaired = RepairedStack(hit, find_xrays(hit))
    noise = np.std(series.images[0][:40, :40])
    for view in range(3):
        assert np.abs(repaired[view].astype(float) - series.images[view]).max() < 9 * noise


def test_the_border_is_left_alone_where_that_is_asked_for(series):
    hit = series.images.copy()
    hit[:, 3, 50], hit[:, 4, 90] = 25_000, 25_000
    repaired = RepairedStack(hit, find_xrays(hit, XrayParams(edge_exclusion=4)))
    assert repaired[0][3, 50] == 25_000
    assert repaired[0][4, 90] < 6_000


@pytest.mark.parametrize("diameter", [6, 10, 20])
def test_light_beads_cut_by_the_border_are_left_alone(diameter):
    series = _series(bead_nm=diameter, dose=4000)
    images = np.asarray(8000 - series.images, np.int16)
    x, y = series.truth.beads_xy[0].T
    x, y = x.astype(int), y.astype(int)
    for left in np.unique(x[(x > 20) & (x < 200)]):
        cut = np.ascontiguousarray(images[:1, :, left + diameter // 2 - 1 :])
        assert find_xrays(cut).pixels_per_view[0] == 0


def test_an_image_too_small_to_have_surroundings_is_left_alone():
    tiny = np.zeros((1, 3, 4), np.int16)
    tiny[0, 1, 1] = 30_000
    assert find_xrays(tiny).pixels_per_view[0] == 0


def test_threads_change_nothing(series, rng):
    hit, _ = _hit(series.images, rng)
    one, two = find_xrays(hit), find_xrays(hit, threads=2)
    assert all(np.array_equal(a, b) for a, b in zip(one.values, two.values, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(one.indices, two.indices, strict=True))


def test_an_image_of_nothing_but_stripes_or_of_one_value_survives():
    stripes = np.zeros((1, 64, 64), np.float32)
    stripes[0, ::8] = 1000
    assert find_xrays(stripes).pixels_per_view[0] == 0
    assert find_xrays(np.full((1, 64, 64), 7, np.uint8)).pixels_per_view[0] == 0


def test_progress_ends_at_one(series):
    seen = []
    find_xrays(series.images, progress=seen.append)
    assert seen[-1] == 1.0
    assert seen == sorted(seen)


def test_an_order_that_makes_no_sense_is_refused():
    with pytest.raises(ParameterError, match="polynomial order 7 of the surface"):
        XrayParams(polynomial_order=7)
