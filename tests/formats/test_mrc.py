"""MRC files: every mode and byte order in, IMOD's conventions out, and a reason for each file that is refused."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError, ParameterError, ResourceError
from tiltflow.formats.mrc import MrcWriter, convert, open_mrc, read_header, render_label
from tiltflow.model import Stack
from tiltflow.parallel import map_threads

MakeMrc = Callable[..., Path]


def written(path: Path, voxels: NDArray[np.generic], **options: object) -> Path:
    settings = {"pixel_size_angstrom": 1.0, "dtype": voxels.dtype} | options
    with MrcWriter(path, voxels.shape, **settings) as out:  # type: ignore[arg-type]
        out.write(voxels)
    return path


# Reading


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i1", "i2", "f4", "u2", "f2"])
def test_every_mode_is_read_in_either_byte_order(make_mrc: MakeMrc, images: NDArray[np.int16], order: str, kind: str) -> None:
    expected = images.astype(kind)
    stack = open_mrc(make_mrc(expected, order=order, imod_flags=1))
    assert stack.shape == (5, 6, 4)
    assert stack.dtype == np.dtype(kind)
    assert stack[0].dtype.isnative
    assert np.array_equal(np.stack(list(stack)), expected)
    assert np.array_equal(stack.data, expected)
    assert stack.header.pixel_size_angstrom == pytest.approx((2.5, 2.5, 2.5))
    assert (stack.header.minimum, stack.header.maximum) == (float(expected.min()), float(expected.max()))


@pytest.mark.parametrize(
    ("flags", "maximum", "signed"),
    [(1, 255, True), (0, 90, False), (None, 90, True), (None, 127, True), (None, 200, False), (9, 90, True), (8, 90, False)],
)
def test_bytes_are_signed_by_the_stamp_or_else_by_the_maximum(
    make_mrc: MakeMrc, flags: int | None, maximum: float, signed: bool
) -> None:
    voxels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    stack = open_mrc(make_mrc(voxels, imod_flags=flags, minmax=(0, maximum)))
    assert np.array_equal(stack.data, voxels.view(np.int8) if signed else voxels)


@pytest.mark.parametrize("machine", [b"\0\0\0\0", b"DA\0\0", b"DD\0\0", b"\x11\x11\0\0", b"abcd"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_machine_stamp_that_lies_does_not_matter(
    make_mrc: MakeMrc, images: NDArray[np.int16], machine: bytes, order: str
) -> None:
    assert np.array_equal(open_mrc(make_mrc(images, order=order, machine=machine))[2], images[2])


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_byte_order_of_bytes_without_a_stamp_is_the_one_that_fits_the_file(make_mrc: MakeMrc, order: str) -> None:
    voxels = np.arange(256 * 2, dtype=np.int8).reshape(2, 1, 256)
    assert read_header(make_mrc(voxels, order=order, machine=b"\0\0\0\0")).shape == (2, 1, 256)


def test_views_are_counted_from_either_end_and_no_further(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    stack: Stack = open_mrc(make_mrc(images))
    assert np.array_equal(stack[-1], images[4])
    for beyond in (5, -6):
        with pytest.raises(IndexError):
            stack[beyond]


def test_a_view_is_an_array_of_its_own(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    with open_mrc(make_mrc(images)) as stack:
        view = stack[0]
        view += 1
        assert np.array_equal(stack[0], images[0])
    assert view.flags.owndata or view.base is not None


def test_blocks_are_read_like_slices_of_the_array(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    stack = open_mrc(make_mrc(images, extended=bytes(82)))
    for zs, ys in itertools.product(
        [slice(None), slice(1, 4), slice(-2, None), slice(3, 3)], [slice(None), slice(2, 5), slice(5, None)]
    ):
        assert np.array_equal(stack.read_block(zs, ys), images[zs, ys])
    with pytest.raises(ValueError, match="cannot have a step"):
        stack.read_block(slice(0, 4, 2))


def test_the_map_is_read_only(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    with pytest.raises(ValueError, match="read-only"):
        open_mrc(make_mrc(images)).data[0, 0, 0] = 1


def test_views_can_be_read_from_several_threads(make_mrc: MakeMrc, rng: np.random.Generator) -> None:
    voxels = rng.integers(-1000, 1000, (40, 64, 64)).astype(np.int16)
    stack = open_mrc(make_mrc(voxels))
    assert np.array_equal(np.stack(list(map_threads(stack.__getitem__, range(40), 4))), voxels)


def test_a_single_image_is_a_stack_of_one(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    assert read_header(make_mrc(images[:1])).shape == (1, 6, 4)


def test_voxels_that_are_not_numbers_are_read_as_they_are(make_mrc: MakeMrc) -> None:
    voxels = np.array([[[np.nan, np.inf, -np.inf, 0.0]]], np.float32)
    assert np.array_equal(open_mrc(make_mrc(voxels, minmax=(0, 0)))[0], voxels[0], equal_nan=True)


@pytest.mark.parametrize("cell", [(0, 0, 0), (np.nan, 1, 1), (-5, 1, 1), (np.inf, 1, 1)])
def test_a_cell_without_size_gives_no_pixel_size(
    make_mrc: MakeMrc, images: NDArray[np.int16], cell: tuple[float, float, float]
) -> None:
    assert read_header(make_mrc(images, cell=cell)).pixel_size_angstrom[0] == 0
    assert read_header(make_mrc(images, grid=(0, 0, 0))).pixel_size_angstrom == (0, 0, 0)


def test_labels_come_without_their_padding(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    assert read_header(make_mrc(images, labels=["SerialEM: lamella", "    Tilt axis angle = -4.3"])).labels == (
        "SerialEM: lamella",
        "    Tilt axis angle = -4.3",
    )


def test_bytes_after_the_last_view_are_counted(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    assert read_header(make_mrc(images, tail=bytes(100))).surplus_bytes == 100


def test_a_volume_of_imod_is_understood(data: Path) -> None:
    with open_mrc(data / "formats" / "rec_trim.mrc") as volume:
        assert volume.header.is_volume
        assert volume.header.origin == (-20, -10, 180)
        assert volume.header.labels[-1].startswith("clip: rotx - rotation by -90 around X")
        assert volume.data.mean() == pytest.approx(volume.header.mean, abs=0.05)
        with mrcfile.open(data / "formats" / "rec_trim.mrc") as reference:
            assert np.array_equal(volume.data, reference.data)


def test_a_real_series_is_understood(real_series: Path) -> None:
    with open_mrc(real_series) as stack:
        header = stack.header
        assert (header.shape, header.dtype, header.pixel_size_angstrom) == ((21, 340, 340), np.int16, (10, 10, 10))
        assert header.extended is not None
        assert header.extended.tilt_deg is not None
        assert header.extended.tilt_deg[[0, 10, 20]] == pytest.approx([-60.01, -0.01, 59.98])
        assert min(view.min() for view in stack) == header.minimum


# Refusing


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match=r"no.mrc: cannot be read: No such file"):
        open_mrc(tmp_path / "no.mrc")
    with pytest.raises(LocationError, match="cannot be read: Is a directory"):
        open_mrc(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"B.mrc: is empty \(0 bytes\)"),
        (b"\0" * 500, r"B.mrc: has 500 bytes, and the header of an MRC file alone takes 1024"),
        (b"notes\n", r"is a text file, beginning 'notes', not MRC"),
        (b"Title\tof a protocol\n" * 100, r"is a text file, beginning 'Title of a protocol Title of a protocol"),
        (b"II*\0" + bytes(2000), "is a TIFF file"),
        (b"\x1f\x8b" + bytes(2000), "is a gzip-compressed file, not MRC; convert or unpack it first"),
        (b"\x89HDF" + bytes(2000), "is a HDF5 file"),
        (bytes(2000), "header gives 0 x 0 x 0 pixels of mode 0"),
        (b"\xff" * 2000, "header gives -1 x -1 x -1 pixels of mode -1"),
    ],
)
def test_what_is_no_mrc_file_is_refused_with_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "B.mrc").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        open_mrc(tmp_path / "B.mrc")


def test_a_truncated_file_is_refused_with_what_was_expected_and_found(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    path = make_mrc(images)
    os.truncate(path, 1024 + 3 * 48 + 10)
    with pytest.raises(
        FormatError, match=r"B.mrc: is shorter.* 4 x 6 x 5 voxels of int16.* need 1264 bytes, found 1178 \(3 whole sections of 5\)"
    ):
        open_mrc(path)


def test_a_file_cut_inside_its_extended_header_is_refused(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    path = make_mrc(images, extended=bytes(1000), kind=b"SERI", nint=2, nreal=1)
    os.truncate(path, 1100)
    with pytest.raises(FormatError, match="after 2024 bytes of header need 2264 bytes, found 1100"):
        open_mrc(path)


def test_a_file_whose_extended_header_was_left_out_is_read_from_the_end_of_its_header(
    make_mrc: MakeMrc, images: NDArray[np.int16]
) -> None:
    extended = np.arange(5, dtype="<i2").tobytes() + bytes(1014)
    path = make_mrc(images, extended=extended, kind=b"SERI", nint=2, nreal=1)
    raw = path.read_bytes()
    path.write_bytes(raw[:1024] + raw[2048:])
    stack = open_mrc(path)
    assert np.array_equal(stack[4], images[4])
    assert (stack.acquisition, stack.is_as_stored) == (None, False)
    (problem,) = stack.problems
    assert "the extended header of 1024 bytes is not in the file" in problem.message
    path.write_bytes(raw[:1024] + raw[2050:])
    with pytest.raises(FormatError, match="is shorter than its header says"):
        open_mrc(path)


def test_absurd_dimensions_are_refused_without_allocating_them(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    with pytest.raises(FormatError, match=r"2000000000 x 2000000000 x 2000000000 voxels .* the header is wrong"):
        open_mrc(make_mrc(images, size=(2_000_000_000,) * 3))


def test_a_negative_extended_header_is_refused(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    path = make_mrc(images)
    raw = bytearray(path.read_bytes())
    raw[92:96] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    with pytest.raises(FormatError, match="gives -1 bytes for the extended header"):
        open_mrc(path)


@pytest.mark.parametrize(("mode", "what"), [(3, "complex integers"), (4, "complex numbers"), (16, "RGB"), (101, "4-bit")])
def test_modes_that_hold_no_images_are_refused_with_what_they_are(
    make_mrc: MakeMrc, images: NDArray[np.int16], mode: int, what: str
) -> None:
    with pytest.raises(FormatError, match=f"mode {mode}, which are {what}"):
        open_mrc(make_mrc(images, mode=mode))


def test_an_unknown_mode_is_refused(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    with pytest.raises(FormatError, match="4 x 6 x 5 pixels of mode 7; known are modes 0, 1, 2, 6 and 12"):
        open_mrc(make_mrc(images, mode=7))


def test_a_file_that_shrinks_while_it_is_read_is_reported(make_mrc: MakeMrc, images: NDArray[np.int16]) -> None:
    path = make_mrc(images)
    stack = open_mrc(path)
    os.truncate(path, 1100)
    with pytest.raises(FormatError, match="ends before byte 1120"):
        stack[2]


@given(st.binary(max_size=1400))
def test_no_bytes_whatever_raise_anything_but_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.mrc"
    path.write_bytes(content)
    try:
        open_mrc(path).close()
    except FormatError as error:
        message = str(error)
        assert "fuzz.mrc" in message


# Writing


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.float16, np.float32])
def test_what_is_written_is_valid_and_reads_back(tmp_path: Path, rng: np.random.Generator, kind: type[np.generic]) -> None:
    voxels = rng.uniform(0, 120, (5, 7, 9)).round().astype(kind)
    path = written(tmp_path / "out.mrc", voxels, pixel_size_angstrom=(2.0, 2.0, 8.0), origin=(1, 2, 3), labels=["tiltflow: test"])
    report = io.StringIO()
    assert mrcfile.validate(path, print_file=report), report.getvalue()
    stack = open_mrc(path)
    assert np.array_equal(stack.data, voxels)
    assert stack.dtype == kind
    header = stack.header
    assert (header.pixel_size_angstrom, header.origin, header.labels) == ((2, 2, 8), (1, 2, 3), ("tiltflow: test",))
    assert (header.minimum, header.maximum) == (voxels.min(), voxels.max())
    assert header.mean == pytest.approx(voxels.mean(dtype=float), rel=1e-6)
    with mrcfile.open(path) as reference:
        assert np.array_equal(reference.data.view(kind) if kind == np.uint8 else reference.data, voxels)
        assert reference.voxel_size.z == pytest.approx(8)


def test_bytes_carry_the_stamp_that_says_whether_they_are_signed(tmp_path: Path) -> None:
    for kind, bit in ((np.int8, 1), (np.uint8, 0), (np.int16, 1)):
        raw = written(tmp_path / "out.mrc", np.ones((1, 2, 2), kind)).read_bytes()
        assert raw[152:156] == b"IMOD"
        assert raw[156] & 1 == bit


@pytest.mark.parametrize(("is_stack", "space_group"), [(True, 0), (False, 1)])
def test_stacks_and_volumes_are_told_apart(tmp_path: Path, is_stack: bool, space_group: int) -> None:
    path = written(tmp_path / "out.mrc", np.ones((3, 4, 5), np.int16), is_stack=is_stack)
    with mrcfile.open(path) as reference:
        assert reference.header.ispg == space_group
        assert (reference.header.mx, reference.header.my, reference.header.mz) == (5, 4, 3)


def test_tilt_angles_travel_in_an_extended_header(tmp_path: Path) -> None:
    angles = np.arange(-60, 61, 3.0)
    header = read_header(written(tmp_path / "out.mrc", np.zeros((41, 2, 2), np.int16), tilt_deg=angles))
    assert header.extended is not None
    assert header.extended.tilt_deg is not None
    assert np.array_equal(header.extended.tilt_deg, angles)


def test_more_than_ten_titles_keep_the_first_nine_and_the_newest(tmp_path: Path) -> None:
    labels = read_header(
        written(tmp_path / "out.mrc", np.zeros((1, 2, 2), np.int16), labels=[f"line {i}" for i in range(13)])
    ).labels
    assert labels == (*(f"line {i}" for i in range(9)), "line 12")


def test_a_title_has_the_date_where_imod_has_it(data: Path) -> None:
    theirs = read_header(data / "formats" / "rec_trim.mrc").labels[-1]
    ours = render_label("clip: rotx - rotation by -90 around X", datetime(2026, 11, 22, 11, 48, 2))  # noqa: DTZ001 - a local time
    assert ours == theirs


@given(
    hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32)),
    st.sampled_from([np.int8, np.uint8, np.int16, np.uint16]),
)
def test_integers_are_rounded_half_up_and_clamped(values: NDArray[np.float32], kind: type[np.integer]) -> None:
    limits = np.iinfo(kind)
    rounded = np.floor(values.astype(np.float64) + 0.5)
    expected = np.nan_to_num(np.clip(rounded, limits.min, limits.max)).astype(kind)
    # float32 cannot hold a half above 2 ** 23, which only matters to values that are clamped.
    near = np.abs(values) < 1e5
    assert np.array_equal(convert(values, kind)[near], expected[near])
    assert np.array_equal(convert(values, kind)[~near], expected[~near])


def test_integers_are_clamped_into_a_narrower_type() -> None:
    assert convert(np.array([-70000, -1, 0, 300, 70000]), np.uint8).tolist() == [0, 0, 0, 255, 255]


def test_floats_written_to_integers_have_the_statistics_of_what_is_stored(
    unpacked: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    """Unlike those of `newstack -float 3`, whose header has 6718.6123 for a file whose largest voxel is 6719."""
    raw = open_mrc(unpacked("products/vol_i16.mrc"))
    means = np.array([section.mean(dtype=float) for section in raw])
    lift = max(0.0, means.mean() + min(section.min() - mean for section, mean in zip(raw, means, strict=True))) - min(
        section.min() - mean for section, mean in zip(raw, means, strict=True)
    )
    with MrcWriter(tmp_path / "out.mrc", raw.shape, np.int16, pixel_size_angstrom=10) as out:
        for section, mean in zip(raw, means, strict=True):
            out.write(section.astype(np.float32) + np.float32(lift - mean))
    ours, theirs = open_mrc(tmp_path / "out.mrc"), json.loads((data / "products" / "expected.json").read_text())["float3_vol_i16"]
    assert hashlib.sha256(ours.data.astype("<i2").tobytes()).hexdigest() == theirs["sha256"]
    assert ours.header.minimum == ours.data.min() == np.floor(theirs["minimum"] + 0.5)
    assert ours.header.maximum == ours.data.max() == np.floor(theirs["maximum"] + 0.5)
    assert ours.header.mean == pytest.approx(ours.data.mean(dtype=float), rel=1e-6)
    assert mrcfile.validate(tmp_path / "out.mrc")


def test_statistics_leave_out_what_is_not_a_number_and_what_was_clamped(tmp_path: Path) -> None:
    voxels = np.array([[[np.nan, -5.0], [np.inf, 99999.0]]], np.float32)
    header = read_header(written(tmp_path / "out.mrc", voxels, dtype=np.int16))
    assert (header.minimum, header.maximum) == (-5, 32767)
    assert np.array_equal(open_mrc(tmp_path / "out.mrc").data, [[[0, -5], [32767, 32767]]])
    blank = read_header(written(tmp_path / "nan.mrc", np.full((1, 2, 2), np.nan, np.float32)))
    assert (blank.minimum, blank.maximum, blank.mean) == (0, 0, 0)


def test_statistics_can_be_given(tmp_path: Path) -> None:
    with MrcWriter(tmp_path / "out.mrc", (1, 2, 2), np.int16, pixel_size_angstrom=1) as out:
        out.write(np.ones((2, 2), np.int16))
        out.set_statistics(-3, 7, 0.5)
    header = read_header(tmp_path / "out.mrc")
    assert (header.minimum, header.maximum, header.mean) == (-3, 7, 0.5)


SHAPES = [(1, 1, 1), (1, 1, 7), (3, 5, 1), (5, 7, 9), (2, 33, 41)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("source", [np.float32, np.int16, np.float64])
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.float16, np.float32])
def test_every_mode_and_size_passes_the_validator(
    tmp_path: Path, rng: np.random.Generator, kind: type, source: type, shape: tuple[int, int, int]
) -> None:
    """Also where values are rounded and clamped, where the mean is near 0, and with titles of blanks."""
    voxels = rng.normal(0, 100, shape)
    voxels = (voxels - voxels.mean()).astype(source)
    with MrcWriter(
        tmp_path / "out.mrc", shape, kind, pixel_size_angstrom=3.7, labels=["", "one", "   "], tilt_deg=np.zeros(shape[0])
    ) as out:
        for section in voxels:
            out.write(section)
    report = io.StringIO()
    assert mrcfile.validate(tmp_path / "out.mrc", print_file=report), report.getvalue()


def test_the_mean_is_right_also_where_it_is_small_beside_the_voxels(tmp_path: Path, rng: np.random.Generator) -> None:
    voxels = rng.normal(0, 1e4, (4, 300, 300)).astype(np.float32)
    voxels -= np.float32(voxels.mean(dtype=float))
    header = read_header(written(tmp_path / "out.mrc", voxels))
    assert header.mean == pytest.approx(voxels.mean(dtype=float), rel=1e-3)


def test_the_origin_means_the_same_to_imod_and_to_mrc2014(tmp_path: Path) -> None:
    """Stored is MRC2014's, and bit 2 of the flags tells IMOD so; IMOD's own files, without it, have the opposite sign."""
    path = written(tmp_path / "out.mrc", np.ones((3, 4, 5), np.int16), origin=(-100.0, 0.0, 30.0))
    raw = bytearray(path.read_bytes())
    assert np.frombuffer(raw, "<f4", 3, 196).tolist() == [100, 0, -30]
    assert raw[156] & 4
    assert read_header(path).origin == (-100, 0, 30)
    raw[156] &= ~4
    path.write_bytes(raw)  # as an older IMOD would have written it
    assert read_header(path).origin == (100, 0, -30)
    raw[152:156] = bytes(4)  # as a program that is not IMOD
    path.write_bytes(raw)
    assert read_header(path).origin == (-100, 0, 30)


def test_blocks_of_rows_from_several_threads_make_the_same_file(tmp_path: Path, rng: np.random.Generator) -> None:
    volume = rng.normal(0, 1000, (37, 50, 33)).astype(np.float32)
    written(tmp_path / "sections.mrc", volume, dtype=np.int16)
    with MrcWriter(tmp_path / "blocks.mrc", volume.shape, np.int16, pixel_size_angstrom=1) as out:
        starts = rng.permutation(np.arange(0, 50, 7)).tolist()
        list(map_threads(lambda y: out.write_block(volume[:, y : y + 7], y=y), starts, 4))
    sections, blocks = open_mrc(tmp_path / "sections.mrc"), open_mrc(tmp_path / "blocks.mrc")
    assert np.array_equal(blocks.data, sections.data)
    assert (blocks.header.minimum, blocks.header.maximum) == (sections.header.minimum, sections.header.maximum)
    assert blocks.header.mean == pytest.approx(sections.header.mean, abs=1e-3)


def test_blocks_larger_than_a_piece_and_out_of_order_in_memory_are_written_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    volume = rng.integers(-300, 300, (3, 700, 400)).astype(np.int16)
    turned = np.asfortranarray(volume)
    assert np.array_equal(open_mrc(written(tmp_path / "out.mrc", turned)).data, volume)
    assert np.array_equal(open_mrc(written(tmp_path / "f.mrc", turned, dtype=np.float32)).data, volume)


def test_writing_through_the_map_takes_the_statistics_from_the_file(tmp_path: Path, images: NDArray[np.int16]) -> None:
    with MrcWriter(tmp_path / "out.mrc", images.shape, np.int16, pixel_size_angstrom=1) as out:
        out.data[:, 2:] = images[:, 2:]
        out.data[:, :2] = images[:, :2]
    stack = open_mrc(tmp_path / "out.mrc")
    assert np.array_equal(stack.data, images)
    assert stack.header.mean == pytest.approx(images.mean())


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "out.mrc").write_bytes(b"the former result")
    with (
        pytest.raises(ValueError, match="expected"),
        MrcWriter(tmp_path / "out.mrc", (2, 2, 2), np.int16, pixel_size_angstrom=1) as out,
    ):
        out.write(np.ones((3, 3), np.int16))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mrc"]
    assert (tmp_path / "out.mrc").read_bytes() == b"the former result"


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    with MrcWriter(tmp_path / "out.mrc", (1, 2, 2), np.int16, pixel_size_angstrom=1) as out:
        assert not (tmp_path / "out.mrc").exists()
        out.write(np.ones((2, 2), np.int16))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mrc"]


def test_a_file_that_was_not_filled_is_not_kept(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="4 of 8 voxels were written"),
        MrcWriter(tmp_path / "out.mrc", (2, 2, 2), np.int16, pixel_size_angstrom=1) as out,
    ):
        out.write(np.ones((2, 2), np.int16))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(3, 2), (1, 3, 2), (2, 2, 2, 2), (3, 2, 2)])
def test_sections_that_do_not_fit_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    out = MrcWriter(tmp_path / "out.mrc", (2, 2, 2), np.int16, pixel_size_angstrom=1)
    with pytest.raises(ValueError, match=r"expected|does not fit"):
        out.write(np.ones(shape, np.int16))
    out.discard()


@pytest.mark.parametrize("kind", [np.int32, np.float64, np.complex64, bool])
def test_a_type_that_mrc_does_not_have_is_refused(tmp_path: Path, kind: type) -> None:
    with pytest.raises(ParameterError, match=f"an MRC file cannot hold {np.dtype(kind).name}"):
        MrcWriter(tmp_path / "out.mrc", (2, 2, 2), kind, pixel_size_angstrom=1)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"no/out.mrc: cannot be written: No such file"):
        MrcWriter(tmp_path / "no" / "out.mrc", (2, 2, 2), np.int16, pixel_size_angstrom=1)


def test_writing_needs_memory_for_a_piece_only(tmp_path: Path) -> None:
    """A block that is one section repeated: what the writer allocates is far below the size of the file."""
    import tracemalloc

    block = np.broadcast_to(np.float32(1.5), (200, 256, 256))
    tracemalloc.start()
    try:
        with MrcWriter(tmp_path / "out.mrc", block.shape, np.int16, pixel_size_angstrom=1) as out:
            out.write(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.mrc").stat().st_size > 26e6
    assert peak < 4e6
