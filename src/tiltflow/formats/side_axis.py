"""The tilt axis angle in files beside a stack that are not written for it alone: eTomo's data file and an acquisition program's text.

`B.edf` has `Setup.ImageRotationA`, which a person or IMOD's reading of the header put there.  `B.txt`, as Xplore3D and scripts leave
beside a stack, has a line such as `Tilt axis angle: 85.3` or `Tilt axis rotation (deg) = 85.3`.  No description of Xplore3D's file
was at hand: its value is taken as it is written, and its sign is not vouched for.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from tiltflow.formats.edf import parse_edf
from tiltflow.formats.text_files import decode, number

AXIS_SUFFIXES = (".edf", ".txt")
"""Endings of the files beside a stack that may tell its tilt axis, best first."""

_EDF_KEY = "Setup.ImageRotationA"
_LINE = re.compile(
    r"\W*tilt[\s_]*axis(?:[\s_]*(?:rotation|angle|orientation|direction))*[\s_]*(?:[(\[]?deg(?:rees)?\.?[)\]]?)?"
    r"\s*[=:\t]\s*([-+]?\d+(?:[.,]\d+)?)(?![\d.,]|e[-+]?\d)",
    re.IGNORECASE,
)
_LONGEST_LINE = 120
"""A longer line is no entry of a value; the pattern needs a time that grows with its square."""
_LONGEST_BYTES = 1 << 20
"""A longer text is something else."""


@dataclass(frozen=True, slots=True)
class SideAxis:
    """What a file tells about the axis: its angle, None where it does not tell or is not clear, and then why if that is worth saying."""

    angle_deg: float | None
    doubt: str = ""


def read_side_axis(path: Path) -> SideAxis:
    """Return the tilt axis angle that a file beside a stack tells; a file that cannot be read tells none."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST_BYTES + 1)
    except OSError:
        return SideAxis(None)
    if len(raw) > _LONGEST_BYTES:
        return SideAxis(None)
    text = decode(raw, "replace")
    return _of_edf(text) if path.suffix == ".edf" else _of_text(text)


def _of_edf(text: str) -> SideAxis:
    written = parse_edf(text).get(_EDF_KEY, "")
    try:
        angle = number(written)
    except ValueError:
        return SideAxis(None)
    return SideAxis(angle if math.isfinite(angle) and abs(angle) <= 360 else None)


def _of_text(text: str) -> SideAxis:
    lines = (line for line in text.splitlines() if len(line) <= _LONGEST_LINE)
    angles = sorted({number(found[1]) for line in lines if (found := _LINE.match(line))})
    if len(angles) > 1:
        listed = ", ".join(f"{angle:g}" for angle in angles[:4])
        return SideAxis(None, f"it has several tilt axis angles ({listed}), of which none is used")
    return SideAxis(angles[0] if angles and abs(angles[0]) <= 360 else None)
