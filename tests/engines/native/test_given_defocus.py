"""Whose row is whose view, in which frame is a direction, and for which tilts is a hand, in a defocus that another program found."""

from pathlib import Path

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.engines.native.given_defocus import check_given_defocus, checksums_of_defocus, given_defocus
from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.defocus import DefocusTable, write_defocus
from tiltflow.formats.foreign_defocus import render_ctffind
from tiltflow.model import Alignment, TiltSeries

DATA = Path(__file__).parents[2] / "data" / "defocus"
TILTS = np.array([-40.0, -20.0, 0.0, 20.0, 40.0])
AXIS = -12.0


def series_of(tilts=TILTS) -> TiltSeries:
    views = len(tilts)
    return TiltSeries(
        path=Path("S.st"),
        shape=(views, 8, 8),
        tilt_deg=np.asarray(tilts, float),
        pixel_size_angstrom=5.0,
        axis_angle_deg=AXIS,
        included=np.ones(views, bool),
    )


def alignment_of(series, axis=AXIS, sign=1) -> Alignment:
    views = series.shape[0]
    transforms = geometry.from_axis_and_shifts(axis, np.zeros((views, 2)))
    return Alignment(transforms, sign * series.tilt_deg + 0.3, np.ones(views, bool), "gold")


def table_of(defocus=(3000, 3100, 3200, 3300, 3400), astigmatism=0.0, direction=0.0, tilts=TILTS, phase=0.0) -> DefocusTable:
    rows = len(defocus)
    return DefocusTable(
        program="IMOD",
        views=np.repeat(np.arange(rows)[:, None], 2, axis=1),
        defocus_nm=np.array(defocus, float),
        astigmatism_nm=np.broadcast_to(np.array(astigmatism, float), rows),
        astigmatism_deg=np.broadcast_to(np.array(direction, float), rows),
        phase_shift_deg=np.broadcast_to(np.array(phase, float), rows),
        tilt_deg=np.stack([tilts, tilts], axis=1),
    )


def warp_file(path, tilts, defocus, *, inverted, axis=AXIS, sign=-1):
    """A series of Warp: its angles are minus the tilts (or the tilts), and its rows rise in the nominal tilt."""
    rows = np.argsort(tilts)
    angles = "\n".join(f"{sign * tilts[row]:g}" for row in rows)
    axes = "\n".join([f"{axis}"] * len(rows))
    nodes = "".join(f'<Node X="0" Y="0" Z="{z}" Value="{defocus[row] / 1000:g}"/>' for z, row in enumerate(rows))
    delta, direction = (
        f"<GridCTFDefocus{name}><Node Z='0' Value='{value}'/></GridCTFDefocus{name}>"
        for name, value in (("Delta", 0.06), ("Angle", 20))
    )
    path.write_text(
        f'<TiltSeries AreAnglesInverted="{inverted}"><Angles>{angles}</Angles><AxisAngle>{axes}</AxisAngle><GridCTF>{nodes}</GridCTF>'
        f"{delta}{direction}</TiltSeries>"
    )
    return path


def test_directions_of_imod_are_those_of_the_aligned_views_and_of_others_those_of_the_raw_ones(tmp_path):
    series, table = series_of(), table_of(astigmatism=60, direction=20)
    imod, ctffind = tmp_path / "S.defocus", tmp_path / "S.txt"
    write_defocus(imod, table)
    ctffind.write_text(render_ctffind(table))
    of_aligned, of_raw = (given_defocus(path, series, alignment_of(series)) for path in (imod, ctffind))
    assert (of_aligned.program, of_raw.program) == ("IMOD", "CTFFIND")
    assert (of_aligned.astigmatism.nm, of_raw.astigmatism.nm) == (pytest.approx(60, abs=0.1), pytest.approx(60, abs=0.1))
    assert of_aligned.astigmatism.deg == pytest.approx(20, abs=0.1)
    # The raw view is turned by minus the axis angle: a direction of 20 becomes 20 + 12.
    assert of_raw.astigmatism.deg == pytest.approx(32, abs=0.1)
    np.testing.assert_allclose(of_raw.defocus_nm, table.defocus_nm)
    assert (of_aligned.hand, of_raw.hand) == (None, None)


