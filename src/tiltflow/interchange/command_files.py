"""IMOD's command files: what is read of a `tilt.com`, and what is written for programs that look into them.

They are line based: a keyword at the beginning of a line, blanks or a tab, the value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tiltflow.errors import FormatError


@dataclass(frozen=True, slots=True)
class TiltCommand:
    """The position of the volume in a `tilt.com`: XAXISTILT, OFFSET, SHIFT and THICKNESS; degrees and raw pixels."""

    x_axis_tilt_deg: float = 0.0
    offset_deg: float = 0.0
    axis_offset: float = 0.0
    shift_x: float = 0.0
    shift_z: float = 0.0
    thickness: int | None = None


def read_tilt_command(path: Path) -> TiltCommand | None:
    """Return the position of the volume in a `tilt.com`; None where there is no such file.

    Raises
    ------
    FormatError
        If a value is no number.
    """
    if not path.is_file():
        return None
    given: dict[str, list[float]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, *values = line.split()[:3] or [""]
        if key.upper() in ("XAXISTILT", "OFFSET", "SHIFT", "THICKNESS"):
            try:
                given[key.upper()] = [float(value.strip(",")) for value in values]
            except ValueError:
                raise FormatError(f"{path}: {line.strip()!r} is not {key} and numbers") from None
    offset, shift = ([*given.get(key, []), 0.0, 0.0] for key in ("OFFSET", "SHIFT"))
    thickness = given.get("THICKNESS")
    return TiltCommand(
        x_axis_tilt_deg=[*given.get("XAXISTILT", []), 0.0][0],
        offset_deg=offset[0],
        axis_offset=offset[1],
        shift_x=shift[0],
        shift_z=shift[1],
        thickness=round(thickness[0]) if thickness else None,
    )


def render_command(program: str, entries: Iterable[tuple[str, str]]) -> str:
    r"""Return the text of a command file that runs one program.

    >>> print(render_command("tilt", [("MODE", "1"), ("PERPENDICULAR", "")]), end="")
    $setenv IMOD_OUTPUT_FORMAT MRC
    $tilt -StandardInput
    MODE 1
    PERPENDICULAR
    """
    lines = (f"{key} {value}".rstrip() for key, value in entries)
    return "\n".join(["$setenv IMOD_OUTPUT_FORMAT MRC", f"${program} -StandardInput", *lines]) + "\n"
