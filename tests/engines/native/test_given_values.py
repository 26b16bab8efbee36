"""Files and numbers that cannot be right for a series are refused by the engine's check, by the name of their directive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native import ENGINE
from tiltflow.engines.native.ctf import find_ctf
from tiltflow.errors import FormatError, LocationError, ParameterError, StageError
from tiltflow.model import Alignment, TiltSeries
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.work import Site

TILTS = np.linspace(-60, 60, 41)
CTF, FILTER = "runtime.AlignedStack.any.correctCTF=1", "runtime.AlignedStack.any.filterStack=1"
DOSE = "comparam.mtffilter.mtffilter."
DEFOCUS = "runtime.Tiltflow.any.defocusFile"


def job_of(folder: Path, *directives: str, target_nm: float | None = None) -> EngineJob:
    images = np.zeros((len(TILTS), 8, 8), np.float32)
    series = TiltSeries.from_images(images, TILTS, pixel_size_angstrom=3.0, axis_angle_deg=10.0, name="B.st")
    provenance = {**series.provenance, "target_defocus_nm": "B.mdoc (TargetDefocus)"}
    series = replace(series, target_defocus_nm=target_nm, provenance=provenance)
    recipe = make_recipe(BrtParameters(thickness=60), overrides=directives, engine="native")
    return EngineJob(series, recipe, Site(), folder, Recorder.start(folder / "run.json", folder / "B.st", "test"))


@pytest.mark.parametrize(
    ("directives", "error", "named", "said"),
    [
        ((CTF, f"{DEFOCUS}=/nope"), LocationError, DEFOCUS, "/nope"),
        ((CTF, f"{DEFOCUS}={{folder}}/text"), FormatError, DEFOCUS, "no file of defocus"),
        ((FILTER, f"{DOSE}DoseWeightingFile=/nope", f"{DOSE}TypeOfDoseFile=2"), LocationError, f"{DOSE}DoseWeightingFile", "/nope"),
        (
            (FILTER, f"{DOSE}DoseWeightingFile={{folder}}/text", f"{DOSE}TypeOfDoseFile=2"),
            FormatError,
            f"{DOSE}DoseWeightingFile",
            "41",
        ),
        ((FILTER, f"{DOSE}MtfFile=/nope"), LocationError, f"{DOSE}MtfFile", "/nope"),
        ((FILTER, f"{DOSE}MtfFile={{folder}}/text"), FormatError, f"{DOSE}MtfFile", "text"),
        (
            (FILTER, f"{DOSE}FixedImageDose=3", f"{DOSE}BidirectionalNumViews=50"),
            ParameterError,
            f"{DOSE}BidirectionalNumViews",
            "41 views",
        ),
    ],
)
def test_what_cannot_be_right_is_refused_before_any_work(
    tmp_path: Path, directives: tuple[str, ...], error: type[Exception], named: str, said: str
) -> None:
    (tmp_path / "text").write_text("no numbers\n")
    job = job_of(tmp_path, *(each.format(folder=tmp_path) for each in directives))
    with pytest.raises(error) as refused:
        ENGINE.check(job)
    assert type(refused.value) is error
    assert str(refused.value).startswith(named)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "directives",
    [
        (),
        (f"{DEFOCUS}=/nope",),
        ("runtime.AlignedStack.any.correctCTF=0", f"{DEFOCUS}=/nope"),
        (f"{DOSE}DoseWeightingFile=/nope", f"{DOSE}TypeOfDoseFile=2"),
        (f"{DOSE}MtfFile=/nope",),
        (f"{DOSE}FixedImageDose=3", f"{DOSE}BidirectionalNumViews=50"),
    ],
)
def test_what_a_recipe_does_not_use_is_not_read(tmp_path: Path, directives: tuple[str, ...]) -> None:
    ENGINE.check(job_of(tmp_path, *directives))


@pytest.mark.parametrize(
    ("stated_nm", "target_nm", "doubted"),
    [
        (8000, None, False),
        (8000, 3000, True),
        (3000, 8000, True),
        (3000, 3000, False),
        (4400, 3000, False),  # 1.4 µm, and less than a half
        (4600, 3000, True),
        (1500, 600, False),  # more than a half, and less than 1 µm
        (1700, 600, True),
    ],
)
def test_a_stated_defocus_far_from_the_one_aimed_at_is_followed_and_doubted(
    tmp_path: Path, stated_nm: float, target_nm: float | None, doubted: bool
) -> None:
    job = job_of(tmp_path, CTF, f"setupset.copyarg.defocus={stated_nm}", target_nm=target_nm)
    views = np.zeros((len(TILTS), 8, 8), np.float32)
    alignment = Alignment(np.zeros((len(TILTS), 2, 3)), TILTS, np.ones(len(TILTS), bool), "gold")
    entry = find_ctf(job, views, alignment)
    assert (entry.applied, entry.measured, set(entry.defocus_nm)) == (True, False, {float(stated_nm)})
    assert bool(entry.doubts) is doubted
    for doubt in entry.doubts:
        assert f"{target_nm:.0f} nm were aimed at (B.mdoc (TargetDefocus))" in doubt
        assert any(doubt in warning for warning in job.recorder.record.warnings)


def test_a_defocus_from_a_file_is_compared_with_the_one_aimed_at_too(tmp_path: Path) -> None:
    path = tmp_path / "B.defocus"
    path.write_text("1 41 -60 60 9000 2\n")
    job = job_of(tmp_path, CTF, f"{DEFOCUS}={path}", target_nm=3000)
    transforms = np.zeros((len(TILTS), 2, 3))
    transforms[:, 0, 0] = transforms[:, 1, 1] = 1
    entry = find_ctf(job, np.zeros((len(TILTS), 8, 8), np.float32), Alignment(transforms, TILTS, np.ones(len(TILTS), bool), "gold"))
    (doubt,) = entry.doubts
    assert "9000 nm, read from B.defocus, on average, and 3000 nm were aimed at" in doubt


def test_weighting_that_is_required_and_cannot_be_done_fails_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"weighting by exposure is required .*filterStack.* no source gives the exposures"):
        ENGINE.check(job_of(tmp_path, FILTER, f"{DOSE}TypeOfDoseFile=4"))
