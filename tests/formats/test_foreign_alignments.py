"""Alignments of other programs: what their files say, in the terms of tiltflow's geometry, and what is refused, with the reason."""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow import geometry
from tiltflow.errors import FormatError, InputError, LocationError, MissingValueError
from tiltflow.formats.aretomo import read_aln
from tiltflow.formats.find_alignment import alignment_files, check_alignment_path, find_alignment, read_alignment
from tiltflow.formats.imod_alignment import parse_view_list, read_imod_alignment
from tiltflow.formats.relion_star import parse_star, read_relion_alignment
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms, render_transforms
from tiltflow.formats.warp_xml import read_warp_xml

SIZE, PIXEL = (652, 630), 10.0
KEPT = np.delete(np.arange(41), [2, 39])


@pytest.fixture(scope="module")
def foreign(data):
    return data / "foreign_alignments"


@pytest.fixture(scope="module")
def truth(foreign):
    return read_transforms(foreign / "imod" / "00254.xf"), read_tilts(foreign / "imod" / "00254.tlt")


def rotation(axis, deg):
    """Return the right-handed rotation about x, y or z."""
    c, s = np.cos(np.deg2rad(deg)), np.sin(np.deg2rad(deg))
    return {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }[axis]


def seen(found, points):
    """Return where an alignment sees points of its volume in the raw views, from their centres, `(rows, points, 2)`."""
    views = geometry.project(points, found.tilt_deg, found.x_tilt_deg)
    return geometry.apply(geometry.invert(found.transforms)[:, None], views)


POINTS = np.array([[100.0, -50, 30], [-200, 80, -60], [10, 20, 90]])


def test_imod(foreign, truth):
    found = read_imod_alignment(foreign / "imod" / "00254.xf", SIZE, PIXEL)
    assert (found.program, found.section, found.x_tilt_deg) == ("IMOD", None, 0)
    np.testing.assert_array_equal(found.transforms, truth[0])
    np.testing.assert_array_equal(found.tilt_deg, truth[1])
    assert [path.name for path in found.files] == ["00254.xf", "00254.tlt"]


def test_aretomo(foreign, truth):
    found = read_aln(foreign / "aretomo" / "00254.aln")
    np.testing.assert_array_equal(found.section, KEPT)
    np.testing.assert_allclose(found.transforms[:, :, :2], truth[0][KEPT][:, :, :2], atol=2e-6)
    np.testing.assert_allclose(found.transforms[:, :, 2], truth[0][KEPT][:, :, 2], atol=2e-3)
    np.testing.assert_array_equal(found.tilt_deg, truth[1][KEPT])
    assert (found.image_size, found.views) == (SIZE, 41)


@pytest.mark.parametrize("path", ["relion/tomograms.star", "relion/tilt_series/00254.star"])
def test_relion(foreign, truth, path):
    found = read_relion_alignment(foreign / path, "00254", PIXEL)
    np.testing.assert_allclose(found.transforms, truth[0][KEPT], atol=2e-5)
    np.testing.assert_array_equal(found.tilt_deg, truth[1][KEPT])
    np.testing.assert_array_equal(found.nominal_deg, truth[1][KEPT])
    assert found.section is None


def test_warp_as_another_library_writes_it(foreign, truth):
    found = read_warp_xml(foreign / "warp_by_library" / "00254.xml", PIXEL)
    np.testing.assert_allclose(found.transforms, truth[0], atol=2e-5)
    np.testing.assert_allclose(found.tilt_deg, truth[1])
    np.testing.assert_allclose(found.nominal_deg, truth[1])


def test_warp_itself(foreign):
    found = read_warp_xml(foreign / "warp" / "00254.xml", PIXEL)
    np.testing.assert_allclose(geometry.axis_angles(found.transforms), -4.2999988)
    np.testing.assert_allclose(PIXEL * geometry.invert(found.transforms)[0, :, 2], [262.72888, -19.614283], atol=1e-4)
    assert found.tilt_deg[0] == 60.01
    assert found.nominal_deg[0] == -60.01
    assert found.used.all()
    assert not found.notes


