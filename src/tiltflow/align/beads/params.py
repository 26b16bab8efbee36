"""Parameters and result of bead tracking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.bundle import LocalParams
from tiltflow.model import Tracks

MOVING = "moving by themselves"
"""Why tracks are rejected that do not follow the rest of the specimen."""

LEAST_IN_VIEW = 3
"""Beads that determine a view: six coordinates for its shift, rotation, magnification and tilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeadParams:
    """How beads are found and tracked.

    Attributes
    ----------
    diameter_px
        Diameter of the beads, raw pixels.  Taken as a guess when `adjust_size` is set.
    light
        Beads are lighter than their surroundings (beadtrack's LightBeads); None to determine it from the images.
    adjust_size
        Estimate the true diameter (autofidseed's AdjustSizes) within 40 % of the given one; IMOD's default is not to.
    two_surfaces
        Look for beads on both surfaces of the section and keep the choice balanced (autofidseed's TwoSurfaces).
    target_number
        Beads wanted (autofidseed's TargetNumberOfBeads; its default is 25).  Good beads beyond it are kept as well, up to `most`, as
        every one lowers the error of the alignment; from more the best spread ones are chosen.
    most
        Most beads to return; None for four times the target and at least 100.
    fewest
        Fewest beads that can carry an alignment (`LEAST_IN_VIEW`); with fewer :func:`track_beads` raises.
    thickness_px
        Greatest distance along the beam between beads, raw pixels; None for half of the field's smaller side.
    search_px
        How far off the start transforms may be, raw pixels; None for one bead diameter or 2 % of the field.
    local_area_px
        Size of the areas in which beads may move together differently from the rest, as a specimen that warps does (beadtrack's
        LocalAreaTargetSize, 1000); None for one rigid body (LocalAreaTracking 0).
    areas
        Local areas that residuals are measured with, where the alignment is to have them (tiltalign's LocalAlignments); None for one
        rigid body.
    rounds
        Times that all positions are measured and the model is solved (beadtrack's RoundsOfTracking, 2); fewer when nothing changes.
    border_px
        Beads nearer to the edge of the view are not measured; None for half of the box that is needed.
    """

    diameter_px: float
    light: bool | None = None
    adjust_size: bool = True
    two_surfaces: bool = False
    target_number: int = 25
    most: int | None = None
    fewest: int = 3
    thickness_px: float | None = None
    search_px: float | None = None
    local_area_px: float | None = 1000.0
    areas: LocalParams | None = None
    rounds: int = 2
    border_px: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BeadResult:
    """Positions of the beads and their uncertainty.

    Attributes
    ----------
    tracks
        Centres in raw pixels, `(track, view, 2)`, the centre of pixel `[j, i]` at `(i + 0.5, j + 0.5)`; NaN where unseen.  Its
        weights, `(track, view)`, are proportional to the inverse variance of a position, 1 for the typical one.
    diameter_px
        Diameter found.
    light
        Whether the beads are lighter than their surroundings.
    sigma_px
        Standard deviation of a position per axis, from the noise around the bead, `(track, view)`; NaN where unseen.
    amplitude
        Height of the bead above its surroundings, grey levels averaged over it, `(track, view)`; NaN where unseen.
    expected
        Where a bead is in the field and not overlapped by another, `(track, view)`.
    residual_px
        Distance to the rigid body fitted to all tracks, `(track, view)`; NaN where unseen.
    positions
        Specimen coordinates of the beads in that fit, `(track, 3)`, pixels from the centre.
    surface
        1 for the upper and -1 for the lower surface, 0 where there is one surface, `(track,)`.
    views_used
        Views that beads were looked for in, `(views,)`.
    candidates
        Bead-like spots in each view, `(views,)`.
    seeds
        Spots that moved like one point of a rigid specimen.
    found_again
        Positions that linking had not found, measured where the geometry predicted them.
    rejected
        Reason to number of whole tracks rejected.
    dropped
        Reason to number of single positions that were not measured or were rejected.
    notes
        Remarks for the user.
    """

    tracks: Tracks
    diameter_px: float
    light: bool
    sigma_px: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    expected: NDArray[np.bool_]
    residual_px: NDArray[np.float64]
    positions: NDArray[np.float64]
    surface: NDArray[np.int8]
    views_used: NDArray[np.bool_]
    candidates: NDArray[np.int64]
    seeds: int
    found_again: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Views with enough beads to determine them, `(views,)`; the others should be excluded from an alignment."""
        seen = self.tracks.seen.sum(axis=0)
        return np.asarray(self.views_used & (seen >= min(LEAST_IN_VIEW, len(self.tracks.xy))))

    @property
    def completeness(self) -> float:
        """Share of the expected positions that were measured."""
        expected = int(self.expected.sum())
        return float((self.tracks.seen & self.expected).sum() / expected) if expected else 0.0
