"""Reading MRC files: every mode and byte order, and a reason for each file that is refused."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.mrc import open_mrc, read_header
from tiltflow.model import Stack
from tiltflow.parallel import map_threads

MakeMrc = Callable[..., Path]


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