@pytest.mark.parametrize(("row", "angle", "offset"), [(0, -60.01, (262.72888, -19.614283)), (30, 29.98, (-100.849625, 0.7236111))])
def test_warps_projection_is_ours(foreign, row, angle, offset):
    """Warp's chain as its source has it: Matrix3.Euler(0, angle, -axis), with -sin(angle) where x takes up z, and the offset in Å."""
    found = read_warp_xml(foreign / "warp" / "00254.xml", PIXEL)
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    tilted = POINTS @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]).T
    turned = tilted @ np.array(rotation("z", -4.2999988)).T
    np.testing.assert_allclose(seen(found, POINTS)[row], turned[:, :2] + np.array(offset) / PIXEL, atol=1e-6)


def beads(foreign):
    """Return the beads of 00254, `(beads, views, 2)` raw pixels from the centre."""
    table = np.loadtxt(foreign / "00254_beads.txt")
    xy = np.full((int(table[:, 0].max()), 41, 2), np.nan)
    xy[table[:, 0].astype(int) - 1, table[:, 1].astype(int) - 1] = table[:, 2:] - np.array(SIZE) / 2
    return xy


def positions(found, xy):
    """Return the best positions of beads `(beads, 3)`, and the root mean square of what is left, raw pixels."""
    t = np.deg2rad(found.tilt_deg)
    out, left = [], []
    for track in xy:
        known = ~np.isnan(track[:, 0])
        aligned = geometry.apply(found.transforms[known], track[known])
        design = np.stack([np.cos(t[known]), np.sin(t[known])], axis=1)
        (x, z), *_ = np.linalg.lstsq(design, aligned[:, 0], rcond=None)
        out.append((x, aligned[:, 1].mean(), z))
        left.append(aligned - np.stack([design @ [x, z], np.full(known.sum(), out[-1][1])], axis=1))
    return np.array(out), float(np.sqrt((np.concatenate(left) ** 2).sum(axis=1).mean()))


def test_beads_fit_every_form_of_the_alignment(foreign):
    xy = beads(foreign)
    imod = read_imod_alignment(foreign / "imod" / "00254.xf", SIZE, PIXEL)
    assert positions(imod, xy)[1] == pytest.approx(2.8, abs=0.1)
    warp = read_warp_xml(foreign / "warp" / "00254.xml", PIXEL)
    assert positions(warp, xy)[1] == pytest.approx(2.08, abs=0.1)
    for found in (
        read_aln(foreign / "aretomo" / "00254.aln"),
        read_relion_alignment(foreign / "relion" / "tomograms.star", "00254", PIXEL),
    ):
        assert positions(found, xy[:, KEPT])[1] == pytest.approx(2.46, abs=0.1)
        assert not found.notes


def test_gold_leans_as_the_plane_of_the_defocus_only_with_minus_warps_angles(foreign):
    """Beads fit a mirrored volume as well; the plane that Warp fits to the defocus tells them apart.

    PlaneNormal is in the frame of the physical angles, which are minus Angles where AreAnglesInverted is True.
    """
    warp = read_warp_xml(foreign / "warp" / "00254.xml", PIXEL)
    defocus = np.array([-0.041061223, -0.074988976]) / -0.99633867  # slopes of the plane along x and y

    def gold(tilt_deg):
        found = type(warp)(program="Warp", files=warp.files, transforms=warp.transforms, tilt_deg=tilt_deg, used=warp.used)
        points, left = positions(found, beads(foreign))
        lower = points[:, 2] < np.median(points[:, 2])
        for _ in range(20):  # two parallel planes
            design = np.column_stack([points[:, :2], lower, ~lower]).astype(float)
            fit = np.linalg.lstsq(design, points[:, 2], rcond=None)[0]
            off = points[:, 2] - points[:, :2] @ fit[:2]
            lower = np.abs(off - fit[2]) < np.abs(off - fit[3])
        assert np.std(points[:, 2] - design @ fit) < 5
        return fit[:2], left

    physical = -warp.tilt_deg  # Warp's angle a in `tilt = -a` is minus Angles, as they are inverted
    by_rule, left = gold(physical)
    mirrored, as_much = gold(-physical)
    assert left == pytest.approx(as_much, abs=1e-9)
    assert np.linalg.norm(by_rule - defocus) < 0.06
    assert np.linalg.norm(mirrored - defocus) > 0.18


