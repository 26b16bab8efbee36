"""TIFF files that are no tilt series, cut off or damaged: refused with what was found."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.formats.tiffs import SERIALEM, views_of, write, write_apart

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.tiff import TiffStack, open_tiff


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "B.tif"


def rgb(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((5, 6, 4, 3), np.uint8), photometric="rgb")


def planar_rgb(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((3, 60, 40), np.uint8), photometric="rgb", planarconfig="separate")


def palette(path: Path) -> None:
    Image.new("P", (8, 6)).save(path)


def bits(path: Path) -> None:
    Image.new("1", (8, 6)).save(path)


def complex_numbers(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((5, 6, 4), np.complex64), photometric="minisblack")


def unequal(path: Path) -> None:
    with tifffile.TiffWriter(path) as out:
        for shape in ((6, 4), (6, 4), (3, 4)):
            out.write(np.zeros(shape, np.int16), photometric="minisblack")


def two_types(path: Path) -> None:
    with tifffile.TiffWriter(path) as out:
        for dtype in (np.int16, np.uint8):
            out.write(np.zeros((6, 4), dtype), photometric="minisblack")


def ome_pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as out:
        out.write(np.zeros((5, 64, 64), np.uint16), subifds=1, photometric="minisblack")
        out.write(np.zeros((5, 32, 32), np.uint16), subfiletype=1, photometric="minisblack")


def reduced_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as out:
        out.write(np.zeros((64, 64), np.uint16), photometric="minisblack")
        out.write(np.zeros((64, 64), np.uint16), photometric="minisblack", subfiletype=1)


def channels(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((5, 2, 6, 4), np.uint16), imagej=True, metadata={"axes": "ZCYX"})


def ome_channels(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((5, 2, 6, 4), np.uint16), ome=True, metadata={"axes": "ZCYX"}, photometric="minisblack")


def many_axes(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((5, 2, 6, 4), np.uint16), photometric="minisblack")


def turned(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((6, 4), np.uint16), photometric="minisblack", extratags=[(274, "H", 1, 6, True)])


def missing_pages(path: Path) -> None:
    description = "ImageJ=1.54f\nimages=5\nslices=5\n"
    write_apart(path, np.zeros((3, 6, 4), np.uint8), description=description)


def unfinished(path: Path) -> None:
    write_apart(path, np.zeros((3, 6, 4), np.uint8))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[1].tags[273].overwrite(0)


def empty(path: Path) -> None:
    path.touch()


def no_pages(path: Path) -> None:
    path.write_bytes(b"II*\0\0\0\0\0")


def text(path: Path) -> None:
    path.write_text("not a picture")


def circle(path: Path) -> None:
    write_apart(path, np.zeros((3, 6, 4), np.uint8))
    with tifffile.TiffFile(path) as file:
        place, first = file.pages.next_page_offset, file.pages.first.offset
    with path.open("r+b") as raw:
        raw.seek(place or 0)
        raw.write(struct.pack("<I", first))


def eer(path: Path) -> None:
    write(path, np.zeros((1, 6, 4), np.uint8))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1, 65001)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (rgb, r"page 1 is in colour \(RGB, 3 samples a pixel\)"),
        (planar_rgb, r"page 1 is in colour \(RGB, 3 samples a pixel\)"),
        (palette, r"page 1 is in colour \(PALETTE, 1 sample a pixel\)"),
        (bits, r"page 1 holds bool in the shape \(6, 8\)"),
        (complex_numbers, "page 1 holds complex64"),
        (unequal, "page 3 is 4 x 3 pixels of int16, page 1 4 x 6 pixels of int16"),
        (two_types, "page 2 is 4 x 6 pixels of uint8, page 1 4 x 6 pixels of int16"),
        (ome_pyramid, "page 1 belongs to a pyramid"),
        (reduced_pages, r"page 2 belongs to a pyramid \(a smaller copy of another\)"),
        (channels, "has 2 channels and 5 slices, and a tilt series has one image a tilt"),
        (ome_channels, "has 2 SizeC and 5 SizeZ"),
        (many_axes, "has 5 axis 1 and 2 axis 2"),
        (turned, r"page 1 is mirrored or turned \(tag Orientation 6\)"),
        (missing_pages, "says it has 5 images, and has 3 pages"),
        (unfinished, "page 2 has no data"),
        (empty, r"is empty \(0 bytes\)"),
        (no_pages, r"has no pages \(8 bytes\)"),
        (text, "is not a TIFF file: it begins with b'not '"),
        (circle, "after page 3 its pages begin again"),
        (eer, r"page 1 holds the electrons of an EER movie \(compression 65001\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_tilt_series_is_refused_with_what_was_found(path: Path, make: Callable[[Path], None], said: str) -> None:
    make(path)
    with pytest.raises(FormatError, match=said) as caught:
        open_tiff(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="cannot be read: No such file"):
        open_tiff(tmp_path / "absent.tif")


@pytest.mark.parametrize("writer", [write, write_apart])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}], ids=str)
def test_a_file_that_is_cut_off_anywhere_is_refused_or_its_views_are_whole(
    rng: np.random.Generator, path: Path, writer: Callable[..., Path], options: dict[str, Any]
) -> None:
    views = rng.integers(0, 255, (3, 6, 4), np.uint8)
    if writer is write or "bigtiff" not in options:
        writer(path, views, **options)
    else:
        with tifffile.TiffWriter(path, bigtiff=True) as out:
            for image in views:
                out.write(image[::-1], contiguous=False, metadata=None, photometric="minisblack")
    whole, refusals = path.read_bytes(), []
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            read = views_of(path)
        except FormatError as error:
            refusals.append(str(error))
        else:
            np.testing.assert_array_equal(read, views)
    assert len(refusals) > 0.9 * len(range(0, len(whole), 7))
    assert all(str(path) in refusal for refusal in refusals)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
def test_a_file_that_lacks_its_last_bytes_is_refused_when_it_is_opened(
    rng: np.random.Generator, path: Path, options: dict[str, Any]
) -> None:
    write_apart(path, rng.integers(0, 255, (3, 60, 40), np.uint8), **options)
    with tifffile.TiffFile(path) as file:
        page = file.pages[2]
        end = max(offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    os.truncate(path, end - 1)
    with pytest.raises(FormatError, match=f"page 3 is cut off: its data reach to byte {end}, and the file has {end - 1} bytes"):
        open_tiff(path)


def test_bytes_that_make_no_sense_are_refused_in_words_or_read(rng: np.random.Generator, path: Path) -> None:
    write_apart(path, rng.integers(0, 255, (3, 6, 4), np.uint8), compression="zlib", description=SERIALEM)
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert views_of(path).ndim == 3
        except FormatError:
            refused += 1
    assert refused


def test_a_view_whose_compressed_bytes_are_damaged_is_named(rng: np.random.Generator, path: Path) -> None:
    write_apart(path, rng.integers(0, 255, (3, 60, 40), np.uint8), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * count)
    with open_tiff(path) as stack:
        stack[0]
        with pytest.raises(FormatError, match="view 2 cannot be read"):
            stack[1]


def test_a_refused_file_is_closed(path: Path) -> None:
    rgb(path)
    for _ in range(2):
        with pytest.raises(FormatError):
            TiffStack(path)
    path.unlink()
