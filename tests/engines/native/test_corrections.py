"""CTF and exposure in the native engine: what is done, what is left out and why, and what a change makes again."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.ctf.correct import CorrectParams, ViewCtf, correct_view
from tiltflow.ctf.exposure import ExposureParams, weight_view
from tiltflow.ctf.model import Microscope
from tiltflow.demo import write_series
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.aligned_stacks import AlignedStacks
from tiltflow.engines.native.corrections import Corrections, find_corrections
from tiltflow.errors import FormatError, StageError
from tiltflow.formats.defocus import read_defocus
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.series import read_series
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Alignment
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder, read_record
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate
from tiltflow.work import Site

CRYO = "runtime.Tiltflow.any.cryoCorrections=1"
KV = "setupset.copyarg.voltage=300"
REQUIRED = "runtime.AlignedStack.any.correctCTF=1"
DOSES = ("comparam.mtffilter.mtffilter.FixedImageDose=3", "setupset.copyarg.dosesym=1")


@cache
def simulated(ice: float = 6.0) -> SimulatedSeries:
    return simulate(
        SimulationParams(
            seed=2,
            size=384,
            views=13,
            regime="cryo",
            pixel_nm=0.5,
            beads=0,
            dose=100,
            thickness_px=60,
            ice=ice,
            defocus_um=4.0,
            defocus_hand=1,
        )
    )


def make_job(folder: Path, *directives: str, series: SimulatedSeries | None = None, pixel: float | None = None) -> EngineJob:
    made = series or simulated()
    folder.mkdir(exist_ok=True, parents=True)
    source = folder / "B.st"
    write_series(source, made if pixel is None else replace(made, pixel_size_angstrom=pixel))
    overrides = ["runtime.AlignedStack.any.binByFactor=1", *directives]
    recipe = make_recipe(BrtParameters(thickness=60), overrides=overrides, engine="native")
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return EngineJob(read_series(source), recipe, Site(), work, Recorder.start(folder / "run.json", source, "test"))


def alignment_of(made: SimulatedSeries) -> Alignment:
    truth = made.truth
    return Alignment(truth.transforms(), truth.true_deg, np.ones(len(truth.true_deg), bool), "gold")


def corrected(job: EngineJob, made: SimulatedSeries | None = None) -> tuple[Corrections, np.ndarray[Any, Any]]:
    alignment = alignment_of(made or simulated())
    with open_stack(job.series.path) as raw:
        found = find_corrections(job, lambda: raw, alignment, "key")
        path = AlignedStacks(job, lambda: raw, alignment, found).make(raw)
    with open_mrc(path) as stack:
        return found, np.stack([stack[view] for view in range(stack.shape[0])]).astype(float)


def test_what_the_data_support_is_done_and_recorded(tmp_path: Path) -> None:
    plain = corrected(make_job(tmp_path / "plain"))[1]
    job = make_job(tmp_path / "cryo", CRYO, KV, *DOSES)
    found, views = corrected(job)
    job.recorder.save()
    record = read_record(tmp_path / "cryo" / "run.json")
    assert record.ctf is not None
    assert record.exposure is not None
    assert (record.ctf.applied, record.ctf.measured, record.exposure.applied) == (True, True, True)
    assert np.median(record.ctf.defocus_nm) == pytest.approx(4000, abs=60)
    assert (record.ctf.hand, record.ctf.voltage_source) == (1, "directive setupset.copyarg.voltage")
    assert record.ctf.rings[0].view == 1
    assert found
    # Each view is what its CTF and its exposure make of it.
    middle = 6
    ctf = ViewCtf(
        microscope=Microscope(),
        defocus_nm=record.ctf.defocus_nm[middle],
        tilt_deg=float(simulated().truth.true_deg[middle]),
        hand=1,
    )
    expected = correct_view(plain[middle].astype(np.float32), ctf, 0.5, CorrectParams())
    expected = weight_view(expected, record.exposure.before[middle] + 1.5, 5.0, ExposureParams())
    assert np.corrcoef(views[middle].ravel(), expected.ravel())[0, 1] > 0.99
    written = read_defocus(job.path(".defocus"))
    assert written.defocus_nm.tolist() == pytest.approx(record.ctf.defocus_nm, abs=0.1)


@pytest.mark.parametrize(
    ("directives", "pixel", "ctf", "exposure"),
    [
        ((CRYO, *DOSES), None, "no source gives the voltage", "3 electrons"),
        ((CRYO, KV), 1.0, "no source gives the pixel size", "no source gives the exposures"),
        ((CRYO, KV, DOSES[0]), None, "", "nothing tells the order"),
        ((CRYO, KV, "runtime.AlignedStack.any.correctCTF=0", "runtime.AlignedStack.any.filterStack=0"), None, None, None),
        ((), None, None, None),
    ],
)
def test_what_is_left_out_is_said_with_the_reason(
    tmp_path: Path, directives: tuple[str, ...], pixel: float | None, ctf: str | None, exposure: str | None
) -> None:
    job = make_job(tmp_path, *directives, pixel=pixel)
    found, _ = corrected(job)
    for entry, why in ((found.ctf, ctf), (found.exposure, exposure)):
        assert (entry is None) is (why is None)
        if entry is not None and why:
            assert why in entry.reason
            assert entry.applied is ("electrons" in why)
    said = " ".join(job.recorder.record.warnings)
    for name, entry in (("CTF", found.ctf), ("exposure", found.exposure)):
        assert (f"{name}" in said) is (entry is not None and not entry.applied)


def test_without_rings_nothing_is_corrected_and_a_required_correction_fails(tmp_path: Path) -> None:
    blurred = simulated(0.0)
    flat = replace(
        blurred, images=np.stack([ndimage.gaussian_filter(image.astype(float), 6).astype(np.int16) for image in blurred.images])
    )
    found, _ = corrected(make_job(tmp_path / "wish", CRYO, KV, series=flat), flat)
    assert found.ctf is not None
    assert not found.ctf.applied
    assert found.ctf.defocus_nm == []
    with pytest.raises(StageError, match=r"B\.st: the correction of the CTF is required .*correctCTF"):
        corrected(make_job(tmp_path / "must", REQUIRED, KV, series=flat), flat)
    assert not (tmp_path / "must" / "work" / "B_ali.mrc").exists()


def test_weighting_that_is_required_fails_without_exposures(tmp_path: Path) -> None:
    required = ("runtime.AlignedStack.any.filterStack=1", "comparam.mtffilter.mtffilter.TypeOfDoseFile=4")
    with pytest.raises(StageError, match=r"B\.st: weighting by exposure is required .* no source gives the exposures"):
        corrected(make_job(tmp_path, *required))


def test_a_required_correction_assumes_the_usual_voltage_and_takes_a_stated_defocus(tmp_path: Path) -> None:
    found, _ = corrected(make_job(tmp_path, REQUIRED, "setupset.copyarg.defocus=3900"))
    assert found.ctf is not None
    assert (found.ctf.voltage_kv, found.ctf.measured, set(found.ctf.defocus_nm)) == (300.0, False, {3900.0})
    assert "assumed" in found.ctf.voltage_source
    assert "stated for all views" in found.ctf.reason


def test_a_stated_hand_that_the_images_contradict_is_followed_and_said(tmp_path: Path) -> None:
    job = make_job(tmp_path, CRYO, KV, "comparam.ctfcorrection.ctfphaseflip.InvertTiltAngles=1")
    found, _ = corrected(job)
    assert found.ctf is not None
    assert (found.ctf.hand, found.ctf.hand_measured) == (-1, 1)
    assert any("InvertTiltAngles = 1 contradicts" in warning for warning in job.recorder.record.warnings)


def test_a_defocus_far_from_the_one_aimed_at_is_said(tmp_path: Path) -> None:
    job = make_job(tmp_path, CRYO, KV, "setupset.copyarg.defocus=2000")
    corrected(job)
    assert any("2000 nm were aimed at" in warning for warning in job.recorder.record.warnings)


def with_a_file(folder: Path, rows: list[str], *directives: str) -> EngineJob:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "found.txt"
    path.write_text("\n".join(rows) + "\n")
    return make_job(folder, KV, f"runtime.Tiltflow.any.defocusFile={path}", *directives)


ROWS = [f"{view + 1} {39000 + 100 * view} {39000 + 100 * view} 0 0 0.3 9" for view in range(13)]


@pytest.mark.parametrize(
    ("directives", "hand", "said"),
    [
        ((CRYO,), 0, "found.txt does not tell to which side the defocus rises"),
        ((REQUIRED, "comparam.ctfcorrection.ctfphaseflip.InvertTiltAngles=1"), -1, ""),
    ],
)
def test_the_defocus_of_another_program_is_taken_in_place_of_an_estimate(
    tmp_path: Path, directives: tuple[str, ...], hand: int, said: str
) -> None:
    job = with_a_file(tmp_path, ROWS, *directives)
    found, views = corrected(job)
    entry = found.ctf
    assert entry is not None
    assert (entry.applied, entry.measured, entry.hand, entry.score) == (True, False, hand, [])
    assert (
        entry.reason
        == f"the defocus, 3960 nm on average, is that of CTFFIND, read from {tmp_path / 'found.txt'}, and was not measured"
    )
    assert entry.defocus_nm == [3900.0 + 10 * view for view in range(13)]
    assert read_defocus(job.path(".defocus")).defocus_nm.tolist() == entry.defocus_nm
    assert (said in " ".join(job.recorder.record.warnings)) if said else not job.recorder.record.warnings
    assert not np.array_equal(views, corrected(make_job(tmp_path / "plain"))[1])


def test_a_hand_of_the_file_that_a_directive_contradicts_is_said(tmp_path: Path) -> None:
    tilts = simulated().truth.true_deg
    rows = [f"{view + 1} {view + 1} {-tilts[view]:.2f} {-tilts[view]:.2f} 4000{' 2' if not view else ''}" for view in range(13)]
    assert corrected(with_a_file(tmp_path / "a", rows, CRYO))[0].ctf.hand == -1  # type: ignore[union-attr]
    job = with_a_file(tmp_path / "b", rows, CRYO, "comparam.ctfcorrection.ctfphaseflip.InvertTiltAngles=0")
    assert corrected(job)[0].ctf.hand == 1  # type: ignore[union-attr]
    assert any("InvertTiltAngles = 0 contradicts" in warning for warning in job.recorder.record.warnings)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [(ROWS[:5], FormatError, "has 5 rows, and B.st has 13 views"), (["no table"], FormatError, "no file of defocus")],
)
def test_a_file_of_defocus_that_does_not_fit_fails_the_series(
    tmp_path: Path, rows: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"found.txt: .*{message}"):
        corrected(with_a_file(tmp_path, rows, CRYO))


def test_another_defocus_in_the_same_file_makes_the_correction_again(tmp_path: Path) -> None:
    key = corrected(with_a_file(tmp_path, ROWS, CRYO))[0].key
    assert corrected(with_a_file(tmp_path, ROWS, CRYO))[0].key == key
    assert corrected(with_a_file(tmp_path, [row.replace("39000", "39500") for row in ROWS], CRYO))[0].key != key


def test_it_is_said_where_each_number_of_the_optics_is_from(tmp_path: Path) -> None:
    job = make_job(tmp_path, CRYO, KV, "setupset.copyarg.Cs=2.0", "setupset.copyarg.defocus=3900")
    corrected(job)
    (stage,) = [stage for stage in job.recorder.record.stages if stage.name == "ctf"]
    assert stage.notes[-1] == (
        "300 kV (directive setupset.copyarg.voltage), Cs 2 mm (directive setupset.copyarg.Cs), "
        "amplitude contrast 0.07 (assumed, as no directive gives it), aimed at 3900 nm (directive setupset.copyarg.defocus)"
    )
