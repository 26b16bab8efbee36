"""Defocus of the views, as programs write it: :class:`DefocusTable`, and IMOD's `.defocus` files.

A line of a `.defocus` file is `first last tilt tilt defocus ...`: a range of views counted from 1, the tilts at its ends in degrees, and
the defocus in nm, underfocus positive.  The first line of **version 2** ends with a `2`.  **Version 3** begins with a line
`flags 0 0. 0. 0 3`; flags is a sum of

====  =====================================================
1     a second defocus and the angle of astigmatism follow
2     this angle is in radians
4     a phase shift follows
8     it is in radians
16    the tilts have the opposite sign of those of the stack
32    a cut-on frequency follows, 1/nm
====  =====================================================

The value of a range belongs to the tilt in its middle; between, IMOD's ctfphaseflip goes linearly, and beyond the ends it keeps the last
value.  ctfplotter writes ranges that overlap, and with InvertTiltAngles negated tilts in reverse order, so that the numbers of the
views and not the tilts say what belongs where.  Files without any version may count views from 0.

With the values d1, d2 and the angle a of a line, the defocus along the direction b is

    (d1 + d2) / 2 - (d1 - d2) / 2 cos 2(b - a)

IMOD's angle is 90 degrees from that of CTFFIND where the larger value stands first.  IMOD 4.8 takes the first line of version 3 for a
view without defocus, so that version 2 is written unless there is something that only version 3 can hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import FormatError, ParameterError
from tiltflow.formats.foreign_alignment import read_text

Floats = NDArray[np.float64]

ASTIGMATISM, ANGLE_IN_RADIANS, PHASE, PHASE_IN_RADIANS, INVERTED, CUT_ON = 1, 2, 4, 8, 16, 32
"""Flags of version 3."""
_WITHOUT_FLAGS, _WITH_FLAGS = 2, 3
"""Versions that name themselves."""
_LEAST_WORDS = 5
"""`first last tilt tilt defocus`."""
_MOST_DEFOCUS_NM = 1e6
"""Beyond a millimetre a number is no defocus of a micrograph, but of another unit or column."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DefocusTable:
    """What a file says of the defocus, one row a range of views.

    Attributes
    ----------
    program
        Who writes such files: `IMOD`, `CTFFIND`, `AreTomo`, `Warp`, `RELION`.
    views
        `(rows, 2)`: first and last view of each row, counted from 0.
    defocus_nm
        `(rows,)`: mean over all directions, underfocus positive.
    astigmatism_nm
        `(rows,)`: largest minus smallest defocus; 0 where there is none.
    astigmatism_deg
        `(rows,)`: direction of the largest defocus, counter-clockwise from x.
    phase_shift_deg
        `(rows,)`: of a phase plate.
    tilt_deg
        `(rows, 2)`: tilts of the first and the last view of each row as the file has them; None where it has none.
    hand
        Sign of the defocus gradient for these tilts: +1 if at positive tilts the right side is more underfocused; None where the
        file does not tell.
    axis_deg
        Angle of the tilt axis that these tilts are counted about; None where the file does not tell.
    inverted
        The tilts have the opposite sign of those of the stack.
    score, spacing_angstrom
        `(rows,)`: correlation of the fit, and the spacing to which rings were fitted; None where the file has none.
    cut_on
        `(rows,)`: cut-on frequency of a phase plate, 1/nm; None where there is none.
    """

    program: str
    views: NDArray[np.int64]
    defocus_nm: Floats
    astigmatism_nm: Floats
    astigmatism_deg: Floats
    phase_shift_deg: Floats
    tilt_deg: Floats | None = None
    hand: int | None = None
    axis_deg: float | None = None
    inverted: bool = False
    score: Floats | None = None
    spacing_angstrom: Floats | None = None
    cut_on: Floats | None = None

    def per_view(self, tilt_deg: ArrayLike) -> DefocusTable:
        """Return one row for each view of a stack with these tilts, `(views,)`: linear in tilt between the middles of the rows.

        Beyond the outermost middles the value stays the same; a single row holds for all views, whatever its number.  Scores do not
        interpolate and are left out.

        Raises
        ------
        FormatError
            If a row names a view that the stack does not have.
        """
        tilt = np.asarray(tilt_deg, float)
        rows, count = self.views, len(tilt)
        if len(rows) > 1 and (rows.min() < 0 or rows.max() >= count):
            raise FormatError(
                f"the defocus of view {int(rows.max()) + 1} is given, and the stack has {count} views; is it of another series?"
            )
        middle = tilt[rows].mean(axis=1) if len(rows) > 1 else np.zeros(1)
        order = np.argsort(middle, kind="stable")

        def between(values: Floats) -> Floats:
            return np.asarray(np.interp(tilt, middle[order], values[order]))

        double = np.deg2rad(2 * self.astigmatism_deg)
        along, across = between(self.astigmatism_nm * np.cos(double)), between(self.astigmatism_nm * np.sin(double))
        return replace(
            self,
            views=np.repeat(np.arange(count)[:, None], 2, axis=1),
            defocus_nm=between(self.defocus_nm),
            astigmatism_nm=np.hypot(along, across),
            astigmatism_deg=np.rad2deg(np.arctan2(across, along)) / 2,
            phase_shift_deg=between(self.phase_shift_deg),
            tilt_deg=np.stack([tilt, tilt], axis=1),
            inverted=False,
            score=None,
            spacing_angstrom=None,
            cut_on=None if self.cut_on is None else between(self.cut_on),
        )


