"""An alignment that is given: a whole run with it, its import, what is kept of an earlier run, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import tiltflow
from tiltflow import geometry
from tiltflow.cli import app
from tiltflow.demo import write_series
from tiltflow.errors import LocationError, UnsupportedError
from tiltflow.formats.tilts import read_tilts, render_tilts
from tiltflow.formats.transforms import read_transforms, render_transforms
from tiltflow.pipeline import look_back, process
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.report.methods import describe_methods
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

VIEWS = 21


@pytest.fixture(scope="module")
def made():
    return simulate(SimulationParams(seed=8, size=192, views=VIEWS, beads=10, thickness_px=50, pixel_nm=2, bead_nm=20), threads=2)


@pytest.fixture
def site(tmp_path):
    return Site(scratch=tmp_path, threads=2)


@pytest.fixture
def folder(tmp_path, made):
    """The series B.st in `input`, and the true alignment of it in `given`, without view 3."""
    (tmp_path / "input").mkdir()
    write_series(tmp_path / "input" / "B.st", made)
    given = tmp_path / "given"
    given.mkdir()
    kept = np.delete(np.arange(VIEWS), 2)
    (given / "B.xf").write_text(render_transforms(made.truth.transforms()[kept]))
    (given / "B.tlt").write_text(render_tilts(made.truth.nominal_deg[kept]))
    return tmp_path


@pytest.fixture
def command(folder, monkeypatch):
    monkeypatch.setenv("TILTFLOW_SCRATCH", str(folder / "scratch"))
    monkeypatch.chdir(folder)
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


def recipe_for(folder, **more):
    return make_recipe(BrtParameters(gold=20, thickness=50), alignment=folder / "given", **more)


def test_a_run_with_a_given_alignment(folder, made, site):
    result = process(folder / "input" / "B.st", recipe_for(folder), site, output=folder / "out")
    assert result.ok, result.message
    record = read_record(folder / "out" / "run.json")
    names = [stage.name for stage in record.stages]
    assert "alignment given" in names
    assert "audit" in names
    assert "coarse alignment" not in names
    assert record.alignment.method == "given"
    assert record.alignment.error_px < 0.5
    assert record.alignment.excluded_views == {3: "is left out by the alignment of IMOD"}
    assert record.given_alignment.program == "IMOD"
    assert [file.path.rsplit("/", 1)[1] for file in record.given_alignment.files] == ["B.xf", "B.tlt"]
    written = read_transforms(folder / "out" / "B.xf")
    assert len(written) == len(read_tilts(folder / "out" / "B.tlt")) == VIEWS
    np.testing.assert_allclose(np.delete(written, 2, axis=0), np.delete(made.truth.transforms(), 2, axis=0), atol=6e-4)
    assert result.assets
    text = describe_methods(record).text
    assert "The alignment was made with IMOD and taken from its files (B.xf, B.tlt)." in text
    assert "aligned coarsely" not in text


def test_imods_local_areas_come_in_with_their_alignment(folder, site):
    area = "0 " * (VIEWS - 1) + "\n" + "1 0 0 1 0 0\n" * (VIEWS - 1)
    (folder / "given" / "Blocal.xf").write_text("2 2 48 48 96 96 0 20 0\n" + 4 * area)
    result = process(folder / "input" / "B.st", recipe_for(folder), site, output=folder / "out")
    assert result.ok, result.message
    record = read_record(folder / "out" / "run.json")
    assert record.alignment.local_areas == 4
    assert (folder / "out" / "B_local.json").is_file()
    assert [file.path.rsplit("/", 1)[1] for file in record.given_alignment.files] == ["B.xf", "B.tlt", "Blocal.xf"]


def test_an_import_writes_the_alignment_with_its_audit_and_no_volume(command, folder):
    result = command("import", "input/B.st", "--alignment", "given", "-o", "out", "--gold", 20)
    assert result.exit_code == 0, result.output
    kept = {path.name for path in (folder / "out" / "B").iterdir()}
    assert {"B.xf", "B.tlt", "B.xtilt", "B_align.json", "run.json", "report.html"} <= kept
    assert not [name for name in kept if name.endswith(".mrc")]
    record = read_record(folder / "out" / "B" / "run.json")
    assert record.status == "success"
    assert record.parts == ["alignment"]
    assert record.alignment.error_px < 0.5
    assert record.verdict is not None
    assert json.loads((folder / "out" / "B" / "B_align.json").read_text())["method"] == "given"
    assert "were reconstructed" not in describe_methods(record).text


def test_no_run_takes_an_import_for_its_result(command, folder):
    command("import", "input/B.st", "--alignment", "given", "-o", "out", "--gold", 20)
    source, output = (folder / "input" / "B.st").resolve(), folder / "out" / "B"
    assert look_back(source, recipe_for(folder), output).result is None
    assert "the recipe differs" in look_back(source, recipe_for(folder), output).why


def test_an_import_that_fails_says_why(command, folder):
    (folder / "given" / "B.tlt").write_text("1\n")
    result = command("import", "input/B.st", "--alignment", "given/B.xf", "-o", "out")
    assert result.exit_code == 3
    assert "has 20 transforms, and B.tlt has 1 angles" in " ".join(result.output.split())
    failure = read_record(folder / "out" / "B" / "run.json").failure
    assert failure.stage == "alignment given"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "input", "-o", "out", "--alignment", "absent"), "there is no such file or folder of alignments"),
        (("run", "input", "-o", "out", "--alignment", "input/B.st"), "is not an alignment that can be read"),
        (("run", "input", "-o", "out", "--alignment", "given", "--engine", "imod"), "take native (--engine)"),
        (("import", "input/B.st", "-o", "out", "--alignment", "absent"), "there is no such file or folder of alignments"),
        (("import", "input/C.st", "-o", "out", "--alignment", "given"), "C.st"),
    ],
)
def test_a_request_that_makes_no_sense_ends_with_status_2_before_any_work(command, arguments, said):
    result = command(*arguments)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())


def test_the_front_door_takes_an_alignment(folder, site, monkeypatch):
    monkeypatch.setenv("TILTFLOW_SCRATCH", str(folder))
    with pytest.raises(LocationError, match="no such file or folder"):
        tiltflow.run(folder / "input", folder / "out", alignment=folder / "absent", thickness=50)


def test_a_given_alignment_needs_an_engine_that_can_use_it(folder):
    assert recipe_for(folder).engine == "native"
    assert recipe_for(folder, engine="best", fallback_engine="imod").fallback_engine == "off"
    with pytest.raises(UnsupportedError, match=r"The engine imod aligns by itself .* take native"):
        recipe_for(folder, engine="imod")


def earlier(folder, site):
    """Return the source, the recipe and the folder of a finished run."""
    recipe, source, output = recipe_for(folder), folder / "input" / "B.st", folder / "out"
    assert process(source, recipe, site, output=output).ok
    return source, recipe, output


def test_what_the_files_held_decides_whether_a_result_is_kept(folder, site):
    source, recipe, output = earlier(folder, site)
    assert look_back(source, recipe, output).why is None
    assert look_back(source, recipe, output).result is not None
    given = folder / "given"
    given.rename(folder / "moved")
    moved = make_recipe(BrtParameters(gold=20, thickness=50), alignment=folder / "moved" / "B.xf")
    assert look_back(source, moved, output).why is None, "the same alignment at another place"
    assert "the alignment cannot be read" in look_back(source, recipe, output).why
    assert look_back(source, make_recipe(BrtParameters(gold=20, thickness=50), engine="native"), output).why == "the recipe differs"
    transforms = read_transforms(folder / "moved" / "B.xf")
    (folder / "moved" / "B.xf").write_text(render_transforms(geometry.compose(transforms, geometry.transform(np.eye(2), (1, 0)))))
    assert look_back(source, moved, output).why == "another alignment is given"
    (folder / "moved" / "B.xf").write_text(render_transforms(transforms))
    (folder / "moved" / "B.xtilt").write_text("1\n" * len(transforms))
    assert look_back(source, moved, output).why == "another alignment is given", "a file beside it counts as well"
