"""Recorded runs of IMOD 4.8.2 through the whole pipeline: which are kept, which are done by the fallback engine, and how well."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.demo import write_series
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.model import Alignment
from tiltflow.pipeline import process
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

G33 = SimulationParams(seed=33, beads=25)
TWO = SimulationParams(seed=32, beads=40, two_surfaces=True, thickness_px=120)
NOB = SimulationParams(seed=31, beads=0, size=384)

pytestmark = pytest.mark.whole


@pytest.mark.parametrize(
    ("run", "simulated", "asked", "engine", "said", "error_px"),
    [
        pytest.param("gold", G33, {}, "imod", None, 0.15, id="gold: kept"),
        pytest.param("patches", G33, {"tracking_method": 1}, "imod", None, 1.0, id="patches: doubtful, kept"),
        pytest.param("fiducialless", G33, {"fiducialless": 1}, "imod", None, 0.5, id="fiducialless: kept"),
        pytest.param("no_beads_fails", NOB, {}, "native", "autofidseed.com", 1.0, id="no beads: done without them"),
        pytest.param("cryo_gold_fails", TWO, {"two_surfaces": 1}, "native", "patch track model", 0.1, id="tiltalign refused"),
        pytest.param(
            "cryo_patches_robust_fails", TWO, {"tracking_method": 1}, "native", None, 1.0, id="robust fit failed: poor, replaced"
        ),
    ],
)
def test_what_becomes_of_a_recorded_run(tmp_path, fake_imod, run, simulated, asked, engine, said, error_px):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", f"replay:{run}")
    series = simulate(simulated, threads=2)
    source = tmp_path / "B.st"
    write_series(source, series)
    output = tmp_path / "out"
    recipe = make_recipe(BrtParameters(thickness=160, **asked), fallback_engine="native")
    result = process(source, recipe, Site(scratch=tmp_path, threads=2), output=output)
    record = read_record(output / "run.json")
    assert result.ok
    assert (record.engine.name, record.status, record.message) == (engine, "success", None)
    found = Alignment(
        read_transforms(output / "B.xf"),
        read_tilts(output / "B.tlt"),
        np.asarray(record.alignment.included),
        record.alignment.method,
    )
    true_px = series.error_of(found).rms_px
    print(f"{run}: {engine}, true {true_px:.3f} px, claimed {record.alignment.error_px:.3f} px, {record.verdict.level}")
    assert true_px < error_px
    if engine == "native":
        first = record.engine_attempts[0]
        assert first.outcome == ("failed" if said else "not used")
        assert said is None or said in first.said
        assert said is not None or first.error_px > 1 > record.alignment.error_px
    else:
        assert record.engine_attempts == []
