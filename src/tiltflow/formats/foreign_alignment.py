"""An alignment as another program's file holds it: one row a view that the file names, in the terms of :mod:`tiltflow.geometry`.

Readers (:mod:`tiltflow.formats.imod_alignment`, :mod:`~tiltflow.formats.aretomo`, :mod:`~tiltflow.formats.relion_star`,
:mod:`~tiltflow.formats.warp_xml`) turn the program's signs and centres into tiltflow's; which row belongs to which view of a stack is
decided in :mod:`tiltflow.align.foreign`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.model import LocalAlignment

Floats = NDArray[np.float64]

LARGEST_BYTES = 64 << 20
"""Text files beyond this are refused: the largest alignments, with local areas of hundreds of views, are a few megabytes."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ForeignAlignment:
    """What a file says of the views that it names.

    Attributes
    ----------
    program
        Who writes such files: `IMOD`, `AreTomo`, `RELION`, `Warp`.
    files
        All files that were read, the one that was asked for first.
    transforms
        `(rows, 2, 3)`: raw to aligned coordinates about the image centres, raw pixels.
    tilt_deg
        `(rows,)`: tilt of each row in the sign of :func:`tiltflow.geometry.project`.
    used
        `(rows,)`: whether the program used the view.
    section
        `(rows,)`: section of the stack, counted from 0, where the file gives it.
    nominal_deg
        `(rows,)`: nominal tilt of each row, where the file gives it besides `tilt_deg`.
    left_out
        Sections that the files leave out, counted from 0, where they name them.
    x_tilt_deg
        Tilt of the specimen about x that precedes the tilt about y, the same in all views: minus IMOD's XAXISTILT.
    image_size
        Width and height of the raw views, where the file gives them.
    views
        Number of views of the raw stack, where the file gives it.
    local
        Corrections by area, `(areas, rows)`.
    notes
        What the file holds that is not taken over, in sentences.
    """

    program: str
    files: tuple[Path, ...]
    transforms: Floats
    tilt_deg: Floats
    used: NDArray[np.bool_]
    section: NDArray[np.int64] | None = None
    nominal_deg: Floats | None = None
    left_out: tuple[int, ...] = ()
    x_tilt_deg: float = 0.0
    image_size: tuple[int, int] | None = None
    views: int | None = None
    local: LocalAlignment | None = None
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file that was asked for."""
        return self.files[0]


def read_text(path: Path, what: str) -> str:
    """Return the text of a file of bounded size; a byte order mark is left out.

    Raises
    ------
    LocationError
        The file cannot be opened.
    FormatError
        It is too large, or not text.
    """
    try:
        if (size := path.stat().st_size) > LARGEST_BYTES:
            raise FormatError(f"{path}: has {size >> 20} MB, too much for {what}; is it the right file?")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: is not text, so it is not {what}") from error
    except OSError as error:
        raise LocationError(f"{path}: cannot be read: {error.strerror}") from error


def one_x_tilt(x_tilt_deg: Floats, where: str) -> float:
    """Return the x tilt that all views have.

    Raises
    ------
    FormatError
        If it differs between views, which a volume that is tilted once cannot follow.
    """
    if not len(x_tilt_deg):
        return 0.0
    if np.ptp(x_tilt_deg) > _X_TILT_TOLERANCE_DEG:
        raise FormatError(
            f"{where}: the tilt about x differs between views, from {x_tilt_deg.min():.2f} to {x_tilt_deg.max():.2f} degrees; "
            f"tiltflow takes one for all of them: align again with one X-axis tilt"
        )
    return float(np.mean(x_tilt_deg))


_X_TILT_TOLERANCE_DEG = 0.02
"""Files round to hundredths of a degree."""
