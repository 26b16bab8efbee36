"""The line below the title of a page: what series this is, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import numpy as np
from numpy.typing import NDArray

from tiltflow.model import ASSUMED
from tiltflow.record import AlignmentEntry, SeriesRecord
from tiltflow.record.sentences import stage_number, stage_params
from tiltflow.report.lengths import pixel_size_nm
from tiltflow.report.tilts import scheme_of

_EVEN_DEG = 0.3
"""Steps between tilts that differ by less are one step."""


def facts(record: SeriesRecord) -> tuple[str, ...]:
    """Return views with range, step and scheme of their tilts, the tilt axis, the pixel, and the sizes; those that are known."""
    return tuple(fact for fact in (*_views(record), *_axis(record), *_sizes(record)) if fact)


def tilt_axis_deg(found: AlignmentEntry | None) -> float | None:
    """Return the tilt axis angle of the views that are used, their median; None where there is none."""
    if found is None:
        return None
    used = [angle for angle, included in zip(found.rotation_deg, found.included, strict=False) if included]
    return median(used) if used else None


def axis_is_assumed(record: SeriesRecord) -> bool:
    """Return whether no source gives the tilt axis angle."""
    known = record.input.get("axis_angle")
    return known is not None and known.source.startswith(ASSUMED)


def tilt_offset_deg(record: SeriesRecord) -> float | None:
    """Return how far the tilts of the alignment are from those that were read, the median over the views that are used."""
    found, read = record.alignment, _tilts(record)
    if found is None or len(read) != len(found.tilt_deg):
        return None
    changes = [now - before for now, before, used in zip(found.tilt_deg, read, found.included, strict=False) if used]
    return median(changes) if changes else None


def gold_is_erased(record: SeriesRecord) -> bool:
    """Return whether beads were erased, so that they tell nothing of the alignment."""
    return stage_params(record, "erase") is not None and stage_number(record, "aligned stack", "beads_erased_per_view") != 0


def nominal_tilts(record: SeriesRecord) -> NDArray[np.float64] | None:
    """Return the tilt of each view as it was read, `(views,)`; None where the record has none, or they are assumed."""
    tilts = _tilts(record)
    return np.asarray(tilts, float) if tilts and not record.input["tilt_angles"].source.startswith(ASSUMED) else None


def _views(record: SeriesRecord) -> Iterator[str]:
    tilts = _tilts(record)
    if not tilts:
        return
    said = f"{len(tilts)} views from {round(min(tilts))}° to {round(max(tilts))}°"
    steps = np.diff(np.sort(tilts))
    if len(steps) and np.ptp(steps) < _EVEN_DEG:
        said += f" every {float(np.mean(steps)):.3g}°"
    yield ", ".join(part for part in (said, scheme_of(record)) if part)


def _axis(record: SeriesRecord) -> Iterator[str]:
    axis = tilt_axis_deg(record.alignment)
    known = record.input.get("axis_angle")
    if axis is not None:
        yield f"tilt axis {axis:.1f}°"
    elif known is not None and isinstance(known.value, (int, float)) and not axis_is_assumed(record):
        yield f"tilt axis {known.value:.1f}° as read"


def _sizes(record: SeriesRecord) -> Iterator[str]:
    pixel_nm, seen = pixel_size_nm(record), record.volume
    width, height = (record.input.get(name) for name in ("width", "height"))
    if width is not None and height is not None:
        yield f"images of {width.value} x {height.value} pixels" + (f" of {pixel_nm:.4g} nm" if pixel_nm else "")
    yield from _montage(record)
    if seen is not None:
        yield f"volume of {seen.width_px} x {seen.height_px} x {seen.sections} voxels of {seen.voxel_nm:.4g} nm"


def _montage(record: SeriesRecord) -> Iterator[str]:
    known = [record.input.get(name) for name in ("montage", "piece_size", "overlap")]
    if all(each is not None for each in known):
        grid, size, overlap = (each.value for each in known if each is not None)
        yield f"each stitched from {grid} of {size} pixels that overlap by {overlap}"


def _tilts(record: SeriesRecord) -> list[float]:
    known = record.input.get("tilt_angles")
    return [float(tilt) for tilt in known.value] if known is not None and isinstance(known.value, list) else []
