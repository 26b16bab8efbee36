"""Directive files of RELION-5 and of teamtomo's wrapper, and the results read back as these programs and etomofiles read them.

How the first two read is restated here from their behaviour.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.engines.imod.fit_figures import parse_fit_figures
from tiltflow.engines.imod.log_reader import LogReader
from tiltflow.formats.edf import parse_edf
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.record import read_record
from tiltflow.simulate.scoring import score

PIXEL_ANGSTROM, AXIS_DEG, NAME = 10.0, -8.0, "TS_01"


def read_as_relion(folder: Path, name: str, views: int, pixel_angstrom: float, nominal_axis_deg: float) -> dict[str, object]:
    """Return what RELION-5's job "Align tilt series" takes from a folder; what it would stop at raises."""
    found = {"offset": 0.0, "mean_nm": 0.0, "sd_nm": 0.0, "leave_out_nm": 0.0}
    for line in (folder / "align.log").read_text().splitlines():
        words = line.split()
        if "AngleOffset = " in line:
            found["offset"] = float(words[2])
        elif "Residual error mean and sd:" in line:
            found["mean_nm"], found["sd_nm"] = float(words[5]), float(words[6])
        elif "Global leave-out error" in line:
            found["leave_out_nm"] = float(words[5])
    shifts, rotations = [], []
    for line in (folder / f"{name}.xf").read_text().removesuffix("\n").split("\n"):
        words = line.split()
        if len(words) != 6:
            raise ValueError(f"not 6 columns: {line!r}")
        a11, a12, a21, a22, dx, dy = map(float, words)
        shifts.append(-np.linalg.inv([[a11, a12], [a21, a22]]) @ [dx, dy] * pixel_angstrom)
        angle = float(np.rad2deg(np.arccos(a11)))
        rotations.append(-angle if abs(-nominal_axis_deg - angle) < abs(nominal_axis_deg - angle) else angle)
    tilts = []
    for line in (folder / f"{name}.tlt").read_text().removesuffix("\n").split("\n"):
        (word,) = line.split()
        tilts.append(float(word) - found["offset"])
    if not len(shifts) == len(tilts) == views:
        raise ValueError(f"{len(shifts)} and {len(tilts)} lines for {views} views")
    return found | {"shift_angstrom": np.array(shifts), "z_rot_deg": np.array(rotations), "y_tilt_deg": np.array(tilts)}


def read_as_teamtomo(folder: Path, name: str) -> dict[str, object]:
    """Return what the parser of teamtomo's wrapper takes from a folder."""
    found: dict[str, object] = {"offset": None, "rotation": None}
    for line in (folder / "align.log").read_text().splitlines():
        for key, mark in (("offset", "AngleOffset ="), ("rotation", "RotationAngle =")):
            if mark in line and found[key] is None:
                found[key] = float(line.strip().split("=")[-1])
    xf = np.loadtxt(folder / f"{name}.xf").reshape(-1, 6)
    matrices = xf[:, :4].reshape(-1, 2, 2)
    return found | {
        "tilt_deg": np.loadtxt(folder / f"{name}.tlt").reshape(-1),
        "rotation_deg": np.rad2deg(np.arctan2(-matrices[:, 1, 0], matrices[:, 0, 0])),
        "shift_px": -(np.linalg.pinv(matrices) @ xf[:, 4:, None])[..., 0],
    }


@pytest.fixture(scope="module", params=["relion_fiducials", "relion_patches", "teamtomo_fiducials", "teamtomo_patches"])
def aligned(request, call, command, write_data_set, phantom, data, tmp_path_factory):
    """One of the four directive files on the simulated series, as its program calls batchruntomo."""
    folder = write_data_set(tmp_path_factory.mktemp(request.param) / NAME, phantom)
    before = hashlib.sha256((folder / f"{NAME}.mrc").read_bytes()).hexdigest()
    outcome = call(*command(data / "batchruntomo" / f"{request.param}.adoc", folder))
    assert hashlib.sha256((folder / f"{NAME}.mrc").read_bytes()).hexdigest() == before, "the raw stack was changed"
    return folder, outcome


def test_the_alignment_is_near_the_truth(aligned, phantom):
    folder, outcome = aligned
    assert outcome.status == 0, outcome.text
    found = score(phantom.truth, read_transforms(folder / f"{NAME}.xf"), read_tilts(folder / f"{NAME}.tlt"))
    assert found.rms_px < 0.3


def test_relion_reads_what_was_written(aligned):
    folder, _ = aligned
    found = read_as_relion(folder, NAME, 21, PIXEL_ANGSTROM, AXIS_DEG)
    transforms, tilts = read_transforms(folder / f"{NAME}.xf"), read_tilts(folder / f"{NAME}.tlt")
    np.testing.assert_allclose(found["y_tilt_deg"], tilts)  # no angle offset is subtracted
    np.testing.assert_allclose(found["z_rot_deg"], geometry.axis_angles(transforms), atol=1e-3)
    np.testing.assert_allclose(found["shift_angstrom"], geometry.invert(transforms)[..., 2] * PIXEL_ANGSTROM, atol=1e-6)


