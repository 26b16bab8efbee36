"""Extended headers of four programs, made byte by byte."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mrcfile.dtypes import get_ext_header_dtype
from numpy.typing import NDArray

from tiltflow.formats.extended import axis_angle_in_labels, axis_of_tomography, decode_extended, render_serialem_tilts
from tiltflow.formats.mrc import read_header

MakeMrc = Callable[..., Path]

TILTS = [-60.0, -1.5, 0.0, 33.33, 60.0]
ALL_VALID = 0xFFFFFFFF
DOSE, TILT, AXIS, PIXEL = 1 << 6, 1 << 7, 1 << 12, 1 << 14


def shorts_of_float(value: float) -> tuple[int, int]:
    """SerialEM's way to store a real number, from its description: value = s1 * 256 + s2 % 256, times 2 to the s2 / 256."""
    if value == 0:
        return 0, 0
    exponent = math.floor(math.log2(abs(value))) - 22
    mantissa = round(abs(value) / 2.0**exponent)
    high, low = divmod(mantissa, 256)
    second = abs(exponent) * 256 + low
    return int(math.copysign(high, value)), -second if exponent < 0 else second


def serialem(order: str, flags: int, tilts: list[float], dose: float) -> bytes:
    raw = b""
    for tilt in tilts:
        record = b""
        for bit, content in (
            (1, struct.pack(f"{order}h", round(tilt * 100))),
            (2, struct.pack(f"{order}3h", 7, 8, 9)),
            (4, struct.pack(f"{order}2h", -250, 500)),
            (8, struct.pack(f"{order}h", 420)),
            (16, struct.pack(f"{order}h", 9000)),
            (32, struct.pack(f"{order}2h", *shorts_of_float(dose))),
        ):
            record += content if flags & bit else b""
        raw += record
    return raw


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("flags", [1, 3, 5, 0b111111, 0b101001])
@pytest.mark.parametrize("kind", [b"SERI", b"\0\0\0\0"])
def test_tilts_and_exposure_of_serialem_are_found_among_its_other_items(order: str, flags: int, kind: bytes) -> None:
    raw = serialem(order, flags, TILTS, 2.9)
    nint = len(raw) // len(TILTS)
    header = decode_extended(raw + bytes(100), kind=kind, sections=5, byte_order=order, nint=nint, nreal=flags)
    assert header is not None
    assert header.kind == "SerialEM"
    assert header.tilt_deg is not None
    assert header.tilt_deg == pytest.approx(TILTS)
    if flags & 32:
        assert header.exposure is not None
        assert header.exposure == pytest.approx([2.9] * 5, rel=1e-6)
    else:
        assert header.exposure is None


@given(st.floats(1e-20, 1e20))
def test_an_exposure_survives_the_two_shorts_of_serialem(dose: float) -> None:
    raw = struct.pack("<2h", *shorts_of_float(dose))
    header = decode_extended(raw, kind=b"SERI", sections=1, byte_order="<", nint=4, nreal=32)
    assert header is not None
    assert header.exposure is not None
    assert header.exposure[0] == pytest.approx(dose, rel=1e-6)


def test_serialem_without_tilts_has_none() -> None:
    header = decode_extended(serialem("<", 12, TILTS, 0), kind=b"SERI", sections=5, byte_order="<", nint=6, nreal=12)
    assert header is not None
    assert header.tilt_deg is None


@given(st.lists(st.integers(-18000, 18000), min_size=1, max_size=600))
def test_tilts_rendered_for_serialem_read_back(hundredths: list[int]) -> None:
    raw = render_serialem_tilts(np.array(hundredths) / 100)
    assert len(raw) % 1024 == 0
    header = decode_extended(raw, kind=b"SERI", sections=len(hundredths), byte_order="<", nint=2, nreal=1)
    assert header is not None
    assert header.tilt_deg is not None
    assert np.array_equal(header.tilt_deg, np.array(hundredths) / 100)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "size"), [(b"FEI1", 768), (b"FEI2", 888)])
