"""Parts of the work alone: the alignment without a volume, and the rest later."""

from __future__ import annotations

import pytest

from tiltflow.demo import write_series
from tiltflow.pipeline import look_back, process
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

ASKED = BrtParameters(gold=20, thickness=60)


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("parts") / "B.st"
    write_series(path, simulate(SimulationParams(size=192, views=21, beads=12, thickness_px=50, pixel_nm=2, bead_nm=20)))
    return path


@pytest.mark.whole
def test_the_alignment_alone_and_then_the_rest(source, tmp_path):
    site, recipe = Site(scratch=tmp_path / "scratch", threads=2), make_recipe(ASKED, engine="native")
    output = tmp_path / "out"
    assert process(source, recipe, site, output=output, parts=("alignment",)).ok
    record = read_record(output / "run.json")
    assert [step.name for step in record.steps] == ["alignment"]
    assert record.alignment.error_px < 0.5
    assert record.products == []
    assert {"B.xf", "B.tlt", "B.xtilt", "B_align.npz", "report.html"} <= {path.name for path in output.iterdir()}
    assert not (output / "B_rec.mrc").exists()
    assert look_back(source, recipe, output, ("alignment",)).result is not None
    assert look_back(source, recipe, output).why == "it has no reconstruction and no products yet"
    assert process(source, recipe, site, output=output, parts=("alignment", "reconstruction")).ok
    assert (output / "B_rec.mrc").is_file()
    assert look_back(source, recipe, output).why == "it has no products yet"
    assert process(source, recipe, site, output=output).ok
    kept = [step.name for step in read_record(output / "run.json").steps if step.kept]
    assert kept == ["alignment", "aligned stack", "reconstruction", "measure"]


@pytest.mark.whole
def test_imod_does_all_at_once(source, tmp_path, fake_imod):
    site = Site(scratch=tmp_path / "scratch", threads=2)
    result = process(source, make_recipe(ASKED, engine="imod"), site, output=tmp_path / "a", parts=("alignment",))
    assert not result.ok
    assert "the work of batchruntomo is one step" in result.message
    assert process(source, make_recipe(ASKED, engine="auto"), site, output=tmp_path / "b", parts=("alignment",)).ok
    assert read_record(tmp_path / "b" / "run.json").engine.name == "native"