@pytest.mark.parametrize("first", [0, 1])
def test_sections_of_aretomo_are_counted_from_0_or_1(tmp_path, first):
    rows = "".join(f"{view + first} -8.0 1.0 {view} 0.5 1 1 1 0 {3 * view - 6}\n" for view in (0, 1, 3))
    dark = f"# DarkFrame = 2 {2 + first} 0.00\n# DarkFrame = 4 {4 + first} 6.00\n"
    path = tmp_path / "B.aln"
    path.write_text(f"# AreTomo Alignment / Priims bprmMn\n# RawSize = 64 48 5\n# NumPatches = 0\n{dark}# SEC ROT\n{rows}")
    np.testing.assert_array_equal(read_aln(path).section, [0, 1, 3])


def test_local_patches_of_aretomo_are_left_with_a_note(tmp_path):
    path = tmp_path / "B.aln"
    path.write_text("# RawSize = 64 48 1\n1 0 1 0 0 1 1 1 0 0\n# Local Alignment\n0 0 1.0 2.0 0.1 0.2 1.0\n")
    assert "local alignment by patches is not taken over" in read_aln(path).notes[0]


def test_a_minimal_set_of_imod_with_tilt_com(tmp_path):
    transforms = geometry.from_axis_and_shifts(-8.0, np.zeros((5, 2)))
    (tmp_path / "S.xf").write_text(render_transforms(transforms))
    (tmp_path / "S.tlt").write_text("-6\n-3\n0\n3\n6\n")
    (tmp_path / "S.xtilt").write_text("0.3\n" * 5)
    (tmp_path / "tilt.com").write_text(
        "$tilt -StandardInput\nInputProjections S_ali.mrc\nTILTFILE\tS.tlt\nXAXISTILT 0.5\nOFFSET 1.5\nEXCLUDELIST2 2,4-5\n"
    )
    found = read_imod_alignment(tmp_path / "S.xf", SIZE, PIXEL)
    assert found.left_out == (1, 3, 4)
    assert found.x_tilt_deg == pytest.approx(0.3 - 0.5)
    np.testing.assert_allclose(found.tilt_deg, [-4.5, -1.5, 1.5, 4.5, 7.5])
    # IMOD projects Ry(t) Rx(x) v, with x = .xtilt - XAXISTILT
    matrix = np.array(rotation("y", 4.5)) @ np.array(rotation("x", -0.2))
    np.testing.assert_allclose(geometry.project(POINTS, 4.5, found.x_tilt_deg)[0], (POINTS @ matrix.T)[:, :2], atol=1e-9)


def test_what_lies_beside_and_is_not_taken_is_noted(tmp_path, foreign):
    for name in ("00254.xf", "00254.tlt"):
        shutil.copy(foreign / "imod" / name, tmp_path)
    for name in ("00254.zfac", "00254_local.json"):
        (tmp_path / name).write_text("")
    notes = read_imod_alignment(tmp_path / "00254.xf", SIZE, PIXEL).notes
    assert ["z factors" in notes[0], "local areas are not taken over" in notes[1]] == [True, True]


def test_a_tilt_com_of_another_data_set_is_not_taken(tmp_path, foreign):
    for name in ("00254.xf", "00254.tlt"):
        shutil.copy(foreign / "imod" / name, tmp_path)
    (tmp_path / "tilt.com").write_text("TILTFILE other.tlt\nXAXISTILT 5\n")
    found = read_imod_alignment(tmp_path / "00254.xf", SIZE, PIXEL)
    assert found.x_tilt_deg == 0
    assert "it reads other.tlt" in found.notes[0]


