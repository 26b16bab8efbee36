"""Tilt series in any supported container: one table of formats, one function that opens any of them.

>>> with open_stack("series.tif") as stack:      # doctest: +SKIP
...     stack.container, stack.shape, stack.pixel_size_angstrom
...     view = stack[20]

A further container is a module with a function that takes a path and returns a :class:`tiltflow.model.ImageStack`, and a line of
:data:`CONTAINERS`.  Its views must come out with the bottom row first, as :mod:`tiltflow.geometry` has it: most image formats begin
at the top, and a stack that is read upside down gives a mirrored specimen with an axis angle of the opposite sign.
"""

from __future__ import annotations

import os
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tiltflow.errors import LocationError
from tiltflow.model import ImageStack

_MDOC_START_BYTES = 1 << 16
"""Enough for all that SerialEM writes before the section of the first view."""
_VIEW_SECTION = re.compile(rb"\[\s*ZValue\s*=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Container:
    """A format of files that hold tilt series.

    Attributes
    ----------
    name
        Its name.
    endings
        Endings of its file names.
    first_bytes
        What its files begin with; empty if no bytes identify them.
    opener
        `module:function`, imported when the first such file is opened: a library for one format costs the others no time.
    counter
        `module:function` that tells how many views a file announces and how many it holds, where a file whose header announces more
        than it holds is usual; empty where :attr:`opener` refuses such a file.
    """

    name: str
    endings: tuple[str, ...]
    first_bytes: tuple[bytes, ...]
    opener: str
    counter: str = ""

    def open(self, path: Path) -> ImageStack:
        """Return a file of this format opened for reading."""
        return cast("ImageStack", pkgutil.resolve_name(self.opener)(path))


_TIFF_BYTES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

CONTAINERS = (
    Container(
        "MRC", (".mrc", ".st", ".MRC", ".ST"), (), "tiltflow.formats.mrc:open_mrc_series", "tiltflow.formats.mrcheader:count_views"
    ),
    Container("TIFF", (".tif", ".tiff", ".TIF", ".TIFF"), _TIFF_BYTES, "tiltflow.formats.tiff:open_tiff"),
)
"""The formats that can be read; a file that neither its first bytes nor its ending identify is opened as the first."""

ENDINGS = tuple(ending for container in CONTAINERS for ending in container.endings)
"""Endings of files that can hold a tilt series."""


def open_stack(path: str | os.PathLike[str]) -> ImageStack:
    """Return the views of a tilt series, `(view, y, x)`, to be read one at a time.

    The first bytes of the file take precedence over its name.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It is damaged, or its content is no stack of grey images of one size.
    """
    path = Path(path)
    return container_of(path).open(path)


def count_views(path: Path) -> tuple[int, int]:
    """Return how many views a file announces, and how many of them have arrived whole; no image is read.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It does not say, or not yet.
    """
    container = container_of(path)
    if container.counter:
        return cast("tuple[int, int]", pkgutil.resolve_name(container.counter)(path))
    with container.open(path) as stack:
        return stack.shape[0], stack.shape[0]


def container_of(path: Path) -> Container:
    """Return the format of a file.

    Raises
    ------
    LocationError
        The file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            start = file.read(max(len(mark) for container in CONTAINERS for mark in container.first_bytes))
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror or error}") from error
    by_content = (container for container in CONTAINERS if start.startswith(container.first_bytes))
    by_name = (container for container in CONTAINERS if path.name.endswith(container.endings))
    return next(by_content, None) or next(by_name, CONTAINERS[0])


def find_view_mdoc(path: Path) -> Path | None:
    """Return the `.mdoc` that describes the views of a stack, None where there is none.

    For `B.tif` it is `B.tif.mdoc` or `B.mdoc`.  The `.mdoc` that SerialEM writes for a movie of frames has no section of a view.
    """
    for name in (f"{path.name}.mdoc", f"{path.stem}.mdoc"):
        found = path.with_name(name)
        if found.is_file() and describes_views(found):
            return found
    return None


def describes_views(mdoc: Path) -> bool:
    """Return whether an `.mdoc` has a section of a view."""
    try:
        with mdoc.open("rb") as file:
            return _VIEW_SECTION.search(file.read(_MDOC_START_BYTES)) is not None
    except OSError:
        return False
