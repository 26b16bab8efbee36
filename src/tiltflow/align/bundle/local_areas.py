"""Layout of the local areas and the tracks of each, after tiltalign's TargetPatchSizeXandY and related options."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.bundle.params import LocalParams

Floats = NDArray[np.float64]

_GROWTH = 1.05
"""Factor by which an area grows until it holds enough tracks: fine enough that few are added at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Areas:
    """Overlapping areas on a grid.

    Attributes
    ----------
    across, along
        Centres along x and along y.
    members
        `(areas, tracks)` which tracks lie in which area, those along x running fastest.
    grown
        Number of areas that were enlarged to hold enough of them.
    """

    across: Floats
    along: Floats
    members: NDArray[np.bool_]
    grown: int

    @property
    def grid(self) -> tuple[int, int]:
        """Areas along x and y."""
        return len(self.across), len(self.along)

    @property
    def held(self) -> NDArray[np.bool_]:
        """`(tracks,)` which tracks lie in any area."""
        return np.asarray(self.members.max(axis=0), bool)

    @property
    def centres(self) -> Floats:
        """`(areas, 2)`."""
        return np.array([(x, y) for y in self.along for x in self.across])

    def shares(self, x: Floats, y: Floats) -> Floats:
        """Return the bilinear weight of each area at points `(x, y)`, `(points, areas)`, constant beyond the outermost centres."""
        parts = [
            np.stack([np.interp(at, nodes, unit) for unit in np.eye(len(nodes))], axis=1)
            for at, nodes in ((x, self.across), (y, self.along))
        ]
        return np.asarray((parts[1][:, :, None] * parts[0][:, None]).reshape(len(x), -1))


def lay_out_areas(points: Floats, surface: NDArray[np.int64], params: LocalParams) -> Areas | str:
    """Return areas over the field of points `(tracks, 3)`, or the reason why there can be none.

    Parameters
    ----------
    surface
        `(tracks,)`: 0 or 1; all 0 for one surface.
    """
    total, each = params.minimum_tracks
    surfaces = np.unique(surface)
    if len(points) <= total:
        return f"an area must hold {total} tracks, and there are {len(points)}"
    if len(surfaces) > 1 and min(np.bincount(surface)) < each:
        return f"an area must hold {each} tracks of each surface, and one of them has {min(np.bincount(surface))}"
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    across, along = (_centres(a, b, side, params.overlap) for a, b, side in zip(low, high, params.target_size_px, strict=True))
    if len(across) * len(along) == 1:
        return (
            f"one area of {params.target_size_px[0]:.0f} x {params.target_size_px[1]:.0f} px holds all tracks: set smaller ones "
            "(TargetPatchSizeXandY)"
        )
    members, grown = [], 0
    for y in along:
        for x in across:
            size = np.array(params.target_size_px) / 2
            inside = _inside(points, (x, y), size)
            enough = _enough(inside, surface, surfaces, total, each)
            grown += not enough
            while not enough:
                size *= _GROWTH
                inside = _inside(points, (x, y), size)
                enough = _enough(inside, surface, surfaces, total, each)
            members.append(inside)
    if np.all(members):
        return f"an area that holds {total} tracks holds them all"
    return Areas(across, along, np.array(members), grown)


def _centres(low: float, high: float, side: float, overlap: float) -> Floats:
    """Return the centres of the fewest areas that cover a range and overlap by at least `overlap`."""
    length = high - low
    if length <= side:
        return np.array([(low + high) / 2])
    count = int(np.ceil((length - side) / (side * (1 - overlap)))) + 1
    return np.linspace(low + side / 2, high - side / 2, count)


def _inside(points: Floats, centre: tuple[float, float], half: Floats) -> NDArray[np.bool_]:
    return np.asarray((np.abs(points[:, :2] - centre) <= half).all(axis=1))


def _enough(inside: NDArray[np.bool_], surface: NDArray[np.int64], surfaces: NDArray[np.int64], total: int, each: int) -> bool:
    if inside.sum() < total:
        return False
    return len(surfaces) == 1 or all((inside & (surface == one)).sum() >= each for one in surfaces)
