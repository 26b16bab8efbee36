"""Gold erased by the native engine: which beads, where, and what is said where there are none."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.demo import write_series
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.aligned_stacks import AlignedStacks
from tiltflow.engines.native.gold_erasing import gold_in_views
from tiltflow.errors import StageError
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.series import read_series
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Alignment, Tracks
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate
from tiltflow.work import Site

VIEWS, SIZE, BEADS = 31, 192, 8
ERASE = "runtime.AlignedStack.any.eraseGold={}"


@cache
def simulated(beads: int = BEADS) -> SimulatedSeries:
    return simulate(
        SimulationParams(seed=4, size=SIZE, views=VIEWS, beads=beads, thickness_px=40, hot_pixels=0, pitch_deg=0.0, shift_px=1.0)
    )


def make_job(folder: Path, *directives: str, beads: int = BEADS) -> EngineJob:
    source = folder / "B.st"
    write_series(source, simulated(beads))
    overrides = ["runtime.AlignedStack.any.binByFactor=1", *directives]
    recipe = make_recipe(BrtParameters(gold=10, thickness=64), overrides=overrides, engine="native")
    work = folder / "work"
    work.mkdir()
    return EngineJob(read_series(source), recipe, Site(), work, Recorder.start(folder / "run.json", source, "test"))


def alignment_of(made: SimulatedSeries, *, tracked: bool) -> Alignment:
    truth = made.truth
    found = Alignment(truth.transforms(), truth.true_deg, np.ones(VIEWS, bool), "gold")
    if not tracked:
        return found
    return replace(found, tracks=Tracks(np.swapaxes(truth.beads_xy, 0, 1), "bead"))


def in_aligned(made: SimulatedSeries) -> np.ndarray:
    """True positions of the beads in the aligned views, `(views, beads, 2)`, from the centre."""
    return geometry.apply(made.truth.transforms()[:, None], made.truth.beads_xy - SIZE / 2)


def test_places_of_tracked_and_of_found_beads_are_the_true_ones(tmp_path: Path) -> None:
    made = simulated()
    true = in_aligned(made) + SIZE / 2
    for which, tracked, tolerance in ((1, True, 0.01), (2, False, 1.5)):
        folder = tmp_path / str(which)
        folder.mkdir()
        job = make_job(folder, ERASE.format(which))
        with open_stack(job.series.path) as raw:
            places = gold_in_views(job, raw, alignment_of(made, tracked=tracked))
        assert places is not None
        assert places.shape[1] == BEADS
        for view in (0, VIEWS // 2, VIEWS - 1):
            nearest = np.linalg.norm(true[view][:, None] - places[view][None], axis=2).min(axis=1)
            assert nearest.max() < tolerance
        assert sorted(path.name for path in job.workdir.iterdir()) == []


@pytest.mark.parametrize("which", [1, 2])
def test_the_aligned_stack_has_no_gold_and_elsewhere_is_the_same(tmp_path: Path, which: int) -> None:
    made, views = simulated(), {}
    for erase in (0, which):
        (tmp_path / str(erase)).mkdir()
        job = make_job(tmp_path / str(erase), ERASE.format(erase))
        alignment = alignment_of(made, tracked=True)
        with open_stack(job.series.path) as raw:
            path = AlignedStacks(job, lambda raw=raw: raw, alignment).make(raw)
        with open_mrc(path) as stack:
            views[erase] = np.stack([stack[view] for view in range(VIEWS)]).astype(float)
    changed = views[which] != views[0]
    middle = VIEWS // 2
    true = in_aligned(made)[middle] + SIZE / 2
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    near = np.min([np.hypot(x - px, y - py) for px, py in true], axis=0)
    assert changed[middle][near < 4].mean() > 0.9
    assert not changed[middle][near > 12].any()
    background = views[0][middle][near > 20]
    assert views[0][middle][near < 3].mean() < background.mean() - 3 * background.std()
    assert abs(views[which][middle][near < 3].mean() - background.mean()) < 2 * background.std()
    (stage,) = [stage for stage in job.recorder.record.stages if stage.name == "aligned stack"]
    assert stage.numbers["beads_erased_per_view"].value == pytest.approx(BEADS, abs=1)
    assert stage.numbers["pixels_erased"].value > 0


def test_beads_that_were_not_tracked_cannot_be_erased_by_their_tracks(tmp_path: Path) -> None:
    job = make_job(tmp_path, ERASE.format(1))
    with open_stack(job.series.path) as raw, pytest.raises(StageError, match=r"B\.st: gold is to be erased .*eraseGold 2"):
        gold_in_views(job, raw, alignment_of(simulated(), tracked=False))


def test_where_there_is_no_gold_nothing_is_erased_and_that_is_said(tmp_path: Path) -> None:
    job = make_job(tmp_path, ERASE.format(2), beads=0)
    with open_stack(job.series.path) as raw:
        assert gold_in_views(job, raw, alignment_of(simulated(0), tracked=False)) is None
    assert any("no gold is erased" in warning for warning in job.recorder.record.warnings)
    assert list(job.workdir.iterdir()) == []
