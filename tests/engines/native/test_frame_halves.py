"""Half volumes of even and odd frames: they are aligned and corrected as the whole, and agree farther than those of alternate views."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.aligned_stacks import AlignedStacks
from tiltflow.engines.native.corrections import find_corrections
from tiltflow.engines.native.halves import HALVES, make_halves
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.formats.series import read_series
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Alignment
from tiltflow.preprocess.preparation import repair_views
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.simulate.exposure import expose
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scene import set_scene
from tiltflow.simulate.scoring import Truth
from tiltflow.work import Site

PARAMS = SimulationParams(size=192, views=31, beads=8, bead_nm=10, thickness_px=40, pixel_nm=1, dose=400, pitch_deg=0)
HALF = "runtime.Tiltflow.any.halfVolumes=1"
REAL = "comparam.tilt.tilt.MODE=2"
NO_LOG = "comparam.tilt.tilt.LOG="


@cache
def frames(regime: str = "plastic", hits: int = 0) -> tuple[Truth, np.ndarray, np.ndarray]:
    """Return the truth, and the counts of the even and of the odd frames: electrons of one scene, each in one of the two."""
    params = replace(PARAMS, regime=regime)
    rng = np.random.default_rng(params.seed)
    scene = set_scene(params, rng)
    seeds, counting = rng.spawn(params.views), np.random.default_rng(99)
    counts = np.empty((2, params.views, params.size, params.size), np.float32)
    for view in range(params.views):
        electrons = np.maximum(expose(scene, view, params, seeds[view]), 0) / 2
        counts[:, view] = counting.poisson(np.broadcast_to(electrons, (2, *electrons.shape))) * 10
        for half, y, x in zip(*counting.integers([[2], [150], [150]], size=(3, hits)), strict=True):
            counts[half, view, 20 + y, 20 + x] += 20_000
    return scene.truth, counts[0], counts[1]


def write(path: Path, images: np.ndarray, tilts: np.ndarray, dtype: type) -> None:
    label = f"    Tilt axis angle = {PARAMS.axis_deg:.1f}, binning = 1"
    with MrcWriter(path, images.shape, dtype, pixel_size_angstrom=10, labels=[label], is_stack=True, tilt_deg=tilts) as out:
        for image in images:
            out.write(image)


def make_job(folder: Path, *directives: str, halves: bool = True, regime: str = "plastic", hits: int = 0, dtype: type = np.int16):
    truth, even, odd = frames(regime, hits)
    folder.mkdir(exist_ok=True, parents=True)
    for name, images in {"B.mrc": even + odd, **({"B_EVN.mrc": even, "B_ODD.mrc": odd} if halves else {})}.items():
        write(folder / name, images, truth.nominal_deg, dtype)
    overrides = ["runtime.AlignedStack.any.binByFactor=1", HALF, REAL, *directives]
    recipe = make_recipe(BrtParameters(thickness=60, gold=10), overrides=overrides, engine="native")
    (folder / "work").mkdir()
    source = folder / "B.mrc"
    alignment = Alignment(truth.transforms(), truth.true_deg, np.ones(len(truth.true_deg), bool), "gold")
    job = EngineJob(read_series(source), recipe, Site(), folder / "work", Recorder.start(folder / "run.json", source, "test"))
    return job, alignment


def aligned(job: EngineJob, alignment: Alignment) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the aligned stack, and those of even and of odd frames."""
    with open_stack(job.series.path) as raw:
        views = repair_views(raw, job.recipe.xrays)
        corrections = find_corrections(job, lambda: views, alignment, "key")
        stacks = AlignedStacks(job, lambda: views, alignment, corrections)
        found = [open_mrc(stacks.make(raw)).read_block().astype(float)]
        for which in (0, 1):
            with stacks.half(which) as path:
                found.append(open_mrc(path).read_block().astype(float))
            assert not path.exists()
    return found[0], found[1], found[2]


def made(job: EngineJob, alignment: Alignment):
    with open_stack(job.series.path) as raw:
        stacks = AlignedStacks(job, lambda: raw, alignment)
        make_halves(job, stacks.make(raw), alignment, stacks)
    return job.recorder.record.halves


