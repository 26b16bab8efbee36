"""A montage through batchruntomo: what it is given, and recorded runs of IMOD 4.8.2 that are printed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.montages import LABEL, PIECE, TILTS, VIEWS, coordinates, write_pieces

from tiltflow.engines.base import EngineJob
from tiltflow.engines.imod import ENGINE
from tiltflow.engines.imod.engine import reconstruct_series
from tiltflow.engines.imod.montage import blend_by, shift_from_displacements
from tiltflow.errors import EngineError
from tiltflow.formats.edge_displacements import read_edge_displacements
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.piece_lists import read_piece_list, render_piece_list
from tiltflow.formats.series import read_series
from tiltflow.formats.tilts import read_tilts, write_tilts
from tiltflow.model import Stack
from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage import MontageParams, PieceOffsets, measure_offsets
from tiltflow.recipe import BrtParameters, Recipe, make_recipe
from tiltflow.record import Recorder
from tiltflow.work import Site

BLENDS = ("xcorr.com", "preblend.com", "blend.com")


def job_of(source: Path, folder: Path, recipe: Recipe | None = None, *, audit: bool = True) -> EngineJob:
    workdir = folder / "work"
    workdir.mkdir()
    recipe = recipe or make_recipe(engine="imod")
    return EngineJob(
        read_series(source, recipe.hints), recipe, Site(), workdir, Recorder.start(folder / "run.json", source, "test")
    )


def recorded_job(data: Path, name: str, folder: Path, *, audit: bool = True) -> EngineJob:
    """Return the work on a series with the pieces of a recorded one, but small images, called `mine`."""
    source = folder / "mine.st"
    pieces = read_piece_list(data / "montage" / f"{name}.pl")
    noise = np.random.default_rng(1).normal(60, 10, (256, 256)).astype(np.float32)
    with MrcWriter(source, (len(pieces), 256, 256), np.int8, pixel_size_angstrom=10, labels=[LABEL], is_stack=True) as out:
        for _ in pieces:
            out.write(noise)
    source.with_suffix(".pl").write_text(render_piece_list(pieces))
    write_tilts(source.with_suffix(".rawtlt"), np.linspace(-60, 60, 21))
    return job_of(source, folder, audit=audit)


def directives_of(job: EngineJob) -> dict[str, str]:
    lines = job.path(".adoc").read_text().splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines if "=" in line)}


@pytest.mark.parametrize("beside", [("pl", "rawtlt"), ("header",), ("mdoc",), ("header", "mdoc", "rawtlt")])
@pytest.mark.parametrize("montage", [None, 1])
def test_pieces_and_angles_are_written_from_whatever_source_had_them(beside, montage, tmp_path, fake_imod):
    source = write_pieces(tmp_path / "B.st", coordinates(), beside)
    recipe = make_recipe(BrtParameters(montage=montage, focus=1), engine="imod")
    job = job_of(source, tmp_path, recipe)
    result = ENGINE.reconstruct(job)
    assert job.path(".pl").read_text() == render_piece_list(coordinates())
    np.testing.assert_allclose(read_tilts(job.path(".rawtlt")), TILTS)
    given = directives_of(job)
    assert {name: given.get(f"setupset.copyarg.{name}") for name in ("montage", "userawtlt", "extract", "firstinc", "focus")} == {
        "montage": "1",
        "userawtlt": "1",
        "extract": None,
        "firstinc": None,
        "focus": "1",
    }
    assert result.alignment is not None
    assert len(result.alignment.tilt_deg) == VIEWS
    assert [stage.name for stage in job.recorder.record.stages][:2] == ["stitching", "batchruntomo"]
    assert read_edge_displacements(job.path(".ecd"), PieceGrid.of_sections(coordinates(), (PIECE, PIECE))).shape == (VIEWS, 4, 2)


def test_an_ordinary_series_is_given_as_ever(tmp_path, fake_imod, write_series):
    job = job_of(write_series(tmp_path / "B.st"), tmp_path)
    ENGINE.reconstruct(job)
    given = directives_of(job)
    assert (given["setupset.copyarg.montage"], given["setupset.copyarg.extract"]) == ("0", "1")
    assert "setupset.copyarg.userawtlt" not in given
    assert not job.path(".pl").exists()
    assert (job.workdir / "arguments.log").read_text().split()[2:] == []


def test_gaps_of_z_are_closed_for_imod(tmp_path, fake_imod):
    pieces = coordinates()
    apart = pieces * (1, 1, 3) + (100, 50, 7)
    source = write_pieces(tmp_path / "B.st", apart)
    job = job_of(source, tmp_path)
    ENGINE.reconstruct(job)
    assert job.path(".pl").read_text() == render_piece_list(pieces)


def test_the_copy_of_a_tiff_has_all_pieces_with_the_tilt_of_their_view(tmp_path, fake_imod):
    import tifffile

    from tiltflow.formats.stacks import open_stack

    images = np.arange(4 * VIEWS * PIECE * PIECE, dtype=np.int16).reshape(-1, PIECE, PIECE)
    tifffile.imwrite(tmp_path / "B.tif", images, photometric="minisblack")
    (tmp_path / "B.pl").write_text(render_piece_list(coordinates()))
    write_tilts(tmp_path / "B.rawtlt", TILTS)
    job = job_of(tmp_path / "B.tif", tmp_path, make_recipe(overrides=["setupset.copyarg.pixel=1"], engine="imod"))
    ENGINE.reconstruct(job)
    with open_stack(job.path(".st")) as copy:
        assert copy.shape == images.shape
        assert copy.acquisition is not None
        np.testing.assert_allclose(copy.acquisition.tilt_deg, np.repeat(TILTS, 4))


@pytest.mark.parametrize(("run", "name", "mean_px"), [("montage_two_by_two", "n22", 0.686), ("montage_two_by_one", "n21", 0.198)])
def test_a_recorded_run_of_a_montage_gives_its_alignment(run, name, mean_px, data, tmp_path, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", f"replay:{run}")
    job = recorded_job(data, name, tmp_path)
    result = reconstruct_series(job, lambda job, raw: None)
    assert result.alignment is not None
    np.testing.assert_allclose(result.alignment.tilt_deg, np.loadtxt(data / "imod_runs" / run / f"{name}.tlt"))
    assert result.alignment.evidence.residual_mean_px == mean_px
    assert (job.workdir / "arguments.log").read_text().split() == ["-di", "mine.adoc"]
    assert any("the error of this alignment is not measured" in warning for warning in job.recorder.record.warnings)


def offsets_of(data: Path):
    """Return what finds the offsets by which the recorded run with displacements of its own was made, from these displacements."""

    def found(job: EngineJob, raw: Stack) -> PieceOffsets:
        grid = job.series.montage
        assert grid is not None
        blank = measure_offsets(raw, grid, job.series.tilt_deg, MontageParams())
        edges = read_edge_displacements(data / "imod_runs" / "montage_two_by_two_own_ecd" / "n22.ecd", grid)
        differences = np.zeros((len(grid.edges) + 1, grid.pieces))
        differences[-1] = 1  # offsets have the mean 0
        for row, edge in zip(differences, grid.edges, strict=False):
            row[edge.lower], row[edge.upper] = -1, 1
        wanted = np.concatenate([edges, np.zeros((grid.views, 1, 2))], axis=1)
        offsets = np.einsum("pe,vec->vpc", np.linalg.pinv(differences), wanted)
        return blank.with_offsets(offsets, blank.error_px)

    return found


def test_with_offsets_the_run_is_made_in_three_steps_and_its_command_files_are_those_that_were_edited_by_hand(
    data, tmp_path, fake_imod
):
    run = "montage_two_by_two_own_ecd"
    fake_imod.setenv("FAKE_BATCHRUNTOMO", f"replay:{run}")
    job = recorded_job(data, "n22", tmp_path, audit=False)
    result = reconstruct_series(job, offsets_of(data))
    folder = data / "imod_runs" / run
    for name in BLENDS:
        assert (job.workdir / name).read_text() == (folder / name).read_text().replace("n22", "mine"), name
    grid = job.series.montage
    assert grid is not None
    ours, theirs = (read_edge_displacements(path, grid) for path in (job.path(".ecd"), folder / "n22.ecd"))
    np.testing.assert_allclose(ours, theirs, atol=0.0021)  # both are rounded to 0.001, the offsets are sums of two
    assert result.alignment is not None
    assert result.alignment.evidence.residual_mean_px == 0.103
    assert (job.workdir / "arguments.log").read_text().split() == ["-di", "mine.adoc", "-start", "1"]
    log = (job.workdir / "batchruntomo.log").read_text()
    assert log.index("All command files successfully created") < log.index("Completed dataset mine")


def test_a_set_up_without_the_command_files_of_a_montage_is_explained(tmp_path):
    grid = PieceGrid.of_sections(coordinates(), (PIECE, PIECE))
    with pytest.raises(EngineError, match=r"set up the data set without xcorr\.com, by which pieces are blended"):
        blend_by(grid, np.zeros((grid.views, grid.pieces, 2)), tmp_path / "B.st")


@pytest.mark.parametrize("lost", ["ShiftPieces", "ReadInXcorrs"])
def test_command_files_of_another_form_are_refused(lost, data):
    text = (data / "imod_runs" / "montage_two_by_two" / "xcorr.com").read_text()
    shift_from_displacements(text, "xcorr.com")
    with pytest.raises(EngineError, match=r"xcorr\.com of this version of IMOD has no "):
        shift_from_displacements("\n".join(line for line in text.splitlines() if lost not in line), "xcorr.com")


def test_editing_a_command_file_twice_is_editing_it_once(data):
    once = shift_from_displacements((data / "imod_runs" / "montage_two_by_two" / "blend.com").read_text(), "blend.com")
    assert shift_from_displacements(once, "blend.com") == once


def test_copies_of_pieces_and_stitched_views_count_in_the_plan(tmp_path, write_series):
    recipe = make_recipe(engine="imod")
    montage = read_series(write_pieces(tmp_path / "B.st", coordinates()))
    whole = read_series(write_series(tmp_path / "W.st", views=VIEWS, size=montage.shape[1]))
    more = ENGINE.plan(montage, recipe, 1).scratch - ENGINE.plan(whole, recipe, 1).scratch
    pieces, views = 4 * VIEWS * PIECE**2 * 2, VIEWS * montage.shape[1] ** 2 * 2
    assert more == 2 * (pieces - views) + views
