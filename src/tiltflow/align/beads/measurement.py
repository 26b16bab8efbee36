"""Measurement of every bead in every view, at its position predicted by the geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.beads.bead_model import REACH, RING, BeadModel, profile_of_rings
from tiltflow.align.beads.bead_views import BeadViews
from tiltflow.align.beads.cameras import Cameras
from tiltflow.align.beads.centring import MARGIN, Centres, RadialFilter, RadialFilterFactory, around, centre_beads
from tiltflow.align.beads.detection import LEAST_Z, Spots, strong
from tiltflow.align.beads.linking import Links, local_drift
from tiltflow.align.beads.noise_spectrum import Pixels
from tiltflow.align.beads.params import BeadParams
from tiltflow.align.beads.spot_field import SpotField
from tiltflow.kernels import beads as kernel
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_LIMIT, _LEAST_LIMIT_PX = 0.2, 1.5
"""Largest distance of a centre from its start, diameters, and at least, working pixels."""
_OWN = 0.7
"""A spot nearer to an expected bead than this, diameters, is that bead."""
_TEMPLATE_VIEWS = 7
"""Views that the mean profile of a view is taken over: enough beads against the noise, and the same defocus."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackSet:
    """Tracks in the making.

    Attributes
    ----------
    xy, amplitude, contrast, sigma
        `(tracks, views, 2)` raw pixels from the corner, and `(tracks, views)`; NaN where not measured.
    expected
        Where a bead should be seen, in the field and not overlapped by another, `(tracks, views)`.
    linked
        Positions found by linking, before the geometry predicted them, `(tracks, views)`.
    points, cameras, residual
        The model: `(tracks, 3)`, the geometry, and the distance to it, `(tracks, views)`.
    template
        A profile for each view, once beads are centred.
    rejected, dropped
        Reason to number of tracks, and of positions.
    """

    xy: Floats
    amplitude: Floats
    contrast: Floats
    sigma: Floats
    expected: Bools
    linked: Bools
    points: Floats
    cameras: Cameras
    residual: Floats
    template: tuple[Floats, ...] | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)

    def keep(self, good: Bools, reason: str) -> TrackSet:
        """Return the tracks that are good; the others are counted under the reason."""
        rejected = dict(self.rejected)
        if not good.all():
            rejected[reason] = rejected.get(reason, 0) + int((~good).sum())
        return replace(
            self,
            xy=self.xy[good],
            amplitude=self.amplitude[good],
            contrast=self.contrast[good],
            sigma=self.sigma[good],
            expected=self.expected[good],
            linked=self.linked[good],
            points=self.points[good],
            residual=self.residual[good],
            rejected=rejected,
        )

    def drop(self, bad: Bools, reason: str) -> TrackSet:
        """Return the tracks without the bad positions `(tracks, views)`, which are counted under the reason."""
        return replace(
            self,
            xy=np.where(bad[..., None], np.nan, self.xy),
            amplitude=np.where(bad, np.nan, self.amplitude),
            contrast=np.where(bad, np.nan, self.contrast),
            sigma=np.where(bad, np.nan, self.sigma),
            dropped={**self.dropped, reason: self.dropped.get(reason, 0) + int(bad.sum())},
        )


def begin(spots: SpotField, links: Links) -> TrackSet:
    """Return tracks as they were linked, not yet measured."""
    linked = links.spot >= 0
    empty = np.full(linked.shape, np.nan)
    xy = spots.positions(links.spot) + spots.centre
    return TrackSet(xy, empty, empty, empty, linked, linked, links.points, links.cameras, empty)


def measure(
    series: BeadViews,
    model: BeadModel,
    noises: Sequence[Floats],
    spots: Sequence[Spots],
    track_set: TrackSet,
    params: BeadParams,
    threads: int,
) -> TrackSet:
    """Return the tracks with every position measured anew."""
    rigid = track_set.cameras.project(track_set.points)
    drift = local_drift(track_set.xy - series.centre, rigid, track_set.points, series.tilt_deg, params.local_area_px)
    predicted = rigid + drift + series.centre
    start = np.where(np.isnan(track_set.xy), predicted, track_set.xy) / series.binning
    border = params.border_px if params.border_px is not None else MARGIN * model.diameter * series.binning
    inside = ((predicted > border) & (predicted < np.array(series.shape[::-1]) - border)).all(axis=-1) & series.included
    make_filter = RadialFilterFactory.of(series.grid, model.diameter)

    def measure_view(view: int) -> tuple[Centres, Floats]:
        filter_ = make_filter(track_set.template[view] if track_set.template else model.profile, noises[view])
        return _measure_view(series.read(view), start[:, view], strong(spots[view]), filter_, model)

    shape = track_set.xy.shape[:2]
    xy = np.full((*shape, 2), np.nan)
    amplitude, contrast, sigma = np.full((3, *shape), np.nan)
    overlapped = np.zeros(shape, bool)
    rings = np.zeros((shape[1], 3, _rings(model)))
    for view, (found, sums) in zip(series.ordered, map_threads(measure_view, series.ordered, threads), strict=True):
        seen = inside[:, view] & (found.z >= LEAST_Z) & ~found.overlapped
        xy[seen, view] = found.xy[seen] * series.binning
        amplitude[seen, view], contrast[seen, view] = found.amplitude[seen], found.contrast[seen]
        sigma[seen, view] = found.sigma[seen] * series.binning
        overlapped[:, view], rings[view] = found.overlapped, sums
    expected = inside & ~overlapped
    dropped = {
        "two beads overlap": int((inside & overlapped).sum()),
        "no bead where it should be seen": int((expected & np.isnan(sigma)).sum()),
    }
    template = _templates(rings, series, model)
    return replace(
        track_set,
        xy=xy,
        amplitude=amplitude,
        contrast=contrast,
        sigma=sigma,
        expected=expected,
        template=template,
        dropped=dropped,
    )


def _measure_view(image: Pixels, start: Floats, spots: Floats, filter_: RadialFilter, model: BeadModel) -> tuple[Centres, Floats]:
    """Return the centres, and sums, squares and counts over rings about the isolated beads, `(3, rings)`."""
    own = scipy.spatial.cKDTree(start).query(spots)[0] < _OWN * model.diameter
    limit = max(_LIMIT * model.diameter, _LEAST_LIMIT_PX)
    centres = centre_beads(image, start, spots[~own], filter_, model.sign, limit)
    sums = np.zeros((3, _rings(model)))
    lone = centres.xy[centres.lone & (centres.z > LEAST_Z)]
    reach = REACH * model.diameter
    kernel.add_to_rings(around(image, lone, reach), lone, float(model.sign), reach, RING, sums)
    return centres, sums


def _rings(model: BeadModel) -> int:
    return int(np.ceil(REACH * model.diameter / RING)) + 1


def _templates(rings: Floats, series: BeadViews, model: BeadModel) -> tuple[Floats, ...]:
    """Return the mean profile of each view and its neighbours in tilt."""
    out = [model.profile] * len(rings)
    count = len(series.ordered)
    for n, view in enumerate(series.ordered):
        first = min(max(n - _TEMPLATE_VIEWS // 2, 0), max(count - _TEMPLATE_VIEWS, 0))
        group = series.ordered[first : first + _TEMPLATE_VIEWS]
        out[view] = profile_of_rings(rings[group].sum(axis=0), model.diameter)
    return tuple(out)
