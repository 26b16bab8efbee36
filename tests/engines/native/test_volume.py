"""Volumes and half volumes from an aligned stack: files, types and the record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tiltflow import describe
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.alignment_files import write_alignment_files
from tiltflow.engines.native.halves import HALVES, make_halves
from tiltflow.engines.native.volume import make_volume
from tiltflow.errors import StageError
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.formats.series import read_series
from tiltflow.model import Alignment, LocalAlignment
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder, read_record
from tiltflow.work import Site

VIEWS, SIZE, THICKNESS = 21, 72, 24
TILT = np.linspace(-60, 60, VIEWS)


def write_stack(path: Path, dtype: type[np.generic], noise: float) -> Path:
    """Write views of a flat specimen of blobs, as if aligned."""
    rng = np.random.default_rng(4)
    blobs = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 2.5)
    blobs *= 100 / blobs.std()
    with MrcWriter(path, (VIEWS, SIZE, SIZE), dtype, pixel_size_angstrom=10, is_stack=True, tilt_deg=TILT) as out:
        for tilt in np.deg2rad(TILT):
            squeezed = ndimage.affine_transform(blobs, [1, 1 / np.cos(tilt)], [0, SIZE / 2 * (1 - 1 / np.cos(tilt))], order=1)
            out.write((1000 + squeezed + rng.normal(0, noise, blobs.shape)).astype(np.float32))
    return path


def make_job(folder: Path, *directives: str, dtype: type[np.generic] = np.int16, noise: float = 100.0) -> EngineJob:
    source = write_stack(folder / "B.st", dtype, noise)
    overrides = ["runtime.AlignedStack.any.binByFactor=1", *directives]
    recipe = make_recipe(BrtParameters(thickness=THICKNESS), overrides=overrides, engine="native")
    work = folder / "work"
    work.mkdir()
    return EngineJob(read_series(source), recipe, Site(), work, Recorder.start(folder / "run.json", source, "test"))


def alignment(views: int = VIEWS) -> Alignment:
    included = np.arange(VIEWS) < views
    return Alignment(np.repeat(np.eye(2, 3)[None], VIEWS, axis=0), TILT, included, "gold")


@pytest.mark.parametrize(
    ("directive", "dtype", "expected"),
    [
        ("comparam.tilt.tilt.MODE=0", np.int16, np.uint8),
        ("comparam.tilt.tilt.MODE=2", np.int16, np.float32),
        ("comparam.tilt.tilt.MODE=1", np.float32, np.int16),
        ("runtime.Cleanup.any.doCleanup=1", np.float32, np.float32),
    ],
)
def test_the_mode_is_that_of_the_data_or_the_one_asked_for(tmp_path, directive, dtype, expected):
    path = make_volume(make_job(tmp_path, directive, dtype=dtype), tmp_path / "B.st", alignment())
    assert open_mrc(path).dtype == expected


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_bytes_are_scaled_by_the_contrast_of_the_part_that_is_asked_for(tmp_path, dtype):
    volumes = []
    for place, parts in (("narrow", (0.1, 0.1, 0.1)), ("wide", (1, 1, 0.99))):
        folder = tmp_path / place
        folder.mkdir()
        asked = [f"runtime.Trimvol.any.scaleFrom{axis}={part}" for axis, part in zip("XYZ", parts, strict=True)]
        job = make_job(folder, *asked, dtype=dtype)
        volumes.append(open_mrc(make_volume(job, folder / "B.st", alignment())).read_block())
        assert [path.name for path in job.workdir.iterdir()] == ["B_rec.mrc"]
    narrow, wide = volumes
    assert narrow.dtype == wide.dtype == np.uint8
    assert np.mean((narrow == 0) | (narrow == 255)) > 0.02
    assert np.mean((wide == 0) | (wide == 255)) < 0.002


def test_half_volumes_lie_beside_the_volume_and_their_agreement_in_the_record(tmp_path):
    job = make_job(tmp_path, "runtime.Tiltflow.any.halfVolumes=1", "comparam.tilt.tilt.LOG=")
    whole = open_mrc(make_volume(job, tmp_path / "B.st", alignment())).read_block().astype(float)
    make_halves(job, tmp_path / "B.st", alignment())
    even, odd = (open_mrc(job.path(suffix)).read_block().astype(float) for suffix in HALVES)
    assert even.shape == odd.shape == whole.shape
    inner = (slice(8, -8), slice(12, -12), slice(12, -12))
    mean = (11 * even + 10 * odd) / 21
    assert np.corrcoef(mean[inner].ravel(), whole[inner].ravel())[0, 1] > 0.97
    assert np.polyfit(mean[inner].ravel(), whole[inner].ravel(), 1)[0] == pytest.approx(1, abs=0.1)
    found = read_record(tmp_path / "run.json").halves
    assert (found.views_even, found.views_odd) == (11, 10)
    assert found.correlation[1] > 0.8 > 0.3 > np.mean(found.correlation[-8:])
    # The blobs have little detail below about 2.5 voxels times 2 pi.
    assert 4 < found.resolution_0500_nm < 20
    assert found.resolution_0143_nm < found.resolution_0500_nm


def test_halves_are_never_bytes_which_would_be_scaled_apart(tmp_path):
    job = make_job(tmp_path, "runtime.Tiltflow.any.halfVolumes=1", "comparam.tilt.tilt.MODE=0")
    assert open_mrc(make_volume(job, tmp_path / "B.st", alignment())).dtype == np.uint8
    make_halves(job, tmp_path / "B.st", alignment())
    assert [open_mrc(job.path(suffix)).dtype for suffix in HALVES] == [np.int16, np.int16]


def test_halves_too_small_to_be_compared_are_made_all_the_same(tmp_path):
    job = make_job(tmp_path, "runtime.Tiltflow.any.halfVolumes=1", "runtime.Trimvol.any.thickness=4")
    make_halves(job, tmp_path / "B.st", alignment())
    assert all(open_mrc(job.path(suffix)).shape == (4, SIZE, SIZE) for suffix in HALVES)
    assert any("the halves were not compared" in warning for warning in job.recorder.record.warnings)
    assert job.recorder.record.halves is None


def test_without_a_wish_no_halves_are_made(tmp_path):
    job = make_job(tmp_path)
    make_halves(job, tmp_path / "B.st", alignment())
    assert not list(job.workdir.iterdir())
    assert job.recorder.record.halves is None


def test_three_views_make_no_halves(tmp_path):
    with pytest.raises(StageError, match="3 views"):
        make_halves(make_job(tmp_path, "runtime.Tiltflow.any.halfVolumes=1"), tmp_path / "B.st", alignment(3))


def test_local_areas_reach_the_volume_and_lie_beside_the_alignment(tmp_path):
    job = make_job(tmp_path, "comparam.tilt.tilt.LOG=")
    plain = alignment()
    moved = np.tile(np.eye(2, 3), (2, VIEWS, 1, 1))
    moved[..., 0, 2] = 3 * np.sin(np.deg2rad(TILT))
    local = LocalAlignment(np.array([[-18.0, 0], [18, 0]]), (2, 1), moved, np.zeros((2, VIEWS)), np.array([8, 9]))
    volumes = [
        open_mrc(make_volume(job, tmp_path / "B.st", replace(plain, local=areas))).read_block().astype(float)
        for areas in (None, local)
    ]
    # Areas that all move by 3 sin t in view t lift the specimen by 3 voxels.
    inner = np.s_[:, 12:-12, 16:-16]
    higher = np.corrcoef(volumes[0][:-3][inner].ravel(), volumes[1][3:][inner].ravel())[0, 1]
    assert higher > 0.97 > np.corrcoef(volumes[0][inner].ravel(), volumes[1][inner].ravel())[0, 1]
    write_alignment_files(job.workdir, job.series, replace(plain, local=local))
    written = json.loads((job.workdir / "B_local.json").read_text())
    assert written["areas_along_x_and_y"] == [2, 1]
    assert [area["tracks"] for area in written["areas"]] == [8, 9]
    np.testing.assert_allclose(written["areas"][1]["transforms"][0], [1, 0, 0, 1, moved[1, 0, 0, 2], 0], atol=1e-6)
    assert describe.alignment(replace(plain, local=local), job.series)["local_areas"] == 2


@pytest.mark.parametrize(("skew", "warned"), [(0.0, False), (1e-3, False), (0.05, True)])
def test_sirt_says_that_it_does_not_follow_a_skew(tmp_path, skew, warned):
    job = make_job(tmp_path, "runtime.Reconstruction.any.useSirt=1", "comparam.sirtsetup.sirtsetup.LeaveIterations=1")
    make_volume(job, tmp_path / "B.st", replace(alignment(), y_per_z=np.full(VIEWS, skew)))
    assert any("z factors" in warning for warning in job.recorder.record.warnings) == warned
