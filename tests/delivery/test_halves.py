"""Two files that hold the halves of one series: by their names, their images and their tilts together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiltflow.delivery.find_series import find_series, look_alikes
from tiltflow.delivery.halves import half_pairs
from tiltflow.formats.mrc import MrcWriter

POSITIVE, NEGATIVE = np.arange(0, 61, 6.0), np.arange(-60, -5, 6.0)


def write(path: Path, tilts: np.ndarray, *, side: int = 8, pixel: float = 10.0) -> Path:
    with MrcWriter(path, (len(tilts), side, side), np.int16, pixel_size_angstrom=pixel, is_stack=True, tilt_deg=tilts) as out:
        for _ in tilts:
            out.write(np.zeros((side, side), np.float32))
    return path


@pytest.mark.parametrize(
    ("one", "two", "found"),
    [
        ("TS_05_pos", "TS_05_neg", True),
        ("TS_05_Pos", "TS_05_Neg", True),
        ("xa", "xb", True),
        ("ts_1", "ts_2", True),
        ("ts_01", "ts_02", True),
        ("ts_part1_lamella3", "ts_part2_lamella3", True),
        ("ts_plus", "ts_minus", True),
        ("ts+", "ts-", True),
        ("TS_05_pos", "TS_06_neg", False),
        ("ts_11", "ts_12", False),
        ("TS_05_pos", "TS_05", False),
        ("grid", "field", False),
    ],
)
def test_names_tell_which_files_may_be_halves(tmp_path: Path, one: str, two: str, found: bool) -> None:
    pair = write(tmp_path / f"{one}.mrc", POSITIVE), write(tmp_path / f"{two}.mrc", NEGATIVE)
    assert half_pairs(find_series(tmp_path)) == ((pair,) if found else ())


@pytest.mark.parametrize(
    ("tilts", "found"),
    [
        (NEGATIVE, True),
        (np.arange(-60, 1, 6.0), True),  # the view at zero is in both
        (np.arange(-60, -11, 6.0), True),  # a view is missing between them
        (np.arange(-60, -17, 6.0), False),
        (np.arange(-60, 61, 6.0), False),  # the other axis of the specimen
        (POSITIVE, False),
        (np.arange(-60, 19, 6.0), False),
    ],
)
def test_tilts_of_halves_go_on_where_those_of_the_other_end(tmp_path: Path, tilts: np.ndarray, found: bool) -> None:
    write(tmp_path / "xa.mrc", POSITIVE)
    write(tmp_path / "xb.mrc", tilts)
    sources = find_series(tmp_path)
    assert bool(half_pairs(sources)) is found
    (remark,) = look_alikes(sources)  # two halves are not called two axes as well
    assert ("the two halves of one tilt series" in remark.message) is found
    assert ("the two axes of one specimen" in remark.message) is not found


@pytest.mark.parametrize(("side", "pixel", "found"), [(8, 10.0, True), (9, 10.0, False), (8, 10.1, False)])
def test_images_of_halves_are_of_one_kind(tmp_path: Path, side: int, pixel: float, found: bool) -> None:
    write(tmp_path / "s_pos.mrc", POSITIVE)
    write(tmp_path / "s_neg.mrc", NEGATIVE, side=side, pixel=pixel)
    assert bool(half_pairs(find_series(tmp_path))) is found


def test_what_cannot_be_read_is_no_half(tmp_path: Path) -> None:
    write(tmp_path / "s_pos.mrc", POSITIVE)
    (tmp_path / "s_neg.mrc").write_bytes(b"no stack")
    assert half_pairs(find_series(tmp_path)) == ()
