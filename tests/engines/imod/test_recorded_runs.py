"""The IMOD engine on runs that IMOD 4.8.2 did: each is printed again line by line, and has the outcome that it had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tiltflow.engines.base import EngineJob
from tiltflow.engines.imod import ImodEngine
from tiltflow.errors import EngineError
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.series import read_series
from tiltflow.model import Reconstruction
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.work import Site

METHOD = {
    "patches": {"tracking_method": 1},
    "fiducialless": {"fiducialless": 1},
    "cryo_patches_robust_fails": {"tracking_method": 1},
}
COMPLETED = ("gold", "patches", "fiducialless", "two_surfaces_local", "cryo_patches_robust_fails")
FAILED = ("no_beads_fails", "cryo_gold_fails")


class Replay:
    """A series of 41 views in `NAME.mrc`, and the engine's work on it."""

    def __init__(self, folder: Path, run: str, write_series: Callable[..., Path]) -> None:
        source = write_series(folder / "mine.mrc", views=41, size=32)
        recorder = Recorder.start(folder / "run.json", source, "test")
        self.fractions: list[float] = []
        recorder.on_progress = lambda stage, fraction: self.fractions.append(fraction) if stage == "batchruntomo" else None
        workdir = folder / "work"
        workdir.mkdir()
        recipe = make_recipe(BrtParameters(**METHOD.get(run, {})), engine="imod")
        self.job = EngineJob(read_series(source), recipe, Site(), workdir, recorder)

    def reconstruct(self) -> Reconstruction:
        return ImodEngine().reconstruct(self.job)

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.job.workdir.iterdir()}


@pytest.fixture
def replay(request, tmp_path, fake_imod, write_series) -> Replay:
    fake_imod.setenv("FAKE_BATCHRUNTOMO", f"replay:{request.param}")
    return Replay(tmp_path, request.param, write_series)


def recorded(data: Path, run: str, suffix: str) -> np.ndarray:
    (path,) = [path for path in (data / "imod_runs" / run).iterdir() if path.name in (f"g33{suffix}", f"two{suffix}")]
    return np.loadtxt(path)


@pytest.mark.parametrize(("replay", "run"), [(run, run) for run in COMPLETED], indirect=["replay"])
def test_a_run_that_completed_gives_its_alignment_and_its_volume(replay, run, data):
    result = replay.reconstruct()
    assert result.alignment is not None
    np.testing.assert_allclose(result.alignment.tilt_deg, recorded(data, run, ".tlt"), atol=1e-6)
    np.testing.assert_allclose(np.asarray(result.alignment.transforms)[:, 0, 0], recorded(data, run, ".xf")[:, 0], atol=1e-6)
    assert (result.volume.name, result.aligned.name) == ("mine_rec.mrc", "mine_ali.mrc")
    assert open_mrc(result.aligned).shape[0] == 41
    assert {"mine.st", "mine_xray.st.gz", "mine.preali", "align.com"} <= replay.files
    assert "mine.mrc" not in replay.files
    assert not any(name.startswith(("g33", "two")) for name in replay.files)


@pytest.mark.parametrize(
    ("replay", "mean_px"),
    [
        ("gold", 0.083),
        ("patches", 0.232),
        ("fiducialless", None),
        ("two_surfaces_local", 0.149),
        ("cryo_patches_robust_fails", 5.351),
    ],
    indirect=["replay"],
)
def test_its_residual_is_the_one_that_tiltalign_printed(replay, mean_px):
    alignment = replay.reconstruct().alignment
    assert alignment is not None
    assert alignment.evidence.residual_mean_px == mean_px


@pytest.mark.parametrize(
    ("replay", "complaint"),
    [
        ("gold", None),
        ("patches", None),
        ("fiducialless", None),
        ("two_surfaces_local", None),
        ("cryo_patches_robust_fails", "ERROR: TILTALIGN - TOO FEW DATA POINTS TO DO ROBUST FITTING"),
    ],
    indirect=["replay"],
)
def test_what_imod_complained_of_and_went_on_is_a_warning(replay, complaint):
    replay.reconstruct()
    complaints = [warning for warning in replay.job.recorder.record.warnings if "ERROR" in warning]
    assert bool(complaints) == (complaint is not None)
    assert complaint is None or any(complaint in warning for warning in complaints)


@pytest.mark.parametrize(
    ("replay", "says"),
    [
        ("no_beads_fails", ["mine.mrc", "autofidseed.com", "status 1", "ABORT SET: An error occurred running autofidseed.com"]),
        ("cryo_gold_fails", ["mine.mrc", "align.com", "Weighting whole contours can be done only with a patch track model"]),
    ],
    indirect=["replay"],
)
def test_a_failure_names_the_command_file_and_quotes_imods_own_sentence(replay, says):
    with pytest.raises(EngineError) as caught:
        replay.reconstruct()
    for text in says:
        assert text in str(caught.value)


@pytest.mark.parametrize(("replay", "run"), [(run, run) for run in (*COMPLETED, *FAILED)], indirect=["replay"])
def test_progress_rises_and_never_falls(replay, run):
    if run in FAILED:
        with pytest.raises(EngineError):
            replay.reconstruct()
    else:
        replay.reconstruct()
    assert len(set(replay.fractions)) >= 5
    assert replay.fractions == sorted(replay.fractions)
    assert max(replay.fractions) <= 1


@pytest.mark.parametrize("replay", ["gold"], indirect=True)
def test_the_log_speaks_of_this_series(replay):
    replay.reconstruct()
    log = (replay.job.workdir / "batchruntomo.log").read_text()
    assert "Starting data set mine\n" in log
    assert "Running trimvol on mine_full.rec to create mine.rec\n" in log
    assert "g33" not in log + (replay.job.workdir / "align.log").read_text()


def test_beads_with_whole_tracks_weighed_are_refused_by_tiltalign(tmp_path, fake_imod, write_series):
    """What tiltalign does with a directive that only patches may have, whatever template it comes from."""
    job = Replay(tmp_path, "gold", write_series).job
    wrong = make_recipe(overrides=["comparam.align.tiltalign.WeightWholeTracks=1"], engine="imod")
    with pytest.raises(EngineError, match="only with a patch track model"):
        ImodEngine().reconstruct(EngineJob(job.series, wrong, job.site, job.workdir, job.recorder))


@pytest.mark.parametrize("method", [{}, {"tracking_method": 1}, {"fiducialless": 1}])
def test_the_cryo_template_is_not_refused_for_any_method(tmp_path, fake_imod, write_series, method):
    job = Replay(tmp_path, "gold", write_series).job
    recipe = make_recipe(BrtParameters(**method), "cryo_brt", engine="imod")
    assert ImodEngine().reconstruct(EngineJob(job.series, recipe, job.site, job.workdir, job.recorder)).volume.is_file()
