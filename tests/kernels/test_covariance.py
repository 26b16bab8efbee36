"""Covariances of views against plain linear algebra: sums over depth, inverses, and what an iteration collects from them."""

import math
from itertools import pairwise

import numpy as np
import pytest

from tiltflow.kernels import covariance as kernel
from tiltflow.kernels import depths

VIEWS, HALF, GROUPS, COLUMNS = 7, 5, 3, 11
Z = np.arange(-HALF, HALF + 1)


def room(views=VIEWS):
    return np.full((kernel.MATRICES, views, views), np.nan), np.full((kernel.VECTORS, views), np.nan)


@pytest.fixture
def case(rng):
    """One frequency along x: phases, a profile without symmetry, noise by ring and view, and data whose last columns are in no ring."""
    angles, profile = rng.normal(0, 0.8, VIEWS), rng.dirichlet(np.ones(len(Z)))
    noise, signal = rng.uniform(0.1, 2, (GROUPS, VIEWS)), rng.uniform(0.5, 4, GROUPS)
    data = (rng.normal(size=(VIEWS, COLUMNS)) + 1j * rng.normal(size=(VIEWS, COLUMNS))).astype(np.complex64)
    order = rng.permutation(COLUMNS)
    starts = np.array([0, 4, 4, 9])  # the second ring is not met
    return angles, profile, noise, signal, order, starts, data


def halves(profile):
    """Return the profile as the even and the odd sum over depths from 0."""
    above, below = profile[HALF:], profile[HALF::-1]
    even = above + below
    even[0] = above[0]
    return even, below - above


def phases(angles):
    return np.exp(-1j * angles[:, None] * Z)


def sums(profile):
    """Return the profile as even and odd sums over depths from 0, then those of its derivative."""
    (even, odd), z = halves(profile), np.arange(HALF + 1)
    return np.stack([even, odd, -z * odd, -z * even])


def room_by_depth():
    shapes = (depths.MATRICES, len(Z), len(Z)), (depths.BY_DEPTH, len(Z)), (depths.BY_VIEW + 2 * len(Z), VIEWS)
    return [np.full(shape, np.nan) for shape in shapes]


ALGEBRAS = [
    pytest.param(kernel, sums, room, id="over views"),
    pytest.param(depths, lambda profile: profile, room_by_depth, id="over depths"),
]


def lower(real, imaginary):
    """Return a Hermitian matrix from its lower triangles."""
    below = np.tril(real + 1j * imaginary, -1)
    return below + below.conj().T + np.diag(np.diag(real))


def test_sums_over_depth_are_those_of_cosines_and_sines(case):
    angles, profile, *_ = case
    out = np.empty((2, VIEWS, VIEWS))
    kernel.sums_over_depth(angles, *halves(profile), out, np.empty((4, VIEWS)))
    np.testing.assert_allclose(lower(*out), (phases(angles) * profile) @ phases(angles).conj().T, atol=1e-12)


def test_powers_by_depth_are_the_values_of_the_forms_for_the_phases(case, rng):
    angles, forms, out = case[0], rng.normal(size=(4, VIEWS, VIEWS)), np.ones((2, len(Z)))
    kernel.powers_by_depth(angles, forms, out, np.empty((4, VIEWS)))
    for k in range(2):
        form = lower(*forms[2 * k : 2 * k + 2])
        expected = [np.real(phase.conj() @ form @ phase) for phase in phases(angles).T]
        np.testing.assert_allclose(out[k] - 1, expected, atol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 5, 16, 31])
def test_a_positive_matrix_is_inverted(size, rng):
    root = rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size))
    matrix = root @ root.conj().T + 0.01 * np.eye(size)
    real, imaginary = np.tril(matrix.real), np.tril(matrix.imag)
    logarithm = kernel.invert(real, imaginary, np.empty((2, size)))
    np.testing.assert_allclose(-lower(real, imaginary) @ matrix, np.eye(size), atol=1e-8)
    assert logarithm == pytest.approx(np.linalg.slogdet(matrix)[1])


@pytest.mark.parametrize("spoilt", [-1.0, 0.0, math.nan])
def test_a_matrix_that_is_not_positive_has_no_logarithm(spoilt):
    real = np.eye(4)
    real[2, 2] = spoilt
    assert math.isnan(kernel.invert(real, np.zeros((4, 4)), np.empty((2, 4))))


@pytest.mark.parametrize(("algebra", "given", "place"), ALGEBRAS)
def test_what_is_explained_and_expected_of_depths_noise_and_signal(case, algebra, given, place):
    angles, profile, noise, signal, order, starts, data = case
    seen = np.arange(VIEWS) != 2
    found = np.ones((2, len(Z))), np.ones((2, GROUPS, VIEWS)), np.ones((3, GROUPS))
    assert algebra.explain(angles, given(profile), noise, seen, signal, order, starts, data, *found, *place())
    depth, by_noise, power = np.ones((2, len(Z))), np.ones((2, GROUPS, VIEWS)), np.ones((3, GROUPS))
    phase = phases(angles)
    for group, (begin, end) in enumerate(pairwise(starts)):
        if begin == end:
            continue
        full = (phase * profile) @ phase.conj().T + np.diag(noise[group])
        inverse, given = np.linalg.inv(full), data[:, order[begin:end]] / np.sqrt(signal[group])
        weighted = inverse @ given
        depth[0] += np.sum(np.abs(phase.conj().T @ weighted) ** 2, axis=1)
        depth[1] += (end - begin) * np.real(np.sum(phase.conj() * (inverse @ phase), axis=0))
        by_noise[0, group, seen] += np.sum(np.abs(weighted) ** 2, axis=1)[seen]
        by_noise[1, group, seen] += ((end - begin) * np.real(np.diag(inverse)))[seen]
        power[:, group] += (
            np.real(np.sum(given.conj() * weighted)),
            (end - begin) * VIEWS,
            (end - begin) * np.linalg.slogdet(full)[1],
        )
    for each, expected in zip(found, (depth, by_noise, power), strict=True):
        np.testing.assert_allclose(each, expected, rtol=1e-6)


