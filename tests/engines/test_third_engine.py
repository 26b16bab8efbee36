"""A third engine, as anybody may install one: nothing of tiltflow is touched, and all of it knows the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.engines.registry import choose_engine
from tiltflow.errors import ParameterError
from tiltflow.pipeline import process
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.recipe.engine_rules import engine_names
from tiltflow.record import read_record
from tiltflow.report.methods import describe_methods
from tiltflow.settings import load_settings, site_from

ENGINE = '''
"""Averages nothing, aligns nothing: it hands the views on as they are, under the names that engines meet at."""

import numpy as np

from tiltflow.engines import requirements
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.stacks import open_stack
from tiltflow.formats.tilts import write_tilts
from tiltflow.formats.transforms import write_transforms
from tiltflow.model import Reconstruction
from tiltflow.recipe.engine_rules import DirectiveRules, EngineOption
from tiltflow.record.sentences import EngineMethods


class StackingEngine:
    name = "stacking"
    title = "the stacking engine"
    rules = DirectiveRules()
    options = (
        EngineOption("stacking_slices", "8", "Slices of the volume."),
        EngineOption("stacking_trace", False, "Keep a trace.", on_command_line=True),
    )
    preference = -1
    step_numbers = {}
    version = "stacking 1.0"

    def available(self):
        return "it is installed"

    def unavailable(self):
        return ""

    def check(self, job):
        pass

    def plan(self, series, recipe, threads, *, keep_volumes=True):
        return requirements.plan_series(series, recipe, threads, keep_volumes=keep_volumes)

    def files_to_keep(self, options, *, failed):
        return ("{name}.failure",) if failed else ("{name}.trace",) if options["stacking_trace"] else ()

    def methods(self, record):
        return EngineMethods(("was stacked by the stacking engine", ()))

    def reconstruct(self, job):
        slices = int(job.site.engine_options["stacking_slices"])
        with job.recorder.stage("stacking") as notes, open_stack(job.series.path) as raw:
            views, ny, nx = raw.shape
            with MrcWriter(job.path("_ali.mrc"), raw.shape, np.int16, pixel_size_angstrom=10, is_stack=True) as out:
                for view in range(views):
                    out.write(raw[view])
            with MrcWriter(job.path("_rec.mrc"), (slices, ny, nx), np.int16, pixel_size_angstrom=10) as out:
                for z in range(slices):
                    out.write(raw[z % views])
            notes.number("slices", slices)
        write_transforms(job.path(".xf"), np.tile([[[1.0, 0, 0], [0, 1, 0]]], (views, 1, 1)))
        write_tilts(job.path(".tlt"), job.series.tilt_deg)
        return Reconstruction(job.path("_ali.mrc"), job.path("_rec.mrc"), job.path(".xf"), job.path(".tlt"))


engine = StackingEngine()
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with an engine in it on the path, as pip would put it there."""
    folder = tmp_path / "site-packages"
    (folder / "stacking_engine-1.0.dist-info").mkdir(parents=True)
    (folder / "stacking_engine.py").write_text(ENGINE)
    (folder / "stacking_engine-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: stacking-engine\nVersion: 1.0\n"
    )
    (folder / "stacking_engine-1.0.dist-info" / "entry_points.txt").write_text(
        "[tiltflow.engines]\nstacking = stacking_engine:engine\n"
    )
    monkeypatch.syspath_prepend(str(folder))


def test_without_it_there_is_no_such_engine():
    assert {"imod", "native"} <= set(engine_names())
    assert "stacking" not in engine_names()
    with pytest.raises(ParameterError, match=r"no engine 'stacking': choose auto, .*native"):
        choose_engine("stacking")


@pytest.mark.usefixtures("installed")
def test_it_is_found_and_taken_when_it_is_asked_for(monkeypatch):
    assert {"imod", "native", "stacking"} <= set(engine_names())
    assert choose_engine("stacking")[0].title == "the stacking engine"
    monkeypatch.setenv("PATH", "/nonexistent")
    assert choose_engine("auto")[0].name == "native"  # which is preferred to it
    monkeypatch.setenv("TILTFLOW_ENGINE", "stacking")
    assert load_settings().engine == "stacking"


@pytest.mark.usefixtures("installed")
def test_a_series_goes_through_it_to_products_page_and_methods(small_series, tmp_path):
    recipe = make_recipe(BrtParameters(thickness=64), engine="stacking")
    site = site_from(load_settings(scratch=tmp_path))
    result = process(small_series, recipe, site, output=tmp_path / "B")
    assert result.ok, result.message
    record = read_record(tmp_path / "B" / "run.json")
    assert (record.engine.name, record.engine.version) == ("stacking", "stacking 1.0")
    assert record.volume.sections == 8
    assert "was stacked by the stacking engine" in describe_methods(record).text
    assert "was stacked by the stacking engine" in (tmp_path / "B" / "report.html").read_text()


@pytest.mark.usefixtures("installed")
def test_the_command_knows_it(small_series, tmp_path):
    asked = ["run", str(small_series.parent), "-o", str(tmp_path / "out"), "--engine", "stacking", "--thickness", "64"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert read_record(tmp_path / "out" / "B" / "run.json").engine.name == "stacking"
    directives = CliRunner().invoke(app, ["directives", "plastic_brt", "--engine", "stacking"])
    assert directives.exit_code == 0, directives.output


def test_a_record_of_an_engine_that_is_gone_still_has_its_page(small_series, tmp_path, fake_imod):
    process(small_series, make_recipe(engine="imod"), site_from(load_settings(scratch=tmp_path)), output=tmp_path / "B")
    record = read_record(tmp_path / "B" / "run.json")
    record.engine.name, record.engine.version = "stacking", "stacking 1.0"
    assert "was aligned and reconstructed by stacking stacking 1.0" in describe_methods(record).text