def read_defocus(path: Path) -> DefocusTable:
    """Return the defocus in IMOD's file.

    Raises
    ------
    LocationError, FormatError
        If it cannot be read, or is not such a file.
    """
    return parse_defocus(read_text(path, "a .defocus file"), str(path))


def parse_defocus(text: str, where: str = ".defocus file") -> DefocusTable:
    r"""Return the defocus in the text of an IMOD file of version 2 or 3, or of none.

    Raises
    ------
    FormatError
        If a line is not what its version asks for; the message begins with `where` and names the line.

    Examples
    --------
    >>> table = parse_defocus("1 3 -60.00 0.00 3900 2\n3 5 0.00 60.00 4100\n")
    >>> table.per_view([-60, -30, 0, 30, 60]).defocus_nm
    array([3900., 3900., 4000., 4100., 4100.])
    """
    lines = [(number, words) for number, line in enumerate(text.splitlines(), 1) if (words := line.split())]
    if not lines:
        raise FormatError(f"{where}: is empty; a line of it is: first last tilt tilt defocus")
    rows = [(number, _numbers(words, f"{where}, line {number}")) for number, words in lines]
    head = rows[0][1]
    version = (
        int(head[_LEAST_WORDS]) if len(head) == _LEAST_WORDS + 1 and head[_LEAST_WORDS] in (_WITHOUT_FLAGS, _WITH_FLAGS) else 0
    )
    flags = 0
    if version == _WITH_FLAGS:
        flags, rows = _flags(head[0], where), rows[1:]
    elif version == _WITHOUT_FLAGS:
        rows[0] = rows[0][0], head[:_LEAST_WORDS]
    if not rows:
        raise FormatError(f"{where}: holds no range of views")
    table = np.array([_row(values, flags, f"{where}, line {number}") for number, values in rows])
    return _table(table, flags, counts_from=1 if version or table[:, 0].min() > 0 else 0)


