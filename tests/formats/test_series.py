"""A tilt series from what lies beside its stack: which source wins, and what is said of the others."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.formats.beside import TILTS, messages, write_mdoc

from tiltflow.errors import MissingValueError, ParameterError
from tiltflow.formats.identity import identity_of
from tiltflow.formats.series import PRECEDENCE, SeriesHints, read_series
from tiltflow.formats.tilts import write_tilts

MakeMrc = Callable[..., Path]


def test_a_stack_alone_tells_everything_it_knows(make_series: Callable[..., Path]) -> None:
    path = make_series()
    series = read_series(path)
    assert (series.path, series.name, series.shape) == (path, "B", (5, 6, 4))
    assert np.array_equal(series.tilt_deg, TILTS)
    assert (series.pixel_size_angstrom, series.axis_angle_deg, series.exposure) == (2.5, 12, None)
    assert series.included.all()
    assert series.problems == ()
    assert dict(series.provenance) == {
        "tilt_deg": "extended header (SerialEM), 5 angles from -40.00 to 45.00",
        "pixel_size_angstrom": "header, 2.5 Å",
        "axis_angle_deg": "title line of the header, 12.00 degrees",
        "exposure": "no source gives it",
        "included": "all views",
    }


def test_a_real_series_is_understood_without_a_problem(real_series: Path) -> None:
    series = read_series(real_series)
    assert series.shape == (21, 340, 340)
    assert (series.pixel_size_angstrom, series.axis_angle_deg) == (10, -4.3)
    assert np.allclose(series.tilt_deg, np.arange(-60, 61, 6), atol=0.02)
    assert series.problems == ()


def test_a_simulated_series_and_its_nominal_angles_agree(data: Path, tmp_path: Path) -> None:
    for name in ("series/sim.st", "formats/sim.rawtlt", "formats/sim.tlt"):
        (tmp_path / Path(name).name).symlink_to(data / name)
    series = read_series(tmp_path / "sim.st")
    assert series.provenance["tilt_deg"] == (
        "sim.rawtlt, 41 angles from -60.00 to 60.00; extended header (SerialEM) and sim.tlt agree"
    )
    assert series.problems == ()


# Precedence


def test_the_sources_of_angles_are_asked_in_the_order_that_is_stated(make_series: Callable[..., Path]) -> None:
    path = make_series(TILTS + 4)
    write_tilts(path.with_suffix(".rawtlt"), TILTS + 2)
    write_mdoc(path, tilts=TILTS + 3)
    write_tilts(path.with_suffix(".tlt"), TILTS + 5)
    hints = SeriesHints(first_tilt_deg=-40, tilt_increment_deg=20)
    assert read_series(path, hints).tilt_deg.tolist() == [-40, -20, 0, 20, 40]
    removals: tuple[Callable[[], object], ...] = (
        path.with_suffix(".rawtlt").unlink,
        path.with_name("B.mrc.mdoc").unlink,
        lambda: make_series(None),
    )
    found = [read_series(path).tilt_deg[0] - TILTS[0]]
    for remove in removals:
        remove()
        found.append(read_series(path).tilt_deg[0] - TILTS[0])
    assert found == [2, 3, 4, 5]


def test_the_sources_of_the_pixel_size_are_asked_in_the_order_that_is_stated(make_series: Callable[..., Path]) -> None:
    path = make_series()
    assert read_series(path, SeriesHints(pixel_size_angstrom=2.51)).pixel_size_angstrom == 2.51
    write_mdoc(path, PixelSpacing=2.49, ImageSize="4 6")
    series = read_series(path)
    assert series.pixel_size_angstrom == 2.49
    assert series.provenance["pixel_size_angstrom"] == "B.mrc.mdoc, 2.49 Å; header agrees"


def test_the_sources_of_the_axis_are_asked_in_the_order_that_is_stated(make_series: Callable[..., Path]) -> None:
    path = make_series()
    write_mdoc(path, axis=12.1)
    assert read_series(path, SeriesHints(axis_angle_deg=12.2)).axis_angle_deg == 12.2
    series = read_series(path)
    assert series.axis_angle_deg == 12.1
    assert series.provenance["axis_angle_deg"] == "B.mrc.mdoc (title), 12.10 degrees; title line of the header agrees"


def test_every_place_that_is_stated_is_one_that_is_asked() -> None:
    assert set(PRECEDENCE) == {"tilt_deg", "pixel_size_angstrom", "axis_angle_deg", "exposure"}
    assert PRECEDENCE["tilt_deg"] == ("directive setupset.copyarg.firstinc", "B.rawtlt", "B.mdoc", "extended header", "B.tlt")


@pytest.mark.parametrize("name", ["B.mrc.mdoc", "B.mdoc", "B.st.mdoc"])
def test_the_mdoc_is_found_under_each_of_its_names(make_series: Callable[..., Path], name: str) -> None:
    path = make_series(None)
    write_mdoc(path, name)
    series = read_series(path)
    assert series.provenance["tilt_deg"].startswith(f"{name}, 5 angles")
    assert series.exposure is not None
    assert series.exposure.tolist() == [2.5] * 5
    assert series.provenance["exposure"] == f"{name}, 12.5 electrons per square ångström in all"


def test_a_header_of_thermo_fisher_tells_all_it_has(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    raw = b""
    for tilt in TILTS:
        block = bytearray(768)
        struct.pack_into("<2iI", block, 0, 768, 0, 1 << 6 | 1 << 7 | 1 << 12 | 1 << 14)
        struct.pack_into("<2d", block, 92, 3e20, tilt)
        struct.pack_into("<d", block, 140, -84.5)
        struct.pack_into("<d", block, 156, 1.9e-10)
        raw += bytes(block)
    series = read_series(make_mrc(images, extended=raw, kind=b"FEI1", cell=(4, 6, 5)))
    assert np.array_equal(series.tilt_deg, TILTS)
    assert (series.pixel_size_angstrom, series.axis_angle_deg) == (pytest.approx(1.9), 84.5)
    assert series.exposure is not None
    assert series.exposure == pytest.approx([3] * 5)
    assert series.provenance["pixel_size_angstrom"] == "extended header (Thermo Fisher FEI1), 1.9 Å"
    assert series.problems == ()


# Disagreements


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (-TILTS, "have the opposite sign"),
        (TILTS[::-1], "are in reverse order"),
        (TILTS[[2, 1, 3, 0, 4]], "are the same angles in another order"),
        (TILTS + 1, "differ by a constant +1.00 degrees"),
        (TILTS * 1.02, "differ by up to 0.90 degrees, in view 5: 45.90 against 45.00"),
    ],
)
def test_angles_at_odds_are_reported_with_both_values_and_both_places(
    make_series: Callable[..., Path], other: NDArray[np.float64], kind: str
) -> None:
    path = make_series(other)
    write_tilts(path.with_suffix(".rawtlt"), TILTS)
    series = read_series(path)
    assert np.array_equal(series.tilt_deg, TILTS)
    (problem,) = series.problems
    assert problem.where == "extended header (SerialEM)"
    assert f"{other[0]:.2f} to {other[-1]:.2f}" in problem.message
    assert kind in problem.message
    assert problem.message.endswith("used: 5 angles from -40.00 to 45.00 from B.rawtlt")


def test_angles_that_differ_by_a_rounding_are_not_reported(make_series: Callable[..., Path]) -> None:
    path = make_series()
    write_mdoc(path, tilts=TILTS + 0.0049)
    assert read_series(path).problems == ()


def test_refined_angles_may_differ_by_what_alignment_does_but_not_in_sign(make_series: Callable[..., Path]) -> None:
    path = make_series()
    write_tilts(path.with_suffix(".tlt"), TILTS * 1.01 + 2)
    assert read_series(path).problems == ()
    write_tilts(path.with_suffix(".tlt"), -TILTS)
    assert "B.tlt: the tilt angles there, 5 angles from 40.00 to -45.00, have the opposite sign" in messages(read_series(path))


@pytest.mark.parametrize(
    ("axis", "kind"), [(-12, "opposite sign"), (-168, "180 degrees"), (102, "90 degrees"), (12.5, "differs by 0.5 degrees")]
)
def test_axes_at_odds_are_reported(make_series: Callable[..., Path], axis: float, kind: str) -> None:
    series = read_series(make_series(), SeriesHints(axis_angle_deg=axis))
    assert series.axis_angle_deg == axis
    assert "title line of the header: the tilt axis angle there, 12.00 degrees" in messages(series)
    assert kind in messages(series)
    assert f"used: {axis:.2f} degrees from directive setupset.copyarg.rotation" in messages(series)


def test_pixel_sizes_at_odds_are_reported(make_series: Callable[..., Path]) -> None:
    series = read_series(make_series(), SeriesHints(pixel_size_angstrom=10))
    assert series.pixel_size_angstrom == 10
    assert "header: the pixel size there, 2.5 Å, is 4 times smaller" in messages(series)
    assert read_series(make_series(), SeriesHints(pixel_size_angstrom=2.52)).problems == ()


def test_the_mdoc_of_a_stack_that_was_binned_agrees_with_its_header(make_series: Callable[..., Path]) -> None:
    path = make_series()
    write_mdoc(path, PixelSpacing=0.625, ImageSize="17 27")
    series = read_series(path)
    assert series.provenance["pixel_size_angstrom"] == "header, 2.5 Å; B.mrc.mdoc (of images 4 times as large) agrees"
    assert series.problems == ()


def test_the_mdoc_of_other_images_does_not_tell_the_pixel_size(make_series: Callable[..., Path]) -> None:
    path = make_series()
    write_mdoc(path, PixelSpacing=0.7, ImageSize="100 20")
    series = read_series(path)
    assert (series.pixel_size_angstrom, series.problems) == (2.5, ())


def test_pixels_that_are_not_square_are_reported(make_series: Callable[..., Path]) -> None:
    said = "header: its pixels are not square, 2.5 Å along x and 5 Å along y: the former is used for both"
    assert said in messages(read_series(make_series(cell=(10, 30, 5))))


def test_bytes_after_the_last_view_are_reported(make_series: Callable[..., Path]) -> None:
    series = read_series(make_series(tail=bytes(100)))
    assert "100 bytes follow the last of the 5 views, room for 2 more; they are not read" in messages(series)


# Pixels and axes that are not what they seem


def test_an_axis_that_no_source_gives_is_a_doubt(make_series: Callable[..., Path]) -> None:
    assert "may be mirrored" in read_series(make_series(axis=None)).doubts["axis_angle_deg"]
    assert not read_series(make_series()).doubts


def test_a_joined_mdoc_gives_the_angles_in_the_order_of_its_sections(make_series: Callable[..., Path]) -> None:
    path = make_series(None)
    mdoc = write_mdoc(path, tilts=[0.0, -3, -6])
    first = mdoc.read_text()
    write_mdoc(path, tilts=[3.0, 6])
    mdoc.write_text(first + "\n" + mdoc.read_text() + "\n")
    series = read_series(path)
    assert series.tilt_deg.tolist() == [0, -3, -6, 3, 6]
    assert "occur more than once" in messages(series)


def test_an_mdoc_that_is_cut_off_is_named_where_no_other_source_has_angles(make_series: Callable[..., Path]) -> None:
    path = make_series(None)
    mdoc = write_mdoc(path)
    text = mdoc.read_text()
    mdoc.write_text(text[: text.index("45.0") + 1])
    with pytest.raises(MissingValueError, match=r"\(ZValue 4\); the file ends within TiltAngle = 4 of \[ZValue = 4\]"):
        read_series(path)


@pytest.mark.parametrize(("side", "shown"), [(1e-9, "1e-09"), (1e7, "1e+07"), (0.005, "0.005")])
def test_a_pixel_that_no_microscope_has_is_not_believed_and_said(make_series: Callable[..., Path], side: float, shown: str) -> None:
    path = make_series(cell=(4 * side, 6 * side, 5 * side))
    series = read_series(path)
    assert series.pixel_size_angstrom == 1
    assert f"header: the pixel size there, {shown} Å, is not that of a microscope" in messages(series)
    write_mdoc(path, PixelSpacing=2.49)
    assert read_series(path).pixel_size_angstrom == 2.49


@pytest.mark.parametrize("side", [0.02, 0.5, 9e4])
def test_a_pixel_that_a_microscope_may_have_is_believed(make_series: Callable[..., Path], side: float) -> None:
    assert read_series(make_series(cell=(4 * side, 6 * side, 5 * side))).pixel_size_angstrom == pytest.approx(side)


@pytest.mark.parametrize("given", [1e-9, 1e7])
def test_a_pixel_that_no_microscope_has_is_refused_as_a_directive(make_series: Callable[..., Path], given: float) -> None:
    with pytest.raises(ParameterError, match="is not a pixel size of a microscope; give it in nm"):
        read_series(make_series(), SeriesHints(pixel_size_angstrom=given))


@pytest.mark.parametrize(
    ("name", "text", "axis"),
    [
        ("B.txt", "Xplore3D\nTilt axis angle: 83.5\n", 83.5),
        ("B.txt", "Tilt axis rotation (deg) = -83,5\n", -83.5),
        ("B.txt", "  TiltAxis [degrees]\t83.5\n", 83.5),
        ("B.txt", "Tilt axis angle: 83.5\nTilt axis angle: 83.50\n", 83.5),
        ("B.txt", "Tilt axis angle: 83.5\nTilt axis angle: 12\n", None),
        ("B.txt", "Tilt angle: 83.5\n", None),
        ("B.txt", "the tilt axis was fine = 3\n", None),
        ("B.txt", "Tilt axis angle: 1.2.3\n", None),
        ("B.edf", "Setup.ImageRotationA=83.5\n", 83.5),
        ("B.edf", "Setup.ImageRotationA=\n", None),
    ],
)
def test_a_file_beside_the_stack_may_tell_the_axis(
    make_series: Callable[..., Path], name: str, text: str, axis: float | None
) -> None:
    path = make_series(axis=None)
    path.with_name(name).write_text(text)
    series = read_series(path)
    assert series.axis_angle_deg == (axis or 0)
    assert series.provenance["axis_angle_deg"].startswith(name if axis else "assumed")
    assert ("the tomogram may be mirrored" in messages(series)) == (name == "B.txt" or axis is None)
    assert ("several tilt axis angles (12, 83.5)" in messages(series)) == ("12" in text)


def test_a_better_source_of_the_axis_is_compared_with_the_file_beside_the_stack(make_series: Callable[..., Path]) -> None:
    path = make_series()
    path.with_suffix(".txt").write_text("Tilt axis angle: -12\n")
    series = read_series(path)
    assert series.axis_angle_deg == 12
    assert "B.txt: the tilt axis angle there, -12.00 degrees, has the opposite sign" in messages(series)


def test_every_file_beside_a_stack_that_reading_looks_for_is_part_of_its_identity(make_series: Callable[..., Path]) -> None:
    path = make_series()
    before = identity_of(path)
    for name in ("B.mrc.mdoc", "B.rawtlt", "B.tlt", "B.edf", "B.txt"):
        path.with_name(name).write_text("x")
        after = identity_of(path)
        assert after != before, name
        before = after


def test_files_beside_the_target_of_a_link_are_named(make_series: Callable[..., Path], tmp_path: Path) -> None:
    path = make_series()
    write_mdoc(path)
    link = tmp_path / "folder" / "C.mrc"
    link.parent.mkdir()
    link.symlink_to(path)
    said = f"B.mrc.mdoc lies beside {path}, to which the link leads, not beside the link"
    assert said in messages(read_series(link))
    assert said not in messages(read_series(path))
    link.with_name("C.mrc.mdoc").symlink_to(path.with_name("B.mrc.mdoc"))
    assert said not in messages(read_series(link))


@pytest.mark.parametrize(
    ("order", "said"), [((1, 2, 3), ""), ((0, 0, 0), ""), ((2, 1, 3), "are y, x, z"), ((3, 1, 2), "are z, x, y")]
)
def test_axes_that_are_permuted_are_said(make_series: Callable[..., Path], order: tuple[int, int, int], said: str) -> None:
    path = make_series()
    raw = bytearray(path.read_bytes())
    struct.pack_into("<3i", raw, 64, *order)
    path.write_bytes(raw)
    series = read_series(path)
    assert [said in problem.message for problem in series.problems] == [True] * bool(said)


def test_the_title_of_tomography_in_a_header_is_turned_back(make_series: Callable[..., Path]) -> None:
    path = make_series(axis=None, labels=["Tomography: KRIOS", "  TiltAxisAngle = -175.00  Binning = 1"])
    assert read_series(path).axis_angle_deg == 85


# Hints


def test_a_series_of_one_view_is_a_series(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    path = make_mrc(images[:1])
    write_tilts(path.with_suffix(".rawtlt"), [0])
    assert read_series(path).tilt_deg.tolist() == [0]
    assert read_series(path, SeriesHints(first_tilt_deg=0, tilt_increment_deg=0)).tilt_deg.tolist() == [0]


def test_a_dose_symmetric_order_is_kept(make_series: Callable[..., Path]) -> None:
    order = np.array([0, 3, -3, 6, -6.0])
    series = read_series(make_series(order))
    assert np.array_equal(series.tilt_deg, order)
    assert series.problems == ()


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (SeriesHints(first_tilt_deg=-60), "takes the first tilt and the increment, and one is missing"),
        (SeriesHints(tilt_increment_deg=3), "one is missing"),
        (SeriesHints(first_tilt_deg=-60, tilt_increment_deg=0), "an increment of 0 gives all 5 views the same tilt"),
        (SeriesHints(pixel_size_angstrom=0), "0 Å is not a pixel size"),
        (SeriesHints(pixel_size_angstrom=float("nan")), "nan Å is not a pixel size"),
        (SeriesHints(exclude_views=(2, 6)), r"view 6 is to be excluded, but B.mrc has views 1 to 5"),
        (SeriesHints(exclude_views=(0,)), r"view 0 is to be excluded"),
        (SeriesHints(exclude_views=(1, 2, 3, 4, 5)), r"all 5 views of B.mrc are to be excluded"),
    ],
)
def test_hints_that_cannot_be_are_refused(make_series: Callable[..., Path], hints: SeriesHints, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        read_series(make_series(), hints)


def test_excluded_views_are_counted_from_one_and_keep_their_angle(make_series: Callable[..., Path]) -> None:
    series = read_series(make_series(), SeriesHints(exclude_views=(5, 1)))
    assert series.included.tolist() == [False, True, True, True, False]
    assert len(series.tilt_deg) == 5
    assert series.provenance["included"] == "all but 1, 5, excluded by directive"


def test_angles_beyond_ninety_degrees_are_reported(make_series: Callable[..., Path]) -> None:
    series = read_series(make_series(), SeriesHints(first_tilt_deg=-40, tilt_increment_deg=40))
    assert "tilt angles reach 120.00 degrees" in messages(series)


def test_views_that_are_seen_edge_on_are_named_before_anything_is_run(make_series: Callable[..., Path]) -> None:
    series = read_series(make_series(np.array([-90.0, -45.0, 0.0, 45.0, 87.5])))
    (problem,) = series.problems
    assert problem.message.endswith("are left out of an alignment: view 1 (-90.0°), 5 (87.5°)")
    assert read_series(make_series(np.array([-85.0, -45.0, 0.0, 45.0, 85.0]))).problems == ()


@given(angle=st.floats(-720, 720))
def test_an_axis_of_more_than_half_a_turn_is_the_same_axis_within_it(
    tmp_path_factory: pytest.TempPathFactory, angle: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "axis.mrc"
    if not path.exists():
        header = bytearray(1024)
        struct.pack_into("<10i", header, 0, 2, 2, 1, 0, 0, 0, 0, 2, 2, 1)
        path.write_bytes(bytes(header) + bytes(4))
        write_tilts(path.with_suffix(".rawtlt"), [0])
    found = read_series(path, SeriesHints(axis_angle_deg=angle)).axis_angle_deg
    assert -180 <= found <= 180
    assert np.cos(np.deg2rad(found - angle)) == pytest.approx(1)
