"""A montage through tiltflow's own engine: from pieces to products, with a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.montages import write_simulated
from typer.testing import CliRunner

import tiltflow
from tiltflow.cli import app
from tiltflow.engines.stitching import read_offsets, write_offsets
from tiltflow.errors import FormatError
from tiltflow.formats.alignment_archive import read_alignment
from tiltflow.formats.mrc import open_mrc
from tiltflow.preprocess.montage import PieceOffsets
from tiltflow.record import SeriesRecord, read_record
from tiltflow.report import PAGE_NAME
from tiltflow.simulate.montage import PieceFaults, SimulatedMontage, simulate_montage
from tiltflow.simulate.parameters import SimulationParams

VIEWS, PIECE, OVERLAP = 13, 160, 32
MISSING, BLANK = (3, 1), (8, 2)


@pytest.fixture(scope="module")
def simulated() -> SimulatedMontage:
    params = SimulationParams(size=PIECE, views=VIEWS, beads=18, bead_nm=10, thickness_px=60, max_tilt_deg=54, seed=4)
    return simulate_montage(params, overlap_px=OVERLAP, faults=PieceFaults(missing=(MISSING,), blank=(BLANK,)))


@pytest.fixture(scope="module")
def folder(simulated: SimulatedMontage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the series in `in`, and its result, made by the command, in `out`."""
    folder = tmp_path_factory.mktemp("montage")
    (folder / "in").mkdir()
    write_simulated(folder / "in" / "M.st", simulated)
    result = run(folder)
    assert result.exit_code == 0, result.output
    return folder


def run(folder: Path, *more: str):
    options = ["--gold", "10", "--thickness", "80", "--engine", "native", "--set", "runtime.AlignedStack.any.binByFactor=2"]
    return CliRunner().invoke(app, ["run", str(folder / "in"), "-o", str(folder / "out"), *options, *more])


def record_of(folder: Path) -> SeriesRecord:
    return read_record(folder / "out" / "M" / "run.json")


def found_in(folder: Path) -> tuple[PieceOffsets, np.ndarray]:
    """Return the offsets that were measured, and those that the tracks corrected."""
    out = folder / "out" / "M"
    offsets, alignment = read_offsets(out / "M_montage.npz"), read_alignment(out / "M_align.npz")
    shift = 0 if alignment.pieces is None else alignment.pieces.shift_px
    return offsets, offsets.offset_px - shift


def test_there_are_seven_products_a_page_and_a_verdict(folder: Path) -> None:
    record = record_of(folder)
    assert record.status == "success"
    assert len(record.products) == 7
    assert record.verdict is not None
    page = (folder / "out" / "M" / PAGE_NAME).read_text()
    assert "the pieces of the montage are placed to" in page.lower()
    assert "Worst seam of the montage" in page
    assert (folder / "out" / "M" / "report" / "seam.jpg").is_file()


def test_views_are_counted_by_tilts_and_have_the_size_of_the_frame(folder: Path, simulated: SimulatedMontage) -> None:
    with open_mrc(folder / "out" / "M" / "M_ali.mrc") as aligned:
        assert aligned.shape == (VIEWS, *(n // 2 for n in simulated.grid.frame_shape))
    assert len((folder / "out" / "M" / "M.xf").read_text().splitlines()) == VIEWS


def test_pieces_are_placed_to_a_fraction_of_a_pixel_and_the_error_is_claimed(folder: Path, simulated: SimulatedMontage) -> None:
    offsets, corrected = found_in(folder)
    sound = simulated.grid.taken & ~offsets.blank
    written, measured, after = (
        np.sqrt(np.nanmean(simulated.placement_error(each)[sound] ** 2)) for each in (0 * corrected, offsets.offset_px, corrected)
    )
    assert written > 2
    assert measured < 0.25
    assert after < 1.1 * measured
    entry = record_of(folder).montage
    assert entry is not None
    # Of both coordinates, as the distance is; claimed within a factor of two.
    assert 0.5 < np.sqrt((offsets.error_px[sound] ** 2).sum(axis=-1).mean()) / measured < 2
    assert entry.moved_px == pytest.approx(written, abs=0.5)


def test_the_alignment_of_stitched_views_is_as_good_as_it_says(folder: Path, simulated: SimulatedMontage) -> None:
    from tiltflow.simulate.scoring import score

    _, corrected = found_in(folder)
    alignment = read_alignment(folder / "out" / "M" / "M_align.npz")
    true_px = score(simulated.truth_as_stitched(corrected), alignment.transforms, alignment.tilt_deg).rms_px
    claimed = record_of(folder).alignment
    assert claimed is not None
    assert claimed.error_px is not None
    assert true_px < 0.25
    assert 0.5 < claimed.error_px / true_px < 2.5


def test_missing_and_blank_pieces_are_told(folder: Path) -> None:
    entry = record_of(folder).montage
    assert entry is not None
    named = [(view + 1, piece) for view, piece in (MISSING, BLANK)]
    # The simulator numbers pieces y fastest, the grid x fastest: of 2 x 2, the second and third change places.
    as_grid = {0: 1, 1: 3, 2: 2, 3: 4}
    assert entry.pieces_missing == [(named[0][0], as_grid[named[0][1]])]
    assert entry.pieces_blank == [(named[1][0], as_grid[named[1][1]])]
    page = (folder / "out" / "M" / PAGE_NAME).read_text()
    assert "never taken: filled with the mean of the view" in page


def test_a_second_run_takes_the_stitching_over(folder: Path) -> None:
    result = run(folder, "--set", "comparam.tilt.tilt.THICKNESS=60")
    assert result.exit_code == 0, result.output
    record = record_of(folder)
    kept = {step.name for step in record.steps if step.kept}
    assert "alignment" in kept
    assert record.montage is not None
    assert (folder / "out" / "M" / "M_montage.npz").is_file()


def test_a_notebook_reads_stitched_views(folder: Path, simulated: SimulatedMontage) -> None:
    series = tiltflow.read(folder / "in" / "M.st")
    assert series.shape == (VIEWS, *simulated.grid.frame_shape)
    assert series.images is not None
    assert series.images[0].shape == simulated.grid.frame_shape
    alignment = tiltflow.align(series, "coarse")
    aligned = tiltflow.apply(series, alignment, binning=4)
    assert aligned.images.shape[0] == VIEWS


def test_offsets_are_read_as_they_were_written(folder: Path, tmp_path: Path) -> None:
    offsets, _ = found_in(folder)
    write_offsets(tmp_path / "again.npz", offsets)
    again = read_offsets(tmp_path / "again.npz")
    np.testing.assert_array_equal(again.offset_px, offsets.offset_px)
    np.testing.assert_array_equal(again.gray.log_gain, offsets.gray.log_gain)
    np.testing.assert_array_equal(again.edges.doubted, offsets.edges.doubted)
    assert again.warnings == offsets.warnings
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(FormatError, match=r"bad\.npz"):
        read_offsets(tmp_path / "bad.npz")
