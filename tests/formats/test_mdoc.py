""".mdoc files of SerialEM and Tomography 5, whole, out of order, and damaged."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.mdoc import MdocView, parse_mdoc, read_mdoc

SERIALEM = """\
PixelSpacing = 2.74
Voltage = 300
ImageFile = lamella=3.st
ImageSize = 3838 3710
Montage = 0
DataMode = 1

[T = SerialEM: Digitized on Krios              11-Mar-20  09:00:00    ]

[T =     Tilt axis angle = 85.3, binning = 1  spot = 8  camera = 1 bidir = 0.0]

[ZValue = 0]
TiltAngle = 0.0098
StagePosition = 13.5 -220.8
StageZ = 40.04
Magnification = 33000
Intensity = 0.117
ExposureDose = 2.9
DoseRate = 14.7
SpotSize = 8
Defocus = -0.9
ImageShift = 0.46 0.24
RotationAngle = 175.3
ExposureTime = 1.4
MinMaxMean = 2 214 31.9
PriorRecordDose = 0
SubFramePath = D:\\frames\\lamella=3_000.tif
NumSubFrames = 8
FrameDosesAndNumber = 0.36 8
DateTime = 11-Mar-20  09:00:01
FilterSlitAndLoss = 20 0

[ZValue = 1]
TiltAngle = 3.0101
ExposureDose = 2.95
RotationAngle = 175.3
PriorRecordDose = 2.9
DateTime = 11-Mar-20  09:00:31
"""

TOMO5 = """\
PixelSpacing = 1.9
ImageFile = Position_1.mrc
ImageSize = 4096 4096
DataMode = 1

[T = TEM Tomography 5.9]

