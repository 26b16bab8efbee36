"""X-ray hits are found and repaired; gold is not touched."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.errors import ParameterError
from tiltflow.simulate import SimulationParams, simulate
from tiltflow.stages.xrays import RepairedStack, XrayParams, find_xrays


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
    with pytest.raises(ParameterError, match="is 7; give 0, 1, 2"):
        XrayParams(polynomial_order=7)
