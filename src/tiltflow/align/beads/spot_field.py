"""The spots of all views of a series, and the limits of searches among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LOOSE, _LEAST_LOOSE_PX = 0.4, 2.0
"""Tolerance while the geometry is rough, diameters, and at least, raw pixels: below half a diameter beads do not swap."""
_TIGHT, _LEAST_TIGHT_PX = 0.15, 1.0
"""Tolerance once it is good: several standard deviations of a spot's position."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchLimits:
    """How far beads may be from their expected positions, raw pixels.

    Attributes
    ----------
    depth
        Greatest distance between beads along the beam.
    search
        Largest error of the start transforms.
    area
        Size of the areas that may move by themselves; None for one rigid body.
    """

    depth: float
    search: float
    area: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SpotField:
    """The spots of a series and where they were seen.

    Attributes
    ----------
    xy
        All spots, `(spots, 2)`, raw pixels from the centre of their view.
    first
        `(views + 1,)`: the spots of view v are `first[v]:first[v + 1]`.
    tilt_deg, included
        `(views,)`.
    shape
        `(ny, nx)` of a view.
    diameter
        Of a bead, raw pixels.
    trees
        The spots of each view, to be searched by distance.
    """

    xy: Floats
    first: Ints
    tilt_deg: Floats
    included: NDArray[np.bool_]
    shape: tuple[int, int]
    diameter: float
    trees: tuple[scipy.spatial.cKDTree, ...]

    @property
    def half(self) -> Floats:
        """Largest distance from the centre at which a whole bead is in the field, x and y."""
        return np.array(self.shape[::-1]) / 2 - self.diameter / 2

    @property
    def centre(self) -> Floats:
        """What to add to a position to count it from the corner, x and y."""
        return np.array(self.shape[::-1]) / 2

    @property
    def outward(self) -> Ints:
        """The views that take part, the least tilted first."""
        usable = np.flatnonzero(self.included)
        return usable[np.argsort(np.abs(self.tilt_deg[usable]), kind="stable")].astype(np.int64)

    @property
    def loose(self) -> float:
        """Largest distance of a spot from its prediction while the geometry is rough."""
        return max(_LOOSE * self.diameter, _LEAST_LOOSE_PX)

    @property
    def tight(self) -> float:
        """The same once the geometry is good."""
        return max(_TIGHT * self.diameter, _LEAST_TIGHT_PX)

    def of(self, view: int) -> slice:
        """Return where the spots of a view are."""
        return slice(int(self.first[view]), int(self.first[view + 1]))

    def pairs(self, points: Floats, view: int, reach: float) -> tuple[Ints, Ints, Floats]:
        """Return the pairs of a point `(n, 2)` and a spot of a view that are within `reach`, in the order of points and spots.

        They are indices of points, indices among the spots of the view, and distances, each `(pairs,)`.
        """
        found = scipy.spatial.cKDTree(points).sparse_distance_matrix(self.trees[view], reach, output_type="ndarray")
        found = found[np.lexsort((found["j"], found["i"]))]
        return found["i"], found["j"], found["v"]

    def positions(self, spot: Ints) -> Floats:
        """Return the positions `(tracks, views, 2)` of tracks of spots `(tracks, views)`; NaN where these are -1, for none."""
        return np.where((spot >= 0)[..., None], self.xy[spot], np.nan)

    def inside(self, seen: Floats) -> NDArray[np.bool_]:
        """Return which positions `(..., views, 2)` are in the field of a view that takes part."""
        return np.asarray((np.abs(seen) < self.half).all(axis=-1) & self.included)


def make_spot_field(
    xy: Sequence[Floats], tilt_deg: Floats, included: NDArray[np.bool_], shape: tuple[int, int], diameter: float
) -> SpotField:
    """Return the field of spots `(n, 2)` of each view, raw pixels from its corner."""
    first = np.concatenate([[0], np.cumsum([len(p) for p in xy])]).astype(np.int64)
    centred = np.ascontiguousarray(np.concatenate([np.reshape(p, (-1, 2)) for p in xy]) - np.array(shape[::-1]) / 2)
    trees = tuple(scipy.spatial.cKDTree(spots) for spots in np.split(centred, first[1:-1]))
    return SpotField(centred, first, tilt_deg, included, shape, diameter, trees)