def test_what_differs_from_view_to_view_is_said(tmp_path):
    path = tmp_path / "S.txt"
    path.write_text(render_ctffind(table_of(astigmatism=[10, 10, 10, 10, 300], phase=[0, 0, 0, 0, 60])))
    found = given_defocus(path, series_of(), alignment_of(series_of()))
    assert (found.astigmatism.nm, found.phase_shift_deg) == (pytest.approx(68, abs=0.1), pytest.approx(12, abs=0.01))
    assert [remark.split()[2] for remark in found.remarks] == ["astigmatism", "phase"]
    path.write_text(render_ctffind(table_of(astigmatism=20)))
    assert given_defocus(path, series_of(), alignment_of(series_of())).remarks == ()


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [2, 3, 1, 4, 0]])
@pytest.mark.parametrize(
    ("inverted", "sign", "axis", "hand"),
    [
        (True, 1, AXIS, 1),
        (False, 1, AXIS, -1),
        (True, -1, AXIS, -1),  # ours run the other way
        (True, 1, AXIS + 180, -1),  # our axis points the other way
        (False, -1, AXIS - 180, -1),
    ],
)
def test_rows_of_warp_are_those_of_the_tilts_and_its_hand_is_that_of_its_axis(tmp_path, order, inverted, sign, axis, hand):
    series = series_of(TILTS[order])
    defocus = 3000 + 10 * series.tilt_deg
    path = warp_file(tmp_path / "S.xml", series.tilt_deg, defocus, inverted=inverted)
    found = given_defocus(path, series, alignment_of(series, axis, sign))
    np.testing.assert_allclose(found.defocus_nm, defocus)
    assert found.hand == hand
    assert found.astigmatism.deg == pytest.approx((20 - axis) % 180)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 3, 1, 4, 0]])
def test_rows_of_warp_rise_in_the_nominal_tilt_also_where_its_angles_have_the_sign_of_the_stack(tmp_path, order):
    """A symmetric series in the order of acquisition fits its rows in either order."""
    series = series_of(TILTS[order])
    defocus = 3000 + 10 * series.tilt_deg
    path = warp_file(tmp_path / "S.xml", series.tilt_deg, defocus, inverted=True, sign=1)
    found = given_defocus(path, series, alignment_of(series))
    np.testing.assert_allclose(found.defocus_nm, defocus)
    assert found.hand == -1


def test_warps_own_series_has_the_hand_that_we_measured_on_its_stack():
    """The stack has Warp's angles as they are; for these our estimate finds -1 (docs/explanation/ctf.md)."""
    series = series_of(np.linspace(-60, 60, 41))
    found = given_defocus(DATA / "warp_00254.xml", series, alignment_of(series))
    assert found.hand == -1
    assert (found.defocus_nm[0], found.defocus_nm[20]) == (pytest.approx(1570.2, abs=0.1), pytest.approx(1905.0, abs=0.1))


@pytest.mark.parametrize(("name", "hand"), [("sim.defocus", None), ("sim_invert.defocus", -1)])
def test_tilts_that_imods_fit_negated_tell_the_hand(name, hand):
    series = series_of(np.linspace(-60, 60, 21))
    found = given_defocus(DATA / name, series, alignment_of(series))
    assert found.hand == hand
    assert found.defocus_nm[1] < found.defocus_nm[-2]
    if hand:
        assert given_defocus(DATA / name, series, alignment_of(series, sign=-1)).hand == 1, "for tilts of the other sign"


def test_rows_of_relion_are_those_of_the_views_it_kept(tmp_path):
    path = tmp_path / "S.star"
    rows = "".join(f"{tilt} {30000 + 100 * tilt} {30000 + 100 * tilt} 0\n" for tilt in (-40, -20, 20, 40))
    columns = "_rlnTomoNominalStageTiltAngle #1\n_rlnDefocusU #2\n_rlnDefocusV #3\n_rlnDefocusAngle #4\n"
    path.write_text(f"data_S\n\nloop_\n{columns}{rows}")
    series = series_of(TILTS[[2, 3, 1, 4, 0]])
    found = given_defocus(path, series, alignment_of(series))
    np.testing.assert_allclose(found.defocus_nm, 3000 + 10 * series.tilt_deg)
    assert found.hand is None


