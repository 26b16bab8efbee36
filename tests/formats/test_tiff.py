"""TIFF files as tilt series: the right way up, of every type, with all that they tell."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tests.formats.tiffs import SERIALEM, Images, views_of, write, write_apart

from tiltflow import beside
from tiltflow.errors import FormatError
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.formats.series import read_series
from tiltflow.formats.tiff import open_tiff
from tiltflow.model import ImageStack, Progress


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "B.tif"


# The right way up


def test_a_stack_is_the_same_from_tiff_as_from_mrc(images: NDArray[np.int16], path: Path) -> None:
    with MrcWriter(path.with_suffix(".mrc"), images.shape, np.int16, pixel_size_angstrom=2) as out:
        out.write(images)
    write(path, images)
    with open_mrc(path.with_suffix(".mrc")) as mrc, open_tiff(path) as tiff:
        assert tiff.shape == mrc.shape
        assert tiff.dtype == mrc.dtype
        for view in range(5):
            np.testing.assert_array_equal(tiff[view], mrc[view])
            assert not np.array_equal(tiff[view], mrc[view][::-1])


def test_a_point_near_the_top_of_the_picture_has_a_large_y(path: Path) -> None:
    picture = Image.new("I;16", (60, 40))
    picture.putpixel((50, 3), 1000)  # Pillow counts from the top left corner
    picture.save(path)
    with open_tiff(path) as stack:
        y, x = np.unravel_index(np.argmax(stack[0]), stack.shape[1:])
    assert (x, y) == (50, 36)


def test_a_specimen_drifting_up_the_picture_drifts_towards_larger_y(path: Path) -> None:
    pictures = np.zeros((5, 40, 30), np.uint8)
    for view in range(5):
        pictures[view, 35 - 6 * view, 10 + view] = 200
    tifffile.imwrite(path, pictures, photometric="minisblack")
    with open_tiff(path) as stack:
        ys, xs = zip(*(np.unravel_index(np.argmax(stack[view]), (40, 30)) for view in range(5)), strict=True)
    assert ys == (4, 10, 16, 22, 28)
    assert xs == (10, 11, 12, 13, 14)


def test_a_file_that_begins_at_the_bottom_is_not_flipped_and_remarked_upon(images: NDArray[np.int16], path: Path) -> None:
    tifffile.imwrite(path, images, photometric="minisblack", extratags=[(274, "H", 1, 4, True)])
    with open_tiff(path) as stack:
        np.testing.assert_array_equal(stack[2], images[2])
        assert "first row is the bottom" in stack.problems[0].message


# Types, byte orders, compressions, layouts


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "float16", "float32"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_types_that_views_are_kept_in_come_out_as_they_are(images: NDArray[np.int16], path: Path, dtype: str, order: str) -> None:
    limits = np.iinfo(dtype) if dtype[0] in "iu" else None
    views = np.clip(images, limits.min, limits.max).astype(dtype) if limits else images.astype(dtype)
    views[0, 0, :2] = (limits.min, limits.max) if limits else (-0.5, 0.25)
    read = views_of(write(path, views, byteorder=order))
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, views)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float64"])
def test_wider_types_become_reals_of_32_bits(images: NDArray[np.int16], path: Path, dtype: str) -> None:
    views = np.abs(images).astype(dtype) * 1000
    read = views_of(write(path, views, byteorder=">"))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, views.astype(np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "byteorder": ">"},
        {"compression": "zstd"},
        {"compression": "packbits"},
        {"bigtiff": True},
        {"bigtiff": True, "compression": "zlib", "byteorder": ">"},
        {"rowsperstrip": 7},
        {"tile": (16, 16)},
        {"tile": (16, 32), "compression": "lzw"},
        {"metadata": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("writer", [write, write_apart])
def test_every_layout_gives_the_same_views(
    rng: np.random.Generator, path: Path, writer: Callable[..., Path], options: dict[str, Any]
) -> None:
    views = rng.integers(-3000, 3000, (4, 37, 50), np.int16)
    big = options.pop("bigtiff", False)
    order = options.pop("byteorder", "<")
    options = {key: value for key, value in options.items() if writer is write or key != "metadata"}
    if writer is write:
        writer(path, views, bigtiff=big, byteorder=order, **options)
    else:
        with tifffile.TiffWriter(path, bigtiff=big, byteorder=order) as out:
            for image in views:
                out.write(image[::-1], contiguous=False, metadata=None, photometric="minisblack", **options)
    np.testing.assert_array_equal(views_of(path), views)
    with open_tiff(path) as stack:
        assert stack.container == ("BigTIFF" if big else "TIFF")


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "I;16", "F"])
def test_files_of_pillow_are_read(rng: np.random.Generator, path: Path, mode: str, compression: str | None) -> None:
    dtype = {"L": np.uint8, "I;16": np.uint16, "F": np.float32}[mode]
    views = rng.integers(0, 250, (3, 8, 9)).astype(dtype)
    pictures = [Image.fromarray(view[::-1]) for view in views]
    assert pictures[0].mode == mode
    pictures[0].save(path, save_all=True, append_images=pictures[1:], compression=compression, dpi=(300, 300))
    np.testing.assert_array_equal(views_of(path), views)
    with open_tiff(path) as stack:
        assert stack.pixel_size_angstrom is None  # 300 dots per inch are for a printer


def test_views_are_arrays_of_their_own_that_kernels_can_use(images: NDArray[np.int16], path: Path) -> None:
    with open_tiff(write(path, images)) as stack:
        view = stack[1]
        assert view.flags.c_contiguous
        assert view.flags.writeable
        view[:] = 0
        assert np.array_equal(stack[1], images[1])
        assert np.array_equal(stack[-1], images[4])
        with pytest.raises(IndexError):
            stack[5]
    np.testing.assert_array_equal(view, 0)


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Let threads interrupt each other as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 2}], ids=str)
def test_threads_may_read_at_once(rng: np.random.Generator, path: Path, restless_threads: None, options: dict[str, Any]) -> None:
    views = rng.integers(0, 60000, (24, 64, 50), np.uint16)
    write_apart(path, views, **options)
    with open_tiff(path) as stack, ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            np.testing.assert_array_equal(np.stack(list(pool.map(stack.__getitem__, range(24)))), views)


@pytest.mark.skipif(sys.platform != "linux", reason="no copies of a process elsewhere")
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=str)
def test_a_copy_of_the_process_may_read_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, path: Path, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(beside, "_ours", True)
    views = rng.integers(0, 60000, (24, 64, 50), np.uint16)
    write_apart(path, views, **options)
    with open_tiff(path) as stack:

        def differing(_progress: Progress = print) -> int:
            return sum(not np.array_equal(stack[view], views[view]) for _ in range(20) for view in range(24))

        with beside.beside(differing, threads=2) as in_the_copy:
            assert differing() == 0
            assert in_the_copy(print) == 0


def test_reading_a_view_takes_the_memory_of_a_view_not_of_the_file(path: Path) -> None:
    write_apart(path, np.zeros((40, 256, 256), np.uint16), compression="zlib")
    open_tiff(path).close()
    tracemalloc.start()
    with open_tiff(path) as stack:
        for view in range(40):
            stack[view]
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 256 * 256 * 2  # of 40 views


def test_a_tiff_stack_is_an_image_stack(images: NDArray[np.int16], path: Path) -> None:
    stack: ImageStack = open_tiff(write(path, images))
    with stack:
        pass
    assert stack.shape == (5, 6, 4)
    assert stack.path == path
    assert stack.acquisition is None
    assert stack.problems == ()


# ImageJ


def test_a_hyperstack_of_imagej_is_read_with_its_scale(images: NDArray[np.int16], path: Path) -> None:
    tifffile.imwrite(
        path, images[:, ::-1], imagej=True, metadata={"axes": "TYX", "unit": "nm"}, resolution=(2, 4), photometric="minisblack"
    )
    with open_tiff(path) as stack:
        assert stack.container == "TIFF (ImageJ)"
        assert stack.pixel_size_angstrom == (5, 2.5)
        assert stack.labels == ()
    np.testing.assert_array_equal(views_of(path), images)


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True, "metadata": {"axes": "TYX", "unit": "nm"}, "resolution": (1.0, 0.5)},
        {"ome": True, "metadata": {"axes": "TYX"} | {f"PhysicalSize{axis}": size for axis, size in (("X", 1.0), ("Y", 2.0))}},
        {"resolution": (1e7, 5e6), "resolutionunit": "CENTIMETER"},
    ],
    ids=["ImageJ", "OME", "tags"],
)
def test_pixels_that_are_not_square_are_reported(images: NDArray[np.int16], path: Path, options: dict[str, Any]) -> None:
    if "ome" in options:
        options["metadata"] |= {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(path, images, photometric="minisblack", **options)
    path.with_suffix(".rawtlt").write_text("\n".join(map(str, range(len(images)))))
    series = read_series(path)
    assert series.pixel_size_angstrom == pytest.approx(10)
    assert any("its pixels are not square, 10 Å along x and 20 Å along y" in problem.message for problem in series.problems)


def test_a_pixel_size_along_x_alone_holds_for_y_too(images: NDArray[np.int16], path: Path) -> None:
    metadata = {"axes": "TYX", "PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(path, images, ome=True, metadata=metadata, photometric="minisblack")
    with open_tiff(path) as stack:
        assert stack.pixel_size_angstrom == (10, 10)


@pytest.mark.parametrize(
    ("unit", "per_unit", "angstrom"),
    [
        ("nm", 2.0, 5.0),
        ("micron", 2000.0, 5.0),
        ("\\u00B5m", 2000.0, 5.0),
        ("um", 2000.0, 5.0),
        ("Angstrom", 0.25, 4.0),
        ("mm", 2e6, 5.0),
        ("pixel", 1.0, None),
        ("furlong", 2.0, None),
        ("inch", 300.0, None),
        ("nm", 0.0001, None),  # a pixel of 10 micrometres
    ],
)
def test_the_scale_of_imagej_is_understood_in_its_units(path: Path, unit: str, per_unit: float, angstrom: float | None) -> None:
    tifffile.imwrite(
        path, np.zeros((3, 6, 4), np.uint8), imagej=True, metadata={"axes": "ZYX", "unit": unit}, resolution=(per_unit, per_unit)
    )
    with open_tiff(path) as stack:
        assert stack.pixel_size_angstrom == (None if angstrom is None else pytest.approx((angstrom, angstrom)))


def one_directory(path: Path, views: Images, description: str, cut: int = 0) -> Path:
    """Write a file as ImageJ does beyond 4 GB: one directory, and the images one after the other, most significant byte first."""
    first = np.ascontiguousarray(views[:, ::-1]).astype(views.dtype.newbyteorder(">"))
    entries = [
        (256, 4, 1, views.shape[2]),
        (257, 4, 1, views.shape[1]),
        (258, 3, 1, views.dtype.itemsize * 8 << 16),
        (259, 3, 1, 1 << 16),
        (262, 3, 1, 1 << 16),
        (270, 2, len(description) + 1, 0),
        (273, 4, 1, 0),
        (277, 3, 1, 1 << 16),
        (278, 4, 1, views.shape[1]),
        (279, 4, 1, first[0].nbytes),
    ]
    text_at = 8 + 2 + 12 * len(entries) + 4
    data_at = text_at + len(description) + 1
    places = {270: text_at, 273: data_at}
    raw = b"MM\0*" + struct.pack(">IH", 8, len(entries))
    raw += b"".join(struct.pack(">HHII", tag, kind, n, places.get(tag, value)) for tag, kind, n, value in entries)
    raw += struct.pack(">I", 0) + description.encode() + b"\0" + first.tobytes()
    path.write_bytes(raw[: len(raw) - cut])
    return path


def test_a_large_file_of_imagej_has_one_directory_for_all_views(images: NDArray[np.int16], path: Path) -> None:
    views = images.astype(np.uint16)
    one_directory(path, views, "ImageJ=1.54f\nimages=5\nslices=5\nunit=nm\n")
    np.testing.assert_array_equal(views_of(path), views)
    with open_tiff(path) as stack, ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(np.stack(list(pool.map(stack.__getitem__, range(5)))), views)


def test_a_large_file_of_imagej_that_is_cut_off_is_refused(images: NDArray[np.int16], path: Path) -> None:
    one_directory(path, images.astype(np.uint16), "ImageJ=1.54f\nimages=5\nslices=5\n", cut=10)
    with pytest.raises(FormatError, match=r"is cut off: 5 images need \d+ bytes, found \d+ \(4 whole images\)"):
        open_tiff(path)


def test_signed_integers_that_imagej_stores_with_an_offset_get_their_sign_back(images: NDArray[np.int16], path: Path) -> None:
    stored = (images.astype(np.int32) + 32768).astype(np.uint16)
    one_directory(path, stored, "ImageJ=1.54f\nimages=5\nslices=5\ncf=0\nc0=-32768.0\nc1=1.0\nvunit=gray value\n")
    read = views_of(path)
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, images)
    with open_tiff(path) as stack:
        assert (stack.dtype, stack.problems) == (np.int16, ())


def test_another_calibration_of_imagej_is_not_applied_and_said(images: NDArray[np.int16], path: Path) -> None:
    stored = images.astype(np.uint16)
    one_directory(path, stored, "ImageJ=1.54f\nimages=5\nslices=5\ncf=0\nc0=100.0\nc1=2.0\n")
    np.testing.assert_array_equal(views_of(path), stored)
    with open_tiff(path) as stack:
        assert "calibration" in stack.problems[0].message


# SerialEM, OME, plain


def test_a_stack_of_serialem_tells_its_titles_and_its_pixel_size(images: NDArray[np.int16], path: Path) -> None:
    write_apart(path, images, description=SERIALEM, resolution=(4e7, 4e7), resolutionunit="CENTIMETER")
    with open_tiff(path) as stack:
        assert stack.container == "TIFF (SerialEM)"
        assert stack.pixel_size_angstrom == pytest.approx((2.5, 2.5))
        assert stack.labels == tuple(SERIALEM.split("\n"))


def test_the_series_of_a_tiff_is_what_its_mdoc_and_tags_tell(images: NDArray[np.int16], path: Path) -> None:
    write_apart(path, images, description=SERIALEM, resolution=(4e7, 4e7), resolutionunit="CENTIMETER")
    lines = ["PixelSpacing = 2.5", "ImageSize = 4 6", "[T =     Tilt axis angle = -4.3, binning = 1]"]
    for z, tilt in enumerate((-40, -20, 0, 20, 45)):
        lines += [f"[ZValue = {z}]", f"TiltAngle = {tilt}"]
    path.with_name("B.tif.mdoc").write_text("\n".join(lines))
    series = read_series(path)
    assert series.container == "TIFF (SerialEM)"
    assert series.tilt_deg.tolist() == [-40, -20, 0, 20, 45]
    assert series.provenance["tilt_deg"].startswith("B.tif.mdoc, 5 angles")
    assert series.provenance["pixel_size_angstrom"] == "B.tif.mdoc, 2.5 Å; TIFF header agrees"
    assert series.provenance["axis_angle_deg"] == "B.tif.mdoc (title), -4.30 degrees; title line of the TIFF header agrees"
    assert series.problems == ()


def test_a_tiff_without_any_metadata_says_what_was_taken_in_their_place(images: NDArray[np.int16], path: Path) -> None:
    write(path, images)
    path.with_suffix(".rawtlt").write_text("-40\n-20\n0\n20\n45\n")
    series = read_series(path)
    assert (series.pixel_size_angstrom, series.axis_angle_deg) == (1, 0)
    assert series.provenance["pixel_size_angstrom"] == "assumed: 1 Å, no source gives it (the TIFF header has none)"


@pytest.mark.parametrize(("unit", "size", "angstrom"), [("nm", 0.25, 2.5), ("µm", 0.0005, 5.0), (None, 0.0005, 5.0)])
def test_the_pixel_size_of_an_ome_tiff_is_read(
    images: NDArray[np.int16], path: Path, unit: str | None, size: float, angstrom: float
) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": size, "PhysicalSizeY": size} | ({"PhysicalSizeXUnit": unit} if unit else {})
    write(path, images, ome=True, metadata=metadata)
    with open_tiff(path) as stack:
        assert stack.container == "TIFF (OME)"
        assert stack.pixel_size_angstrom is not None
        assert stack.pixel_size_angstrom[0] == pytest.approx(angstrom)
    np.testing.assert_array_equal(views_of(path), images)


def test_white_as_zero_is_taken_as_stored_and_said(images: NDArray[np.int16], path: Path) -> None:
    with open_tiff(write(path, images, photometric="miniswhite")) as stack:
        np.testing.assert_array_equal(stack[0], images[0])
        assert "0 is white" in stack.problems[0].message
