"""The parts of patch tracking: the layout, the coherence of views, the likelihood, the field."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.align.patches import PatchParams
from tiltflow.align.patches.coherence import (
    Coherence,
    collect_pairs,
    covariance,
    cross_spectra,
    fit_coherence,
    inverse,
    pair_views,
    unsettled,
)
from tiltflow.align.patches.common_motion import CommonDisplacement, common_displacement
from tiltflow.align.patches.likelihood import compare, drift_shapes, own_place, settle
from tiltflow.align.patches.patch_layout import lay_out_patches
from tiltflow.align.patches.patch_spectra import FrequencyCells, choose_cells, independent_fraction

Floats = NDArray[np.float64]

TILT = np.deg2rad(np.linspace(-60, 60, 13))
HIGHEST = 0.25


def even_section(thickness_px: float, signal: float) -> Coherence:
    """A model of specimen spread evenly over a thickness."""
    heights = np.linspace(-60, 60, 81)
    inside = np.where(np.abs(heights) <= thickness_px / 2, 1.0, 0.0)
    edges = HIGHEST * np.array([0.0, 0.1, 0.2, 0.35, 0.6, 1.3])
    return Coherence(edges, heights, np.tile(inside / inside.sum(), (5, 1)), np.full(5, signal), np.ones(len(TILT)))


def draw(model: Coherence, cells: FrequencyCells, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Spectra of one patch, by chance, of views in place."""
    shape = (len(cells.x), len(TILT), cells.x.shape[1])
    noise = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2)
    factor = np.linalg.cholesky(covariance(model, cells, TILT).astype(complex) + 1e-6 * np.eye(len(TILT)))
    return np.asarray((factor @ noise) * cells.valid[:, None], np.complex64)


@pytest.fixture(scope="module")
def cells() -> FrequencyCells:
    return choose_cells((72, 72), 1, 0.03, HIGHEST)


def test_patches_cover_the_field_with_the_overlap_asked_for() -> None:
    layout = lay_out_patches(PatchParams(size_px=(200, 150), overlap=0.25), (1000, 1200))
    x, y = np.unique(layout.centres[:, 0]), np.unique(layout.centres[:, 1])
    assert layout.size_px == (200, 150)
    assert not layout.notes
    assert len(layout.centres) == len(x) * len(y)
    assert np.diff(x).max() <= 0.75 * 200 + 1e-6
    assert np.diff(y).max() <= 0.75 * 150 + 1e-6
    assert x[-1] + 100 == pytest.approx(0.97 * 600)
    assert y[-1] + 75 == pytest.approx(0.97 * 500)


def test_patches_too_large_for_three_along_a_side_are_made_smaller_and_it_is_said() -> None:
    layout = lay_out_patches(PatchParams(size_px=(300, 300)), (400, 1200))
    assert layout.size_px[0] == 300
    assert layout.size_px[1] < 300
    assert len(np.unique(layout.centres[:, 1])) >= 3
    assert "along y (400 px)" in layout.notes[0]


def test_crowding_counts_what_overlapping_patches_share() -> None:
    apart = lay_out_patches(PatchParams(size_px=(100, 100), overlap=0.0), (400, 400))
    close = lay_out_patches(PatchParams(size_px=(100, 100), overlap=0.5), (400, 400))
    closer = lay_out_patches(PatchParams(size_px=(100, 100), overlap=0.8), (400, 400))
    assert apart.crowding == pytest.approx(1.0, abs=0.02)
    assert 1.1 < close.crowding < closer.crowding
    # Patches laid ever more densely know no more than the field does: the sum over patches grows as their number.
    assert closer.crowding / close.crowding == pytest.approx(len(closer.centres) / len(close.centres), rel=0.35)


def test_frequencies_are_those_of_half_the_plane_within_the_limits(cells: FrequencyCells) -> None:
    radius = np.hypot(cells.x, cells.y)[cells.valid]
    assert radius.min() >= 0.03
    assert radius.max() <= HIGHEST
    assert cells.valid.sum() == pytest.approx(np.pi / 2 * (HIGHEST**2 - 0.03**2) * 72**2, rel=0.03)
    np.testing.assert_allclose(np.ptp(cells.x, axis=1), 0)


@pytest.mark.parametrize("thickness", [20.0, 40.0, 70.0])
def test_the_profile_in_depth_is_found_again(cells: FrequencyCells, rng: np.random.Generator, thickness: float) -> None:
    truth = even_section(thickness, 0.6)
    cross = sum(cross_spectra(draw(truth, cells, rng)) for _ in range(6))
    found = fit_coherence(collect_pairs(np.asarray(cross), pair_views(cells, TILT, HIGHEST, 60.0)))
    # Heights are compared apart to about 20 px, as a profile is no rougher than it must be.
    assert 0.95 * thickness < found.depth_px < np.hypot(thickness, 30)
    np.testing.assert_allclose(found.signal[1:4], 0.6, atol=0.08)
    assert found.profile.min() >= 0
    np.testing.assert_allclose(found.profile.sum(axis=1), 1)


