"""Defocus in the files of IMOD, CTFFIND, AreTomo, Warp and RELION."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.errors import FormatError, InputError, LocationError, MissingValueError, ParameterError
from tiltflow.formats.defocus import DefocusTable, parse_defocus, read_defocus, render_defocus, write_defocus
from tiltflow.formats.foreign_defocus import parse_ctffind, read_ctffind, read_relion_defocus, read_warp_defocus

TILTS = [-60, -30, 0, 30, 60]


@pytest.fixture(scope="module")
def files(data):
    return data / "defocus"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one", [4000] * 5),
        ("ranges_v2", [3900, 3900, 4000, 4100, 4100]),
        ("views_v2", [3700, 3850, 4000, 4150, 4300]),
        ("views_v3_astig", [3700, 3850, 4000, 4150, 4300]),
    ],
)
def test_values_of_the_views_are_those_that_ctfphaseflip_logs(files, name, expected):
    np.testing.assert_allclose(read_defocus(files / f"{name}.defocus").per_view(TILTS).defocus_nm, expected)


def test_a_value_belongs_to_the_tilt_in_the_middle_of_its_range_and_not_to_its_number():
    table = parse_defocus("1 2 -60 -30 3900 2\n3 3 60 60 4800\n")
    np.testing.assert_allclose(table.per_view([-60, -30, 60]).defocus_nm, [3900, 3900 + 900 * 15 / 105, 4800])


def test_inverted_tilts_change_nothing_where_the_numbers_of_the_views_say_what_is_meant(files):
    tilts = np.loadtxt(files / "sim.tlt")
    plain, inverted = (read_defocus(files / f"{name}.defocus") for name in ("sim", "sim_invert"))
    assert inverted.tilt_deg[0].tolist() == [-60.0, -48.0]
    assert inverted.views[0].tolist() == [18, 20]
    difference = plain.per_view(tilts).defocus_nm - inverted.per_view(tilts).defocus_nm
    assert np.abs(difference).max() < 35, "ctfplotter's two runs differ by up to 32 nm"


@pytest.mark.parametrize("name", ["one", "ranges_v2", "views_v2", "views_v3_astig", "sim", "sim_invert"])
def test_a_file_that_is_written_again_has_the_same_numbers(files, tmp_path, name):
    path = tmp_path / "again.defocus"
    write_defocus(path, read_defocus(files / f"{name}.defocus"))
    again = [[float(word) for word in line.split()] for line in path.read_text("utf-8").splitlines()]
    assert again == [[float(word) for word in line.split()] for line in (files / f"{name}.defocus").read_text("utf-8").splitlines()]


def test_astigmatism_is_the_same_whichever_value_stands_first():
    a = parse_defocus("1 0 0. 0. 0 3\n1 1 0 0 4100 3900 30")
    b = parse_defocus("1 0 0. 0. 0 3\n1 1 0 0 3900 4100 120")
    assert a.astigmatism_deg[0] % 180 == b.astigmatism_deg[0] % 180 == 120
    assert a.astigmatism_nm[0] == b.astigmatism_nm[0] == 200


def test_radians_phase_and_cut_on_of_version_3():
    table = parse_defocus(f"47 0 0. 0. 0 3\n1 1 0 0 4100 3900 {np.pi / 6} {np.pi / 2} 0.02")
    np.testing.assert_allclose([table.astigmatism_deg[0], table.phase_shift_deg[0], table.cut_on[0]], [120, 90, 0.02])
    inverted = parse_defocus("20 0 0. 0. 0 3\n1 1 -3 -3 4000 90")
    assert (inverted.inverted, inverted.hand, inverted.phase_shift_deg[0]) == (True, -1, 90)


def test_version_2_is_written_unless_only_version_3_can_hold_it():
    table = parse_defocus("1 1 0 0 4000 2")
    assert render_defocus(table).split() == ["1", "1", "0.00", "0.00", "4000.0", "2"]
    assert render_defocus(parse_defocus("1 0 0. 0. 0 3\n1 1 0 0 4000 4000 0")).split()[-1] == "2"


def test_old_files_that_count_from_zero():
    assert parse_defocus("0 1 -3 0 3900\n2 2 3 3 4100").views.tolist() == [[0, 1], [2, 2]]
    assert parse_defocus("1 2 -3 0 3900\n3 3 3 3 4100").views.tolist() == [[0, 1], [2, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("1 2 3", "line 1"),
        ("1 1 0 0 4000 2\n2 2 3 3 x", "line 2"),
        ("2 1 0 0 4000 2", "not a range of views"),
        ("1 0 0. 0. 0 3\n1 1 0 0 4000", "asks for 7"),
        ("64 0 0. 0. 0 3\n1 1 0 0 4000", "flags"),
        ("0 0 0. 0. 0 3", "no range"),
        ("1 1 0 0 4e7 2", "millimetre"),
        ("1 1 0 0 nan 2", "line 1"),
    ],
)
def test_what_is_no_defocus_file_is_refused_in_words(text, message):
    with pytest.raises(FormatError, match=message):
        parse_defocus(text)


def test_a_file_of_another_series_is_refused(files):
    with pytest.raises(FormatError, match="view 5"):
        read_defocus(files / "views_v2.defocus").per_view([0, 1, 2])
    assert parse_defocus("20 20 0. 0. 4000").per_view([0, 1]).defocus_nm.tolist() == [4000, 4000]


def test_a_missing_file_and_a_table_without_tilts(tmp_path):
    with pytest.raises(LocationError):
        read_defocus(tmp_path / "none.defocus")
    with pytest.raises(ParameterError, match="tilt"):
        render_defocus(parse_ctffind("1 20100 19900 30 0 0.5 8.0"))


@given(
    st.lists(
        st.tuples(st.integers(5000, 90000), st.integers(1, 5000), st.integers(0, 17999), st.integers(0, 18000)),
        min_size=1,
        max_size=6,
    )
)
def test_every_table_comes_back_as_it_was_written(rows):
    mean, astigmatism, direction, phase = np.array(rows, float).T / [[10], [10], [100], [100]]
    number = np.arange(len(rows))
    table = DefocusTable(
        program="IMOD",
        views=np.stack([number, number], axis=1),
        defocus_nm=mean,
        astigmatism_nm=astigmatism,
        astigmatism_deg=direction,
        phase_shift_deg=phase,
        tilt_deg=np.stack([3.0 * number, 3.0 * number], axis=1),
    )
    again = parse_defocus(render_defocus(table))
    np.testing.assert_allclose(again.defocus_nm, mean, atol=0.051)
    np.testing.assert_allclose(again.astigmatism_nm, astigmatism, atol=0.11)
    off = np.deg2rad(again.astigmatism_deg - direction) * (again.astigmatism_nm > 0)
    np.testing.assert_allclose(np.sin(off), 0, atol=2e-4)
    np.testing.assert_allclose(again.phase_shift_deg, phase, atol=0.0051)


@given(st.text(alphabet="0123456789.-eE \n\tnaifx", max_size=200))
def test_any_text_is_a_table_or_a_message(text):
    for parse in (parse_defocus, parse_ctffind):
        with contextlib.suppress(InputError):
            parse(text)


def test_ctffind_and_aretomo():
    text = "# CTFFIND\n1 20100 19900 30 0 0.5 8.0\n2 19900 20100 30 1.5707963 0.4 inf\n"
    table = parse_ctffind(text)
    assert (table.program, table.views.tolist()) == ("CTFFIND", [[0, 0], [1, 1]])
    np.testing.assert_allclose(table.defocus_nm, 2000)
    np.testing.assert_allclose(table.astigmatism_deg, [30, 120])
    np.testing.assert_allclose(table.phase_shift_deg, [0, 90], atol=1e-5)
    assert table.score.tolist() == [0.5, 0.4]
    assert table.spacing_angstrom.tolist() == [8, np.inf]
    assert parse_ctffind("1 20100 19900 30 0 0.5 8.0 -1").program == "AreTomo"
    assert parse_ctffind("1 20100 19900 30 0 0.5 8.0 85 40 1500").program == "CTFFIND"


@pytest.mark.parametrize(
    "text", ["", "1 2 3", "1.5 20100 19900 30 0 0.5 8.0", "1 20100 19900 30 0 0.5 8\n1 20100 19900 30 0 0.5 8 1"]
)
def test_what_is_no_table_of_ctffind_is_refused(text):
    with pytest.raises(FormatError):
        parse_ctffind(text)


def test_ctffind_from_a_file(tmp_path):
    (tmp_path / "B.txt").write_text("1 20100 19900 30 0 0.5 8.0\n", "utf-8")
    assert read_ctffind(tmp_path / "B.txt").defocus_nm.tolist() == [2000]


def test_warp(files):
    table = read_warp_defocus(files / "warp_00254.xml")
    assert (table.program, len(table.views), table.hand) == ("Warp", 41, 1)
    np.testing.assert_allclose(table.defocus_nm[[0, 20]], [1570.1942, 1904.9848])
    np.testing.assert_allclose(table.tilt_deg[0], 60.01)
    np.testing.assert_allclose([table.astigmatism_nm[0], table.astigmatism_deg[0]], [15.311956, 69])
    assert not table.phase_shift_deg.any()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("<Angles>0 3</Angles>", MissingValueError),
        ("<Angles>0 3</Angles><GridCTF><Node Z='0' Value='2'/><Node Z='1' Value='x'/></GridCTF>", FormatError),
        ("<Angles>0 3 6</Angles><GridCTF><Node Z='0' Value='2'/><Node Z='1' Value='2'/></GridCTF>", FormatError),
        ("<Angles>0 nan</Angles><GridCTF><Node Z='0' Value='2'/></GridCTF>", FormatError),
        ("<Angles>0 3</Angles><GridCTF><Node Z='1e300' Value='2'/></GridCTF>", FormatError),
        ("<Angles>0 3</Angles><GridCTF><Node Z='-1' Value='2'/></GridCTF>", FormatError),
    ],
)
def test_warp_without_defocus_is_refused(tmp_path, body, error):
    path = tmp_path / "B.xml"
    path.write_text(f"<TiltSeries>{body}</TiltSeries>", "utf-8")
    with pytest.raises(error):
        read_warp_defocus(path)


def test_one_node_of_warp_holds_for_all_views(tmp_path):
    path = tmp_path / "B.xml"
    nodes = "<Node X='0' Z='0' Value='2.0'/><Node X='1' Z='0' Value='2.2'/>"
    path.write_text(f"<TiltSeries><Angles>-3 0 3</Angles><GridCTF>{nodes}</GridCTF></TiltSeries>", "utf-8")
    table = read_warp_defocus(path)
    np.testing.assert_allclose(table.defocus_nm, [2100] * 3)
    assert table.hand == -1


STAR = """data_S

loop_
_rlnTomoNominalStageTiltAngle #1
_rlnDefocusU #2
_rlnDefocusV #3
_rlnDefocusAngle #4
-3.0 20100 19900 30
0.0 21000 21000 0
"""


def test_relion(tmp_path):
    path = tmp_path / "S.star"
    path.write_text(STAR, "utf-8")
    table = read_relion_defocus(path, "S")
    np.testing.assert_allclose(table.defocus_nm, [2000, 2100])
    np.testing.assert_allclose(table.tilt_deg[:, 0], [-3, 0])
    assert (table.hand, table.phase_shift_deg.tolist()) == (None, [0, 0])
    path.write_text(STAR.replace("rlnDefocusAngle", "rlnOther"), "utf-8")
    with pytest.raises(MissingValueError, match="rlnDefocusAngle"):
        read_relion_defocus(path, "S")
