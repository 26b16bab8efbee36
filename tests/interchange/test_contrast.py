"""Defocus, hand, voltage and exposure in every export: read back by the readers of each format, and by what each program does with them.

The hand is checked by the heights of points: each program's rule for the defocus of a point must give the gradient of the record.
"""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.formats.defocus import read_defocus
from tiltflow.formats.foreign_defocus import read_ctffind, read_relion_defocus, read_warp_defocus
from tiltflow.formats.relion_star import read_star
from tiltflow.formats.warp_xml import read_warp_xml
from tiltflow.interchange.contrast import known_defocus
from tiltflow.interchange.export import export_series
from tiltflow.record import CtfEntry, read_record

DEFOCUS = [3000.0 + 40 * view for view in range(9)]
CTF = {
    "applied": True,
    "voltage_kv": 200.0,
    "voltage_source": ".mdoc",
    "cs_mm": 2.0,
    "amplitude_contrast": 0.08,
    "defocus_nm": DEFOCUS,
    "astigmatism_nm": 90.0,
    "astigmatism_deg": 25.0,
    "phase_shift_deg": 36.0,
    "hand": 1,
    "score": [0.5] * 9,
    "spacing_angstrom": [9.0] * 8 + [None],
}


def known_ctf(write_known, **changes):
    options = {key: changes.pop(key) for key in ("by_tilt", "binning") if key in changes}
    known = write_known(**options)
    known.change_record(ctf=CTF | changes)
    return known


def exported(known, target):
    (made,) = export_series(known.folder, [target])
    return made


def raw_direction(known) -> float:
    """The direction of the largest defocus in the raw views, found by carrying a vector of the aligned views back."""
    matrices = known.alignment.transforms[known.alignment.included][:, :, :2]
    along = np.array([np.cos(np.deg2rad(CTF["astigmatism_deg"])), np.sin(np.deg2rad(CTF["astigmatism_deg"]))])
    back = np.linalg.inv(matrices) @ along
    return float(np.median(np.rad2deg(np.arctan2(back[:, 1], back[:, 0]))) % 180)


def check_table(table, known, views, *, direction):
    np.testing.assert_allclose(table.defocus_nm, np.array(DEFOCUS)[views], atol=0.1)
    np.testing.assert_allclose(table.astigmatism_nm, 90, atol=0.11)
    np.testing.assert_allclose(table.astigmatism_deg % 180, direction, atol=0.1)
    np.testing.assert_allclose(table.phase_shift_deg, 36, atol=0.01)


def defocus_on_the_plane(known, hand, view, x_aligned):
    """The rule of the record: at positive tilts the right side is more underfocused."""
    return DEFOCUS[view] + hand * x_aligned * np.tan(np.deg2rad(known.alignment.tilt_deg[view]))


@pytest.mark.parametrize("by_tilt", [False, True])
@pytest.mark.parametrize("hand", [1, -1])
def test_relion_gets_the_defocus_of_each_view_and_the_hand_of_its_projection(write_known, hand, by_tilt):
    known = known_ctf(write_known, hand=hand, by_tilt=by_tilt)
    folder = exported(known, "relion5").folder
    check_table(read_relion_defocus(folder / "tomograms.star", known.name), known, known.kept, direction=raw_direction(known))
    tomogram = read_star(folder / "tomograms.star")["global"]
    rows = read_star(folder / "tilt_series" / f"{known.name}.star")[known.name]
    for row, view in enumerate(known.kept):
        # RELION: the defocus grows by rlnTomoHand times the height, the third row of Rz Ry Rx.
        turn = known.rot_z(float(rows["rlnTomoZRot"][row])) @ known.rot_y(float(rows["rlnTomoYTilt"][row]))
        point = np.array([100.0, 0, 0])
        seen = known.rot_y(known.alignment.tilt_deg[view]) @ point
        theirs = DEFOCUS[view] + float(tomogram["rlnTomoHand"][0]) * (turn @ point)[2]
        assert theirs == pytest.approx(defocus_on_the_plane(known, hand, view, seen[0]), abs=0.5)


