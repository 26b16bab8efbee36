"""Where beads are in the aligned views: those that were tracked, with their gaps filled, and those that were found in a volume.

Signs are those of :mod:`tiltflow.geometry`.  Points of the specimen are raw pixels from the centre of the volume; the **aligned
frame** is the one in which a view at tilt t shows `(x, y, z)` at `u = x cos t + z sin t`, `v = y + z p`, with the z factor p of the
view.  The levelled volume that a reconstruction shows is turned from it about x by the pitch, minus the X-axis tilt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.errors import ParameterError
from tiltflow.model import Alignment, LocalAlignment

Floats = NDArray[np.float64]

_DETERMINED = 1e-6
"""Least ratio of the eigenvalues of a point's normal matrix: the depth error is then a thousand times that across."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackedBeads:
    """Tracked beads in the aligned views.

    Attributes
    ----------
    points
        `(beads, 3)` in the aligned frame, raw pixels from the centre; NaN where the track determines none.
    xy
        `(views, beads, 2)`: x, y, pixels of the aligned stack from its corner.  Where the solution used the position it is the
        measured one; elsewhere that of the point, shifted by what the used positions of this bead are off, interpolated over the
        tilts.  NaN where there is neither.
    filled
        `(views, beads)`: where it is not a measured one.
    """

    points: Floats
    xy: Floats
    filled: NDArray[np.bool_]

    @property
    def unplaced(self) -> NDArray[np.bool_]:
        """Beads without a place in some views, `(beads,)`: those whose track determines no point."""
        return np.asarray(np.isnan(self.xy[..., 0]).any(axis=0))


def tracked_beads(
    alignment: Alignment, raw_shape: tuple[int, ...], aligned_shape: tuple[int, ...], binning: int = 1
) -> TrackedBeads:
    """Return where the tracked beads of an alignment are in every aligned view, also in those where they were not tracked.

    Parameters
    ----------
    alignment
        With its tracks, as an alignment by gold keeps them, in its file too (:mod:`tiltflow.formats.alignment_archive`).
    raw_shape, aligned_shape
        `(..., ny, nx)` of the raw and of the aligned views.
    binning
        Of the aligned stack.

    Raises
    ------
    ParameterError
        If the alignment has no tracks of beads.
    """
    tracks = alignment.tracks
    if tracks is None or tracks.kind != "bead":
        raise ParameterError(
            f"the alignment, made by {alignment.method}, has no tracked beads to erase: align by gold, or erase the beads that "
            "are found in a volume (eraseGold 2)"
        )
    weights = np.where(tracks.seen, 1.0 if alignment.track_weights is None else alignment.track_weights, 0.0)
    centre = np.array(raw_shape[:-3:-1]) / 2
    measured = geometry.apply(alignment.transforms, tracks.xy - centre)
    points = triangulated(measured, weights, alignment.tilt_deg, alignment.y_per_z)
    seen = np.swapaxes(project_points(points, alignment.tilt_deg, alignment.y_per_z), 0, 1)
    used = weights > 0
    off = _between(np.where(used[..., None], measured - seen, np.nan), alignment.tilt_deg)
    xy = np.where(used[..., None], measured, seen + off)
    return TrackedBeads(points, _from_corner(np.swapaxes(xy, 0, 1), aligned_shape, binning), ~used.T)


def triangulated(xy: Floats, weights: Floats, tilt_deg: ArrayLike, y_per_z: ArrayLike | None = None) -> Floats:
    """Return the points `(beads, 3)` of the aligned frame that fit positions in aligned views, `(beads, views, 2)`, best.

    A bead that is seen in fewer than two views, or at one tilt alone, determines no point: NaN.
    """
    matrices = _projections(np.asarray(tilt_deg, float), y_per_z)
    w = np.where(np.isnan(xy[..., 0]), 0.0, weights)
    normal = np.einsum("bv,vki,vkj->bij", w, matrices, matrices)
    right = np.einsum("bv,vki,bvk->bi", w, matrices, np.nan_to_num(xy))
    sizes = np.linalg.eigvalsh(normal)
    determined = sizes[:, 0] > _DETERMINED * np.maximum(sizes[:, -1], np.finfo(float).tiny)
    solved = np.linalg.solve(np.where(determined[:, None, None], normal, np.eye(3)), right[..., None])[..., 0]
    return np.where(determined[:, None], solved, np.nan)


