"""The problem to solve: the tracks seen often enough, in the views that have points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.align.bundle.joint_weights import JointWeights
from tiltflow.align.bundle.observations import Observations
from tiltflow.align.bundle.robust_weights import PointGroups
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.errors import ParameterError, StageError
from tiltflow.model import Tracks

Floats = NDArray[np.float64]

_MINIMUM_VIEWS = 3
"""Views that a track must be seen in: two determine its point and check nothing."""


@dataclass(frozen=True, eq=False)
class BundleProblem:
    """Observations of the usable tracks in the usable views, and where both lie among all.

    Attributes
    ----------
    observations
        `(used tracks, used views, ...)`.
    tilt_deg
        `(all views,)` nominal, with the angle offset.
    axis_angle_deg
        Nominal.
    image_shape
        `(ny, nx)`.
    start
        Coarse alignment of all views, or None.
    tracks, view, track
        How many tracks there are; indices of the used views and tracks.
    notes
        What was left out, and why.
    crowding
        Number of tracks over the number of independent ones, as patches overlap.
    drifting
        Whether points drift by more than the specimen moves, as patches of texture do.
    pieces, piece_weights
        How the views of a montage were stitched, and how much of each piece acts on each position, `(used tracks, used views, pieces)`;
        None for views taken in one piece.
    """

    observations: Observations
    tilt_deg: Floats
    axis_angle_deg: float
    image_shape: tuple[int, int]
    start: Floats | None
    tracks: int
    track: NDArray[np.int64]
    view: NDArray[np.int64]
    notes: tuple[str, ...]
    crowding: float = 1.0
    drifting: bool = False
    pieces: StitchedPieces | None = None
    piece_weights: Floats | None = None

    @property
    def used_tilt_deg(self) -> Floats:
        """Nominal tilts of the used views."""
        return np.asarray(self.tilt_deg[self.view])

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """The order of the used views in tilt."""
        rank = np.empty(len(self.view), np.int64)
        rank[np.argsort(self.used_tilt_deg, kind="stable")] = np.arange(len(self.view))
        return rank

    @cached_property
    def point_groups(self) -> PointGroups:
        """The groups within which residuals are judged."""
        xy = self.observations.xy
        return PointGroups.of(np.where(self.observations.seen, np.hypot(xy[..., 0], xy[..., 1]), np.nan), self.rank)


def build_problem(
    tracks: Tracks,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    image_shape: tuple[int, int],
    included: ArrayLike | None,
    start: ArrayLike | None,
    pieces: StitchedPieces | None = None,
) -> BundleProblem:
    """Return the problem, or raise StageError when fewer than two tracks can be used."""
    total, views = tracks.xy.shape[:2]
    nominal = np.asarray(tilt_deg, float)
    if nominal.shape != (views,):
        raise ParameterError(f"The tracks have {views} views, the tilt angles {nominal.size}: one angle a view is needed")
    use = np.ones(views, bool) if included is None else np.asarray(included, bool)
    if pieces is not None and pieces.grid.views != views:
        raise ParameterError(f"The tracks have {views} views, the pieces {pieces.grid.views}: a piece belongs to one of the views")
    seen = tracks.seen & use
    information = np.where(seen[..., None], _information(tracks), 0.0)
    seen &= information[..., 0] + information[..., 2] > 0
    good = seen.sum(axis=1) >= _MINIMUM_VIEWS
    if good.sum() < 2:
        raise StageError(
            f"Of {total} tracks {good.sum()} are seen in {_MINIMUM_VIEWS} views or more; an alignment needs at least two. "
            "Track more features, or align without them"
        )
    seen &= good[:, None]
    track, view = np.nonzero(good)[0], np.nonzero(seen.any(axis=0))[0]
    pick = np.ix_(track, view)
    xy = np.where(seen[pick][..., None], tracks.xy[pick] - np.array(image_shape[::-1]) / 2, 0.0)
    kept = np.where(seen[pick][..., None], information[pick], 0.0)
    scale = 2 / float(np.median((kept[..., 0] + kept[..., 2])[seen[pick]]))
    joint = _joint(tracks, seen, track, view)
    notes = []
    if len(track) < total:
        notes.append(f"{total - len(track)} of {total} tracks are seen in fewer than {_MINIMUM_VIEWS} views and were not used")
    missing = np.setdiff1d(np.nonzero(use)[0], view)
    if missing.size:
        notes.append(f"views {', '.join(str(v + 1) for v in missing)} have no point: their geometry is interpolated")
    return BundleProblem(
        observations=Observations(xy, kept * scale, None if joint is None else joint.scaled(scale)),
        tilt_deg=nominal,
        axis_angle_deg=axis_angle_deg,
        image_shape=image_shape,
        start=None if start is None else np.asarray(start, float),
        tracks=total,
        track=track,
        view=view,
        notes=tuple(notes),
        crowding=tracks.crowding,
        drifting=tracks.kind == "patch",
        pieces=pieces,
        piece_weights=None if pieces is None else _piece_weights(pieces, tracks, track, view),
    )


def _piece_weights(pieces: StitchedPieces, tracks: Tracks, track: NDArray[np.int64], view: NDArray[np.int64]) -> Floats:
    size = None if tracks.size_px is None else tracks.size_px[track, None]
    return pieces.weights(tracks.xy[np.ix_(track, view)], size, view=view)


def _information(tracks: Tracks) -> Floats:
    """Return the a-priori weights as xx, xy, yy, `(tracks, views, 3)`."""
    shape = tracks.xy.shape[:2]
    out = np.zeros((*shape, 3))
    weight = np.ones(shape) if tracks.weight is None else np.asarray(tracks.weight, float)
    if weight.shape == (*shape, 2, *shape[1:], 2):
        weight = np.einsum("jvavb->jvab", weight)
    if weight.shape == (*shape, 2, 2):
        out[..., 0], out[..., 1], out[..., 2] = weight[..., 0, 0], weight[..., 0, 1], weight[..., 1, 1]
    elif weight.shape in {shape, shape[:1]}:
        out[..., 0] = out[..., 2] = weight if weight.ndim == 2 else weight[:, None]
    else:
        raise ParameterError(
            f"Weights of tracks {shape} have shape {weight.shape}: give (track,), (track, view), (track, view, 2, 2) or "
            "(track, view, 2, view, 2)"
        )
    return np.nan_to_num(out)


def _joint(tracks: Tracks, seen: NDArray[np.bool_], track: NDArray[np.int64], view: NDArray[np.int64]) -> JointWeights | None:
    """Return the joint weights of the used tracks and views, excluded views eliminated; None without any."""
    shape = tracks.xy.shape[:2]
    if tracks.weight is None or tracks.weight.shape != (*shape, 2, *shape[1:], 2):
        return None
    size = 2 * len(view)
    out = np.zeros((len(track), size, size))
    for i, j in enumerate(track):
        weight = np.asarray(tracks.weight[j], float).reshape(2 * shape[1], -1)
        inside, outside = _rows(np.nonzero(seen[j])[0]), _rows(np.nonzero(~seen[j])[0])
        kept = weight[np.ix_(inside, inside)]
        if outside.size:
            between = weight[np.ix_(inside, outside)]
            kept = kept - between @ np.linalg.pinv(weight[np.ix_(outside, outside)], hermitian=True) @ between.T
        place = _rows(np.searchsorted(view, np.nonzero(seen[j])[0]))
        out[i][np.ix_(place, place)] = kept
    return JointWeights.of(out)


def _rows(views: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of the x and y of views when both run along one axis."""
    return np.asarray((2 * views[:, None] + np.arange(2)).ravel(), np.int64)
