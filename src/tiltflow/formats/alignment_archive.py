"""An alignment in one file, `B_align.npz`, as exact as it was computed: for later steps, and for notebooks.

`B.xf` and `B.tlt` are rounded, and hold no evidence; a step that starts from them would not give the same volume.  NumPy opens
the file; the arrays have the names of the fields of :class:`tiltflow.model.Alignment`, and `about` is JSON with all that is no array.
The covariances of patch tracks and the sizes of the patches are left out: nothing after the alignment needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.formats.array_archive import read_archive, write_archive
from tiltflow.model import Alignment, Evidence, LocalAlignment, PieceShifts, Tracks

_LOCAL = ("centre_px", "transforms", "delta_tilt_deg", "tracks")
_PIECES = ("found_px", "sd_px", "doubted")
_TUPLES = (
    "residual_per_view_px",
    "positions_per_view",
    "positions_lost_per_view",
    "correlation_per_view",
    "notes",
    "trust_warnings",
)


def write_alignment(path: Path, alignment: Alignment) -> None:
    """Write an alignment; the file is there in full or not at all."""
    arrays: dict[str, Any] = {
        "transforms": alignment.transforms,
        "tilt_deg": alignment.tilt_deg,
        "included": alignment.included,
    }
    about: dict[str, Any] = {
        "method": alignment.method,
        "x_axis_tilt_deg": alignment.x_axis_tilt_deg,
        "z_shift": alignment.z_shift,
        "thickness": alignment.thickness,
        "evidence": asdict(alignment.evidence),
    }
    if alignment.y_per_z is not None:
        arrays["y_per_z"] = alignment.y_per_z
    if alignment.local is not None:
        about["local_grid"] = list(alignment.local.grid)
        arrays |= {f"local_{name}": getattr(alignment.local, name) for name in _LOCAL}
    if alignment.tracks is not None:
        about |= {"tracks_kind": alignment.tracks.kind, "tracks_crowding": alignment.tracks.crowding}
        arrays["tracks_xy"] = alignment.tracks.xy
    if alignment.track_weights is not None:
        arrays["track_weights"] = alignment.track_weights
    if (pieces := alignment.pieces) is not None:
        about["pieces"] = {name: getattr(pieces, name) for name in ("used", "leave_out_px", "error_px", "notes", "warnings")}
        arrays |= {f"pieces_{name}": getattr(pieces, name) for name in _PIECES}
    write_archive(path, about, arrays, _plain)


def read_alignment(path: Path) -> Alignment:
    """Return the alignment in a file.

    Raises
    ------
    LocationError
        If the file cannot be opened.
    FormatError
        If it is not one that :func:`write_alignment` made.
    """
    return read_archive(path, _alignment, "is not an alignment that tiltflow wrote")


def _alignment(about: Mapping[str, Any], arrays: Mapping[str, Any]) -> Alignment:
    local = None
    if "local_grid" in about:
        local = LocalAlignment(grid=tuple(about["local_grid"]), **{name: arrays[f"local_{name}"] for name in _LOCAL})
    tracks = None
    if "tracks_kind" in about:
        tracks = Tracks(arrays["tracks_xy"], about["tracks_kind"], crowding=about["tracks_crowding"])
    return Alignment(
        transforms=arrays["transforms"],
        tilt_deg=arrays["tilt_deg"],
        included=arrays["included"],
        method=about["method"],
        x_axis_tilt_deg=about["x_axis_tilt_deg"],
        z_shift=about["z_shift"],
        thickness=about["thickness"],
        evidence=_evidence(about["evidence"]),
        local=local,
        y_per_z=arrays.get("y_per_z"),
        tracks=tracks,
        track_weights=arrays.get("track_weights"),
        pieces=_pieces(about["pieces"], arrays) if "pieces" in about else None,
    )


def _pieces(about: Mapping[str, Any], arrays: Mapping[str, Any]) -> PieceShifts:
    before, after = about["leave_out_px"]
    return PieceShifts(
        **{name: arrays[f"pieces_{name}"] for name in _PIECES},
        used=about["used"],
        leave_out_px=(before, after),
        error_px=about["error_px"],
        notes=tuple(about["notes"]),
        warnings=tuple(about["warnings"]),
    )


def _evidence(values: dict[str, Any]) -> Evidence:
    """Return the evidence: tuples were lists, and numbers of views were texts, in JSON."""
    values = {name: tuple(value) if name in _TUPLES and value is not None else value for name, value in values.items()}
    vectors = values["residual_vectors_px"]
    values["residual_vectors_px"] = None if vectors is None else tuple(tuple(vector) for vector in vectors)
    values["excluded_views"] = {int(view): reason for view, reason in values["excluded_views"].items()}
    values["attempts"] = tuple(values["attempts"])
    return Evidence(**values)


def _plain(value: Any) -> Any:
    """Return a plain Python value for a NumPy one."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON")