def test_one_row_holds_for_all_views():
    series = series_of()
    assert given_defocus(DATA / "one.defocus", series, alignment_of(series)).defocus_nm.tolist() == [4000] * 5


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: write_defocus(path, table_of(range(6), tilts=np.arange(6))),
            "has the defocus of view 6, and S.st has 5 views",
        ),
        (lambda path: write_defocus(path, table_of(tilts=np.array([-60.0, 40, 0, -20, 60]))), "degrees from those of S.st"),
        (lambda path: path.write_text(render_ctffind(table_of((3000, 3100, 3200)))), "has 3 rows, and S.st has 5 views"),
        (lambda path: path.write_text(render_ctffind(table_of()).replace("\n     2 ", "\n     1 ")), "one for each"),
        (lambda path: warp_file(path, np.array([-70.0, 3, 65]), [1, 2, 3], inverted=True), "3 views"),
        (lambda path: path.write_text("no defocus"), "no file of defocus"),
    ],
)
def test_what_does_not_fit_the_series_is_refused_with_the_file(tmp_path, write, message):
    path = tmp_path / "S.any"
    write(path)
    with pytest.raises(FormatError, match=message) as refused:
        given_defocus(path, series_of(), alignment_of(series_of()))
    assert str(path) in str(refused.value)


def test_the_key_is_that_of_the_content(tmp_path):
    path = tmp_path / "S.txt"
    assert checksums_of_defocus("", "S") == ()
    with pytest.raises(LocationError, match=r"S\.txt"):
        checksums_of_defocus(str(path), "S")
    path.write_text(render_ctffind(table_of()))
    first = checksums_of_defocus(str(path), "S")
    path.write_text(render_ctffind(table_of(astigmatism=1)))
    assert checksums_of_defocus(str(path), "S") != first


FORTY_ONE = np.linspace(-60, 60, 41)


def lines_of(*ranges) -> str:
    """Return a `.defocus` file of version 2 with these views, counted from 1, first to last, all at 3000 nm."""
    lines = [f"{a} {b} {FORTY_ONE[a - 1]:.2f} {FORTY_ONE[b - 1]:.2f} 3000" for a, b in ranges]
    return "\n".join([f"{lines[0]} 2", *lines[1:]]) + "\n"


@pytest.mark.parametrize(
    ("ranges", "doubt"),
    [
        ([(1, 41)], ""),
        ([(1, 8), (9, 16), (17, 24), (25, 32), (33, 41)], ""),
        ([(1, 12), (10, 20), (18, 30), (28, 41)], ""),  # ranges that overlap
        ([(4, 4), (11, 11), (18, 18), (25, 25), (32, 32), (38, 38)], ""),  # steps of 21 degrees
        (
            [(1, 1), (11, 11), (21, 21), (31, 31), (41, 41)],
            "5 of 41 views, and 12 are more than 10 degrees from any of them (up to 15)",
        ),
        ([(5, 5), (21, 21), (37, 37)], "3 of 41 views, and 20 are more than"),
        ([(1, 30), (31, 36)], "36 of 41 views, and 2 are more than 10 degrees"),
    ],
)
def test_views_far_from_all_that_a_file_names_are_a_doubt(tmp_path, ranges, doubt):
    path, series = tmp_path / "S.defocus", series_of(FORTY_ONE)
    path.write_text(lines_of(*ranges))
    doubts = given_defocus(path, series, alignment_of(series)).doubts
    assert len(doubts) == bool(doubt)
    assert all(doubt in each for each in doubts)


@pytest.mark.parametrize(("last", "refused"), [(20, True), (21, False), (5, True)])
def test_a_file_that_ends_before_most_views_is_refused(tmp_path, last, refused):
    path, series = tmp_path / "S.defocus", series_of(FORTY_ONE)
    path.write_text(lines_of(*((view, view) for view in range(1, last + 1))))
    if not refused:
        check_given_defocus(path, series)
        return
    with pytest.raises(
        FormatError, match=rf"its {last} rows hold views from -60 to .* {41 - last} of the 41 views of S\.st lie beyond"
    ):
        check_given_defocus(path, series)


def test_views_that_take_no_part_are_not_far(tmp_path):
    path, series = tmp_path / "S.defocus", series_of(FORTY_ONE)
    path.write_text(lines_of((1, 30), (31, 36)))
    series.included[36:] = False
    assert given_defocus(path, series, alignment_of(series)).doubts == ()
