"""Lengths in pixels and in nanometres."""

from __future__ import annotations

from tiltflow.record import SeriesRecord


def pixel_size_nm(record: SeriesRecord) -> float | None:
    """Return the size of a raw pixel, nm, if the record has it."""
    known = record.input.get("pixel_size")
    return float(known.value) / 10 if known is not None and isinstance(known.value, (int, float)) and known.value > 0 else None


def length(value_px: float, pixel_nm: float | None) -> str:
    """Return a length in pixels, and in nanometres where their size is known.

    >>> length(0.314, 1.2)
    '0.31 px (0.38 nm)'
    """
    return f"{value_px:.2f} px" + (f" ({value_px * pixel_nm:.2f} nm)" if pixel_nm else "")