@pytest.mark.parametrize("padding", [0, 136])
def test_a_thermo_fisher_header_tells_tilts_pixel_axis_and_exposure(order: str, kind: bytes, size: int, padding: int) -> None:
    raw = b""
    for tilt in TILTS:
        block = bytearray(size + padding)
        struct.pack_into(f"{order}2iI", block, 0, size + padding, 0 if kind == b"FEI1" else 2, ALL_VALID)
        # Offsets of the published layout: dose at 92, alpha tilt at 100, tilt axis at 140, pixel size at 156.
        struct.pack_into(f"{order}2d", block, 92, 3.1e20, tilt)
        struct.pack_into(f"{order}d", block, 140, -85.6)
        struct.pack_into(f"{order}2d", block, 156, 1.37e-10, 1.37e-10)
        raw += bytes(block)
    header = decode_extended(raw, kind=kind, sections=5, byte_order=order)
    assert header is not None
    assert header.kind == f"Thermo Fisher {kind.decode()}"
    assert header.tilt_deg is not None
    assert header.exposure is not None
    assert header.tilt_deg.tolist() == TILTS
    assert header.exposure == pytest.approx([3.1] * 5)
    assert (header.pixel_size_angstrom, header.axis_angle_deg) == (pytest.approx(1.37), 85.6)


def thermo_fisher(
    mask: int = ALL_VALID, version: bytes = b"5.9.0", scale: float = 1.0, axis: float = -85.6, masks: tuple[int, ...] = ()
) -> bytes:
    raw = b""
    for place, tilt in enumerate(TILTS):
        block = bytearray(768)
        struct.pack_into("<2iI", block, 0, 768, 0, masks[place] if masks else mask)
        block[68 : 68 + len(version)] = version
        struct.pack_into("<2d", block, 92, 3.1e20, tilt * scale)
        struct.pack_into("<d", block, 140, axis * scale)
        struct.pack_into("<2d", block, 156, 1.37e-10, 1.37e-10)
        raw += bytes(block)
    return raw


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (0, set()),
        (DOSE, {"exposure"}),
        (TILT, {"tilt_deg"}),
        (AXIS, {"axis_angle_deg"}),
        (PIXEL, {"pixel_size_angstrom"}),
        (ALL_VALID & ~AXIS, {"exposure", "tilt_deg", "pixel_size_angstrom"}),
    ],
)
def test_of_a_thermo_fisher_header_only_what_its_mask_vouches_for_is_taken(mask: int, told: set[str]) -> None:
    header = decode_extended(thermo_fisher(mask), kind=b"FEI1", sections=5, byte_order="<")
    assert header is not None
    names = ("exposure", "tilt_deg", "axis_angle_deg", "pixel_size_angstrom")
    assert {name for name in names if getattr(header, name) is not None} == told


def test_angles_that_are_not_valid_for_every_view_are_not_taken() -> None:
    raw = thermo_fisher(masks=(ALL_VALID, ALL_VALID, ALL_VALID & ~TILT, ALL_VALID, ALL_VALID))
    header = decode_extended(raw, kind=b"FEI1", sections=5, byte_order="<")
    assert header is not None
    assert (header.tilt_deg, header.axis_angle_deg) == (None, 85.6)


@pytest.mark.parametrize(("version", "scale"), [(b"4.4.0.4981", math.pi / 180), (b"4.4.0.4982", 1.0), (b"4.4.0.49811", 1.0)])
def test_one_version_of_thermo_fisher_wrote_angles_in_radians(version: bytes, scale: float) -> None:
    header = decode_extended(thermo_fisher(version=version, scale=scale), kind=b"FEI1", sections=5, byte_order="<")
    assert header is not None
    assert header.tilt_deg == pytest.approx(TILTS)
    assert header.axis_angle_deg == pytest.approx(85.6)