def test_relions_projection_is_ours(tmp_path):
    path = tmp_path / "S.star"
    path.write_text(
        "data_S\nloop_\n_rlnTomoXTilt\n_rlnTomoYTilt\n_rlnTomoZRot\n_rlnTomoXShiftAngst\n_rlnTomoYShiftAngst\n_rlnMicrographName\n"
        "1.0 -39.0 -8.0 -26.9246 23.9806 000003@stacks/S.mrcs\n"
    )
    found = read_relion_alignment(path, "S", PIXEL)
    np.testing.assert_array_equal(found.section, [2])
    matrix = np.array(rotation("z", -8.0)) @ np.array(rotation("y", -39.0)) @ np.array(rotation("x", 1.0))
    expected = (POINTS @ matrix.T)[:, :2] + [-2.69246, 2.39806]
    np.testing.assert_allclose(seen(found, POINTS)[0], expected, atol=1e-9)
    np.testing.assert_allclose(found.transforms[0, :, 2], [3, -2], atol=1e-4)


@given(
    st.lists(
        st.tuples(st.floats(-80, 80), st.floats(-179, 179), st.floats(-500, 500), st.floats(-500, 500)), min_size=1, max_size=6
    )
)
def test_star_and_aln_hold_any_rigid_alignment(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rigid")
    names = ("rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst")
    star = "data_S\n\nloop_\n" + "".join(f"_{name} #{i}\n" for i, name in enumerate(names, 1))
    star += "".join(f"{t!r} {r!r} {x * PIXEL!r} {y * PIXEL!r}\n" for t, r, x, y in rows)
    (folder / "S.star").write_text(star)
    aln = f"# RawSize = 64 48 {len(rows)}\n" + "".join(
        f"{i} {r!r} 1 {x!r} {y!r} 1 1 1 0 {t!r}\n" for i, (t, r, x, y) in enumerate(rows, 1)
    )
    (folder / "S.aln").write_text(aln)
    table = np.array(rows)
    expected = geometry.from_axis_and_shifts(table[:, 1], table[:, 2:])
    for found in (read_relion_alignment(folder / "S.star", "S", PIXEL), read_aln(folder / "S.aln")):
        np.testing.assert_allclose(found.transforms, expected, atol=1e-6)
        np.testing.assert_allclose(found.tilt_deg, table[:, 0])


@given(st.text(alphabet="data_loop_#'\" \n\t_rln123.ab", max_size=80))
def test_no_text_breaks_the_reader_of_star_files(text):
    with contextlib.suppress(FormatError):
        parse_star(text)


def test_a_star_file_with_pairs_quotes_and_comments():
    blocks = parse_star(
        "# made today\ndata_general\n_a 1 # one\n_b 'two words'\n\ndata_x\nloop_\n_c #1\n_d #2\n1 \"p q\"\n2 r # end\n"
    )
    assert blocks == {"general": {"a": ["1"], "b": ["two words"]}, "x": {"c": ["1", "2"], "d": ["p q", "r"]}}


XML = (
    "<TiltSeries{}><Angles>1\n2</Angles>{}<AxisAngle>3\n3</AxisAngle>"
    "<AxisOffsetX>0\n0</AxisOffsetX><AxisOffsetY>0\n0</AxisOffsetY></TiltSeries>"
)
STAR = "data_S\nloop_\n_rlnTomoYTilt\n_rlnTomoZRot\n_rlnTomoXShiftAngst\n_rlnTomoYShiftAngst\n{}"


@pytest.mark.parametrize(
    ("name", "text", "error", "said"),
    [
        ("S.aln", "nonsense", FormatError, "line 1: 'nonsense' is not SEC ROT GMAG"),
        ("S.aln", "# RawSize = 64 48 2\n", FormatError, "holds no row SEC"),
        ("S.aln", "1 0 1 0 0 1 1 1 0 0\n", FormatError, "no line '# RawSize"),
        ("S.aln", "# RawSize = 64 48 1\n1 0 1 nan 0 1 1 1 0 0\n", FormatError, "line 2"),
        ("S.aln", "# RawSize = 64 48 1\n1 0 1.02 0 0 1 1 1 0 0\n", FormatError, "GMAG is not 1"),
        ("S.aln", "# RawSize = 64 48 1\n# DarkFrame = x\n1 0 1 0 0 1 1 1 0 0\n", FormatError, "does not name a section"),
        ("S.star", "", FormatError, "has no block"),
        ("S.star", "1 2 3\n", FormatError, "stands before the first block"),
        ("S.star", STAR.format("1 2 3\n"), FormatError, "line 7: has 3 values for 4 columns"),
        ("S.star", STAR.format(""), FormatError, "holds no views"),
        ("S.star", STAR.format("1 2 3 x\n"), FormatError, "rlnTomoYShiftAngst holds something that is not a number"),
        ("S.star", STAR.format("1 2 3 inf\n"), FormatError, "not finite \\(row 1\\)"),
        ("S.star", "data_S\nloop_\n_rlnTomoYTilt\n1\n", MissingValueError, "has no rlnTomoZRot, .*not aligned yet"),
        ("S.star", "data_A\n_a 1\ndata_B\n_b 1\n", MissingValueError, "has no block data_S; there are data_A, data_B"),
        ("S.star", "data_g\n_rlnTomoName T\n_rlnTomoTiltSeriesStarFile t.star\n", MissingValueError, "has no series 'S'"),
        ("S.star", "data_g\n_rlnTomoName S\n_rlnTomoTiltSeriesStarFile t.star\n", LocationError, "neither in its folder"),
        (
            "S.star",
            "data_S\n" + "".join(f"_rlnTomoProj{row} 1\n" for row in "XYZW"),
            FormatError,
            "holds projection matrices",
        ),
        (
            "S.star",
            STAR.replace("loop_\n", "loop_\n_rlnTomoXTilt\n").format("0.0 1 2 3 4\n0.5 1 2 3 4\n"),
            FormatError,
            "the tilt about x differs between views, from 0.00 to 0.50",
        ),
        ("S.xml", "<TiltSeries>", FormatError, "is not XML"),
        ("S.xml", "<Movie/>", FormatError, "its root is <Movie>"),
        ("S.xml", '<!DOCTYPE x [<!ENTITY a "b">]><TiltSeries/>', FormatError, "declares a document type"),
        (
            "S.xml",
            "<TiltSeries><Angles>1\n2</Angles></TiltSeries>",
            MissingValueError,
            "no <AxisAngle>: this series is not aligned",
        ),
        ("S.xml", XML.format("", "").replace("3\n3", "3"), FormatError, "<AxisAngle> has 1 values, and <Angles> has 2"),
        ("S.xml", XML.format("", "").replace("3\n3", "3\nx"), FormatError, "<AxisAngle> holds something that is not a number"),
        ("S.xml", XML.format("", "").replace("3\n3", "3\nnan"), FormatError, "not finite \\(row 2\\)"),
        ("S.xml", XML.format(' LevelAngleX="x"', ""), FormatError, "LevelAngleX 'x' is not a number"),
        ("S.xf", "1 0 0 1 0 0\n", MissingValueError, "put S.tlt beside it"),
        ("S.txt", "1\n", FormatError, "is not an alignment that can be read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path, name, text, error, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=said) as raised:
        read_alignment(tmp_path / name, "S", SIZE, PIXEL)
    assert str(tmp_path / name) in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"S.tlt": "1\n"}, "has 2 transforms, and S.tlt has 1 angles"),
        ({"S.xf": "", "S.tlt": ""}, "holds no transforms"),
        ({"S.xtilt": "1\n"}, "has 1 angles, and the transforms have 2 lines"),
        ({"S.xtilt": "0\n1\n"}, "the tilt about x differs between views"),
        ({"tilt.com": "XAXISTILT abc\n"}, "XAXISTILT 'abc' is not a number"),
        ({"tilt.com": "EXCLUDELIST2 2-x\n"}, "'2-x' is not a view or a range"),
        ({"Slocal.xf": "1 1 8 8 1 1\n0 0\n"}, "has 2 numbers after its first line; 1 x 1 areas of 2 views take 14"),
        ({"Slocal.xf": "what\n"}, "is not IMOD's file of local alignments"),
        ({"Slocal.xf": "1 1\n"}, "does not begin with nx ny"),
    ],
)
def test_what_does_not_belong_together_in_a_set_of_imod_is_refused(tmp_path, changes, said):
    for name, text in {"S.xf": "1 0 0 1 0 0\n" * 2, "S.tlt": "1\n2\n", **changes}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=said):
        read_imod_alignment(tmp_path / "S.xf", SIZE, PIXEL)