def test_the_covariance_of_views_is_a_valid_one_and_unsettled_views_agree_less(cells: FrequencyCells) -> None:
    settled = covariance(even_section(40.0, 0.9), cells, TILT)
    loose = unsettled(settled, cells, TILT, 1.5)
    np.testing.assert_allclose(np.einsum("bii->bi", loose), 1)
    assert np.linalg.eigvalsh(settled).min() > 0
    assert np.linalg.eigvalsh(loose).min() > 0
    between = ~np.eye(len(TILT), dtype=bool)
    assert np.all(np.abs(loose[:, between]) <= np.abs(settled[:, between]) + 1e-6)
    highest = np.argmax(cells.bin_y)
    assert np.abs(loose[highest][between]).max() < 0.2 * np.abs(settled[highest][between]).max()


def test_covariances_are_inverted_and_what_is_none_is_refused(cells: FrequencyCells) -> None:
    settled = covariance(even_section(40.0, 0.9), cells, TILT)
    np.testing.assert_allclose(inverse(settled) @ settled, np.broadcast_to(np.eye(len(TILT)), settled.shape), atol=2e-4)
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        inverse(-settled)


def test_slope_and_curvature_are_those_of_the_likelihood(cells: FrequencyCells, rng: np.random.Generator) -> None:
    model = even_section(40.0, 0.6)
    spectra, settled = draw(model, cells, rng).astype(complex), covariance(model, cells, TILT)
    precision = np.linalg.inv(settled)

    def likelihood(moved: Floats) -> float:
        phase = 2 * np.pi * (cells.x[:, None] * moved[:, :1] + cells.y[:, None] * moved[:, 1:])
        a = spectra * np.exp(1j * phase)
        return -float((a.conj() * (precision @ a)).real.sum())

    def finite(*moves: tuple[int, int]) -> float:
        h, total = 0.05, 0.0
        for signs in np.ndindex(*(2,) * len(moves)):
            moved = np.zeros((len(TILT), 2))
            for sign, place in zip(signs, moves, strict=True):
                moved[place] += h * (1 - 2 * sign)
            total += (-1) ** sum(signs) * likelihood(moved)
        return total / (2 * h) ** len(moves)

    single = spectra.astype(np.complex64)
    compared = compare(single, cross_spectra(single), precision, settled, cells, 1.0)
    scale = np.abs(compared.slope).max()
    for place in [(0, 0), (4, 0), (6, 1), (12, 1)]:
        assert compared.slope[place] == pytest.approx(finite(place), abs=0.02 * scale)
    for one, other in [((4, 0), (5, 0)), ((6, 0), (8, 0))]:
        assert compared.curvature[(*one, *other)] == pytest.approx(-finite(one, other), rel=0.03)
    # Along y the frequencies of a bin are taken together.
    assert compared.curvature[6, 1, 7, 1] == pytest.approx(-finite((6, 1), (7, 1)), rel=0.15)
    # By chance as expected: the mean of all springs.
    assert np.trace(compared.curvature.reshape(26, 26)) == pytest.approx(np.trace(compared.expected.reshape(26, 26)), rel=0.15)
    assert 0.3 < compared.agreement.mean() < 1


def test_displaced_views_are_put_back(cells: FrequencyCells, rng: np.random.Generator) -> None:
    model, moved = even_section(30.0, 0.7), rng.normal(0, 0.2, (len(TILT), 2))
    moved -= moved.mean(axis=0)
    phase = np.exp(-2j * np.pi * (cells.x[:, None] * moved[:, :1] + cells.y[:, None] * moved[:, 1:])).astype(np.complex64)
    settled = covariance(model, cells, TILT)
    precision = np.linalg.inv(unsettled(settled, cells, TILT, 0.2))
    compared = []
    for _ in range(6):
        spectra = draw(model, cells, rng) * phase
        compared.append(compare(spectra, cross_spectra(spectra), precision, settled, cells, 1.0))
    found = settle(compared, 1.0, 1.0).moved.mean(axis=0)
    error = (found - moved).ravel()
    place = np.linalg.qr(own_place(TILT))[0]
    assert np.sqrt(np.mean((error - place @ (place.T @ error)) ** 2)) < 0.06


def test_drifts_hold_nothing_that_a_place_or_a_height_explains() -> None:
    shapes, place = drift_shapes(TILT), own_place(TILT)
    np.testing.assert_allclose(place.T @ shapes, 0, atol=1e-9 * len(TILT))
    np.testing.assert_allclose((shapes**2).sum(axis=0), len(TILT))


def test_the_error_of_the_coarse_alignment_is_estimated_where_patches_determine_it(rng: np.random.Generator) -> None:
    tilt = np.deg2rad(np.linspace(-60, 60, 41))
    errors = rng.normal(0, 0.6, (41, 2)) * [1.0, 0.5]
    each = 2000.0 * np.eye(82)
    joint, gradient = common_displacement(each, (each @ errors.ravel())[None] * np.ones((8, 1)), np.ones(8), tilt)
    estimated = CommonDisplacement().estimated(joint, gradient, tilt)
    assert estimated.scatter_px[0] == pytest.approx(0.6, rel=0.3)
    assert estimated.scatter_px[1] == pytest.approx(0.3, rel=0.3)
    assert max(estimated.drift_px) < 0.1
    undetermined = CommonDisplacement().estimated(1e-6 * joint, 1e-6 * gradient, tilt)
    np.testing.assert_allclose(undetermined.scatter_px, CommonDisplacement().scatter_px, rtol=0.01)


def test_a_window_that_fades_has_fewer_independent_frequencies() -> None:
    assert 0.4 < independent_fraction((72, 72)) < 0.9
