"""Gold on a specimen that bends while it is looked at, from raw views: no bead is thrown out for bending, and areas follow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.engine import align
from tiltflow.engines.native.prepared_views import PreparedViews
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.formats.series import read_series
from tiltflow.model import Alignment
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.work import Site

SIZE, BEADS, DOSE, RADIUS = 288, 40, 150.0, 5.0
TILT = np.linspace(-60, 60, 31)


def write_bent(path: Path, dome_px: float) -> Path:
    """Write views of dark beads in noise whose heights change with the view, most at the corners."""
    rng = np.random.default_rng(3)
    x, y = np.mgrid[-0.85:0.85:8j, -0.85:0.85:5j].reshape(2, -1) + rng.normal(0, 0.03, (2, BEADS))
    z = np.where(rng.random(BEADS) < 0.5, 20, -20)
    half, grid = SIZE / 2, np.arange(SIZE) + 0.5
    with MrcWriter(path, (len(TILT), SIZE, SIZE), np.int16, pixel_size_angstrom=10, is_stack=True, tilt_deg=TILT) as out:
        for view, tilt in enumerate(np.deg2rad(TILT)):
            risen = z + 2 * dome_px * (view / (len(TILT) - 1) - 0.5) * (x**2 + y**2 - 0.5)
            shift = rng.normal(0, 2, 2)
            thick = np.zeros((SIZE, SIZE))
            for u, v in zip(half * x * np.cos(tilt) + risen * np.sin(tilt), half * y, strict=True):
                squared = (grid - half - u - shift[0]) ** 2 + (grid - half - v - shift[1])[:, None] ** 2
                thick += 2 * np.sqrt(np.maximum(RADIUS**2 - squared, 0))
            out.write((rng.poisson(DOSE * np.exp(-0.1 * thick)) * 20).astype(np.float32))
    return path


def aligned(folder: Path, *, local: bool) -> Alignment:
    source = write_bent(folder / "B.st", 7.0)
    parameters = BrtParameters(gold=10, two_surfaces=1, target_number_of_beads=BEADS, local_alignments=int(local))
    overrides = ["comparam.align.tiltalign.TargetPatchSizeXandY=120,120", "setupset.copyarg.rotation=0"]
    recipe = make_recipe(parameters, overrides=overrides, engine="native", fallback=False)
    series = read_series(source, recipe.hints)
    job = EngineJob(series, recipe, Site(), folder, Recorder.start(folder / "run.json", source, "test"))
    with open_mrc(source) as raw:
        return align(job, PreparedViews(job, raw))


@pytest.mark.slow
def test_areas_follow_a_specimen_that_bends(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) for name in ("rigid", "areas")]
    rigid, areas = (aligned(folder, local=local) for folder, local in zip(folders, (False, True), strict=True))
    assert any("bend" in doubt for doubt in rigid.evidence.trust_warnings)
    assert not areas.evidence.trust_warnings
    assert areas.method == "gold"
    assert areas.local is not None
    assert areas.evidence.tracks_used > 0.9 * BEADS > rigid.evidence.tracks_used
    moved: NDArray[np.float64] = np.abs(areas.local.transforms[..., 2] - areas.local.transforms[..., 2].mean(axis=0))
    assert moved.max() > 1
    assert areas.evidence.residual_mean_px < 0.5 * areas.evidence.global_residual_mean_px
