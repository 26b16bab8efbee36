"""The views of a series in the pixels that bead tracking works in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.align.beads.noise_spectrum import Grid, Pixels, make_grid, read_view
from tiltflow.align.beads.params import BeadParams
from tiltflow.align.beads.spot_field import SearchLimits
from tiltflow.errors import ParameterError, StageError
from tiltflow.model import Stack

Floats = NDArray[np.float64]

_WORKING_DIAMETER = 10.0
"""Views are binned until a bead is this wide, working pixels: the centre loses no precision."""
_LEAST_DIAMETER = 3.0
"""Least diameter, raw pixels; smaller beads cannot be distinguished from noise."""
_MOST_OF_VIEW = 8
"""A bead is at most this part of a view's smaller side."""
_LEAST_VIEWS = 3
"""Two views determine the position of a bead and check nothing."""
_DEPTH = 0.5
"""Greatest distance between beads along the beam, as a fraction of the field's smaller side (:class:`BeadParams`, `thickness_px`)."""
_SEARCH = 0.02
"""Error of the start transforms allowed for, as a fraction of the field's larger side (:class:`BeadParams`, `search_px`)."""


@dataclass(frozen=True, slots=True, eq=False)
class BeadViews:
    """The views and their geometry.

    Attributes
    ----------
    stack, tilt_deg, included, start
        What :func:`~tiltflow.align.beads.track_beads` was given.
    shape
        `(ny, nx)` of a raw view.
    binning
        Raw pixels along a working pixel; a bead is about ten of these wide.
    diameter
        Of a bead as given, working pixels.
    grid
        The frequencies of a view in working pixels.
    """

    stack: Stack
    tilt_deg: Floats
    included: NDArray[np.bool_]
    start: Floats
    shape: tuple[int, int]
    binning: int
    diameter: float
    grid: Grid

    @property
    def centre(self) -> Floats:
        """Of a raw view, x and y."""
        return np.array(self.shape[::-1]) / 2

    @property
    def ordered(self) -> NDArray[np.int64]:
        """The views that take part in order of tilt."""
        usable = np.flatnonzero(self.included)
        return usable[np.argsort(self.tilt_deg[usable], kind="stable")].astype(np.int64)

    def read(self, view: int) -> Pixels:
        """Return a view in working pixels."""
        return read_view(self.stack, view, self.binning)


def make_bead_views(stack: Stack, start: ArrayLike, tilt_deg: ArrayLike, included: ArrayLike, params: BeadParams) -> BeadViews:
    """Return the series after checking that beads can be tracked in it; see :func:`~tiltflow.align.beads.track_beads`."""
    views, ny, nx = stack.shape
    transforms, tilts, use = np.asarray(start, float), np.asarray(tilt_deg, float), np.asarray(included, bool)
    if transforms.shape != (views, 2, 3) or tilts.shape != (views,) or use.shape != (views,):
        raise ParameterError(
            f"{views} views, but transforms of shape {transforms.shape}, {tilts.size} angles and {use.size} marks of views to use"
        )
    if not _LEAST_DIAMETER <= params.diameter_px <= min(ny, nx) / _MOST_OF_VIEW:
        raise StageError(
            f"Beads of {params.diameter_px:.1f} px cannot be tracked in views of {nx} x {ny}: a bead must be at least "
            f"{_LEAST_DIAMETER:g} px wide and at most an eighth of the view. Check the diameter of the beads and the pixel size"
        )
    if use.sum() < _LEAST_VIEWS:
        raise StageError(f"{use.sum()} views are included: tracking needs at least {_LEAST_VIEWS}")
    binning = max(int(params.diameter_px // _WORKING_DIAMETER), 1)
    diameter = params.diameter_px / binning
    grid = make_grid((ny // binning, nx // binning), diameter)
    return BeadViews(stack, tilts, use, transforms, (ny, nx), binning, diameter, grid)


def search_limits(series: BeadViews, params: BeadParams) -> SearchLimits:
    """Return how far beads may be from their expected positions."""
    depth = params.thickness_px or _DEPTH * min(series.shape)
    search = params.search_px or max(params.diameter_px, _SEARCH * max(series.shape))
    return SearchLimits(depth, search, params.local_area_px)
