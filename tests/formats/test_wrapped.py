"""Counts that are stored as signed numbers: noticed in the pixels, read right, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.errors import FormatError
from tiltflow.formats.mrc import open_mrc, open_mrc_series
from tiltflow.formats.series import read_series
from tiltflow.formats.stacks import open_stack
from tiltflow.formats.tilts import write_tilts
from tiltflow.formats.wrapped import Sign, sign_of

MakeMrc = Callable[..., Path]
SHAPE = (5, 64, 64)


def noise(rng: np.random.Generator, level: float, width: float, low: int = 0, high: int = 65535) -> NDArray[np.float64]:
    """Noisy views with a gradient of brightness and a few dark beads."""
    views = rng.normal(level, width, SHAPE) + np.linspace(-width, width, SHAPE[2])
    views[:, 20:26, 20:26] = level - 6 * width
    return np.clip(np.rint(views), low, high)


@pytest.mark.parametrize(
    ("level", "width"), [(32768, 300), (32768, 3000), (45000, 6000), (30000, 1500), (26000, 3000), (50000, 9000)]
)
def test_counts_that_became_negative_are_read_without_a_sign(
    make_mrc: MakeMrc, rng: np.random.Generator, level: float, width: float
) -> None:
    counts = noise(rng, level, width).astype(np.uint16)
    path = make_mrc(counts.view(np.int16))
    stack = open_stack(path)
    assert stack.dtype == np.uint16
    assert np.array_equal(np.stack([stack[view] for view in range(5)]), counts)
    (problem,) = stack.problems
    assert "counts above 32767 stored as signed numbers, and are read without a sign (unsigned, 16 bits)" in problem.message


def test_a_file_that_is_written_again_is_asked_again(make_mrc: MakeMrc, rng: np.random.Generator) -> None:
    counts = noise(rng, 32768, 3000).astype(np.uint16)
    assert open_mrc_series(make_mrc(counts.view(np.int16))).dtype == np.uint16
    assert open_mrc_series(make_mrc((counts // 4).view(np.int16))).dtype == np.int16


def test_it_is_said_of_the_series(make_mrc: MakeMrc, rng: np.random.Generator) -> None:
    path = make_mrc(noise(rng, 32768, 3000).astype(np.uint16).view(np.int16), order=">")
    write_tilts(path.with_suffix(".rawtlt"), np.arange(5.0))
    assert any("stored as signed numbers" in problem.message for problem in read_series(path).problems)
    with open_stack(path) as stack:
        assert stack[2].min() > 10000


def test_counts_whose_dark_and_bright_parts_lie_apart_are_noticed_by_the_hole(make_mrc: MakeMrc, rng: np.random.Generator) -> None:
    """No pixel beside another jumps: half of the views lie below the middle of the range, and half above it."""
    counts = np.rint(rng.normal(0, 100, SHAPE) + np.array([20000, 28000, 36000, 44000, 28000])[:, None, None]).astype(np.uint16)
    assert sign_of(counts.view(np.int16)).jumps == 0
    assert open_mrc_series(make_mrc(counts.view(np.int16))).dtype == np.uint16


@pytest.mark.parametrize(
    ("level", "width", "low"),
    [
        (0, 5, -32768),
        (0, 3000, -32768),
        (300, 60, 0),
        (20000, 2000, 0),
        (-20000, 2000, -32768),
        (1000, 4000, -32768),
        (0, 9000, -32768),
    ],
)
def test_numbers_with_a_sign_keep_it(make_mrc: MakeMrc, rng: np.random.Generator, level: float, width: float, low: int) -> None:
    values = noise(rng, level, width, low, 32767).astype(np.int16)
    stack = open_mrc_series(make_mrc(values))
    assert stack.dtype == np.int16
    assert stack.problems == ()
    assert np.array_equal(stack[3], values[3])


def test_a_few_dead_and_hot_pixels_are_no_sign(make_mrc: MakeMrc, rng: np.random.Generator) -> None:
    values = noise(rng, 300, 60).astype(np.int16)
    values[:, 10, 10], values[:, 11, 40], values[2, 12, 12:14] = -32768, 32767, (32767, -32768)
    assert open_mrc_series(make_mrc(values)).dtype == np.int16


def test_if_in_doubt_the_file_is_refused_with_what_to_do(make_mrc: MakeMrc, rng: np.random.Generator) -> None:
    path = make_mrc(rng.integers(-32768, 32767, SHAPE).astype(np.int16))
    with pytest.raises(FormatError, match=r"B.mrc: neighbouring pixels differ by the whole range.* \(mode 6\) or as reals"):
        open_stack(path)
    assert open_mrc(path).dtype == np.int16


def test_results_and_volumes_are_read_as_their_header_says(make_mrc: MakeMrc, rng: np.random.Generator) -> None:
    path = make_mrc(noise(rng, 32768, 3000).astype(np.uint16).view(np.int16))
    assert open_mrc(path).dtype == np.int16


@pytest.mark.parametrize("minmax", [(0, -1), (0, 0), (0, 100), (-128, 127)])
def test_bytes_without_a_stamp_are_asked_whatever_their_statistics(
    make_mrc: MakeMrc, rng: np.random.Generator, minmax: tuple[float, float]
) -> None:
    values = noise(rng, 130, 25, 0, 255).astype(np.uint8)
    stack = open_stack(make_mrc(values, minmax=minmax))
    assert stack.dtype == np.uint8
    assert np.array_equal(stack[1], values[1])
    assert "counts above 127 stored as signed numbers" in stack.problems[0].message


def test_bytes_with_imods_stamp_and_bytes_with_a_sign_are_not_changed(make_mrc: MakeMrc, rng: np.random.Generator) -> None:
    values = noise(rng, 130, 25, 0, 255).astype(np.uint8)
    assert open_stack(make_mrc(values, imod_flags=1, minmax=(0, 100))).dtype == np.int8
    signed = noise(rng, 0, 20, -128, 127).astype(np.int8)
    assert open_stack(make_mrc(signed)).dtype == np.int8


@pytest.mark.parametrize("kind", [np.int16, np.int8])
def test_no_pixels_say_nothing(kind: type[np.signedinteger]) -> None:
    assert sign_of([]).sign is Sign.AS_STORED
    assert sign_of([np.zeros((1, 1), kind)]).sign is Sign.AS_STORED