def render_defocus(table: DefocusTable) -> str:
    """Return the text of IMOD's file: version 2, or 3 where there is astigmatism, a phase shift or a cut-on frequency.

    Raises
    ------
    ParameterError
        If the table has no tilts, which every line needs.
    """
    if table.tilt_deg is None:
        raise ParameterError("a .defocus file needs the tilt of each view; give a table with tilt_deg")
    flags = (
        ASTIGMATISM * bool(np.any(table.astigmatism_nm))
        + PHASE * bool(np.any(table.phase_shift_deg))
        + INVERTED * table.inverted
        + CUT_ON * (table.cut_on is not None)
    )
    half, lines = table.astigmatism_nm / 2, []
    for row, (first, last) in enumerate(table.views.tolist()):
        mean = table.defocus_nm[row]
        words = [f"{first + 1}", f"{last + 1}", *(f"{tilt:.2f}" for tilt in table.tilt_deg[row])]
        if flags & ASTIGMATISM:
            words += [f"{mean + half[row]:.1f}", f"{mean - half[row]:.1f}", f"{_imod_angle(table.astigmatism_deg[row]):.2f}"]
        else:
            words.append(f"{mean:.1f}")
        if flags & PHASE:
            words.append(f"{table.phase_shift_deg[row]:.2f}")
        if table.cut_on is not None:
            words.append(f"{table.cut_on[row]:.4f}")
        lines.append("\t".join(words))
    if flags:
        lines.insert(0, f"{flags}\t0\t0.\t0.\t0\t{_WITH_FLAGS}")
    else:
        lines[0] += f"\t{_WITHOUT_FLAGS}"
    return "\n".join(lines) + "\n"


def write_defocus(path: Path, table: DefocusTable) -> None:
    """Write IMOD's file.

    Raises
    ------
    ParameterError
        If the table has no tilts.
    """
    path.write_text(render_defocus(table), "utf-8")


def _numbers(words: list[str], where: str) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) < _LEAST_WORDS or not np.isfinite(values).all():
        raise FormatError(f"{where}: {' '.join(words)[:80]!r} is not: first last tilt tilt defocus, and what the version adds")
    return values


def _flags(value: float, where: str) -> int:
    if value != int(value) or not 0 <= value < 2 * CUT_ON:
        raise FormatError(
            f"{where}: the flags {value:g} of version 3 are not known; they are whole numbers from 0 to {2 * CUT_ON - 1}"
        )
    return int(value)


def _row(values: list[float], flags: int, where: str) -> list[float]:
    """Return first, last, two tilts, two defocus values, angle, phase shift and cut-on of a line; what it does not hold is 0."""
    astigmatic, phase, cut_on = (bool(flags & flag) for flag in (ASTIGMATISM, PHASE, CUT_ON))
    expected = _LEAST_WORDS + 2 * astigmatic + phase + cut_on
    if len(values) != expected:
        raise FormatError(f"{where}: has {len(values)} numbers, and its version asks for {expected}")
    first, last = values[:2]
    if first != int(first) or last != int(last) or not 0 <= first <= last:
        raise FormatError(f"{where}: {first:g} to {last:g} is not a range of views")
    rest = iter(values[_LEAST_WORDS:])
    second, angle = (next(rest), next(rest)) if astigmatic else (values[4], 0.0)
    if max(abs(values[4]), abs(second)) > _MOST_DEFOCUS_NM:
        raise FormatError(f"{where}: a defocus of {values[4]:g} nm is beyond a millimetre; the file is in nm")
    return [*values[:5], second, angle, next(rest) if phase else 0.0, next(rest) if cut_on else 0.0]


def _table(rows: Floats, flags: int, counts_from: int) -> DefocusTable:
    large, small = rows[:, 4], rows[:, 5]
    angle = np.rad2deg(rows[:, 6]) if flags & ANGLE_IN_RADIANS else rows[:, 6]
    return DefocusTable(
        program="IMOD",
        views=rows[:, :2].astype(np.int64) - counts_from,
        defocus_nm=(large + small) / 2,
        astigmatism_nm=np.abs(large - small),
        astigmatism_deg=np.where(large == small, 0.0, angle + 90 * (large > small)),
        phase_shift_deg=np.rad2deg(rows[:, 7]) if flags & PHASE_IN_RADIANS else rows[:, 7],
        tilt_deg=rows[:, 2:4],
        hand=-1 if flags & INVERTED else None,
        inverted=bool(flags & INVERTED),
        cut_on=rows[:, 8] if flags & CUT_ON else None,
    )


def _imod_angle(direction_deg: float) -> float:
    """Return IMOD's angle for the direction of the largest defocus, where that stands first; -90 to 90."""
    return float(direction_deg % 180 - 90)