@pytest.mark.parametrize(("algebra", "given", "place"), ALGEBRAS)
def test_predictions_and_their_change_with_tilt(case, rng, algebra, given, place):
    angles, profile, noise, signal, order, starts, data = case
    to_tilt = rng.uniform(0.5, 2, VIEWS)
    out = [np.full((VIEWS, COLUMNS), 7, np.complex64) for _ in range(3)]
    precision = np.full((VIEWS, COLUMNS), 7, np.float32)
    assert algebra.foretell(angles, given(profile), noise, to_tilt, signal, order, starts, data, *out, precision, *place())
    phase = phases(angles)
    moved = (phase * (-1j * Z * profile)) @ phase.conj().T * to_tilt[:, None]
    for group, (begin, end) in enumerate(pairwise(starts)):
        full = (phase * profile) @ phase.conj().T + np.diag(noise[group])
        for column in order[begin:end]:
            for view in range(VIEWS):
                others = np.delete(np.arange(VIEWS), view)
                best = np.linalg.solve(full[np.ix_(others, others)], data[others, column])
                left = np.real(
                    full[view, view] - full[view, others] @ np.linalg.solve(full[np.ix_(others, others)], full[others, view])
                )
                assert out[0][view, column] == pytest.approx(full[view, others] @ best, abs=1e-4)
                assert out[1][view, column] == pytest.approx(moved[view, others] @ best, abs=1e-4)
                assert precision[view, column] == pytest.approx(1 / (left * signal[group]), rel=1e-4)
            np.testing.assert_allclose(out[2][:, column], np.linalg.solve(full, data[:, column]) / signal[group], atol=1e-4)
    assert np.all(np.array(out)[:, :, order[starts[-1] :]] == 7), "what is in no ring is left alone"


@pytest.mark.parametrize(("algebra", "given", "place"), ALGEBRAS)
def test_a_covariance_that_is_not_positive_is_told(case, algebra, given, place):
    angles, profile, noise, signal, order, starts, data = case
    found = np.zeros((2, len(Z))), np.zeros((2, GROUPS, VIEWS)), np.zeros((3, GROUPS))
    seen = np.ones(VIEWS, bool)
    assert not algebra.explain(angles, given(profile), -noise - 2, seen, signal, order, starts, data, *found, *place())


def test_sums_along_diagonals_give_the_diagonal_of_the_inverse(case):
    angles, profile, noise, *_ = case
    cosine, sine, inverse = np.empty((len(Z), VIEWS)), np.empty((len(Z), VIEWS)), np.empty((2, len(Z), len(Z)))
    depths.turn(angles, cosine, sine)
    np.testing.assert_allclose(cosine - 1j * sine, np.exp(-1j * np.arange(len(Z))[:, None] * angles), atol=1e-13)
    over_noise, diagonals, diagonal = np.empty(VIEWS), np.empty((4, len(Z))), np.empty(VIEWS)
    logarithm = depths.invert_by_depth(cosine, sine, np.sqrt(profile), noise[0], over_noise, inverse, np.empty((2, len(Z))))
    depths.add_diagonals(inverse, np.sqrt(profile), diagonals)
    depths.diagonal_of_inverse(cosine, sine, diagonals, over_noise, diagonal)
    full = (phases(angles) * profile) @ phases(angles).conj().T + np.diag(noise[0])
    np.testing.assert_allclose(diagonal, np.real(np.diag(np.linalg.inv(full))), rtol=1e-10)
    assert logarithm == pytest.approx(np.linalg.slogdet(full)[1])


@pytest.mark.parametrize("faintest", [1e-9, 1e-7])
@pytest.mark.parametrize("least_noise", [1e-6, 1e-3])
def test_a_faint_depth_and_little_noise_leave_matrices_over_depths_exact(case, rng, faintest, least_noise):
    angles, profile, noise, signal, order, starts, data = case
    profile = np.where(Z == HALF, faintest, profile)
    noise = np.where(rng.random(noise.shape) < 0.5, least_noise, noise)
    found = []
    for algebra, given, place in ((kernel, sums, room), (depths, lambda profile: profile, room_by_depth)):
        found.append((np.zeros((2, len(Z))), np.zeros((2, GROUPS, VIEWS)), np.zeros((3, GROUPS))))
        seen = np.ones(VIEWS, bool)
        assert algebra.explain(angles, given(profile), noise, seen, signal, order, starts, data, *found[-1], *place())
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4)
