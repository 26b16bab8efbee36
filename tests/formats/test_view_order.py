"""The order of views by their likeness: right where it is told, open where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.formats.view_order import Order, order_of_views

Floats = NDArray[np.float64]

VIEWS = 21
RISING = np.linspace(-50.0, 50.0, VIEWS)
SIDE = 96


def acquired(scheme: str) -> NDArray[np.intp]:
    """Return the order in which views of rising tilt are taken."""
    middle = VIEWS // 2
    up, down = np.arange(middle, VIEWS), np.arange(middle - 1, -1, -1)
    if scheme == "bidirectional":
        return np.concatenate([up, down])
    group = {"dose-symmetric": 1, "in groups of three": 3}[scheme]
    parts = []
    for first in range(0, VIEWS, group):
        parts += [up[first : first + group], down[first : first + group]]
    return np.concatenate(parts)


SCHEMES = ("dose-symmetric", "in groups of three", "bidirectional")


@pytest.fixture(scope="module")
def views() -> Floats:
    """Return projections, by rising tilt, of eight layers of noise: with shifts, and more noise and less contrast at high tilt."""
    rng = np.random.default_rng(5)
    layers = rng.normal(size=(8, SIDE, SIDE))
    images = []
    for tilt in np.deg2rad(RISING):
        turned = [np.roll(layer, round(4 * (z - 3.5) * np.tan(tilt)), axis=1) for z, layer in enumerate(layers)]
        moved = np.roll(sum(turned), tuple(rng.integers(-9, 10, 2)), axis=(0, 1))
        images.append(1000 + moved * np.cos(tilt) + rng.normal(0, 2 / np.cos(tilt), (SIDE, SIDE)))
    return np.array(images)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_stack_sorted_by_tilt_is_told_from_one_as_acquired(views: Floats, scheme: str) -> None:
    order = acquired(scheme)
    assert order_of_views(views, RISING[order]).order is Order.SORTED
    assert order_of_views(views[order], RISING[order]).order is Order.AS_LISTED


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_pattern_of_the_camera_and_a_blank_view_do_not_mislead(views: Floats, scheme: str, rng: np.random.Generator) -> None:
    marred = views + 1.5 * rng.normal(size=(SIDE, SIDE))
    marred[4] = 0.0
    marred[7, 10:20] = np.nan
    marred[9, 40, 40] = 1e7
    order = acquired(scheme)
    assert order_of_views(marred, RISING[order]).order is Order.SORTED
    assert order_of_views(marred[order], RISING[order]).order is Order.AS_LISTED


def test_large_views_are_averaged_first(views: Floats) -> None:
    order = acquired("dose-symmetric")
    large = np.kron(views[:, :, : SIDE - 16], np.ones((3, 3)))
    assert order_of_views(large, RISING[order]).order is Order.SORTED


@pytest.mark.parametrize("scheme", SCHEMES)
def test_noise_and_views_in_neither_order_leave_it_open(views: Floats, scheme: str, rng: np.random.Generator) -> None:
    listed = RISING[acquired(scheme)]
    for _ in range(5):
        assert order_of_views(rng.normal(size=views.shape), listed).order is Order.UNKNOWN
        assert order_of_views(views[rng.permutation(VIEWS)], listed).order is Order.UNKNOWN


@pytest.mark.parametrize("listed", [[0.0, 3.0, -3.0, 6.0, -6.0], [0.0] * VIEWS])
def test_few_views_or_one_angle_leave_it_open(views: Floats, listed: list[float]) -> None:
    assert order_of_views(views[: len(listed)], listed).order is Order.UNKNOWN


def test_of_many_stacks_in_neither_order_none_is_decided(views: Floats) -> None:
    """Chance correlates as well: with a third of the evidence one of sixty would be called sorted or as listed."""
    rng = np.random.default_rng(1)
    for turn in range(60):
        listed = RISING[acquired(SCHEMES[turn % len(SCHEMES)])]
        assert order_of_views(views[rng.permutation(VIEWS)], listed).order is Order.UNKNOWN