def test_relion_gets_the_constants_and_no_default_is_left_to_mention(write_known):
    known = known_ctf(write_known)
    made = exported(known, "relion5")
    tomogram = read_star(made.folder / "tomograms.star")["global"]
    found = [float(tomogram[name][0]) for name in ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnTomoHand")]
    assert found == [200.0, 2.0, 0.08, -1.0]
    assert not any("RELION's import:" in remark for remark in made.remarks)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hand": 0}, "hand -1 is the default of RELION's import"),
        ({"voltage_source": "assumed: 300 kV, no source gives it", "voltage_kv": 300.0}, "voltage 300 kV is the default"),
    ],
)
def test_relion_is_told_which_values_are_its_defaults(write_known, changes, said):
    assert any(said in remark for remark in exported(known_ctf(write_known, **changes), "relion5").remarks)


def without_ctf(write_known):
    return write_known()


def with_a_defocus_that_is_not_known(write_known):
    return known_ctf(write_known, applied=False, defocus_nm=[], hand=0, voltage_kv=None, voltage_source="")


@pytest.mark.parametrize("target", ["imod", "relion5", "warp", "aretomo", "czi"])
def test_where_the_defocus_is_not_known_nothing_of_it_is_written(write_known, target):
    known = without_ctf(write_known)

    def texts(made):
        return {
            path.relative_to(made.folder): path.read_bytes()
            for path in sorted(made.folder.rglob("*"))
            if path.is_file()
            and path.suffix in {".star", ".txt", ".com", ".json", ".xf", ".tlt", ".xml", ".aln", ".edf", ".defocus"}
        }

    made = exported(known, target)
    before, remarks = texts(made), made.remarks
    known.change_record(ctf=CTF | {"applied": False, "defocus_nm": [], "hand": 0, "voltage_kv": None, "voltage_source": ""})
    made = exported(known, target)
    assert (texts(made), made.remarks) == (before, remarks)
    assert not any(path.suffix in {".defocus", ".xml"} or path.stem.endswith("_CTF") for path in before)
    if target == "relion5":
        assert any(
            "voltage 300 kV, spherical aberration 2.7 mm, amplitude contrast 0.1 and hand -1 are the defaults" in each
            for each in remarks
        )


@pytest.mark.parametrize("hand", [1, -1, 0])
def test_imod_gets_defocus_files_of_the_aligned_stack_and_the_hand(write_known, hand):
    known = known_ctf(write_known, hand=hand, binning=2)
    made = exported(known, "imod")
    table = read_defocus(made.folder / f"{known.name}.defocus")
    check_table(table, known, np.arange(9), direction=CTF["astigmatism_deg"])
    np.testing.assert_allclose(table.tilt_deg[:, 0], known.alignment.tilt_deg, atol=0.006)
    com = dict(line.split(maxsplit=1) for line in (made.folder / "ctfcorrection.com").read_text().splitlines() if " " in line)
    assert (com["Voltage"], com["SphericalAberration"], com["AmplitudeContrast"], com["PixelSize"]) == ("200", "2", "0.08", "1.6")
    assert com.get("InvertTiltAngles") == ("1" if hand < 0 else None)
    assert any("corrected for the CTF already" in remark for remark in made.remarks)
    assert any("the hand is not known" in remark for remark in made.remarks) is (hand == 0)


def test_aretomo_gets_a_row_for_each_view_of_the_stack(write_known):
    known = known_ctf(write_known, by_tilt=True)
    made = exported(known, "aretomo")
    table = read_ctffind(made.folder / f"{known.name}_CTF.txt")
    assert table.views[:, 0].tolist() == list(range(9))
    check_table(table, known, np.arange(9), direction=raw_direction(known))
    assert table.score.tolist() == [0.5] * 9
    assert table.spacing_angstrom.tolist() == [9.0] * 8 + [np.inf]
    assert any("that of this series is +1" in remark for remark in made.remarks)


