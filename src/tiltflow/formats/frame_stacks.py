"""The stacks of the even and of the odd frames of each view, which motion correction leaves beside a series.

MotionCor3 and AreTomo3 call them `B_EVN.mrc` and `B_ODD.mrc`.  The noise of the two is independent and both see the specimen at every
tilt, so that half volumes are best made of them.  They have the views of the series, in its order and size; others are not used, and
that is reported.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tiltflow.errors import TiltflowError
from tiltflow.formats.sources import Sources, count_of
from tiltflow.formats.stacks import open_stack
from tiltflow.model import ImageStack

FRAME_ENDINGS = ("_EVN", "_ODD")
"""Ends of the base names of the stacks of even and of odd frames."""
_SUFFIXES = (".mrc", ".st")
_INSTEAD = "half volumes, where they are asked for, are made of alternate views"


def frame_files(path: Path) -> tuple[Path, ...]:
    """Return the files beside a stack that may hold its even or its odd frames, whether they exist or not.

    >>> [each.name for each in frame_files(Path("B.mrc"))]
    ['B_EVN.mrc', 'B_EVN.st', 'B_ODD.mrc', 'B_ODD.st']
    """
    return tuple(each for ending in FRAME_ENDINGS for each in _candidates(path, ending))


def read_frame_stacks(sources: Sources, *, ask_images: bool = True) -> tuple[Path, Path] | None:
    """Return the stacks of even and of odd frames beside a series, None where there are none that fit it, which is reported.

    Parameters
    ----------
    sources
        The stack, and where problems are reported.
    ask_images
        Whether a view of each is compared with those of the others: stacks that share one are not independent.
    """
    even, odd = (next((each for each in _candidates(sources.path, ending) if each.is_file()), None) for ending in FRAME_ENDINGS)
    if even is None or odd is None:
        for there, lacks in ((even, FRAME_ENDINGS[1]), (odd, FRAME_ENDINGS[0])):
            if there is not None:
                sources.report(
                    f"by its name {there.name} holds one half of the frames of {sources.path.name}, and there is no "
                    f"{sources.path.stem}{lacks} with the other: it is not used; {_INSTEAD}",
                    there,
                )
        return None
    against = _against(sources, even, odd, ask_images=ask_images)
    if against is not None:
        where, why = against
        sources.report(f"{why}: {even.name} and {odd.name} are not used; {_INSTEAD}", where)
        return None
    return even, odd


def _candidates(path: Path, ending: str) -> tuple[Path, ...]:
    return tuple(path.with_name(f"{path.stem}{ending}{suffix}") for suffix in dict.fromkeys((path.suffix, *_SUFFIXES)))


def _against(sources: Sources, even: Path, odd: Path, *, ask_images: bool) -> tuple[Path, str] | None:
    """Return the stack that does not fit and why not; None if both do."""
    with ExitStack() as opened:
        stacks: list[ImageStack] = []
        for path in (even, odd):
            try:
                stack = opened.enter_context(open_stack(path))
            except TiltflowError as error:
                return path, str(error)
            if stack.shape != sources.stack.shape:
                of = f"{_size(stack.shape)} instead of the {_size(sources.stack.shape)} of {sources.path.name}"
                return path, f"{path.name} has {of}"
            stacks.append(stack)
        if ask_images:
            stacks.append(opened.enter_context(open_stack(sources.path)))
            return _shared(stacks)
    return None


def _size(shape: tuple[int, ...]) -> str:
    return f"{count_of(shape[0], 'view')} of {shape[2]} x {shape[1]} pixels"


def _shared(stacks: list[ImageStack]) -> tuple[Path, str] | None:
    """Return the stack whose middle view is that of another, if one is."""
    images = [np.asarray(stack[stack.shape[0] // 2]) for stack in stacks]
    for one, other in ((1, 0), (0, 2), (1, 2)):
        if np.array_equal(images[one], images[other]) and np.ptp(images[one]) > 0:  # a view may be blank
            path, same = stacks[one].path, stacks[other].path.name
            return path, f"the images of {path.name} are those of {same}, so that the halves would share their noise"
    return None
