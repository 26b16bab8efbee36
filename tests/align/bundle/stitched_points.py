"""Tracks of points in stitched views whose pieces were placed with known errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.align.conftest import PointCase, make_point_case

from tiltflow.align.bundle import Solution, SolveParams, solve
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.model import Tracks
from tiltflow.piece_grid import PieceGrid
from tiltflow.simulate.scoring import score

Floats = NDArray[np.float64]

SIZE, OVERLAP = 512, 32


@dataclass(frozen=True)
class StitchedCase:
    """A series of points, how its views were stitched, and the errors of that, `(views, pieces, 2)`."""

    points: PointCase
    pieces: StitchedPieces
    error_px: Floats
    tracks: Tracks

    def solve(self, params: SolveParams | None = None, *, told: bool = True, **more: Any) -> Solution:
        """Return the solution, with or without having been told of the pieces."""
        pieces, tilts = self.pieces if told else None, self.points.truth.nominal_deg
        return solve(self.tracks, tilts, -8.0, params or SolveParams(), image_shape=(SIZE, SIZE), pieces=pieces, **more)

    def left_px(self, solution: Solution) -> Floats:
        """Return the errors of placement that are left, `(views, pieces, 2)`."""
        return self.error_px if solution.pieces is None else self.error_px - solution.pieces.shift_px

    def placement(self, solution: Solution) -> float:
        """Return their root mean square a coordinate, px."""
        return float(np.sqrt(np.mean(self.left_px(solution)[self.pieces.grid.taken] ** 2)))

    def error(self, solution: Solution) -> float:
        """Return the true error of an alignment over the field, with that of the pieces, px."""
        exact = _projected(self.points, np.random.default_rng(9).uniform(-0.46, 0.46, (300, 3)) * [SIZE, SIZE, 80 / 0.92])
        probes = np.swapaxes(exact + displaced(self.pieces, exact, self.left_px(solution)), 0, 1)
        return score(replace(self.points.truth, probes_xy=probes), solution.transforms, solution.aligned_tilt_deg).rms_px


def stitched_case(
    *,
    seed: int = 1,
    sd: float = 0.1,
    said: float | None = None,
    columns: int = 2,
    rows: int = 2,
    missing_pieces: tuple[tuple[int, int], ...] = (),
    jumps: Mapping[tuple[int, int], tuple[float, float]] | None = None,
    views: int = 21,
    **points: Any,
) -> StitchedCase:
    """Return points in views whose pieces lie off by `sd` px a coordinate, where `said` is the standard error that is told.

    `jumps` (view, piece) lie off by more, (x, y) px against the others; `missing_pieces` (view, piece) were never taken.
    """
    case = make_point_case(seed=seed, views=views, size=SIZE, **points)
    grid, rng = _grid(views, columns, rows, missing_pieces), np.random.default_rng(seed + 100)
    count = columns * rows
    error = rng.normal(0, sd * np.sqrt(count / max(count - 1, 1)), (views, count, 2))
    for place, jump in (jumps or {}).items():
        error[place] += jump
    taken = grid.taken[..., None]
    error = np.where(taken, error - error.sum(axis=1, where=taken, keepdims=True) / taken.sum(axis=1, keepdims=True), 0.0)
    offset = rng.normal(0, 3, (views, count, 2))
    pieces = StitchedPieces(
        grid, offset - offset.mean(axis=1, keepdims=True), np.full((views, count), sd if said is None else said)
    )
    xy = case.tracks.xy + displaced(pieces, case.tracks.xy, error)
    return StitchedCase(case, pieces, error, Tracks(xy, "bead"))


def displaced(pieces: StitchedPieces, xy: Floats, error: Floats) -> Floats:
    """Return by how much positions `(points, views, 2)` are displaced."""
    return np.asarray(np.einsum("jvk,vka->jva", pieces.weights(xy), error))


def _grid(views: int, columns: int, rows: int, missing: tuple[tuple[int, int], ...]) -> PieceGrid:
    width, height = (SIZE + (columns - 1) * OVERLAP) // columns, (SIZE + (rows - 1) * OVERLAP) // rows
    places = [
        (column * (width - OVERLAP), row * (height - OVERLAP), view)
        for view in range(views)
        for row in range(rows)
        for column in range(columns)
        if (view, row * columns + column) not in missing
    ]
    return PieceGrid.of_sections(places, (height, width))


def _projected(case: PointCase, points: Floats) -> Floats:
    """Return where points `(n, 3)` are seen, `(n, views, 2)`, by the formula of the package, written anew."""
    truth, (x, y, z) = case.truth, points.T[:, :, None]
    tilt, axis = np.deg2rad(truth.true_deg), np.deg2rad(truth.axis_deg)
    u, v = np.cos(tilt) * x + np.sin(tilt) * z, y
    turned = np.stack([np.cos(axis) * u - np.sin(axis) * v, np.sin(axis) * u + np.cos(axis) * v], axis=-1)
    return np.asarray(SIZE / 2 + truth.magnification[:, None] * turned + truth.shift_px)
