"""Where pieces lie, against the truth, and what is told of odd ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiltflow.errors import ParameterError
from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage import MontageParams, measure_offsets
from tiltflow.simulate.montage import PieceFaults, simulate_montage
from tiltflow.simulate.parameters import SimulationParams

SERIES = SimulationParams(seed=5, size=160, views=7, hot_pixels=0, beads=15)


def rms(values):
    return float(np.sqrt(np.nanmean(np.square(values))))


def stitched(faults=None, series=SERIES, params=None, **layout):
    montage = simulate_montage(series, faults=faults or PieceFaults(), **layout)
    found = measure_offsets(
        montage.images, montage.grid, montage.truth.nominal_deg, params or MontageParams(), axis_deg=series.axis_deg
    )
    return montage, found


PLACED = PieceFaults().in_place()


@pytest.mark.parametrize(
    ("faults", "layout", "limit_px"),
    [
        pytest.param(PLACED, {}, 0.08, id="nothing wrong"),
        pytest.param(PieceFaults(), {}, 0.15, id="all faults of position"),
        pytest.param(replace(PLACED, gain=0.05), {}, 0.08, id="gain"),
        pytest.param(PieceFaults(), {"rows": 1}, 0.15, id="two pieces"),
        pytest.param(PieceFaults(), {"columns": 1}, 0.15, id="two pieces, one above the other"),
        pytest.param(PieceFaults(), {"columns": 3}, 0.3, id="three by two"),
        pytest.param(PieceFaults(pattern_px=6), {}, 0.3, id="far off"),
    ],
)
def test_pieces_are_found_where_they_were(faults, layout, limit_px):
    montage, found = stitched(faults, **layout)
    assert rms(montage.placement_error(found.offset_px)) < limit_px
    assert np.allclose(found.offset_px.mean(axis=1), 0, atol=1e-9)


def test_hits_of_x_rays_do_no_harm():
    montage, found = stitched(series=replace(SERIES, hot_pixels=60))
    assert rms(montage.placement_error(found.offset_px)) < 0.15


def test_noise_makes_pieces_uncertain_and_the_standard_error_says_so():
    montage, found = stitched(series=replace(SERIES, regime="cryo", dose=60.0, size=224))
    error, claimed = montage.placement_error(found.offset_px), np.linalg.norm(found.error_px, axis=2)
    assert rms(error) < 1.5
    assert 0.4 < rms(error) / rms(claimed) < 2.5
    assert found.view_error_px.shape == (7,)


def test_standard_errors_are_those_of_the_covariance():
    _, found = stitched()
    assert np.allclose(np.moveaxis(np.einsum("vakk->vak", found.covariance), 1, 2), found.error_px**2)


def test_an_ordinary_series_has_no_offsets():
    images = np.random.default_rng(1).poisson(400, (5, 64, 80)).astype(np.int16)
    grid = PieceGrid.of_sections([(0, 0, z) for z in range(5)], (64, 80))
    found = measure_offsets(images, grid, np.linspace(-60, 60, 5), MontageParams())
    assert not found.offset_px.any()
    assert not found.error_px.any()
    assert not found.gray.changes
    assert found.warnings == ()


def test_a_piece_that_jumped_is_believed_and_told():
    montage, found = stitched(PieceFaults(jumps=((3, 1, 13.0, -9.0),)))
    assert montage.placement_error(found.offset_px)[3].max() < 0.5
    assert found.warnings == ("far from where the other views expect it, and believed: piece 3 of view 4 (11.9 px)",) or any(
        "believed" in each and "of view 4" in each for each in found.warnings
    )


def test_pieces_that_have_nothing_in_common_are_left_as_written_and_told(rng):
    coordinates = [(x * 108, y * 108, view) for view in range(7) for y in range(2) for x in range(2)]
    grid = PieceGrid.of_sections(coordinates, (128, 128))
    found = measure_offsets(rng.poisson(400, (28, 128, 128)).astype(np.int16), grid, np.linspace(-60, 60, 7), MontageParams())
    assert np.abs(found.offset_px).max() < 1
    assert found.view_error_px.min() > 5
    assert any("left as written, which may be" in each for each in found.warnings)


@pytest.mark.parametrize("value", [0, 100, np.nan])
def test_pieces_without_any_structure_do_no_harm(value):
    coordinates = [(x * 52, y * 52, view) for view in range(3) for y in range(2) for x in range(2)]
    images = np.full((12, 64, 64), value, np.float32)
    found = measure_offsets(images, PieceGrid.of_sections(coordinates, (64, 64)), [-40, 0, 40], MontageParams())
    assert np.isfinite(found.offset_px).all()
    assert np.isfinite(found.error_px).all()


def test_a_missing_piece_is_told_and_the_others_are_placed():
    montage, found = stitched(PieceFaults(missing=((2, 3),)))
    assert np.isnan(montage.placement_error(found.offset_px)[2]).sum() == 1
    assert rms(montage.placement_error(found.offset_px)) < 0.2
    assert any(each.startswith("not taken: piece 4 of view 3;") for each in found.warnings)


def test_a_blank_piece_does_not_vote_and_is_told():
    montage, found = stitched(PieceFaults(blank=((2, 0),)))
    assert [tuple(place) for place in np.argwhere(found.blank)] == [(2, 0)]
    assert found.expected_only[2, 0]
    assert not found.expected_only[[0, 1, 3, 4, 5, 6]].any()
    assert found.error_px[2, 0].min() > 3 * np.median(found.error_px)
    assert rms(np.delete(montage.placement_error(found.offset_px), 2, axis=0)) < 0.2
    assert any(each.startswith("blank, as behind a bar of the grid: piece 1 of view 3;") for each in found.warnings)


def test_pieces_that_turn_and_grow_with_the_focus_are_found_to():
    faults = PieceFaults(focus_magnification=0.02, focus_rotation_deg=2.0)
    montage, found = stitched(faults, replace(SERIES, size=224), MontageParams(focus=True))
    true = montage.rotation_deg - montage.rotation_deg.mean(axis=1, keepdims=True)
    assert rms(found.rotation_deg - true) < 0.3 * rms(true)
    assert rms(montage.placement_error(found.offset_px)) < 0.25


def test_pieces_that_keep_their_size_and_direction_are_left_so():
    _, found = stitched()
    assert np.allclose(found.linear, np.eye(2))


@pytest.mark.parametrize(
    ("tilts", "shape", "message"),
    [
        (3, (64, 80), "3 tilts for a montage of 5 views"),
        (5, (64, 64), "pieces of 80 x 64 pixels where the grid has pieces of 64 x 64"),
    ],
)
def test_what_does_not_fit_is_refused(tilts, shape, message):
    grid = PieceGrid.of_sections([(0, 0, z) for z in range(5)], shape)
    with pytest.raises(ParameterError, match=message):
        measure_offsets(np.zeros((5, 64, 80), np.int16), grid, np.zeros(tilts), MontageParams())


def test_a_search_that_is_too_short_is_refused():
    with pytest.raises(ParameterError, match="search of 2 pixels"):
        MontageParams(search_px=2)
