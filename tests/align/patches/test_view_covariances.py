"""The covariance of the views of a patch, and its inverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tiltflow.align.patches.coherence import Coherence
from tiltflow.align.patches.patch_spectra import FrequencyCells
from tiltflow.align.patches.view_covariances import ViewCovariances, inverted_between

Slab = Callable[[float, float], Coherence]
EachInverted = Callable[[ViewCovariances], ViewCovariances]

TILT = np.deg2rad(np.linspace(-60, 60, 13))


def test_the_covariance_of_views_is_a_valid_one_and_unsettled_views_agree_less(
    cells: FrequencyCells, slab: Slab, each_inverted: EachInverted
) -> None:
    model = slab(40.0, 0.9)
    covariances = each_inverted(ViewCovariances.of(cells, TILT, model.heights, model.depth_px))
    settled = covariances.settled(model)
    loose = np.linalg.inv(covariances.precision(settled, 1.5).astype(complex))
    np.testing.assert_allclose(np.einsum("bii->bi", loose), 1, atol=1e-4)
    assert np.linalg.eigvalsh(settled).min() > 0
    assert np.linalg.eigvalsh(loose).min() > 0
    between = ~np.eye(len(TILT), dtype=bool)
    assert np.all(np.abs(loose[:, between]) <= np.abs(settled[:, between]) + 1e-4)
    highest = np.argmax(cells.bin_y)
    assert np.abs(loose[highest][between]).max() < 0.2 * np.abs(settled[highest][between]).max()


def test_the_covariance_is_the_transform_of_the_profile_about_its_mean_height(cells: FrequencyCells, slab: Slab) -> None:
    """Also of one bin in five, and of a profile that is not centred."""
    model = slab(40.0, 0.5)
    heights = model.heights
    lopsided = np.tile(np.where((heights > -10) & (heights < 40), 1.0, 0.0), (5, 1))
    lopsided /= lopsided.sum(axis=1, keepdims=True)
    model = replace(model, profile=lopsided, heights=heights - lopsided[0] @ heights)
    covariances = ViewCovariances.of(cells, TILT, heights, model.depth_px)
    settled = covariances.settled(model)
    np.testing.assert_array_equal(settled[::5], covariances.settled(model, every=5))
    bin_, i, k = 7, 4, 9
    apart = cells.bin_x[bin_] * (np.tan(TILT[i]) - np.tan(TILT[k]))
    wanted = 0.5 * lopsided[0] @ np.exp(-2j * np.pi * apart * model.heights)
    assert settled[bin_, i, k] == pytest.approx(wanted * np.sinc(apart * (heights[1] - heights[0])) ** 2, abs=0.01)


def test_covariances_are_inverted_and_what_is_none_is_refused(
    cells: FrequencyCells, slab: Slab, each_inverted: EachInverted
) -> None:
    model = slab(40.0, 0.9)
    covariances = each_inverted(ViewCovariances.of(cells, TILT, model.heights, model.depth_px))
    settled = covariances.settled(model)
    unit = np.broadcast_to(np.eye(len(TILT)), settled.shape)
    np.testing.assert_allclose(covariances.precision(settled, 0.0) @ settled, unit, atol=2e-4)
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        covariances.precision(2 * settled, 0.0)


@pytest.mark.parametrize(("apart_px", "every"), [(0.0, 3), (1.6, 3), (1.7, 2), (2.5, 2), (2.6, 1), (200.0, 1)])
def test_the_more_a_specimen_turns_the_more_covariances_are_inverted(cells: FrequencyCells, apart_px: float, every: int) -> None:
    """In windows of 72 pixels: all up to column 2, and then every so many, between which inverses are interpolated."""
    between, share = inverted_between(cells, apart_px)
    bins, column = np.arange(len(cells.column)), cells.column[:, 0]
    for band in range(5):
        some = np.flatnonzero(cells.band == band)
        alone = some[between[some, 0] == some]
        ends = {column[some[0]], column[some[-1]]}
        assert {*column[alone]} == {at for at in column[some] if at <= 2 or (at - 2) % every == 0 or at in ends}
        others = np.setdiff1d(some, alone)
        assert np.isin(between[others], alone).all()
        assert (column[between[others, 0]] < column[others]).all()
        assert (column[between[others, 1]] > column[others]).all()
        assert (np.diff(column[between[others]], axis=1) <= every).all()
    by_itself = between[:, 0] == bins
    np.testing.assert_array_equal(between[by_itself, 1], bins[by_itself])
    np.testing.assert_allclose((1 - share) * column[between[:, 0]] + share * column[between[:, 1]], column, atol=1e-5)


def test_an_interpolated_inverse_lies_between_those_of_its_neighbours(
    cells: FrequencyCells, slab: Slab, each_inverted: EachInverted
) -> None:
    model = slab(10.0, 0.9)
    covariances = ViewCovariances.of(cells, TILT, model.heights, model.depth_px)
    assert (covariances.between[:, 0] != covariances.between[:, 1]).any()
    settled = covariances.settled(model)
    exact = each_inverted(covariances).precision(settled, 0.3)
    first, second = exact[covariances.between[:, 0]], exact[covariances.between[:, 1]]
    wanted = first + covariances.share[:, None, None] * (second - first)
    np.testing.assert_allclose(covariances.precision(settled, 0.3), wanted, atol=1e-5)
    assert np.linalg.eigvalsh(wanted).min() > 0
