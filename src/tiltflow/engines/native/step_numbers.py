"""The steps of the native engine and their numbers."""

from __future__ import annotations

from collections.abc import Mapping

STEP_NUMBERS: Mapping[str, int] = {
    "stitching": 1,
    "alignment": 7,
    "positioning": 1,
    "ctf": 1,
    "aligned stack": 2,
    "reconstruction": 1,
    "half volumes": 1,
    "deconvolved volume": 1,
    "diffused volume": 1,
}
"""Raised by one when a step gives another output for the same input."""