@pytest.mark.parametrize(
    ("dtype", "directives", "within"),
    [
        pytest.param(np.float32, (), 0.01, id="as they are"),
        pytest.param(np.int16, (), 1.6, id="integers"),  # each of the three is rounded to within 0.5
        pytest.param(
            np.float32,
            (
                "runtime.AlignedStack.any.filterStack=1",
                "comparam.mtffilter.mtffilter.FixedImageDose=3",
                "setupset.copyarg.dosesym=1",
                "setupset.copyarg.voltage=300",
            ),
            0.05,
            id="exposure",
        ),
    ],
)
def test_the_aligned_halves_add_up_to_the_aligned_whole(tmp_path, dtype, directives, within):
    whole, even, odd = aligned(*make_job(tmp_path, *directives, dtype=dtype))
    assert np.abs(even + odd - whole).max() < within
    assert whole.std() > 50


def test_x_ray_hits_are_replaced_in_both_halves_where_the_whole_has_them(tmp_path):
    job, alignment = make_job(tmp_path, dtype=np.float32, hits=20)
    whole, even, odd = aligned(job, alignment)
    apart = np.abs(even + odd - whole)
    assert np.mean(apart > 0.05) < 0.01, "nowhere else"
    assert apart.max() < 200, "hits are of 20 000; what replaces them is limited by the pixels around, in each stack by its own"
    hits = np.stack([frames("plastic", 20)[half] for half in (1, 2)]) > 15_000
    assert hits.sum() > 400


def test_the_ctf_of_the_whole_is_that_of_the_halves(tmp_path):
    directives = (
        "runtime.AlignedStack.any.correctCTF=1",
        "setupset.copyarg.voltage=300",
        "setupset.copyarg.defocus=4000",
        "setupset.copyarg.Cs=2.7",
    )
    job, alignment = make_job(tmp_path, *directives, regime="cryo", dtype=np.float32)
    whole, even, odd = aligned(job, alignment)
    assert job.recorder.record.ctf.applied
    assert [stage.name for stage in job.recorder.record.stages].count("ctf") <= 1
    assert np.abs(even + odd - whole).max() < 0.05


def test_what_takes_the_place_of_gold_differs_from_half_to_half(tmp_path):
    """Texture that both halves share would agree to the finest detail."""
    directives = ("runtime.AlignedStack.any.eraseGold=2", "comparam.golderaser.ccderaser.ExpandCircleIterations=1")
    job, alignment = make_job(tmp_path, *directives, dtype=np.float32)
    whole, even, odd = aligned(job, alignment)
    filled = np.abs(even + odd - whole) > 1
    assert 0.001 < filled.mean() < 0.2
    fine = [image - np.roll(image, 1, axis=-1) for image in (even, odd)]
    both = filled & np.roll(filled, 1, axis=-1)
    assert abs(np.corrcoef(fine[0][both], fine[1][both])[0, 1]) < 0.1


def test_halves_of_frames_agree_farther_than_those_of_views(tmp_path):
    found = {}
    for of in ("frames", "views"):
        job, _ = made_job = make_job(tmp_path / of, halves=of == "frames")
        found[of] = made(*made_job)
        assert found[of].of == of
        assert sorted(path.name for path in job.workdir.iterdir()) == ["B_ali.mrc", "B_rec_even.mrc", "B_rec_odd.mrc"]
        assert all(open_mrc(job.path(suffix)).shape == (60, 192, 192) for suffix in HALVES)
    frames_, views = found["frames"], found["views"]
    assert (frames_.views_even, frames_.views_odd) == (31, 31)
    assert (views.views_even, views.views_odd) == (16, 15)
    frequency = np.array(frames_.frequency_per_nm)
    high = (frequency > 0.1) & (frequency < 0.3)
    assert np.mean(np.array(frames_.correlation)[high]) > np.mean(np.array(views.correlation)[high]) + 0.05
    assert frames_.resolution_0143_nm < views.resolution_0143_nm
    assert np.mean(frames_.correlation[-8:]) < 0.2, "their noise is independent"


def test_stacks_that_do_not_fit_give_halves_of_views(tmp_path):
    job, alignment = make_job(tmp_path)
    truth, even, _ = frames()
    write(tmp_path / "B_EVN.mrc", even[:-1], truth.nominal_deg[:-1], np.int16)
    job = replace(job, series=read_series(job.series.path))
    assert made(job, alignment).of == "views"
    assert "the halves are made of alternate views" in job.recorder.record.stages[-1].notes
