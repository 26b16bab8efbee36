"""Several hypotheses of where views lie: the right one wins although single peaks do not stand out of the noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tiltflow.align.coarse import hypotheses
from tiltflow.align.coarse.hypotheses import best_hypothesis

SHAPE = (40, 48)
VIEWS = 12


def sequence(compared: int = 5) -> list[tuple[int, list[int]]]:
    """Return views one after the other, each compared with some before it."""
    return [(view, list(range(view - 1, max(view - 1 - compared, -1), -1))) for view in range(VIEWS)]


def walk(seed: int) -> NDArray[np.intp]:
    """Return places of the views, small steps apart, the first in place."""
    steps = np.random.default_rng(seed).integers(-2, 3, (VIEWS, 2))
    steps[0] = 0
    return np.asarray(np.cumsum(steps, axis=0))


def noisy_maps(places: NDArray[np.intp], height: float, seed: int) -> Callable[[int, int], NDArray[np.float32]]:
    """Return correlations with a peak of some standard deviations at the true displacement of the second view from the first."""

    def pair_map(one: int, other: int) -> NDArray[np.float32]:
        noise = ndimage.gaussian_filter(np.random.default_rng([seed, one, other]).normal(size=SHAPE), 1.0, mode="wrap")
        heights = noise / noise.std()
        peak = np.zeros(SHAPE)
        peak[tuple((places[other] - places[one]) % SHAPE)] = 1.0
        peak = ndimage.gaussian_filter(peak, 1.0, mode="wrap")
        return np.asarray(heights + height * peak / peak.max(), np.float32)

    return pair_map


def views_off(seed: int, height: float = 2.5) -> int:
    """Return how many views are not found within a pixel."""
    places = walk(seed)
    found = best_hypothesis(sequence(), noisy_maps(places, height, seed), SHAPE)
    return sum(int(np.abs(np.array(found[view]) - places[view]).max() > 1) for view in range(VIEWS))


@pytest.mark.parametrize("seed", range(6))
def test_views_are_found_among_higher_peaks_of_the_noise(seed: int) -> None:
    """Peaks of 2.5 standard deviations, where the noise of two thousand places reaches 3.5: found from all comparisons together."""
    assert views_off(seed) <= 1


def test_one_hypothesis_alone_loses_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is followed beside the best one is what finds them."""
    several = sum(views_off(seed) for seed in range(6))
    monkeypatch.setattr(hypotheses, "_KEPT", 1)
    alone = sum(views_off(seed) for seed in range(6))
    assert alone > several + VIEWS


def test_a_short_step_is_likelier_than_a_long_one() -> None:
    """Of two peaks of the same height the nearer one counts; a clearly higher one far away still wins."""

    def two(near: float, far: float) -> NDArray[np.float32]:
        out = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        out[2, 1], out[20, 24] = near, far
        return out

    short = [(0, []), (1, [0])]
    assert best_hypothesis(short, lambda _one, _other: two(12.0, 12.0), SHAPE)[1] == (2, 1)
    assert best_hypothesis(short, lambda _one, _other: two(8.0, 12.0), SHAPE)[1] == (-20, -24)


def test_places_are_counted_from_the_middle() -> None:
    """Displacements to either side have either sign, and add up from view to view."""
    places = np.array([[0, 0], [-3, 4], [-6, 8], [-9, 12], [-12, 16], [-15, 20], [-18, 24], *[[-18, 24]] * 5])
    found = best_hypothesis(sequence(), noisy_maps(places, 30.0, 1), SHAPE)
    for view in range(6):
        assert found[view] == tuple(places[view])
