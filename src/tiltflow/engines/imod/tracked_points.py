"""The points that IMOD tracked, from the files that tiltalign leaves.

`B.resid` lists every point that the last fit used: x, y, view and residual, in pixels of the prealigned stack; a view that is not higher
than the one before begins a new track.  `B.prexg` carries raw to prealigned coordinates.  Both hold hundredths of a pixel or better.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tiltflow import geometry
from tiltflow.errors import FormatError
from tiltflow.formats.transforms import read_transforms
from tiltflow.model import Tracks

_COLUMNS = 5
"""x, y, view, and the residual along x and y."""


def read_tracked_points(residuals: Path, prealigning: Path, image_shape: tuple[int, int], binning: float, kind: str) -> Tracks:
    """Return the points that tiltalign used as tracks in raw pixels.

    Parameters
    ----------
    residuals, prealigning
        `B.resid` and `B.prexg`.
    image_shape
        `(ny, nx)` of the raw views.
    binning
        Of the prealigned stack.
    kind
        `bead` or `patch`.

    Raises
    ------
    FormatError, LocationError
        If a file cannot be read, or they do not belong together.
    """
    to_raw = geometry.invert(read_transforms(prealigning))
    centre = np.array(image_shape[::-1]) / 2
    tracks: list[list[tuple[int, float, float]]] = []
    for x, y, view in _points(residuals, len(to_raw)):
        if not tracks or view <= tracks[-1][-1][0]:
            tracks.append([])
        tracks[-1].append((view, x, y))
    xy = np.full((len(tracks), len(to_raw), 2), np.nan)
    for track, points in zip(xy, tracks, strict=True):
        for view, x, y in points:
            track[view] = geometry.apply(to_raw[view], np.array([x, y]) * binning - centre) + centre
    return Tracks(xy, kind)


def _points(path: Path, views: int) -> list[tuple[float, float, int]]:
    """Return x, y and the view, counted from 0, of every line after the first.

    Raises
    ------
    FormatError
        If a line does not hold five numbers, or a view is not one of the series.
    """
    points = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()[1:], 2):
        if not line.strip():
            continue
        try:
            words = [float(word) for word in line.split()]
        except ValueError:
            words = []
        if len(words) != _COLUMNS or not np.isfinite(words).all() or not 0 <= int(words[2]) < views:
            raise FormatError(
                f"{path.name}, line {number}: {line.strip()[:80]!r} is not a point: x, y, a view below {views}, dx, dy"
            )
        points.append((words[0], words[1], int(words[2])))
    return points