@pytest.mark.parametrize("hand", [1, -1, 0])
def test_warp_gets_the_grids_in_the_order_of_the_tilts_and_the_sign_of_its_angles(write_known, hand):
    known = known_ctf(write_known, hand=hand)
    made = exported(known, "warp")
    path = made.folder / known.name / f"{known.name}_ctf.xml"
    rows = np.argsort(known.series.tilt_deg)
    table = read_warp_defocus(path)
    check_table(table, known, rows, direction=raw_direction(known))
    np.testing.assert_allclose(table.tilt_deg[:, 0], known.alignment.tilt_deg[rows], atol=1e-3)
    assert ("AreAnglesInverted" in path.read_text()) is (hand != 0)
    if hand:
        assert table.hand == hand
    alignment = read_warp_xml(path, known.series.pixel_size_angstrom)
    np.testing.assert_array_equal(alignment.used, known.alignment.included[rows])
    np.testing.assert_allclose(
        geometry.axis_angles(alignment.transforms), geometry.axis_angles(known.alignment.transforms)[rows], atol=1e-3
    )
    assert '<Param Name="Voltage" Value="200"' in path.read_text()


def test_the_sign_of_the_hand_is_that_of_warps_own_result():
    """For the tilts as stored, which are Warp's angles, our images say -1 (docs/explanation/ctf.md); for tilts of our sign that is +1."""
    path = Path(__file__).parents[1] / "data" / "defocus" / "warp_00254.xml"
    angles = np.array(ET.parse(path).getroot().findtext("Angles", "").split(), float)
    views, measured_for_stored_tilts = len(angles), -1
    entry = CtfEntry(cs_mm=2.7, amplitude_contrast=0.1, defocus_nm=[1900.0] * views, hand=-measured_for_stored_tilts)
    transforms = geometry.from_axis_and_shifts(-4.3, np.zeros((views, 2)))
    known = known_defocus(entry, transforms, np.ones(views, bool), -angles)
    assert known is not None
    assert str(known.warp_inverted) == ET.parse(path).getroot().get("AreAnglesInverted")


def test_the_portal_gets_the_ctf_of_each_section(write_known):
    known = known_ctf(write_known)
    made = exported(known, "czi")
    told = json.loads((made.folder / "tiltseries_metadata.json").read_text())
    assert (told["acceleration_voltage"], told["spherical_aberration_constant"]) == (200000, 2.0)
    section = told["per_section_parameter"][2]
    assert (section["major_defocus"], section["minor_defocus"]) == (31250.0, 30350.0)
    assert section["astigmatic_angle"] == pytest.approx(raw_direction(known), abs=0.1)
    assert section["phase_shift"] == pytest.approx(np.deg2rad(36), abs=1e-4)
    assert section["max_resolution"] == 9.0
    assert "max_resolution" not in told["per_section_parameter"][8]
    assert json.loads((made.folder / "tomogram_metadata.json").read_text())["ctf_corrected"] is True
    assert any(remark.endswith("is null: microscope, camera") for remark in made.remarks)


def test_the_voltage_that_was_read_goes_in_where_the_ctf_is_not_known(write_known):
    known = write_known()
    read = read_record(known.folder / "run.json")
    known.change_record(
        input={name: entry.model_dump() for name, entry in read.input.items()} | {"voltage": {"value": 120.0, "unit": "kV"}}
    )
    made = exported(known, "relion5")
    assert float(read_star(made.folder / "tomograms.star")["global"]["rlnVoltage"][0]) == 120
    told = json.loads((exported(known, "czi").folder / "tiltseries_metadata.json").read_text())
    assert told["acceleration_voltage"] == 120000


@pytest.mark.parametrize("assumed", [False, True])
def test_the_exposures_that_were_weighted_by_are_those_that_are_exported(write_known, assumed):
    known = write_known(mdoc=False)
    before = [float(4 * (8 - view)) for view in range(9)]
    known.change_record(exposure={"applied": True, "each": [4.0] * 9, "before": before, "order_assumed": assumed})
    made = exported(known, "relion5")
    rows = read_star(made.folder / "tilt_series" / f"{known.name}.star")[known.name]
    assert [float(value) for value in rows["rlnMicrographPreExposure"]] == [before[view] for view in known.kept]
    assert any("only assumed" in remark for remark in made.remarks) is assumed
    table = np.loadtxt(exported(known, "aretomo").folder / f"{known.name}_TLT.txt")
    assert table[:, 1].tolist() == list(range(9, 0, -1))
    assert set(table[:, 2]) == {4.0}
