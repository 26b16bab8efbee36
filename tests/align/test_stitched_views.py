"""Images of stitched views whose pieces were placed with known errors, from coarse alignment to the error that is claimed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from tests.align.listener import Listener

from tiltflow.align import methods
from tiltflow.align.coarse import CoarseParams
from tiltflow.align.fallback import align_views
from tiltflow.align.methods import AlignParams, Start
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.formats.alignment_archive import read_alignment, write_alignment
from tiltflow.model import Alignment
from tiltflow.observer import SILENT
from tiltflow.piece_grid import PieceGrid
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

Floats = NDArray[np.float64]

SMALL = SimulationParams(size=192, views=21, beads=32, thickness_px=50, pixel_nm=2.0, bead_nm=20.0, hot_pixels=0)
OVERLAP, SD_PX = 24, 0.15


@dataclass(frozen=True)
class Stitched:
    """A series, the stitched images, and how they were made."""

    series: SimulatedSeries
    images: Floats
    pieces: StitchedPieces
    error_px: Floats

    def align(self, *, told: bool, listener: Listener | None = None) -> Alignment:
        params = AlignParams(method="gold", fallback=False, gold_nm=20.0, coarse=CoarseParams(find_axis=False))
        observer, pieces = listener or SILENT, self.pieces if told else None
        axis = self.series.header_axis_deg
        return align_views(self.images, self.series.nominal_deg, axis, 20.0, params, pieces=pieces, observer=observer, threads=2)

    def error(self, alignment: Alignment) -> float:
        """Return the true error, with that of the places of the pieces, px."""
        left = self.error_px if alignment.pieces is None else self.error_px - alignment.pieces.shift_px
        probes = np.swapaxes(self.series.truth.probes_xy, 0, 1)
        moved = probes + np.einsum("jvk,vka->jva", self.pieces.weights(probes), left)
        truth = replace(self.series.truth, probes_xy=np.swapaxes(moved, 0, 1))
        return score(truth, alignment.transforms, alignment.tilt_deg).rms_px


def stitch(series: SimulatedSeries, sd_px: float) -> Stitched:
    """Cut views into 2 x 2 pieces, and put them together again with errors of `sd_px` a coordinate."""
    views, size, _ = series.images.shape
    side = (size + OVERLAP) // 2
    places = [(x, y, view) for view in range(views) for y in (0, side - OVERLAP) for x in (0, side - OVERLAP)]
    grid = PieceGrid.of_sections(places, (side, side))
    error = np.random.default_rng(3).normal(0, sd_px * np.sqrt(4 / 3), (views, 4, 2))
    error -= error.mean(axis=1, keepdims=True)
    pieces = StitchedPieces(grid, np.zeros((views, 4, 2)), np.full((views, 4), sd_px))
    y, x = np.mgrid[:size, :size] + 0.5
    weights = pieces.weights(np.repeat(np.stack([x, y], axis=-1)[:, :, None], views, axis=2))
    images = np.empty(series.images.shape, np.float32)
    for view, image in enumerate(series.images):
        moved = [ndimage.shift(image.astype(float), each[::-1], order=3, mode="nearest") for each in error[view]]
        images[view] = np.einsum("yxk,kyx->yx", weights[:, :, view], moved)
    return Stitched(series, images, pieces, error)


@pytest.fixture(scope="module")
def gold() -> Stitched:
    return stitch(simulate(SMALL), SD_PX)


@pytest.fixture(scope="module")
def aligned(gold: Stitched) -> tuple[Alignment, Listener]:
    listener = Listener()
    return gold.align(told=True, listener=listener), listener


def test_beads_correct_the_places_of_the_pieces_and_the_error_is_claimed(gold, aligned):
    """0.158 px without and 0.034 px with the shifts; of the same series in one piece 0.020 px."""
    without, (found, listener) = gold.align(told=False), aligned
    assert gold.error(without) > 0.14
    assert gold.error(found) < 0.045
    assert found.pieces.used
    assert 0.6 < gold.error(found) / found.evidence.error_px < 1.6
    assert gold.error(without) > 2 * without.evidence.error_px
    assert any(text.startswith("the pieces of the montage are shifted by") for text in listener.notes)
    assert listener.numbers["placement_error"] == (found.pieces.error_px, "px")


def test_the_tracks_are_those_of_the_corrected_views(gold, aligned):
    found, _ = aligned
    true = np.swapaxes(gold.series.truth.beads_xy, 0, 1)
    moved = true + np.einsum("jvk,vka->jva", gold.pieces.weights(true), gold.error_px)
    for xy in found.tracks.xy:
        bead = np.nanargmin(np.nanmean(np.hypot(*np.moveaxis(xy - true, -1, 0)), axis=1))
        away, before = (np.nanmean((xy - each[bead]) ** 2) for each in (true, moved))
        assert away < before


def test_the_shifts_are_kept_with_the_alignment(tmp_path, aligned):
    found, _ = aligned
    write_alignment(tmp_path / "a_align.npz", found)
    again = read_alignment(tmp_path / "a_align.npz").pieces
    for name in ("found_px", "sd_px", "doubted", "shift_px"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found.pieces, name))
    for name in ("used", "leave_out_px", "error_px", "notes", "warnings"):
        assert getattr(again, name) == getattr(found.pieces, name)


def test_a_piece_on_which_the_beads_were_lost_is_warned_of(gold):
    """It jumped by 5 px, further than beads are looked for, so that no residual tells of it."""
    images, half = gold.images.copy(), gold.images.shape[1] // 2
    images[10, half:, :half] = ndimage.shift(images[10], (-3.0, 4.0), order=3, mode="nearest")[half:, :half]
    listener = Listener()
    found = replace(gold, images=images).align(told=True, listener=listener)
    assert np.argwhere(found.pieces.doubted).tolist() == [[10, 2]]
    assert any("tracks that belong there is seen on piece 3 of view 11: it may lie far" in text for text in listener.warnings)


def test_patches_see_the_pieces_that_they_reach_over(textured, coarse):
    made = stitch(textured, 0.3)
    start = Start(made.images, textured.nominal_deg, 10.0, np.ones(25, bool), coarse, AlignParams(), 2)
    with SILENT.stage("patches") as notes:
        without, found = (methods.BY_METHOD["patches"](each, notes) for each in (start, replace(start, pieces=made.pieces)))
    assert found.pieces.used
    assert made.error(found) < 0.95 * made.error(without)
    assert found.evidence.error_px > without.evidence.error_px
    assert 0.5 < made.error(found) / found.evidence.error_px < 2
    width, height = found.tracks.size_px[0]
    assert width == height < 192
    assert found.tracks.size_px[-1].tolist() == [256, 256]


def test_matching_with_projections_claims_the_error_of_the_stitching(textured, coarse):
    pieces = stitch(textured, 0.3).pieces
    start = Start(textured.images, textured.nominal_deg, 10.0, np.ones(25, bool), coarse, AlignParams(), 2)
    with SILENT.stage("projection") as notes:
        plain, told = (methods.BY_METHOD["projection"](each, notes) for each in (start, replace(start, pieces=pieces)))
    assert told.pieces is None
    assert told.evidence.error_px == pytest.approx(np.hypot(plain.evidence.error_px, 0.3 * np.sqrt(2)), rel=0.01)
