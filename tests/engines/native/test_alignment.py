"""From raw views to an alignment with its evidence: the fallback methods, the numbers, and the files that carry them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.demo import write_series
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.alignment_files import write_alignment_files
from tiltflow.engines.native.engine import align
from tiltflow.engines.native.prepared_views import PreparedViews
from tiltflow.errors import StageError
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.series import read_series
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.model import Alignment
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate
from tiltflow.work import Site

pytestmark = pytest.mark.whole

SMALL = SimulationParams(
    size=256, views=25, beads=14, thickness_px=50, two_surfaces=True, dark_views=(3,), shift_px=3, pixel_nm=2.0, bead_nm=20.0
)
DARK, SKIPPED, HIDDEN = 3, 6, 20
LENGTHS = ("residual_mean", "residual_sd", "residual_weighted_mean", "leave_out", "error", "shift_rms", "shift_max")


def run(folder: Path, series: SimulatedSeries, *overrides: str, fallback: bool = True, **asked: int) -> tuple[EngineJob, Alignment]:
    """Align a series as the engine does, and write what it writes."""
    source = folder / "B.st"
    write_series(source, series)
    made = make_recipe(
        BrtParameters(**{"gold": 20, "thickness": 90, **asked}), overrides=overrides, engine="native", fallback=fallback
    )
    known = read_series(source, made.hints)
    recipe = made.for_engine("native").for_series(known.pixel_size_angstrom)
    job = EngineJob(known, recipe, Site(), folder, Recorder.start(folder / "run.json", source, "test"))
    with one_thread_for_algebra(), open_mrc(source) as raw:
        alignment = align(job, PreparedViews(job, raw))
    job.note_alignment(alignment)
    write_alignment_files(folder, known, alignment)
    return job, alignment


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedSeries, Path, EngineJob, Alignment]:
    """A series with gold, of which one view is dark, one is to be skipped, and one shows no gold."""
    series = simulate(SMALL)
    rng = np.random.default_rng(1)
    texture = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 2)
    images = series.images.copy()
    images[HIDDEN] = images[HIDDEN].mean() + 200 * texture / texture.std() + rng.normal(0, 200, (256, 256))
    series = replace(series, images=images)
    folder = tmp_path_factory.mktemp("gold")
    return series, folder, *run(folder, series, f"setupset.copyarg.skip={SKIPPED + 1}", two_surfaces=1)


def test_the_alignment_is_near_the_truth(gold):
    series, _, _, alignment = gold
    truth = replace(series.truth, dark_views=(DARK, SKIPPED, HIDDEN))
    assert score(truth, alignment.transforms, alignment.tilt_deg).rms_px < 0.1
    assert not alignment.evidence.trust_warnings


def test_views_left_out_are_named_with_the_reason(gold):
    _, folder, job, alignment = gold
    reasons = alignment.evidence.excluded_views
    assert list(reasons) == [DARK, SKIPPED, HIDDEN]
    assert reasons[DARK].startswith("is dark: its level is 2 %") or reasons[DARK].startswith("is blank")
    assert reasons[SKIPPED] == "is left out by the request"
    assert reasons[HIDDEN] == "holds too few beads to be placed"
    assert set(np.flatnonzero(~alignment.included)) == set(reasons)
    warned = " ".join(job.recorder.record.warnings)
    assert "view 4" in warned
    assert "left out, as too few beads are seen there to place it: view 21" in warned
    told = json.loads((folder / "B_align.json").read_text())
    assert told["excluded_views"] == {str(view + 1): reason for view, reason in reasons.items()}


def test_all_the_evidence_is_in_both_files(gold):
    """In pixels and in nanometres; a pixel is 2 nm."""
    _, folder, _, _ = gold
    told = json.loads((folder / "B_align.json").read_text())
    record = json.loads((folder / "run.json").read_text())["alignment"]
    for name in LENGTHS:
        assert told[f"{name}_px"] > 0
        assert told[f"{name}_nm"] == pytest.approx(2 * told[f"{name}_px"])
    assert told["residual_weighted_mean_px"] <= told["residual_mean_px"] <= told["leave_out_px"]
    assert len(told["residual_per_view_px"]) == len(told["residual_per_view_nm"]) == 25
    assert [view for view, value in enumerate(told["residual_per_view_px"]) if value is None] == [DARK, SKIPPED, HIDDEN]
    assert told["residual_per_view_nm"][0] == pytest.approx(2 * told["residual_per_view_px"][0])
    assert told["measurement_ratio"] == pytest.approx(told["measurements"] / told["unknowns"])
    assert told["measurement_ratio"] > 2
    assert told["tracks_used"] + told["tracks_rejected"] >= 12
    assert isinstance(told["rejected"], dict)
    assert told["axis_angle_nominal_deg"] == -8.0
    assert abs(told["axis_angle_from_data_deg"] + 8.0) < 0.3
    assert 0 < told["axis_angle_error_deg"] < 0.2
    assert told["positions_per_view"][DARK] == 0
    assert told["attempts"][0]["method"] == told["method"] == "gold"
    assert {key: value for key, value in record.items() if key in told} == told


def test_every_file_has_a_line_for_every_view(gold):
    series, folder, _, alignment = gold
    transforms, tilts = read_transforms(folder / "B.xf"), read_tilts(folder / "B.tlt")
    assert transforms.shape == (25, 2, 3)
    np.testing.assert_allclose(transforms, alignment.transforms, atol=6e-4)
    np.testing.assert_allclose(tilts, alignment.tilt_deg, atol=6e-3)
    np.testing.assert_allclose(tilts[[DARK, SKIPPED, HIDDEN]], series.nominal_deg[[DARK, SKIPPED, HIDDEN]], atol=1.0)
    np.testing.assert_allclose(read_tilts(folder / "B.xtilt"), np.full(25, -alignment.x_axis_tilt_deg), atol=6e-3)


def test_the_track_file_has_every_position_in_raw_pixels(gold):
    series, folder, _, alignment = gold
    text = (folder / "B_fid.txt").read_text().splitlines()
    assert text[0] == "# track view x y used"
    rows = np.array([line.split() for line in text[1:]], float)
    track, view, used = rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 4].astype(int)
    assert set(track) == set(range(1, track.max() + 1))
    assert set(view) == {v + 1 for v in range(25)} - {DARK + 1, SKIPPED + 1} - ({HIDDEN + 1} - set(view))
    assert set(used) <= {0, 1}
    assert not used[view == HIDDEN + 1].any()
    counts = np.array(alignment.evidence.positions_per_view)
    np.testing.assert_array_equal(np.bincount(view[used == 1], minlength=26)[1:], counts)
    # Each position lies on a bead of the truth.
    beads = series.truth.beads_xy[view - 1]
    nearest = np.hypot(*np.moveaxis(beads - rows[:, None, 2:4], -1, 0)).min(axis=1)
    assert np.median(nearest[used == 1]) < 0.1
    assert nearest[used == 1].max() < 0.5


def test_a_series_without_gold_ends_on_the_next_rung_and_says_so(tmp_path):
    without_gold = simulate(replace(SMALL, beads=0, dark_views=(), dose=1000.0, size=176, views=17))
    job, alignment = run(tmp_path, without_gold)
    assert alignment.method == "patches"
    first, second = alignment.evidence.attempts[:2]
    assert first["method"] == "gold"
    assert first["failed"].startswith("No gold was found that could carry an alignment")
    assert second["method"] == "patches"
    assert second["leave_out_px"] == pytest.approx(alignment.evidence.leave_out_px)
    warnings = job.recorder.record.warnings
    assert any("alignment by gold is not possible: No gold was found" in text for text in warnings)
    assert any("aligned by patches instead of gold" in text for text in warnings)
    assert score(without_gold.truth, alignment.transforms, alignment.tilt_deg).rms_px < 1.0 or alignment.evidence.trust_warnings


def test_with_the_fallback_switched_off_it_fails_with_the_reason(tmp_path):
    series = simulate(replace(SMALL, beads=0, dark_views=(), size=128, views=13))
    with pytest.raises(StageError, match=r"B\.st: alignment by gold failed: No gold was found"):
        run(tmp_path, series, fallback=False)
