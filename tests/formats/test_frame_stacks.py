"""Stacks of even and odd frames beside a series: which are used, what is said of others, and when they count in its identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tiltflow import describe
from tiltflow.errors import InputChangedError
from tiltflow.formats.identity import Identity, identity_of, require_same
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.series import read_series

SHAPE = (5, 24, 32)


def write(path: Path, seed: int, shape: tuple[int, int, int] = SHAPE) -> Path:
    images = np.random.default_rng(seed).integers(100, 200, shape).astype(np.int16)
    tilts = np.linspace(-60, 60, shape[0])
    with MrcWriter(path, shape, np.int16, pixel_size_angstrom=5.0, is_stack=True, tilt_deg=tilts) as out:
        for image in images:
            out.write(image)
    return path


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return write(tmp_path / "B.st", 0)


def test_a_pair_that_fits_is_used_and_told(stack: Path) -> None:
    assert read_series(stack).frame_stacks is None
    even, odd = write(stack.with_name("B_EVN.mrc"), 1), write(stack.with_name("B_ODD.mrc"), 2)
    series = read_series(stack)
    assert series.frame_stacks == (even, odd)
    assert describe.series(series)["half_frames"].value == "B_EVN.mrc and B_ODD.mrc"
    assert not [problem for problem in series.problems if "frames" in problem.message]


def test_the_ending_of_the_stack_comes_first(stack: Path) -> None:
    for seed, name in enumerate(("B_EVN.mrc", "B_ODD.mrc", "B_EVN.st"), 1):
        write(stack.with_name(name), seed)
    found = read_series(stack).frame_stacks
    assert found is not None
    assert [path.name for path in found] == ["B_EVN.st", "B_ODD.mrc"]


def one_is_missing(stack: Path) -> None:
    write(stack.with_name("B_ODD.mrc"), 1)


def fewer_views(stack: Path) -> None:
    write(stack.with_name("B_EVN.mrc"), 1)
    write(stack.with_name("B_ODD.mrc"), 2, (4, *SHAPE[1:]))


def another_size(stack: Path) -> None:
    write(stack.with_name("B_EVN.mrc"), 1, (5, 32, 24))
    write(stack.with_name("B_ODD.mrc"), 2, (5, 32, 24))


def no_images(stack: Path) -> None:
    stack.with_name("B_EVN.mrc").write_text("x")
    write(stack.with_name("B_ODD.mrc"), 2)


def one_twice(stack: Path) -> None:
    write(stack.with_name("B_EVN.mrc"), 1)
    write(stack.with_name("B_ODD.mrc"), 1)


def the_whole_as_a_half(stack: Path) -> None:
    write(stack.with_name("B_EVN.mrc"), 0)
    write(stack.with_name("B_ODD.mrc"), 1)


@pytest.mark.parametrize(
    ("make", "where", "said"),
    [
        (
            one_is_missing,
            "B_ODD.mrc",
            "by its name B_ODD.mrc holds one half of the frames of B.st, and there is no B_EVN with the other: it is not used",
        ),
        (
            fewer_views,
            "B_ODD.mrc",
            "B_ODD.mrc has 4 views of 32 x 24 pixels instead of the 5 views of 32 x 24 pixels of B.st: B_EVN.mrc and",
        ),
        (another_size, "B_EVN.mrc", "B_EVN.mrc has 5 views of 24 x 32 pixels instead of the 5 views of 32 x 24 pixels"),
        (no_images, "B_EVN.mrc", "B_EVN.mrc and B_ODD.mrc are not used"),
        (one_twice, "B_ODD.mrc", "the images of B_ODD.mrc are those of B_EVN.mrc, so that the halves would share their noise"),
        (the_whole_as_a_half, "B_EVN.mrc", "the images of B_EVN.mrc are those of B.st"),
    ],
)
def test_stacks_that_do_not_fit_are_not_used_and_named(stack: Path, make: Callable[[Path], None], where: str, said: str) -> None:
    make(stack)
    series = read_series(stack)
    assert series.frame_stacks is None
    (problem,) = [each for each in series.problems if "frames" in each.message or "alternate" in each.message]
    assert Path(problem.where).name == where
    assert said in problem.message
    assert problem.message.endswith("half volumes, where they are asked for, are made of alternate views")


def test_views_without_any_signal_are_no_images_in_common(stack: Path) -> None:
    for name in ("B.st", "B_EVN.mrc", "B_ODD.mrc"):
        blank(stack.with_name(name))
    assert read_series(stack).frame_stacks is not None


def blank(path: Path) -> None:
    with MrcWriter(path, SHAPE, np.int16, pixel_size_angstrom=5.0, is_stack=True, tilt_deg=np.linspace(-60, 60, 5)) as out:
        for _ in range(SHAPE[0]):
            out.write(np.zeros(SHAPE[1:], np.int16))


def test_without_a_look_at_images_only_sizes_are_compared(stack: Path) -> None:
    one_twice(stack)
    assert read_series(stack, ask_images=False).frame_stacks is not None


@pytest.mark.parametrize("counted", [True, False])
def test_frames_are_in_the_identity_where_they_count_and_never_in_that_of_the_stack(stack: Path, *, counted: bool) -> None:
    def identity() -> Identity:
        return identity_of(stack, frames={} if counted else None)

    none = identity()
    even = write(stack.with_name("B_EVN.mrc"), 1)
    before = identity()
    write(even, 2)
    after = identity()
    assert none.content == before.content == after.content
    assert (none.frames != before.frames) == (before.frames != after.frames) == counted


@pytest.mark.parametrize("change", ["written", "gone", "new"])
def test_frames_that_change_meanwhile_are_named(stack: Path, change: str) -> None:
    even, odd = write(stack.with_name("B_EVN.mrc"), 1), stack.with_name("B_ODD.mrc")
    counted, not_counted = identity_of(stack, frames={}), identity_of(stack)
    require_same(stack, counted)
    if change == "written":
        write(even, 2)
    elif change == "gone":
        even.unlink()
    else:
        write(odd, 2)
    require_same(stack, not_counted)
    with pytest.raises(
        InputChangedError, match=f"{'B_ODD' if change == 'new' else 'B_EVN'}.mrc was changed while it was being read"
    ):
        require_same(stack, counted)


def test_frames_are_hashed_again_only_when_their_state_is_another(stack: Path) -> None:
    even = write(stack.with_name("B_EVN.mrc"), 1)
    found = identity_of(stack, frames={}).frames
    assert found is not None
    state = found["B_EVN.mrc"][0]
    assert identity_of(stack, frames={"B_EVN.mrc": (state, "as it was")}).frames == {"B_EVN.mrc": (state, "as it was")}
    write(even, 2)
    again = identity_of(stack, frames={"B_EVN.mrc": (state, "as it was")}).frames
    assert again is not None
    assert again["B_EVN.mrc"][1] not in ("as it was", found["B_EVN.mrc"][1])
