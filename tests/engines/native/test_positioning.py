"""Positioning in the engine: what it changes, what the directives decide, and that it leaves alone what it cannot see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiltflow.demo import write_series
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.positioning import position_specimen
from tiltflow.engines.native.volume import reconstruct_params
from tiltflow.engines.requirements import plan_series
from tiltflow.engines.thickness import greatest_thickness
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.series import read_series
from tiltflow.model import Alignment
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate
from tiltflow.work import Site

pytestmark = pytest.mark.whole

PITCH, LIFT, THICKNESS = -3.0, -12.0, 60.0
POSITION = "runtime.Positioning.any.sampleType=1"
FALL_BACK = ["comparam.tilt.tilt.THICKNESS=", "runtime.Reconstruction.any.extraThickness=11"]


@pytest.fixture(scope="module")
def series() -> SimulatedSeries:
    """A pitched, lowered section with gold on both surfaces."""
    return simulate(
        SimulationParams(
            seed=6,
            size=224,
            views=31,
            thickness_px=THICKNESS,
            pitch_deg=PITCH,
            z_offset_px=LIFT,
            beads=24,
            two_surfaces=True,
            crowding=2.0,
            hot_pixels=0,
        ),
        threads=2,
    )


def make_job(folder: Path, series: SimulatedSeries, *directives: str) -> tuple[EngineJob, Alignment]:
    source = folder / "B.st"
    write_series(source, series)
    recipe = make_recipe(
        BrtParameters(gold=10, thickness=80),
        overrides=["runtime.AlignedStack.any.binByFactor=2", *directives],
        engine="native",
    )
    work = folder / "work"
    work.mkdir()
    job = EngineJob(read_series(source), recipe, Site(threads=2), work, Recorder.start(folder / "run.json", source, "test"))
    truth = series.truth
    return job, Alignment(truth.transforms(), truth.true_deg, np.ones(len(truth.true_deg), bool), "gold")


def position(job: EngineJob, alignment: Alignment) -> Alignment:
    with open_mrc(job.series.path) as raw:
        return position_specimen(job, raw, alignment)


def test_without_a_sample_type_nothing_is_done(tmp_path: Path, series: SimulatedSeries) -> None:
    job, alignment = make_job(tmp_path, series)
    assert position(job, alignment) is alignment
    assert not any(stage.name == "positioning" for stage in job.recorder.record.stages)


def test_the_section_is_levelled_and_centred_in_a_volume_of_the_thickness_asked_for(
    tmp_path: Path, series: SimulatedSeries
) -> None:
    job, alignment = make_job(tmp_path, series, POSITION)
    found = position(job, alignment)
    params = reconstruct_params(job, np.dtype(np.int16), found)
    assert params.x_axis_tilt_deg == pytest.approx(-PITCH, abs=0.5)
    assert params.shift_z == pytest.approx(LIFT, abs=4)
    assert found.tilt_deg - alignment.tilt_deg == pytest.approx(0, abs=0.8)
    assert (found.thickness, params.thickness) == (None, 80)
    assert not job.recorder.record.warnings


def test_a_volume_too_thin_for_the_section_is_warned_of(tmp_path: Path, series: SimulatedSeries) -> None:
    job, alignment = make_job(tmp_path, series, POSITION, "comparam.tilt.tilt.THICKNESS=40")
    assert position(job, alignment).thickness is None
    assert any("parts of it are cut off" in warning for warning in job.recorder.record.warnings)


def test_with_a_thickness_to_fall_back_to_the_one_found_is_taken(tmp_path: Path, series: SimulatedSeries) -> None:
    job, alignment = make_job(tmp_path, series, POSITION, *FALL_BACK, "runtime.Reconstruction.any.fallbackThickness=100")
    found = position(job, alignment)
    thickness = reconstruct_params(job, np.dtype(np.int16), found).thickness
    assert thickness == found.thickness == pytest.approx(THICKNESS + 11, abs=0.1 * THICKNESS + 1)
    assert thickness % 2 == 0
    assert not job.recorder.record.warnings


@pytest.mark.parametrize("fall_back", [20, 240])
def test_a_thickness_far_from_the_fallback_is_not_used(tmp_path: Path, series: SimulatedSeries, fall_back: int) -> None:
    job, alignment = make_job(tmp_path, series, POSITION, *FALL_BACK, f"runtime.Reconstruction.any.fallbackThickness={fall_back}")
    found = position(job, alignment)
    assert reconstruct_params(job, np.dtype(np.int16), found).thickness == fall_back
    assert found.z_shift == pytest.approx(LIFT, abs=4)
    assert any("fallbackThickness" in warning for warning in job.recorder.record.warnings)


def test_an_uncertain_thickness_gives_the_fallback(tmp_path: Path) -> None:
    """Gold on one side and little dose: beads give the slopes and one surface, noise hides the other one."""
    series = simulate(
        SimulationParams(
            seed=12, size=224, views=21, thickness_px=THICKNESS, pitch_deg=3, beads=24, crowding=1.0, dose=18, hot_pixels=0
        ),
        threads=2,
    )
    job, alignment = make_job(tmp_path, series, POSITION, *FALL_BACK, "runtime.Reconstruction.any.fallbackThickness=100")
    found = position(job, alignment)
    assert found.x_axis_tilt_deg == pytest.approx(-3, abs=1)
    assert reconstruct_params(job, np.dtype(np.int16), found).thickness == 100
    assert any("thickness of the specimen is too uncertain" in warning for warning in job.recorder.record.warnings)


def test_the_plan_holds_for_the_greatest_thickness(tmp_path: Path, series: SimulatedSeries) -> None:
    fixed, _ = make_job(tmp_path, series, POSITION)
    (tmp_path / "found").mkdir()
    found, _ = make_job(tmp_path / "found", series, POSITION, *FALL_BACK, "runtime.Reconstruction.any.fallbackThickness=100")
    assert (greatest_thickness(fixed.recipe), greatest_thickness(found.recipe)) == (80, 212)
    scratch = [plan_series(job.series, job.recipe, 2).scratch for job in (fixed, found)]
    assert scratch[1] - scratch[0] == (212 - 80) // 2 * 112 * 112 * 2


def test_where_no_section_is_seen_everything_stays_as_it_was(tmp_path: Path, series: SimulatedSeries) -> None:
    job, alignment = make_job(tmp_path, series, POSITION, *FALL_BACK, "runtime.Reconstruction.any.fallbackThickness=100")
    noise = np.random.default_rng(2).normal(1000, 50, (31, 224, 224)).astype(np.float32)
    assert position_specimen(job, noise, alignment) is alignment
    assert reconstruct_params(job, np.dtype(np.int16), alignment).thickness == 100
    assert any("the specimen was not found" in warning for warning in job.recorder.record.warnings)