def test_the_offsets_of_the_thermo_fisher_tests_are_those_of_the_published_layout() -> None:
    fields = get_ext_header_dtype(b"FEI2", "<").fields
    places = {name: fields[name][1] for name in ("Dose", "Alpha tilt", "Tilt axis angle", "Pixel size X")}
    assert places == {"Dose": 92, "Alpha tilt": 100, "Tilt axis angle": 140, "Pixel size X": 156}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "nint", "nreal"), [(b"AGAR", 0, 32), (b"\0\0\0\0", 0, 32), (b"AGAR", 8, 20), (b"    ", 3, 16)])
def test_an_agard_header_tells_tilts_axis_and_pixel(order: str, kind: bytes, nint: int, nreal: int) -> None:
    raw = b""
    for tilt in TILTS:
        reals = [tilt, 0.5, 1e-4, 2e-4, 3e-5, 0, 0, -4e-6, 1.0, 900.0, 12.25, 5.44e-10, 29000.0]
        raw += struct.pack(f"{order}{nint}i{nreal}f", *range(nint), *reals, *[0.0] * (nreal - len(reals)))
    header = decode_extended(raw + bytes(4096), kind=kind, sections=5, byte_order=order, nint=nint, nreal=nreal)
    assert header is not None
    assert header.kind == "Agard"
    assert header.tilt_deg is not None
    assert header.tilt_deg == pytest.approx(TILTS)
    assert (header.axis_angle_deg, header.pixel_size_angstrom) == (12.25, pytest.approx(5.44))


@pytest.mark.parametrize(
    ("title", "written", "axis"),
    [
        ("Fei Company (C) Copyright 2003", -85.0, 85.0),
        ("Fei Company (C) Copyright 2003", 12.25, -12.25),
        ("UCSF Tomography", -85.0, -85.0),
        ("not Fei Company", -85.0, -85.0),
        (None, -85.0, -85.0),
    ],
)
def test_the_axis_of_an_agard_header_has_the_other_sign_if_its_first_title_is_feis(
    title: str | None, written: float, axis: float
) -> None:
    raw = struct.pack("<32f", 10.0, *[0.0] * 9, written, 1e-9, *[0.0] * 20)
    labels = () if title is None else (title, "Fei Company")
    header = decode_extended(raw, kind=b"\0\0\0\0", sections=1, byte_order="<", nint=0, nreal=32, labels=labels)
    assert header is not None
    assert header.axis_angle_deg == axis


@pytest.mark.parametrize(
    ("written", "pixel"), [(5.44e-10, 5.44), (5.44, 5.44), (1e-8, 100), (0.04, None), (2e5, None), (0.0, None), (1e-13, None)]
)
def test_the_pixel_of_an_agard_header_is_in_metres_or_in_angstrom(written: float, pixel: float | None) -> None:
    raw = struct.pack("<32f", 10.0, *[0.0] * 9, 5.0, written, *[0.0] * 20)
    header = decode_extended(raw, kind=b"AGAR", sections=1, byte_order="<", nint=0, nreal=32)
    assert header is not None
    assert header.pixel_size_angstrom == (None if pixel is None else pytest.approx(pixel))


@pytest.mark.parametrize(
    ("titles", "axis"),
    [
        (["Tomography: TITAN  13-Jan-2025", "  TiltAxisAngle = -176.20  Binning = 1"], 86.2),
        (["TEM Tomography 5.9", "TiltAxisAngle = 96.2"], 173.8),
        (["  TiltAxisAngle = -176.20  Binning = 1"], None),
        (["SerialEM: UCSF Tomography", "    Tilt axis angle = 85.3, binning = 1"], None),
        (["Tomography: TITAN", "Tilt axis angle = 85.3"], None),
    ],
)
def test_the_axis_in_a_title_of_tomography_is_turned_back(titles: list[str], axis: float | None) -> None:
    assert axis_of_tomography(titles) == axis


