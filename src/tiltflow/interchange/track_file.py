"""The tracks of `B_fid.txt`: track, view, x, y, and whether the alignment used the position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import FormatError
from tiltflow.model import Tracks

_COLUMNS = 5
_MOST_TRACKS = 100_000
"""Numbers of tracks are below this: alignments have thousands, and the table of all takes memory by the last number."""


def read_tracks(path: Path, views: int) -> tuple[Tracks, NDArray[np.bool_]] | None:
    """Return the tracks, and `(track, view)` which positions were used; None where there is no such file or it is empty.

    Raises
    ------
    FormatError
        If a line is not five numbers, or names a view that the stack lacks.
    """
    if not path.is_file():
        return None
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            track, view, x, y, used = map(float, line.split())
        except ValueError:
            raise FormatError(f"{path}, line {number}: {line.strip()[:60]!r} is not track, view, x, y, used") from None
        if not (1 <= track <= _MOST_TRACKS and 1 <= view <= views):
            raise FormatError(
                f"{path}, line {number}: track {track:g} on view {view:g} of {views}: both are counted from 1, tracks to {_MOST_TRACKS}"
            )
        rows.append((int(track) - 1, int(view) - 1, x, y, used))
    if not rows:
        return None
    table = np.array(rows, float).reshape(-1, _COLUMNS)
    of_track, on_view = table[:, 0].astype(int), table[:, 1].astype(int)
    xy = np.full((of_track.max() + 1, views, 2), np.nan)
    used_there = np.zeros(xy.shape[:2], bool)
    xy[of_track, on_view], used_there[of_track, on_view] = table[:, 2:4], table[:, 4] > 0
    return Tracks(xy=xy, kind="track"), used_there