def test_warps_deformations_are_left_with_a_note_and_unused_tilts_marked(tmp_path):
    more = '<UseTilt>True\nFalse</UseTilt><GridMovementX Width="1"><Node X="0" Value="1.5" /></GridMovementX>'
    (tmp_path / "S.xml").write_text(XML.format(' LevelAngleX="2" LevelAngleY="0.5" MagnificationCorrection="1.1, 0, 0, 1"', more))
    found = read_warp_xml(tmp_path / "S.xml", PIXEL)
    assert found.used.tolist() == [True, False]
    assert found.x_tilt_deg == 2
    np.testing.assert_allclose(found.tilt_deg, [-1.5, -2.5])
    assert [("GridMovementX" in note, "MagnificationCorrection" in note) for note in found.notes] == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["B.xf"], "B.xf"),
        (["B/B.xf"], "B/B.xf"),
        (["B_st.xf"], "B_st.xf"),
        (["B.aln", "B_Imod/B_st.xf"], "B.aln"),
        (["B_Imod/B_st.xf"], "B_Imod/B_st.xf"),
        (["B/B_aligned_Imod/B.xf"], "B/B_aligned_Imod/B.xf"),
        (["B.star", "C.star"], "B.star"),
        (["tilt_series/B.star"], "tilt_series/B.star"),
        (["B.xml", "C.xf"], "B.xml"),
    ],
)
def test_an_alignment_is_found_where_programs_put_it(tmp_path, files, found):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert find_alignment(tmp_path, "B") == tmp_path / found


