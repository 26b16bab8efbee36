"""The files beside a stack, and the choice of one value among several sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from tiltflow.errors import FormatError
from tiltflow.formats.disagreements import compare_pixels
from tiltflow.formats.extended import is_pixel_size
from tiltflow.formats.mdoc import Mdoc, read_mdoc
from tiltflow.formats.piece_lists import ENDING as PIECE_LIST
from tiltflow.formats.side_axis import AXIS_SUFFIXES
from tiltflow.formats.stacks import open_stack
from tiltflow.model import Acquisition, ImageStack, Problem
from tiltflow.piece_grid import PieceGrid

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A value and where it was found."""

    value: T
    where: str


@dataclass(frozen=True, slots=True)
class Absent:
    """A source that has no value, and why."""

    where: str
    reason: str


@dataclass(slots=True)
class Sources:
    """A closed stack, the contents of its `.mdoc`, and the problems and doubts found so far.

    Of a montage, `montage` says which section is which piece of which view, `mdoc` has a section a view, and `of_views` is what the
    extended header says of views (:mod:`tiltflow.formats.montages`).
    """

    stack: ImageStack
    mdoc: Mdoc | None = None
    mdoc_reason: str = "no such file"
    problems: list[Problem] = field(default_factory=list)
    doubts: dict[str, str] = field(default_factory=dict)
    montage: PieceGrid | None = None
    of_views: Acquisition | None = None

    @property
    def path(self) -> Path:
        """The stack."""
        return self.stack.path

    @property
    def views(self) -> int:
        """Number of views."""
        return self.sections if self.montage is None else self.montage.views

    @property
    def sections(self) -> int:
        """Number of images in the stack: of views, or of the pieces of a montage."""
        return self.stack.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(views, ny, nx)`; of a montage, that of the frame."""
        return self.stack.shape if self.montage is None else (self.montage.views, *self.montage.frame_shape)

    @property
    def extended(self) -> Acquisition | None:
        """Contents of the extended header."""
        return self.stack.acquisition if self.of_views is None else self.of_views

    @property
    def mdoc_name(self) -> str:
        """Name of the `.mdoc`, also of one that does not exist."""
        return self.mdoc.path.name if self.mdoc else f"{self.path.name}.mdoc"

    @property
    def extended_name(self) -> str:
        """Name of the extended header in messages."""
        return f"extended header ({self.extended.kind})" if self.extended and self.extended.kind else "extended header"

    def report(self, message: str, where: object) -> None:
        """Record a problem."""
        self.problems.append(Problem(message, str(where)))

    def doubt(self, name: str, message: str) -> None:
        """Record what nobody knows of a field of the series."""
        self.doubts[name] = message


ANGLE_SUFFIXES = (".rawtlt", ".tlt")
"""Endings of the files beside a stack that may hold its tilt angles, best first."""


def side_files(path: Path) -> tuple[Path, ...]:
    """Return the files beside a stack that its reading looks for, whether they exist or not."""
    return (*_mdocs(path), *(path.with_suffix(suffix) for suffix in (*ANGLE_SUFFIXES, *AXIS_SUFFIXES, PIECE_LIST)))


def _mdocs(path: Path) -> tuple[Path, ...]:
    names = (f"{path.name}.mdoc", f"{path.stem}.mdoc", f"{path.stem}.mrc.mdoc", f"{path.stem}.st.mdoc")
    return tuple(path.with_name(name) for name in dict.fromkeys(names))


def find_sources(path: Path) -> Sources:
    """Return the stack at `path` with its `.mdoc`, and the problems found.

    The `.mdoc` is the first that exists of `B.mrc.mdoc` (the stack's whole name), `B.mdoc`, and its names before the
    stack was renamed, `B.mrc.mdoc` and `B.st.mdoc`.

    Raises
    ------
    LocationError, FormatError
        The stack cannot be read.
    """
    with open_stack(path) as stack:
        sources = Sources(stack, problems=[*stack.problems])
    _check_pixel(sources)
    _report_files_beside_target(sources)
    found = next((beside for beside in _mdocs(path) if beside.is_file()), None)
    if found is not None:
        try:
            sources.mdoc = read_mdoc(found)
            sources.problems += sources.mdoc.problems
        except FormatError as error:
            sources.mdoc_reason = "could not be understood"
            sources.report(str(error), found)
    return sources


def choose(
    sources: Sources,
    what: str,
    readings: Iterable[Found[T] | Absent],
    compare: Callable[[T, Found[T]], str | None],
    show: Callable[[T], str],
) -> Found[T] | None:
    """Return the first value found, or None; report the later ones that disagree with it.

    The `where` of the result is a sentence: the place, the value, and which other places agree.

    Parameters
    ----------
    what
        The value in words, for messages.
    compare
        How a later value differs from the chosen one, None if it does not.
    show
        A value in words.
    """
    found = [reading for reading in readings if isinstance(reading, Found)]
    if not found:
        return None
    chosen, agreeing = found[0], []
    for other in found[1:]:
        if unlike := compare(chosen.value, other):
            sources.report(
                f"the {what} there, {show(other.value)}, {unlike}; used: {show(chosen.value)} from {chosen.where}", other.where
            )
        else:
            agreeing.append(other.where)
    sentence = f"{chosen.where}, {show(chosen.value)}"
    if agreeing:
        sentence += f"; {' and '.join(agreeing)} agree{'' if len(agreeing) > 1 else 's'}"
    return Found(chosen.value, sentence)


def count_of(number: int, thing: str) -> str:
    """Return a count in words.

    >>> count_of(1, "view"), count_of(41, "view")
    ('1 view', '41 views')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _report_files_beside_target(sources: Sources) -> None:
    """Report the files that lie beside the file to which a link leads, and are not beside the link."""
    path = sources.path
    if not path.is_symlink() or any(beside.is_file() for beside in side_files(path)):
        return
    left = [beside.name for beside in side_files(path.resolve()) if beside.is_file()]
    if left:
        verb, them = ("lies", "it") if len(left) == 1 else ("lie", "them")
        sources.report(
            f"{' and '.join(left)} {verb} beside {path.resolve()}, to which the link leads, not beside the link: not read; link {them} "
            f"too, with the link's base name",
            path,
        )


def _check_pixel(sources: Sources) -> None:
    x, y = sources.stack.pixel_size_angstrom or (0.0, 0.0)
    if is_pixel_size(x) and is_pixel_size(y) and compare_pixels(x, y):
        sources.report(
            f"its pixels are not square, {x:.4g} Å along x and {y:.4g} Å along y: the former is used for both, so that lengths and "
            "angles in the volume are wrong unless the images are square after all; resample them, or correct the size",
            sources.stack.header_name,
        )