[ZValue = 0]
TiltAngle = -0.01
PixelSpacing = 1.91
RotationAngle = -95.6
ExposureDose = 3.1
"""


def test_a_file_of_serialem_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "B.st.mdoc"
    path.write_text(SERIALEM, "latin-1")
    mdoc = read_mdoc(path)
    assert mdoc.path == path
    assert mdoc.tilt_deg.tolist() == [0.0098, 3.0101]
    assert mdoc.exposure is not None
    assert mdoc.exposure.tolist() == [2.9, 2.95]
    assert (mdoc.pixel_size_angstrom, mdoc.image_size) == (2.74, (3838, 3710))
    assert (mdoc.axis_angle_deg, mdoc.axis_source) == (85.3, "title")
    assert mdoc.titles[0].startswith("SerialEM: Digitized on Krios")
    first, second = mdoc.views
    assert first.frames == "D:\\frames\\lamella=3_000.tif"
    assert first.acquired == "11-Mar-20  09:00:01"
    assert (first.rotation_angle_deg, first.prior_exposure, second.prior_exposure) == (175.3, 0, 2.9)
    assert (second.frames, second.pixel_size_angstrom) == (None, None)
    assert mdoc.problems == ()


def test_the_axis_of_tomography_5_is_the_rotation_of_its_views() -> None:
    mdoc = parse_mdoc(TOMO5)
    assert (mdoc.axis_angle_deg, mdoc.axis_source, mdoc.pixel_size_angstrom) == (-95.6, "RotationAngle", 1.9)


def test_the_rotation_of_serialems_views_is_not_taken_for_the_axis() -> None:
    mdoc = parse_mdoc(SERIALEM.replace("Tilt axis angle = 85.3, ", ""))
    assert mdoc.axis_angle_deg is None


@pytest.mark.parametrize(
    ("titles", "rotation", "axis", "source"),
    [
        (["Tomography: KRIOS", "  TiltAxisAngle = -176.20  Binning = 1"], 86.2, 86.2, "RotationAngle"),
        (["Tomography: KRIOS", "  TiltAxisAngle = -176.25  Binning = 1"], 86.2, 86.2, "RotationAngle"),
        (["  TiltAxisAngle = -176.20  Binning = 1"], 86.2, 86.2, "RotationAngle"),
        (["Tomography: KRIOS", "  TiltAxisAngle = 96.00  Binning = 1"], 174.0, 174.0, "RotationAngle"),
        (["Tomography: KRIOS", "  TiltAxisAngle = -173.94"], None, 83.94, "-(TiltAxisAngle + 90) of the title"),
        (["Tomography: KRIOS"], 86.2, 86.2, "RotationAngle"),
        (["Tomography: KRIOS", "  TiltAxisAngle = 86.20"], 86.2, 86.2, "title"),
        (["Tomography: KRIOS", "  TiltAxisAngle = 12.00"], 86.2, 12.0, "title"),
        (["SerialEM: x", "    Tilt axis angle = -90.0, binning = 1"], 0.0, -90.0, "title"),
        (["SerialEM: x", "    Tilt axis angle = 85.3, binning = 1"], -175.3, 85.3, "title"),
        (["SerialEM: x"], 174.78, None, ""),
        ([], 174.78, None, ""),
        ([], None, None, ""),
    ],
)
def test_rotation_angle_is_the_axis_only_with_the_signs_of_tomography(
    titles: list[str], rotation: float | None, axis: float | None, source: str
) -> None:
    lines = [f"[T = {title}]" for title in titles] + ["[ZValue = 0]", "TiltAngle = 3"]
    lines += [] if rotation is None else [f"RotationAngle = {rotation}"]
    mdoc = parse_mdoc("\n".join([*lines, ""]))
    assert (mdoc.axis_angle_deg, mdoc.axis_source) == (axis, source)
    said = " ".join(problem.message for problem in mdoc.problems)
    assert ("RotationAngle, 174.78, is not used" in said) == (axis is None and rotation is not None)
    assert ("do not fit each other" in said) == (axis == 12)


def test_a_file_of_serialem_without_titles_does_not_tell_the_axis() -> None:
    text = "Version = SerialEM Version 4.1.0\n[ZValue = 0]\nTiltAngle = 3\nRotationAngle = -5.2\n"
    assert parse_mdoc(text).axis_angle_deg is None


def test_the_axis_can_be_a_field_of_its_own() -> None:
    mdoc = parse_mdoc("TiltAxisAngle = -12.5\n" + TOMO5)
    assert (mdoc.axis_angle_deg, mdoc.axis_source) == (-12.5, "TiltAxisAngle")


@given(st.randoms(use_true_random=False))
def test_the_order_of_fields_and_of_sections_does_not_matter(shuffle: random.Random) -> None:
    expected = parse_mdoc(SERIALEM)
    header, *sections = SERIALEM.split("[ZValue")
    blocks = []
    for section in sections:
        name, *fields = section.strip().splitlines()
        shuffle.shuffle(fields)
        blocks.append("\n".join([f"[ZValue{name}", *fields]))
    lines = header.splitlines()
    shuffle.shuffle(lines)
    shuffle.shuffle(blocks)
    mdoc = parse_mdoc("\n".join([*lines, *blocks, ""]))
    assert mdoc.views == expected.views
    assert (mdoc.pixel_size_angstrom, mdoc.image_size, mdoc.axis_angle_deg) == (2.74, (3838, 3710), 85.3)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[ZValue = 0]", "[ZValue=0]"),
        ("[ZValue = 0]", "[ zvalue = 0 ]"),
        ("TiltAngle = 0.0098", "tiltangle=0.0098"),
        ("TiltAngle = 0.0098", "  TiltAngle   =   0.0098  "),
        ("\n", "\r\n"),
        ("PixelSpacing", "\ufeffPixelSpacing"),
        ("Montage = 0", "Montage"),
        ("Montage = 0", "Note = a = b"),
        ("StageZ = 40.04", "StageZ = none"),
        ("[T = SerialEM", "[FrameSet = 0]\nTiltAngle = 99\n[T = SerialEM"),
    ],
)
def test_spelling_and_fields_that_are_not_used_do_not_matter(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "B.mdoc"
    path.write_bytes(SERIALEM.replace(before, after).encode())
    assert read_mdoc(path).tilt_deg.tolist() == [0.0098, 3.0101]


@pytest.mark.parametrize("field", ["ExposureDose = 2.9", "PriorRecordDose = 0", "RotationAngle = 175.3"])
def test_a_field_that_is_not_a_number_is_left_out_and_named(field: str) -> None:
    name = field.split(" =")[0]
    mdoc = parse_mdoc(SERIALEM.replace(field + "\n", f"{name} = n/a\n", 1), Path("B.mdoc"))
    assert mdoc.tilt_deg.tolist() == [0.0098, 3.0101]
    assert [(problem.message, problem.where) for problem in mdoc.problems] == [
        (f"{name} = 'n/a' is not understood and left out", "B.mdoc, section 0")
    ]


@pytest.mark.parametrize("text", ["-12.5 degrees", "-12.5, binning = 1"])
def test_the_axis_of_a_field_of_its_own_may_be_followed_by_words(text: str) -> None:
    assert parse_mdoc(f"TiltAxisAngle = {text}\n" + TOMO5).axis_angle_deg == -12.5


@pytest.mark.parametrize("text", ["none", "1e999"])
def test_an_axis_that_is_no_angle_is_named_and_the_next_source_asked(text: str) -> None:
    mdoc = parse_mdoc(f"TiltAxisAngle = {text}\n" + TOMO5)
    assert mdoc.axis_source == "RotationAngle"
    assert [problem.message for problem in mdoc.problems] == [f"TiltAxisAngle = '{text}' is not understood and left out"]


def test_an_axis_of_a_title_that_is_no_angle_is_not_taken() -> None:
    assert parse_mdoc(SERIALEM.replace("85.3", "1e999")).axis_angle_deg is None


@pytest.mark.parametrize("size", ["3838", "a b", "1 2 3", "-", "0 3710", "-3838 3710", "9" * 5000 + " 1"])
def test_an_image_size_that_is_none_is_left_out(size: str) -> None:
    mdoc = parse_mdoc(SERIALEM.replace("3838 3710", size))
    assert mdoc.image_size is None
    assert len(mdoc.problems) == 1


def test_a_view_without_its_angle_is_kept_with_nan() -> None:
    mdoc = parse_mdoc(SERIALEM.replace("TiltAngle = 3.0101\n", ""))
    assert np.isnan(mdoc.tilt_deg).tolist() == [False, True]


@pytest.mark.parametrize("value", ["nan", "inf", "1e999"])
def test_an_angle_that_is_no_number_is_missing(value: str) -> None:
    assert np.isnan(parse_mdoc(SERIALEM.replace("3.0101", value)).tilt_deg[1])


def test_exposures_that_are_all_zero_are_not_told() -> None:
    assert parse_mdoc(SERIALEM.replace("2.95", "0").replace("2.9\n", "0\n")).exposure is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8"])
def test_a_file_is_read_in_the_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "B.mdoc"
    path.write_bytes(SERIALEM.encode(encoding))
    assert read_mdoc(path).views == parse_mdoc(SERIALEM).views


def test_decimal_commas_are_read() -> None:
    mdoc = parse_mdoc(TOMO5.replace(".", ",").replace("Position_1,mrc", "Position_1.mrc"))
    assert mdoc.problems == ()
    assert (mdoc.tilt_deg.tolist(), mdoc.axis_angle_deg, mdoc.pixel_size_angstrom) == ([-0.01], -95.6, 1.9)
    assert mdoc.views[0].exposure == 3.1


@pytest.mark.parametrize("spacing", ["1e-9", "1e7", "-2.7"])
def test_a_pixel_size_that_no_microscope_has_is_left_out_and_named(spacing: str) -> None:
    mdoc = parse_mdoc(SERIALEM.replace("PixelSpacing = 2.74", f"PixelSpacing = {spacing}"))
    assert mdoc.pixel_size_angstrom is None
    assert [problem.message for problem in mdoc.problems] == [f"PixelSpacing = '{spacing}' is not understood and left out"]


def test_two_files_joined_to_one_keep_the_order_of_their_sections() -> None:
    def half(tilts: list[int]) -> str:
        return "".join(f"[ZValue = {z}]\nTiltAngle = {tilt}\n" for z, tilt in enumerate(tilts))

    mdoc = parse_mdoc("PixelSpacing = 2\n" + half([0, -3, -6]) + "PixelSpacing = 2\n" + half([3, 6]), Path("B.mdoc"))
    assert mdoc.tilt_deg.tolist() == [0, -3, -6, 3, 6]
    assert [view.z for view in mdoc.views] == [0, 1, 2, 3, 4]
    (problem,) = mdoc.problems
    assert "2 of its numbers of views occur more than once ([ZValue = 0] is the first)" in problem.message
    assert "its 5 sections are taken in the order of the file" in problem.message


SECTIONS = "[ZValue = 0]\nTiltAngle = 54.01\nExposureDose = 3.10\n[ZValue = 1]\nTiltAngle = 57.02\nExposureDose = 3.10\n"


@pytest.mark.parametrize(
    ("kept", "tilt", "exposure", "named"),
    [
        (SECTIONS, 57.02, 3.1, ""),
        (SECTIONS.rstrip(), 57.02, 3.1, ""),
        (SECTIONS.rstrip()[:-1], 57.02, None, "ExposureDose = 3.1 of"),
        (SECTIONS.rstrip()[:-3], 57.02, None, "ExposureDose = 3 of"),
        (SECTIONS[: SECTIONS.index("57.02") + 5], None, None, "TiltAngle = 57.02 of"),
        (SECTIONS[: SECTIONS.index("57.02") + 1], None, None, "TiltAngle = 5 of"),
        (SECTIONS[: SECTIONS.index("57.02")], None, None, ""),
    ],
)
def test_a_value_that_the_end_of_the_file_cuts_is_left_out(
    kept: str, tilt: float | None, exposure: float | None, named: str
) -> None:
    mdoc = parse_mdoc(kept, Path("B.mdoc"))
    assert mdoc.views[0] == MdocView(0, tilt_deg=54.01, exposure=3.1)
    assert (mdoc.views[1].tilt_deg, mdoc.views[1].exposure) == (tilt, exposure)
    assert [named in problem.message and "copy it again" in problem.message for problem in mdoc.problems] == [True] * bool(named)


def test_a_section_that_is_not_numbered_is_reported() -> None:
    mdoc = parse_mdoc(SERIALEM.replace("[ZValue = 1]", "[ZValue = last]"))
    assert [view.z for view in mdoc.views] == [0, 1]
    assert "is not numbered; it is taken as view 1" in mdoc.problems[0].message


@pytest.mark.parametrize("text", ["", "PixelSpacing = 2\n", "[FrameSet = 0]\nTiltAngle = 3\n", "\0\1\2"])
def test_a_file_without_views_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"B.mdoc: has no \[ZValue = ...\] section"):
        parse_mdoc(text, Path("B.mdoc"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match=r"B.mdoc: cannot be read"):
        read_mdoc(tmp_path / "B.mdoc")


FIELDS = st.sampled_from(
    ["TiltAngle", "ExposureDose", "RotationAngle", "SubFramePath", "DateTime", "PixelSpacing", "ImageSize", "Other", "ZValue"]
)
LINES = st.one_of(
    st.builds("{} = {}".format, FIELDS, st.one_of(st.text(max_size=12), st.floats().map(str))),
    st.builds("[{} = {}]".format, st.sampled_from(["ZValue", "T", "MontSection"]), st.text(max_size=6)),
    st.text(max_size=20),
)


@given(st.lists(LINES, max_size=12))
def test_no_text_whatever_raises_or_loses_the_good_view(lines: list[str]) -> None:
    mdoc = parse_mdoc("\n".join([*lines, "[ZValue = 999999999]", "TiltAngle = 12.5", ""]))
    assert mdoc.views[-1].tilt_deg == 12.5
    assert mdoc.pixel_size_angstrom is None or mdoc.pixel_size_angstrom > 0


@given(st.one_of(st.text(), st.lists(LINES, max_size=12).map("\n".join)))
def test_any_text_is_understood_or_refused_as_no_mdoc(text: str) -> None:
    try:
        mdoc = parse_mdoc(text)
    except FormatError:
        return
    assert mdoc.views


NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.none() | st.from_regex(r"[!-~]([ -~]*[!-~])?", fullmatch=True)
VIEWS = st.builds(
    MdocView,
    z=st.integers(0, 999_999_999),
    tilt_deg=NUMBERS,
    rotation_angle_deg=NUMBERS,
    exposure=NUMBERS,
    prior_exposure=NUMBERS,
    pixel_size_angstrom=NUMBERS,
    frames=WORDS,
    acquired=WORDS,
)


def rendered(view: MdocView) -> str:
    """A section as a microscope writes it, with a field that nobody reads."""
    fields = {
        "TiltAngle": view.tilt_deg,
        "StageZ": "?",
        "RotationAngle": view.rotation_angle_deg,
        "ExposureDose": view.exposure,
        "PriorRecordDose": view.prior_exposure,
        "PixelSpacing": view.pixel_size_angstrom,
        "SubFramePath": view.frames,
        "DateTime": view.acquired,
    }
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    return "\n".join([f"[ZValue = {view.z}]", *lines])


@given(st.lists(VIEWS, min_size=1, max_size=5, unique_by=lambda view: view.z))
def test_views_that_are_written_come_back_as_they_were(views: list[MdocView]) -> None:
    mdoc = parse_mdoc("\n\n".join(["[T = Tomography]", *map(rendered, views), ""]))
    assert list(mdoc.views) == sorted(views, key=lambda view: view.z)
    assert mdoc.problems == ()
