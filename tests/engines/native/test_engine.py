"""The native engine from raw views to the volume, against the known answer of the phantom."""

import json

import numpy as np
import pytest

from tiltflow.demo import write_series
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native import NativeEngine
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.series import read_series
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

pytestmark = pytest.mark.whole

SMALL = SimulationParams(size=256, views=25, beads=14, thickness_px=50, two_surfaces=True, dark_views=(3,), shift_px=3)
PARAMETERS = BrtParameters(gold=10, thickness=90, two_surfaces=1)


def make_job(folder, params=SMALL, parameters=PARAMETERS, overrides=(), **recipe):
    series = simulate(params, threads=2)
    source = folder / "B.st"
    write_series(source, series)
    work = folder / "work"
    work.mkdir()
    made = make_recipe(parameters, overrides=overrides, engine="native", **recipe)
    return series, EngineJob(read_series(source), made, Site(threads=2), work, Recorder.start(folder / "run.json", source, "test"))


@pytest.fixture(scope="module")
def gold(tmp_path_factory):
    """A series with gold and a dark view through the whole engine, aligned stack binned by 2, local areas asked for."""
    areas = ["TargetPatchSizeXandY=150,150", "MinFidsTotalAndEachSurface=4,1", "LocalAlignments=1"]
    overrides = ["runtime.AlignedStack.any.binByFactor=2", *(f"comparam.align.tiltalign.{each}" for each in areas)]
    series, job = make_job(tmp_path_factory.mktemp("gold"), overrides=overrides)
    engine = NativeEngine()
    engine.check(job)
    return series, job, engine.reconstruct(job)


def test_gold_alignment_is_near_the_truth(gold):
    series, _, result = gold
    found = score(series.truth, read_transforms(result.transforms), read_tilts(result.tilts))
    assert found.rms_px < 0.1
    assert result.alignment.method == "gold"
    assert not result.alignment.evidence.trust_warnings


def test_a_rigid_specimen_says_that_it_needs_no_local_areas(gold):
    _, _, result = gold
    assert result.alignment.local is None
    assert any("local areas" in note and "global alignment is used" in note for note in result.alignment.evidence.notes)


def test_beads_lie_in_the_volume_where_the_truth_puts_them(gold):
    """Levels and origins may differ, so the pattern of the beads decides: distances between all pairs."""
    series, _job, result = gold
    volume = open_mrc(result.volume)
    voxels = volume.read_block().astype(np.float32)
    beads = _dark_spots(voxels, count=8)
    truth = series.truth.beads_px / 2
    found = np.sort(np.linalg.norm(beads[:, None] - beads[None], axis=-1), axis=1)[:, 1]
    known = np.linalg.norm(truth[:, None] - truth[None], axis=-1)
    for distance in found:
        assert np.abs(known - distance).min() < 0.7


def test_the_section_lies_level_in_the_volume(gold):
    """The specimen is pitched by 1.5 degrees; beads of one surface must come to lie at one height."""
    _, _, result = gold
    x, y, z = _dark_spots(open_mrc(result.volume).read_block().astype(np.float32), count=8).T
    upper = (z > z.mean()).astype(float)
    design = np.stack([x, y, upper, np.ones_like(z)], axis=1)
    slope_x, slope_y, *_ = np.linalg.lstsq(design, z, rcond=None)[0]
    assert abs(np.rad2deg(np.arctan(slope_y))) < 0.6
    assert abs(np.rad2deg(np.arctan(slope_x))) < 1.5


def test_the_files_have_imods_modes_sizes_pixels_and_titles(gold):
    _, _job, result = gold
    aligned, volume = open_mrc(result.aligned).header, open_mrc(result.volume).header
    assert (aligned.shape, aligned.mode) == ((25, 128, 128), 1)
    assert aligned.pixel_size_angstrom == pytest.approx((20, 20, 10))
    assert (volume.shape, volume.mode) == ((45, 128, 128), 1)
    assert volume.pixel_size_angstrom == pytest.approx((20, 20, 20))
    assert volume.origin[2] == pytest.approx(45 * 20 / 2)
    assert any("Tilt axis angle = -8.0" in label for label in volume.labels)
    assert "tomographic reconstruction" in volume.labels[-1]


def test_a_view_left_out_keeps_its_line_in_every_file(gold):
    _, job, result = gold
    assert len(read_transforms(result.transforms)) == len(read_tilts(result.tilts)) == 25
    assert result.alignment.included.tolist() == [view != 3 for view in range(25)]
    assert any("view 4" in warning and "left out" in warning for warning in job.recorder.record.warnings)


def test_the_evidence_lies_beside_the_alignment(gold):
    _, job, _ = gold
    evidence = json.loads((job.workdir / "B_align.json").read_text())
    assert evidence["method"] == "gold"
    assert 0 < evidence["residual_mean_px"] < 0.5
    assert evidence["leave_out_px"] > 0
    assert evidence["residual_mean_nm"] == pytest.approx(evidence["residual_mean_px"])  # a pixel is 1 nm
    assert evidence["axis_angle_nominal_deg"] == -8.0
    noted = job.recorder.record.alignment
    assert noted is not None
    assert (noted.method, noted.residual_mean_px) == ("gold", evidence["residual_mean_px"])
    lines = (job.workdir / "B_fid.txt").read_text().splitlines()
    assert lines[0].startswith("#")
    track, view, x, y, used = lines[1].split()
    assert int(track) == 1
    assert 1 <= int(view) <= 25
    assert 0 <= float(x) <= 256 or 0 <= float(y) <= 256
    assert used in {"0", "1"}


def test_scratch_holds_no_more_than_the_aligned_stack_and_the_volume(gold):
    _, job, _ = gold
    large = {path.name for path in job.workdir.iterdir() if path.stat().st_size > 100_000}
    assert large == {"B_ali.mrc", "B_rec.mrc"}


def _dark_spots(voxels, count):
    """Return the centres of the darkest spots of a volume `(z, y, x)` as x, y, z, well apart from each other."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(voxels, 1.5)
    smooth -= ndimage.gaussian_filter(voxels, 6)
    spots = []
    for _ in range(count):
        z, y, x = np.unravel_index(np.argmin(smooth), smooth.shape)
        window = tuple(slice(max(c - 3, 0), c + 4) for c in (z, y, x))
        weight = np.maximum(-smooth[window], 0)
        grid = np.mgrid[window]
        spots.append([(weight * axis).sum() / weight.sum() for axis in grid[::-1]])
        smooth[tuple(slice(max(c - 8, 0), c + 9) for c in (z, y, x))] = 0
    return np.array(spots)
