"""Writing MRC files by IMOD's conventions: what is stored, its statistics, and that no half of a file stays."""

from __future__ import annotations

import hashlib
import io
import json
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

from tiltflow.errors import ParameterError, ResourceError
from tiltflow.formats.mrc import MrcWriter, convert, open_mrc, read_header, render_label
from tiltflow.parallel import map_threads

MakeMrc = Callable[..., Path]


def written(path: Path, voxels: NDArray[np.generic], **options: object) -> Path:
    settings = {"pixel_size_angstrom": 1.0, "dtype": voxels.dtype} | options
    with MrcWriter(path, voxels.shape, **settings) as out:  # type: ignore[arg-type]
        out.write(voxels)
    return path


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
