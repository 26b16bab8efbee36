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


POINTS = np.array([[-40.3, 31.7, 12.0], [10.6, -22.1, -7.3], [33.0, 8.4, 0.0]])


@pytest.mark.parametrize(
    ("column", "change", "cut"),
    [
        pytest.param(0, 0.9, False, id="a view that moved a little is turned by phases"),
        pytest.param(1, -1.3, False, id="along y too"),
        pytest.param(0, 5.0, True, id="one that moved further is cut"),
        pytest.param(2, 0.001, False, id="windows that turned by less than their finest detail stay"),
        pytest.param(2, 0.02, True, id="others are cut"),
        pytest.param(3, 0.03, True, id="a tilt stretches them"),
        pytest.param(4, 0.02, True, id="and so does a magnification"),
    ],
)
def test_windows_are_cut_anew_where_phases_do_not_make_good_what_changed(
    level: Level, column: int, change: float, cut: bool
) -> None:
    shape, views = (54, 60), VIEWS.copy()
    cells = choose_cells(shape, level.bin, 0.02, 0.12)
    before = patch_spectra(level, Geometry(VIEWS, POINTS), cells, shape, 1)
    assert before.cut.all()
    unchanged = before.spectra.copy()
    views[1, column] += change
    after = Geometry(views, POINTS)
    found = patch_spectra(level, after, choose_cells(shape, level.bin, 0.02, 0.12), shape, 1, before)
    wanted = patch_spectra(level, after, cells, shape, 1)
    assert found.cut.tolist() == [False, cut]
    np.testing.assert_allclose(found.spectra[:, :, 0], unchanged[:, :, 0], atol=1e-5 * np.abs(unchanged).max())
    error = np.abs(found.spectra - wanted.spectra)[:, :, 1]
    scale = np.sqrt(np.mean(np.abs(wanted.spectra) ** 2))
    assert np.sqrt(np.mean(error**2)) < (1e-6 if cut else 0.1) * scale
    if not cut and column < 2:  # what was before is far from what is now
        assert np.sqrt(np.mean(np.abs(unchanged - wanted.spectra)[:, :, 1] ** 2)) > 0.2 * scale


@pytest.mark.parametrize(("column", "step"), [(2, 0.001), (0, 0.2)])
def test_many_small_steps_are_not_taken_for_none(level: Level, column: int, step: float) -> None:
    """Windows are compared with those that were cut, not with those of the step before."""
    shape, views, cut = (54, 60), VIEWS.copy(), 0
    cells = choose_cells(shape, level.bin, 0.02, 0.12)
    found = patch_spectra(level, Geometry(VIEWS, POINTS), cells, shape, 1)
    for _ in range(40):
        views[1, column] += step
        found = patch_spectra(level, Geometry(views.copy(), POINTS), cells, shape, 1, found)
        cut += int(found.cut[1])
    assert 1 < cut < 10


def test_other_frequencies_or_views_are_cut_anew(level: Level) -> None:
    shape, geometry = (54, 60), Geometry(VIEWS, POINTS)
    cells = choose_cells(shape, level.bin, 0.02, 0.12)
    before = patch_spectra(level, geometry, cells, shape, 1)
    other = Level(level.images[:, ::-1].copy(), level.bin, level.power, level.frequency)
    assert patch_spectra(level, geometry, choose_cells(shape, level.bin, 0.02, 0.1), shape, 1, before).cut.all()
    found = patch_spectra(other, geometry, cells, shape, 1, before)
    assert found.cut.all()
    np.testing.assert_array_equal(found.spectra, patch_spectra(other, geometry, cells, shape, 1).spectra)