def test_a_table_of_all_series_is_found_and_its_star_file_counts(foreign):
    path = find_alignment(foreign / "relion", "00254")
    assert path.name == "00254.star"
    table = foreign / "relion" / "tomograms.star"
    assert [each.name for each in alignment_files(table, "00254")] == ["tomograms.star", "00254.star"]
    check_alignment_path(table, ["00254", "00255"])


def test_a_tilt_file_stands_for_the_transforms_beside_it(foreign):
    path = find_alignment(foreign / "imod" / "00254.tlt", "any")
    assert path.name == "00254.xf"
    assert [each.name for each in alignment_files(path, "any")] == ["00254.xf", "00254.tlt"]


@pytest.mark.parametrize(
    ("path", "names", "said"),
    [
        ("nothing", ["B"], "there is no such file or folder"),
        ("B.xf", ["B", "C"], "is the alignment of one series, and there are 2"),
        ("B.txt", ["B"], "is not an alignment that can be read"),
    ],
)
def test_a_path_that_cannot_hold_the_alignments_is_refused_before_any_work(tmp_path, path, names, said):
    for name in ("B.xf", "B.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=said):
        check_alignment_path(tmp_path / path, names)


@pytest.mark.parametrize(
    ("files", "said"),
    [([], "has no alignment of B: looked for B.xf with B.tlt"), (["B.xf", "B.aln"], "has 2 alignments of B: B.xf, B.aln")],
)
def test_no_alignment_or_two_are_an_error(tmp_path, files, said):
    for name in files:
        (tmp_path / name).write_text("")
    with pytest.raises(LocationError, match=said):
        find_alignment(tmp_path, "B")


def test_lists_of_views():
    assert parse_view_list("2,4 - 6 9") == [2, 4, 5, 6, 9]
    with pytest.raises(FormatError, match="'0'"):
        parse_view_list("0")