def test_the_residuals_that_relion_reads_are_those_of_the_record_in_nm(aligned):
    folder, _ = aligned
    found, evidence = read_as_relion(folder, NAME, 21, PIXEL_ANGSTROM, AXIS_DEG), read_record(folder / "run.json").alignment
    residuals = (evidence.residual_mean_px, evidence.residual_sd_px, evidence.leave_out_px)
    expected = [0.0 if value is None else value for value in residuals]  # 1 nm a pixel; 0 is what RELION takes an absent line for
    np.testing.assert_allclose([found["mean_nm"], found["sd_nm"], found["leave_out_nm"]], expected, atol=5.1e-4)
    figures = parse_fit_figures((folder / "align.log").read_text(), PIXEL_ANGSTROM)
    assert (figures.measurements, figures.unknowns) == (evidence.measurements, evidence.unknowns)


def test_the_wrapper_reads_what_was_written(aligned):
    folder, _ = aligned
    found = read_as_teamtomo(folder, NAME)
    assert (found["offset"], found["rotation"]) == (None, AXIS_DEG)
    transforms = read_transforms(folder / f"{NAME}.xf")
    np.testing.assert_allclose(found["rotation_deg"], geometry.axis_angles(transforms), atol=1e-3)
    np.testing.assert_allclose(found["shift_px"], geometry.invert(transforms)[..., 2], atol=1e-6)
    assert found["tilt_deg"].shape == (21,)


def test_etomofiles_reads_what_was_written(aligned):
    import etomofiles

    folder, _ = aligned
    table = etomofiles.read(folder)
    assert len(table) == 21
    assert not table.drop(columns="xaxistilt").isna().any(axis=None)
    assert set(table["tilt_axis_angle"]) == {AXIS_DEG}
    np.testing.assert_array_equal(table["tlt"], read_tilts(folder / f"{NAME}.tlt"))
    np.testing.assert_array_equal(table["rawtlt"], read_tilts(folder / f"{NAME}.rawtlt"))
    np.testing.assert_array_equal(etomofiles.df_to_xf(table), read_transforms(folder / f"{NAME}.xf"))
    record = read_record(folder / "run.json")
    np.testing.assert_allclose(table["tlt"], record.alignment.tilt_deg, atol=0.0051)
    np.testing.assert_allclose(table["xtilt"], -record.alignment.x_axis_tilt_deg, atol=0.0051)
    assert (~table["excluded"]).tolist() == record.alignment.included


def test_the_folder_has_the_names_of_imod_and_nothing_half_made(aligned):
    folder, _ = aligned
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert (folder / f"{NAME}_fid.xf").read_bytes() == (folder / f"{NAME}.xf").read_bytes()
    assert parse_edf((folder / f"{NAME}.edf").read_text())["Setup.DatasetName"] == NAME
    assert not [*folder.glob("*_ali.mrc"), *folder.glob("*rec.mrc")], "the ending step is 6"


def test_the_log_is_read_as_that_of_a_completed_run(aligned):
    folder, outcome = aligned
    reading = LogReader()
    for line in outcome.lines:
        reading.take(line)
    assert reading.succeeded
    assert not reading.aborted
    assert not reading.complaints
    assert (reading.step, reading.running, reading.finished) == ("6", "", "align.com")
    assert outcome.lines[-2:] == [f"Completed dataset {NAME} through step 6", "SUCCESSFULLY COMPLETED"]
    kept = (folder / "batchruntomo.log").read_text().splitlines()
    assert [line for line in kept if line in outcome.lines] == outcome.lines[1:], "all but its first line is in the folder too"


def test_what_is_not_followed_is_said(aligned):
    _, outcome = aligned
    text = outcome.text
    said = text[text.index("NOT followed") : text.index("Directive(s) without effect")]
    assert "comparam.align.tiltalign.BeamTiltOption = 2" in said
    assert said.count("comparam") == 1, "it is the only one"
    assert "comparam.track.beadtrack.SobelFilterCentering = 1: beads are centred on a model" in text


def test_the_table_of_the_solution_has_a_line_for_every_view(aligned):
    folder, _ = aligned
    head, *rows = (folder / "taSolution.log").read_text().splitlines()
    assert head.split()[:7] == ["view", "rotation", "tilt", "deltilt", "mag", "dmag", "skew"]
    assert [int(row.split()[0]) for row in rows] == [*range(1, 22)]
    np.testing.assert_allclose([float(row.split()[2]) for row in rows], read_tilts(folder / f"{NAME}.tlt"), atol=0.06)