def project_points(
    points: ArrayLike, tilt_deg: ArrayLike, y_per_z: ArrayLike | None = None, local: LocalAlignment | None = None
) -> Floats:
    """Return where points `(points, 3)` of the aligned frame are in the views, `(views, points, 2)`, raw pixels from the centre.

    Parameters
    ----------
    points
        Raw pixels from the centre of the volume.
    tilt_deg
        `(views,)`, degrees.
    y_per_z
        `(views,)`, as :class:`tiltflow.model.Alignment` has it.
    local
        Local areas, as the reconstruction used them: a point is seen where the areas around it, interpolated at its x and y, put it.
    """
    at, tilts = np.asarray(points, float).reshape(-1, 3), np.asarray(tilt_deg, float)
    if local is None:
        return np.asarray(np.einsum("vki,pi->vpk", _projections(tilts, y_per_z), at))
    share = _shares(local, at[:, :2])
    t = np.deg2rad(tilts[:, None] + np.einsum("pa,av->vp", share, local.delta_tilt_deg))
    skew = np.zeros(len(tilts)) if y_per_z is None else np.asarray(y_per_z, float)
    flat = np.stack([at[:, 0] * np.cos(t) + at[:, 2] * np.sin(t), at[:, 1] + skew[:, None] * at[:, 2]], axis=-1)
    return geometry.apply(geometry.invert(np.einsum("pa,avij->vpij", share, local.transforms)), flat)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFrame:
    """Where the voxels of a volume lie in the specimen; lengths are raw pixels, as :mod:`tiltflow.reconstruct` has them.

    Attributes
    ----------
    shape
        `(nz, ny, nx)`.
    binning
        Raw pixels to a voxel.
    x_axis_tilt_deg
        That the volume was levelled with, of the alignment and of the request together (XAXISTILT).
    shift_x, shift_z
        Shift of the specimen within the volume (SHIFT), of the alignment and of the request together.
    top_first
        Whether the first section is the top, as reconstruction makes it; a volume that was turned (`trimvol -rx`) begins at the
        bottom.
    """

    shape: tuple[int, int, int]
    binning: float = 1.0
    x_axis_tilt_deg: float = 0.0
    shift_x: float = 0.0
    shift_z: float = 0.0
    top_first: bool = True

    def points(self, voxels: ArrayLike) -> Floats:
        """Return points of the aligned frame from voxels, `(points, 3)`: x, y, z (the number of the section) from the corner."""
        x, y, z = ((np.asarray(voxels, float).reshape(-1, 3) - np.array(self.shape[::-1]) / 2) * self._scale).T
        x, z = x - self.shift_x, z + self.shift_z
        return np.column_stack([x, *self._turned(y, z, 1)])

    def voxels(self, points: ArrayLike) -> Floats:
        """Return voxels from points of the aligned frame: the inverse of :meth:`points`."""
        x, y, z = np.asarray(points, float).reshape(-1, 3).T
        y, z = self._turned(y, z, -1)
        shifted = np.column_stack([x + self.shift_x, y, z - self.shift_z])
        return np.asarray(shifted / self._scale + np.array(self.shape[::-1]) / 2)

    @property
    def _scale(self) -> Floats:
        return self.binning * np.array([1.0, 1.0, -1.0 if self.top_first else 1.0])

    def _turned(self, y: Floats, z: Floats, sense: int) -> tuple[Floats, Floats]:
        pitch = np.deg2rad(-self.x_axis_tilt_deg * sense)
        return y * np.cos(pitch) - z * np.sin(pitch), y * np.sin(pitch) + z * np.cos(pitch)


def found_beads(
    voxels: ArrayLike,
    frame: VolumeFrame,
    alignment: Alignment,
    aligned_shape: tuple[int, ...],
    binning: int = 1,
    *,
    offset_deg: float = 0.0,
    axis_offset: float = 0.0,
) -> Floats:
    """Return where beads of a volume are in the aligned views, `(views, beads, 2)`, pixels of the stack from its corner.

    Parameters
    ----------
    voxels
        `(beads, 3)`: x, y, z from the corner of the volume (:func:`tiltflow.erase.volume_beads.find_beads`).
    frame
        Where the volume lies.
    alignment
        That the volume was made with: its tilts, z factors and local areas.
    aligned_shape
        `(..., ny, nx)` of the stack that is erased.
    binning
        Of that stack; the volume may have another.
    offset_deg, axis_offset
        Added to every tilt, and distance of the tilt axis from the centre of the views, raw pixels (OFFSET), where the volume was
        made with them.
    """
    seen = project_points(frame.points(voxels), alignment.tilt_deg + offset_deg, alignment.y_per_z, alignment.local)
    return _from_corner(seen + np.array([axis_offset, 0.0]), aligned_shape, binning)


def _projections(tilt_deg: Floats, y_per_z: ArrayLike | None) -> Floats:
    """Return `(views, 2, 3)`: the aligned frame to the views."""
    matrices = geometry.projections(tilt_deg)
    if y_per_z is not None:
        matrices[:, 1, 2] = np.asarray(y_per_z, float)
    return matrices


def _from_corner(xy: Floats, aligned_shape: tuple[int, ...], binning: int) -> Floats:
    return np.asarray(xy / binning + np.array(aligned_shape[:-3:-1]) / 2)


def _between(values: Floats, tilt_deg: Floats) -> Floats:
    """Return values `(beads, views, 2)` with those that are NaN interpolated over the tilts; those of a bead without any are 0."""
    out, order = np.zeros(values.shape), np.argsort(tilt_deg, kind="stable")
    for bead, each in enumerate(values):
        known = order[~np.isnan(each[order, 0])]
        if known.size:
            for axis in range(2):
                out[bead, :, axis] = np.interp(tilt_deg, tilt_deg[known], each[known, axis])
    return out


def _shares(local: LocalAlignment, at: Floats) -> Floats:
    """Return how much each area counts at points, `(points, areas)`: bilinear between their centres, constant beyond."""
    columns, rows = local.grid
    centres = local.centre_px.reshape(rows, columns, 2)
    along_x, along_y = _line_shares(centres[0, :, 0], at[:, 0]), _line_shares(centres[:, 0, 1], at[:, 1])
    return np.asarray((along_y[:, :, None] * along_x[:, None]).reshape(len(at), -1))


def _line_shares(centres: Floats, at: Floats) -> Floats:
    return np.stack([np.interp(at, centres, unit) for unit in np.eye(len(centres))], axis=-1)
