"""The pieces of a montage become views, whichever engine goes on with them: one step, its evidence, and its files."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.engines.base import EngineJob
from tiltflow.formats.array_archive import read_archive, write_archive
from tiltflow.model import Alignment, Stack
from tiltflow.piece_grid import PieceGrid
from tiltflow.preprocess.montage import (
    EdgeEvidence,
    GrayLevels,
    MontageParams,
    PieceOffsets,
    StitchedViews,
    measure_offsets,
)
from tiltflow.record import MontageEntry

Floats = NDArray[np.float64]

OFFSETS = "_montage.npz"
"""Ending of the file that says where pieces lie."""


def stitch(job: EngineJob, pieces: Stack, grid: PieceGrid) -> StitchedViews:
    """Find where the pieces of a series lie, and return its views; the offsets are written to `B_montage.npz`.

    Parameters
    ----------
    job
        The work on the series.
    pieces
        The sections of its stack `(section, y, x)`, x-ray hits repaired.
    grid
        Which of them is which piece.
    """
    series = job.series
    with job.recorder.stage("stitching") as notes:
        found = measure_offsets(
            pieces,
            grid,
            series.tilt_deg,
            MontageParams(focus=job.recipe.hints.focus),
            axis_deg=series.axis_angle_deg if series.axis_is_told else None,
            threads=job.site.threads,
            progress=notes.progress,
        )
        entry = job.recorder.record.montage = montage_entry(grid, found)
        notes.number("stitching_error", entry.error_px, "px")
        notes.number("edges", entry.edges_measured)
        if entry.edges_doubted:
            notes.number("edges_doubted", entry.edges_doubted)
        for text in found.warnings:
            notes.warn(text)
        write_offsets(job.path(OFFSETS), found)
    return StitchedViews(pieces, grid, found)


def montage_entry(grid: PieceGrid, found: PieceOffsets) -> MontageEntry:
    """Return what the record says of a stitching."""
    edges, ny_nx = found.edges, grid.piece_shape
    places = np.where(grid.taken[..., None], found.offset_px, np.nan)
    rms = np.sqrt(np.nanmean((np.where(grid.taken[..., None], found.error_px, np.nan) ** 2).sum(axis=2)))
    return MontageEntry(
        columns=grid.columns,
        rows=grid.rows,
        piece_px=(ny_nx[1], ny_nx[0]),
        overlap_px=grid.overlap_px,
        error_px=round(float(rms), 4),
        error_per_view_px=[round(float(each), 4) for each in found.view_error_px],
        moved_px=round(float(np.sqrt(np.nanmean(((places - np.nanmean(places, axis=1, keepdims=True)) ** 2).sum(axis=2)))), 3),
        deviation_px=round(found.deviation_px, 4),
        edges_measured=int(np.isfinite(edges.error_px).sum()),
        edges_doubted=int(edges.doubted.sum()),
        pieces_missing=_named(~grid.taken),
        pieces_blank=_named(found.blank & grid.taken),
        pieces_expected=_named(found.expected_only & grid.taken),
        rotation_deg=round(float(np.abs(found.rotation_deg).max()), 4),
        magnification=round(float(np.abs(found.magnification).max()), 6),
    )


def _named(which: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return views and pieces, both counted from 1."""
    return [(int(view) + 1, int(piece) + 1) for view, piece in np.argwhere(which)]


def stitched_pieces(views: StitchedViews) -> StitchedPieces:
    """Return what an alignment needs to know of how its views were stitched."""
    sd = np.sqrt((views.offsets.error_px**2).mean(axis=2))
    return StitchedPieces(views.grid, views.offsets.offset_px, sd)


def as_tracks_see(views: StitchedViews, alignment: Alignment) -> StitchedViews:
    """Return the views with their pieces where the tracks of an alignment see them, which its transforms hold for."""
    found = alignment.pieces
    if found is None or not found.used:
        return views
    offsets = views.offsets.with_offsets(views.offsets.offset_px - found.shift_px, np.repeat(found.sd_px[..., None], 2, axis=2))
    return replace(views, offsets=offsets)


def note_tracks(job: EngineJob, alignment: Alignment) -> None:
    """Put into the record what the tracks of an alignment say of the pieces."""
    entry, found = job.recorder.record.montage, alignment.pieces
    if entry is None or found is None:
        return
    entry.moved_by_tracks = found.used
    entry.leave_out_px = found.leave_out_px
    entry.placement_error_px = round(found.error_px, 4)
    entry.pieces_doubted = _named(found.doubted)


def write_offsets(path: Path, found: PieceOffsets) -> None:
    """Write where pieces lie as `.npz`, arrays by the names of their fields; the file is there in full or not at all."""
    arrays: dict[str, Any] = {name: getattr(found, name) for name in _arrays(PieceOffsets)}
    arrays |= {f"gray_{name}": getattr(found.gray, name) for name in _arrays(GrayLevels)}
    arrays |= {f"edges_{name}": getattr(found.edges, name) for name in _arrays(EdgeEvidence)}
    write_archive(path, {"deviation_px": found.deviation_px, "warnings": list(found.warnings)}, arrays)


def read_offsets(path: Path) -> PieceOffsets:
    """Return where pieces lie.

    Raises
    ------
    LocationError
        If the file cannot be opened.
    FormatError
        If it is not one that :func:`write_offsets` made.
    """
    return read_archive(path, _offsets, "does not hold the pieces of a montage as tiltflow writes them")


def _offsets(about: dict[str, Any], arrays: dict[str, Any]) -> PieceOffsets:
    return PieceOffsets(
        **{name: arrays[name] for name in _arrays(PieceOffsets)},
        gray=GrayLevels(**{name: arrays[f"gray_{name}"] for name in _arrays(GrayLevels)}),
        edges=EdgeEvidence(**{name: arrays[f"edges_{name}"] for name in _arrays(EdgeEvidence)}),
        deviation_px=float(about["deviation_px"]),
        warnings=tuple(about["warnings"]),
    )


def _arrays(kind: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind) if each.name not in {"gray", "edges", "deviation_px", "warnings"})
