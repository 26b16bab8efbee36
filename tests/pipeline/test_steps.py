"""Which steps are taken over and which are made again: a table of changes, and that what is taken over is what would be made."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.place import Place

from tiltflow.demo import write_series
from tiltflow.formats.alignment_archive import read_alignment
from tiltflow.formats.mrc import open_mrc
from tiltflow.pipeline import Job, SeriesProgress, process, product_step, reconstruct_step
from tiltflow.products import catalogue
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record.steps import step_key
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

pytestmark = pytest.mark.whole

SIMULATED = SimulationParams(size=192, views=21, beads=12, thickness_px=50, pixel_nm=2, bead_nm=20)
ALIGNMENT = {"alignment", "aligned stack", "gen_tilt_movie", "gen_thumbs"}
VOLUME = {"reconstruction", "measure", "gen_ave_mrc", "gen_recon_movie", "gen_ave_8_vol", "gen_zarr"}
LEVELLED = ["runtime.Positioning.any.sampleType=1"]


@dataclass
class Work(Place):
    """A series in a folder of its own, and its results."""

    site: Site

    def recipe(self, directives: tuple[str, ...] | list[str] = (), engine: str = "native", **asked: Any):
        return make_recipe(replace(BrtParameters(gold=20, thickness=60), **asked), overrides=directives, engine=engine)

    def run(self, directives: tuple[str, ...] | list[str] = (), **more: Any) -> set[str]:
        """Process the series and return the names of the steps that were made."""
        keywords = {name: more.pop(name) for name in ("redo", "keep_volumes", "on_progress") if name in more}
        result = process(self.source, self.recipe(directives, **more), self.site, output=self.output, **keywords)
        assert result.ok, result.message
        return {step.name for step in self.record.steps if not step.kept}

    def volume(self) -> np.ndarray:
        with open_mrc(self.output / "B_rec.mrc") as file:
            return np.array(file.read_block())


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a series with gold; those that change it copy the folder."""
    folder = tmp_path_factory.mktemp("first")
    write_series(folder / "B.st", simulate(SIMULATED))
    assert Work(folder, Site(scratch=folder / "scratch", threads=2)).run() == ALIGNMENT | VOLUME
    return folder


