"""Views put together from pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tiltflow import geometry
from tiltflow.errors import ParameterError
from tiltflow.parallel import map_threads
from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage import GrayLevels, MontageParams, StitchedViews, blend_view, measure_offsets
from tiltflow.reconstruct.aligned_stack import StackParams, align_view
from tiltflow.simulate.montage import PieceFaults, simulate_montage
from tiltflow.simulate.parameters import SimulationParams

SIDE, STEP = 64, 49
TURNED = geometry.transform(1.002 * geometry.rotation(7.0), (3.3, -2.6))


@pytest.fixture
def picture(rng):
    """A smooth picture that is larger than the frame."""
    return (1000 + 300 * ndimage.gaussian_filter(rng.normal(size=(160, 160)), 4) / 0.07).astype(np.float32)


def cut(picture, offset, left_out=()):
    """Return pieces of a picture `(pieces, ...)` that lie off by whole pixels, their grid, and offsets of them."""
    corners = [(x * STEP, y * STEP) for y in range(2) for x in range(2)]
    kept = [k for k in range(4) if k not in left_out]
    pieces = []
    for k in kept:
        x, y = np.array(corners[k]) + offset[k] + 20
        pieces.append(picture[y : y + SIDE, x : x + SIDE])
    grid = PieceGrid.of_sections([(*corners[k], 0) for k in kept], (SIDE, SIDE))
    found = measure_offsets(np.array(pieces), grid, [0.0], MontageParams(gray=False))
    return np.array(pieces), grid, found.with_offsets(np.array(offset, float)[None], found.error_px)


@pytest.mark.parametrize("offset", [np.zeros((4, 2), int), np.array([(3, -2), (-4, 1), (2, 5), (-1, -4)])])
def test_pieces_at_whole_pixels_make_the_picture_that_they_were_cut_from(picture, offset):
    pieces, grid, found = cut(picture, offset)
    blended = blend_view(pieces, grid, found, 0)
    (mx, my), (ny, nx) = grid.margin_px, grid.frame_shape
    assert blended.image.shape == (ny, nx)
    # The corner of the nominal whole lies at the margin of the frame, so that both have the same centre.
    expected = picture[20 - my : 20 - my + ny, 20 - mx : 20 - mx + nx]
    assert np.abs(blended.image - expected)[blended.covered].max() < 0.1
    assert blended.covered.mean() > 0.85


def test_a_frame_without_a_margin_is_covered_wholly(picture):
    pieces, grid, found = cut(picture, np.zeros((4, 2), int))
    (mx, my), (ny, nx) = grid.margin_px, grid.nominal_shape
    covered = blend_view(pieces, grid, found, 0).covered
    assert covered[my : my + ny, mx : mx + nx].all()
    assert covered.sum() == ny * nx


def test_an_ordinary_image_goes_through_unchanged(picture):
    grid = PieceGrid.of_sections([(0, 0, 0)], (60, 80))
    piece = picture[:60, :80]
    found = measure_offsets(piece[None], grid, [0.0], MontageParams())
    # But for the rounding of the spline, which goes through every pixel.
    assert np.abs(StitchedViews(piece[None], grid, found)[0] - piece).max() < 1e-6 * np.abs(piece).max()


def test_a_hole_goes_over_from_its_rim_into_the_mean_of_the_view(picture):
    pieces, grid, found = cut(picture, np.zeros((4, 2), int), left_out=[3])
    blended = blend_view(pieces, grid, found, 0)
    assert not blended.covered[-30:, -30:].any()
    assert np.allclose(blended.image[-25:, -25:], np.mean([piece.mean() for piece in pieces]), rtol=1e-4)
    steps = np.abs(np.diff(blended.image, axis=1))
    assert steps.max() < 1.5 * np.abs(np.diff(picture, axis=1)).max()


@pytest.mark.parametrize("binning", [1, 2])
@pytest.mark.parametrize("offset", [np.zeros((4, 2)), np.array([(1.3, -0.4), (-0.7, 0.2), (0.5, 0.9), (-1.1, -0.7)])])
def test_a_view_blended_into_the_aligned_frame_is_the_stitched_view_transformed(picture, binning, offset):
    pieces, grid, found = cut(picture, np.zeros((4, 2), int))
    found = found.with_offsets(offset[None], found.error_px)
    shape = (96 // binning, 104 // binning)
    straight = blend_view(pieces, grid, found, 0, transform=TURNED, out_shape=shape, binning=binning)
    twice = align_view(StitchedViews(pieces, grid, found)[0], TURNED, StackParams(binning=binning), shape)
    inside = ndimage.binary_erosion(straight.covered, iterations=8)
    assert inside.sum() > 1000
    away = np.sqrt(np.mean((straight.image - twice)[inside] ** 2)) / picture.std()
    # What it is compared to is interpolated otherwise, and once more where pieces lie between the pixels of the frame.
    assert away < (0.03 if binning == 1 and not offset.any() else 0.05)


@pytest.mark.parametrize("shift", [(0.25, 0.0), (-0.3, 0.6), (0.5, -0.75)])
def test_structures_lie_where_the_offset_puts_them(shift):
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    piece = (100 * np.exp(-((x - 30) ** 2 + (y - 33) ** 2) / (2 * 2.5**2))).astype(np.float32)
    grid = PieceGrid.of_sections([(0, 0, 0)], (SIDE, SIDE))
    found = measure_offsets(piece[None], grid, [0.0], MontageParams(gray=False))
    image = blend_view(piece[None], grid, replace(found, offset_px=np.array([[shift]])), 0).image
    image = np.where(np.hypot(x - 30, y - 33) < 15, image, 0)
    centre = np.array([(image * x).sum(), (image * y).sum()]) / image.sum()
    assert np.abs(centre - (30 + shift[0], 33 + shift[1])).max() < 0.005


def test_gains_and_the_beam_are_divided_out(picture):
    pieces, grid, found = cut(picture, np.zeros((4, 2), int))
    levels = GrayLevels(np.array([[0.05, -0.02, 0.01, -0.04]]), np.array([[0.03, -0.05]]), np.array([-0.1, -0.08, 0.02]))
    beam = 1 / levels.beam(0, (SIDE, SIDE))
    uneven = np.array([piece * beam * np.exp(gain) for piece, gain in zip(pieces, levels.log_gain[0], strict=True)])
    even = blend_view(pieces, grid, found, 0)
    evened = blend_view(uneven.astype(np.float32), grid, replace(found, gray=levels), 0)
    assert np.allclose(evened.image, even.image, rtol=1e-4)


def test_views_are_the_same_whichever_thread_reads_them():
    montage = simulate_montage(SimulationParams(seed=2, size=96, views=5, beads=5), overlap_px=24)
    found = measure_offsets(montage.images, montage.grid, montage.truth.nominal_deg, MontageParams())
    views = StitchedViews(montage.images, montage.grid, found)
    assert views.shape == (5, *montage.grid.frame_shape)
    alone = [views[view] for view in range(5)]
    together = list(map_threads(views.__getitem__, range(5), 3))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not any((view < 0).any() for view in alone)


def test_seams_are_no_brighter_or_darker_than_what_is_beside_them():
    params = SimulationParams(seed=3, size=160, views=7, beads=10, hot_pixels=0)
    montage = simulate_montage(params, faults=PieceFaults(gain=0.05), whole=True)
    assert montage.whole is not None
    found = measure_offsets(montage.images, montage.grid, montage.truth.nominal_deg, MontageParams())
    plain = measure_offsets(montage.images, montage.grid, montage.truth.nominal_deg, MontageParams(gray=False))
    (mx, my), (ny, nx) = montage.grid.margin_px, montage.grid.nominal_shape

    def uneven(offsets):
        views = StitchedViews(montage.images, montage.grid, offsets)
        ratios = []
        for view, one in enumerate(montage.whole):
            image = views[view][my : my + ny, mx : mx + nx]
            ratio = np.log(ndimage.gaussian_filter(image, 6) / ndimage.gaussian_filter(one.astype(float), 6))[12:-12, 12:-12]
            v, u = np.mgrid[: ratio.shape[0], : ratio.shape[1]]
            design = np.stack([np.ones(ratio.size), u.ravel(), v.ravel()], axis=1)
            ratios.append(ratio.ravel() - design @ np.linalg.lstsq(design, ratio.ravel(), rcond=None)[0])
        return np.sqrt(np.mean(np.square(ratios)))

    assert uneven(found) < 0.008
    assert uneven(plain) > 2 * uneven(found)


def test_a_transform_that_cannot_be_inverted_is_refused(picture):
    pieces, grid, found = cut(picture, np.zeros((4, 2), int))
    with pytest.raises(ParameterError, match="the transform of view 0 cannot be inverted"):
        blend_view(pieces, grid, found, 0, transform=np.zeros((2, 3)))
    with pytest.raises(ParameterError, match="binning 0 of a stitched view"):
        blend_view(pieces, grid, found, 0, binning=0)
