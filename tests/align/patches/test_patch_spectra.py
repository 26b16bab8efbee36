"""The frequencies of patches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

from tiltflow.align.bundle.normal_equations import Geometry
from tiltflow.align.patches.patch_spectra import FrequencyCells, choose_cells, independent_fraction, patch_spectra, taper
from tiltflow.align.patches.patch_views import Level
from tiltflow.errors import StageError
from tiltflow.kernels.patches import cut_window

HIGHEST = 0.25


def test_frequencies_are_those_of_half_the_plane_within_the_limits(cells: FrequencyCells) -> None:
    radius = np.hypot(cells.x, cells.y)[cells.valid]
    assert radius.min() >= 0.03
    assert radius.max() <= HIGHEST
    assert cells.valid.sum() == pytest.approx(np.pi / 2 * (HIGHEST**2 - 0.03**2) * 72**2, rel=0.03)
    np.testing.assert_allclose(np.ptp(cells.x, axis=1), 0)


def test_a_window_that_fades_has_fewer_independent_frequencies() -> None:
    assert 0.4 < independent_fraction((72, 72)) < 0.9


def test_a_window_too_small_for_its_filter_is_an_error_that_gives_both() -> None:
    with pytest.raises(StageError, match=r"patches of 32 x 24 px hold no frequency between 0.03 and 0.031 .* give larger patches"):
        choose_cells((12, 16), 2, 0.03, 0.031)


@pytest.fixture
def level(rng: np.random.Generator) -> Level:
    """Two views of 150 x 130 pixels at a binning of 2, of texture finer than which nothing is compared, and of even power."""
    images = ndimage.gaussian_filter(rng.normal(size=(2, 150, 130)), (0, 1.5, 1.5)).astype(np.float32)
    return Level(images, 2, np.ones((2, 40)), np.linspace(0, 0.75, 40))


VIEWS = np.array([[3.3, -5.2, 0.2, 0.9, 0.01, 0.0, 0.0], [-1.1, 0.4, -1.5, -0.5, -0.02, 0.0, 0.0]])


def test_spectra_are_those_of_windows_cut_at_the_places_of_the_patches(level: Level) -> None:
    """Though windows lie at pixels of a plane that all of them share: phases make good the rest."""
    points = np.array([[-40.3, 31.7, 12.0], [10.6, -22.1, -7.3], [33.0, 8.4, 0.0]])
    geometry, shape = Geometry(VIEWS, points), (54, 60)
    cells = choose_cells(shape, level.bin, 0.02, 0.12)
    found = patch_spectra(level, geometry, cells, shape, 2).each
    jacobians, window = geometry.point_jacobians(), np.empty(shape, np.float32)
    tapered = np.outer(taper(shape[0]), taper(shape[1]))
    for view, jacobian in enumerate(jacobians):
        plane = jacobian[:, :2]
        for patch, point in enumerate(points):
            middle = np.array([64.5, 74.5]) + (jacobian @ point + VIEWS[view, :2]) / level.bin
            cut_window(level.images[view], middle - plane @ [29.5, 26.5], plane, window)
            wanted = fft.rfft2(window * tapered)[cells.row, cells.column] * cells.valid
            wanted *= np.sqrt(abs(np.linalg.det(plane))) / np.sqrt((tapered**2).sum())
            error = np.abs(found[patch][:, view] - wanted)
            assert np.sqrt(np.mean(error**2)) < 0.06 * np.sqrt(np.mean(np.abs(wanted) ** 2))


def test_a_patch_beyond_the_view_has_no_spectrum_and_takes_no_memory(level: Level) -> None:
    points = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3e9], [-4e8, 2e9, 0.0]])
    cells = choose_cells((54, 60), level.bin, 0.02, 0.12)
    found = patch_spectra(level, Geometry(VIEWS, points), cells, (54, 60), 1).each
    assert np.abs(found[0]).max() > 0
    assert not np.any(found[1:])