@pytest.fixture
def work(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """The same run, as if it had been done here: the record names this folder, and the key of the input is this stack's."""
    folder = tmp_path / "work"
    shutil.copytree(first, folder)
    place = Work(folder, Site(scratch=folder / "scratch", threads=2))
    shutil.rmtree(place.output)
    monkeypatch.chdir(tmp_path)
    place.run()
    return place


def more_rows(work: Work) -> None:
    work.source.with_suffix(".rawtlt").write_text("".join(f"{tilt:.2f}\n" for tilt in np.linspace(-59, 61, 21)))


@pytest.mark.parametrize(
    ("directives", "asked", "made"),
    [
        pytest.param(["comparam.tilt.tilt.RADIAL=0.25,0.03"], {}, VOLUME, id="filter of the reconstruction"),
        pytest.param([], {"thickness": 80}, VOLUME, id="thickness"),
        pytest.param(["comparam.tilt.tilt.FakeSIRTiterations=10"], {}, VOLUME, id="filter like SIRT"),
        pytest.param(["runtime.Trimvol.any.reorient=1"], {}, VOLUME, id="orientation of the volume"),
        pytest.param(
            ["runtime.AlignedStack.any.binByFactor=2"], {}, {"aligned stack", "gen_tilt_movie", "gen_thumbs"} | VOLUME, id="binning"
        ),
        pytest.param(["comparam.align.tiltalign.MagOption=0"], {}, ALIGNMENT | VOLUME, id="variables of the alignment"),
        pytest.param(["setupset.copyarg.skip=3"], {}, ALIGNMENT | VOLUME, id="views left out"),
        pytest.param(["comparam.eraser.ccderaser.PeakCriterion=9"], {}, ALIGNMENT | VOLUME, id="x-rays"),
        pytest.param([], {"gold": 21}, ALIGNMENT | VOLUME, id="diameter of the gold"),
        pytest.param([], {"fiducialless": 1}, ALIGNMENT | VOLUME, id="method"),
        pytest.param(
            LEVELLED, {}, {"positioning", "aligned stack", "gen_tilt_movie", "gen_thumbs"} | VOLUME, id="positioning switched on"
        ),
        pytest.param(["runtime.Combine.any.patchSize=M"], {}, set(), id="a directive that this engine ignores"),
        pytest.param(["runtime.Tiltflow.any.halfVolumes=1"], {}, {"half volumes"}, id="half volumes as well"),
    ],
)
def test_what_a_changed_directive_makes_again(work, directives, asked, made):
    assert work.run(directives, **asked) == made


def test_with_positioning_another_thickness_positions_again_and_tracks_nothing(work):
    work.run(LEVELLED)
    made = work.run(LEVELLED, thickness=70)
    assert "positioning" in made
    assert "alignment" not in made


@pytest.mark.parametrize(
    ("step", "made"),
    [
        ("gen_zarr", {"gen_zarr"}),
        ("gen_tilt_movie", {"gen_tilt_movie", "gen_thumbs"}),
        ("gen_thumbs", {"gen_thumbs"}),
        ("gen_ave_mrc", {"gen_ave_mrc", "gen_recon_movie", "gen_ave_8_vol"}),
        ("gen_recon_movie", {"gen_recon_movie"}),
    ],
)
def test_a_product_step_with_a_higher_number_is_made_again_with_what_is_made_from_it(work, monkeypatch, step, made):
    steps = tuple(replace(each, number=each.number + (each.name == step)) for each in catalogue.STEPS)
    for module in ("products.catalogue", "pipeline.steps", "pipeline.step_book", "pipeline.step_loop"):
        monkeypatch.setattr(f"tiltflow.{module}.STEPS", steps)
    assert work.run() == made


def test_angles_put_beside_the_stack_make_everything_again(work):
    more_rows(work)
    assert work.run() == ALIGNMENT | VOLUME
    assert work.record.alignment.tilt_deg[0] == pytest.approx(-59, abs=1)


def test_redo_makes_everything_again(work):
    assert work.run(redo=True) == ALIGNMENT | VOLUME


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("B_rec.mrc", {"reconstruction"}),
        ("B_ali.mrc", {"aligned stack"}),
        ("B_align.npz", {"alignment"}),
        ("keyMov_B.mp4", {"gen_recon_movie"}),
        ("B_rec.zarr", {"gen_zarr"}),
    ],
)
@pytest.mark.parametrize("damage", ["removed", "cut off"])
def test_a_file_that_is_gone_or_shorter_is_made_again_and_nothing_else(work, name, made, damage):
    path = work.output / name
    if path.is_dir() and damage == "cut off":
        path = max((each for each in path.rglob("*") if each.is_file()), key=lambda each: each.stat().st_size)
    if damage == "removed":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    (work.output / "tiltMov_B.mp4").unlink()  # so that the run looks closely
    assert work.run() == made | {"gen_tilt_movie"}


def test_what_is_taken_over_is_what_would_be_made(work):
    work.run(thickness=80)
    taken, record = work.volume(), work.record
    work.run(thickness=80, redo=True)
    np.testing.assert_array_equal(work.volume(), taken)
    anew = work.record
    assert anew.alignment == record.alignment
    assert anew.volume == record.volume
    assert [(each.path, each.bytes) for each in anew.products] == [(each.path, each.bytes) for each in record.products]
    assert [stage.name for stage in record.stages if stage.status == "kept"][:3] == ["x-rays", "views", "coarse alignment"]
    notes = [note for stage in record.stages for note in stage.notes if note.startswith("taken over from the run of")]
    assert notes


def test_there_and_back_gives_the_first_volume_again(work):
    before = work.volume()
    work.run(["comparam.tilt.tilt.RADIAL=0.25,0.03"])
    assert not np.array_equal(work.volume(), before)
    assert work.run() == VOLUME
    np.testing.assert_array_equal(work.volume(), before)


def interrupt_at(stage: str):
    def report(progress: SeriesProgress) -> None:
        if progress.stage == stage:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("spelled", ["absolute", "relative", "through a link"])
def test_an_interrupted_run_goes_on_from_the_last_finished_step(work, spelled):
    shutil.rmtree(work.output)
    if spelled == "relative":
        work.folder = Path(work.folder.name)
    elif spelled == "through a link":
        Path("link").symlink_to(work.folder)
        work.folder = Path("link")
    with pytest.raises(KeyboardInterrupt):
        work.run(on_progress=interrupt_at("gen_recon_movie"))
    assert not (work.output / "tiltMov_B.mp4").exists()
    assert work.run() == {"gen_recon_movie", "gen_ave_8_vol", "gen_zarr"}
    assert not list(work.output.glob(".*"))
    assert not [path for path in work.output.iterdir() if path.is_symlink()]
    assert not list((work.folder / "scratch").iterdir())