def test_a_short_agard_record_tells_only_its_tilts() -> None:
    header = decode_extended(struct.pack("<3f", 1, 2, 3), kind=b"AGAR", sections=3, byte_order="<", nint=0, nreal=1)
    assert header is not None
    assert header.tilt_deg is not None
    assert header.tilt_deg.tolist() == [1, 2, 3]
    assert header.pixel_size_angstrom is None


def test_values_that_cannot_be_are_not_told() -> None:
    reals = [1000.0, *[0.0] * 9, math.nan, 3e5] + [0.0] * 20
    header = decode_extended(struct.pack("<32f", *reals), kind=b"AGAR", sections=1, byte_order="<", nint=0, nreal=32)
    assert header is not None
    assert (header.tilt_deg, header.axis_angle_deg, header.pixel_size_angstrom, header.exposure) == (None, None, None, None)


@pytest.mark.parametrize("kind", [b"CCP4", b"MRCO", b"HDF5", b"abcd"])
def test_other_kinds_are_not_guessed_at(kind: bytes) -> None:
    assert decode_extended(bytes(4096), kind=kind, sections=5, byte_order="<", nint=0, nreal=32) is None


@given(
    raw=st.binary(max_size=3000),
    kind=st.sampled_from([b"SERI", b"AGAR", b"FEI1", b"FEI2", b"\0\0\0\0"]),
    sections=st.integers(1, 2000),
    order=st.sampled_from("<>"),
    nint=st.integers(-32768, 32767),
    nreal=st.one_of(st.integers(-32768, 32767), st.integers(0, 64)),
)
def test_no_bytes_whatever_raise_or_make_a_value_that_cannot_be(
    raw: bytes, kind: bytes, sections: int, order: str, nint: int, nreal: int
) -> None:
    header = decode_extended(raw, kind=kind, sections=sections, byte_order=order, nint=nint, nreal=nreal)
    if header is not None:
        if header.tilt_deg is not None:
            assert 0 < len(header.tilt_deg) <= sections
            assert (np.abs(header.tilt_deg) <= 180).all()
        if header.pixel_size_angstrom is not None:
            assert 0.01 < header.pixel_size_angstrom < 1e5
        if header.axis_angle_deg is not None:
            assert abs(header.axis_angle_deg) <= 360


def test_a_header_in_a_file_is_decoded_with_it(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    for order in "<>":
        raw = serialem(order, 33, TILTS, 1.25)
        header = read_header(make_mrc(images, order=order, extended=raw, kind=b"SERI", nint=6, nreal=33))
        assert header.extended is not None
        assert header.extended.tilt_deg is not None
        assert header.extended.tilt_deg == pytest.approx(TILTS)
    assert read_header(make_mrc(images)).extended is None


def test_the_header_that_imod_passes_on_is_decoded(data: Path) -> None:
    """`newstack` writes 82 bytes for 41 views, not a multiple of four."""
    header = read_header(data / "formats" / "sim_ali.mrc")
    assert header.data_offset == 1024 + 82
    assert header.extended is not None
    assert header.extended.tilt_deg is not None
    assert header.extended.tilt_deg == pytest.approx(np.arange(-60, 61, 3))


@pytest.mark.parametrize(
    ("line", "angle"),
    [
        ("    Tilt axis angle = -4.3, binning = 1  spot = 8  camera = 0", -4.3),
        ("    Tilt axis angle = 85.3, binning = 2  spot = 8  camera = 1 bidir = -21.0", 85.3),
        ("          Tilt axis rotation angle = 12.55", 12.55),
        ("TiltAxisAngle = +90", 90),
        ("tilt axis angle=.5", 0.5),
        ("Tilt axis angle = 1e1, x", 10),
        ("SerialEM: Tilt axis unknown", None),
        ("Tilt angle = 4", None),
        ("", None),
    ],
)
def test_the_axis_angle_is_found_in_a_title(line: str, angle: float | None) -> None:
    assert axis_angle_in_labels(["something else", line]) == angle