def test_a_product_that_a_killed_run_made_gives_way_to_the_one_that_is_asked_for(work, tmp_path):
    killed = tmp_path / "killed"
    killed.mkdir()
    job = Job(work.source, work.recipe(["comparam.tilt.tilt.RADIAL=0.25,0.03"]), work.site, work.output, killed)
    reconstruct_step(job)
    for step in catalogue.STEPS:
        product_step(job, step.name)
    shutil.rmtree(killed)
    (work.output / "tiltMov_B.mp4").unlink()
    assert (work.output / ".tiltflow-staging-unfinished" / "B_rec.zarr").is_dir()
    assert work.run() == {"gen_tilt_movie", "measure"}  # the killed run put its pictures in the place of the finished one's
    assert not list(work.output.glob(".*"))


def test_an_unexpected_error_while_results_are_published_costs_this_series_alone(work, monkeypatch):
    shutil.rmtree(work.output)
    monkeypatch.setattr("tiltflow.pipeline.steps.publish_products", lambda *_: 1 / 0)
    result = process(work.source, work.recipe(), work.site, output=work.output)
    assert not result.ok
    assert (result.stage, work.record.failure.kind) == ("publish", "defect")


def test_a_killed_run_goes_on_from_the_last_finished_step(work, tmp_path):
    shutil.rmtree(work.output)
    killed = tmp_path / "killed"
    killed.mkdir()
    reconstruct_step(Job(work.source, work.recipe(), work.site, work.output, killed))
    shutil.rmtree(killed)  # nothing else of that run happens, and its scratch is lost
    assert work.run() == {step.name for step in catalogue.STEPS}


def test_a_failed_product_costs_no_alignment(work, monkeypatch):
    shutil.rmtree(work.output)
    with monkeypatch.context() as patch:
        patch.setattr("tiltflow.products.movies.make_section_movie", lambda *_a, **_k: 1 / 0)
        assert not process(work.source, work.recipe(), work.site, output=work.output).ok
    assert not list(work.output.glob(".*"))
    assert "alignment" not in work.run()


def test_without_volumes_only_the_alignment_is_taken_over(work):
    shutil.rmtree(work.output)
    work.run(keep_volumes=False)
    made = work.run(keep_volumes=False, thickness=80)
    assert "alignment" not in made
    assert {"aligned stack", "reconstruction"} <= made


def test_all_work_of_imod_is_one_step(work, fake_imod):
    assert {"engine", "gen_zarr"} <= work.run(engine="imod")
    (work.output / "B_rec.zarr").rename(work.folder / "away")
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    assert work.run(engine="imod") == {"gen_zarr"}
    assert work.record.engine.name == "imod"
    assert work.record.alignment.residual_mean_px is not None
    assert not process(work.source, work.recipe(engine="imod", thickness=61), work.site, output=work.output).ok


def test_a_list_of_steps_that_cannot_be_read_keeps_nothing(work):
    (work.output / "B_steps.json").write_text("{")
    (work.output / "tiltMov_B.mp4").unlink()
    assert work.run() == ALIGNMENT | VOLUME


def test_the_alignment_is_kept_as_it_was_computed(work):
    alignment = read_alignment(work.output / "B_align.npz")
    assert alignment.evidence.error_px == pytest.approx(work.record.alignment.error_px)
    assert alignment.tracks is not None
    kept = json.loads((work.output / "B_align.json").read_text())
    np.testing.assert_allclose(alignment.tilt_deg, kept["tilt_deg"], atol=1e-3)


def test_a_key_depends_on_all_that_it_is_given_and_on_nothing_else():
    keys = {
        step_key(*asked)
        for asked in [
            ("a", 1, [], 1),
            ("b", 1, [], 1),
            ("a", 2, [], 1),
            ("a", 1, ["k"], 1),
            ("a", 1, [], 2),
            ("a", 1, [], {"x": 1}),
            ("a", 1, [], BrtParameters()),
            ("a", 1, [], BrtParameters(gold=11)),
        ]
    }
    assert len(keys) == 8
    assert step_key("a", 1, ("k",), {"x": 1, "y": (2,)}) == step_key("a", 1, ["k"], {"y": [2], "x": 1})
    with pytest.raises(TypeError, match="cannot be part of a key"):
        step_key("a", 1, [], object())
