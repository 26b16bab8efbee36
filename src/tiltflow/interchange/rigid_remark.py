"""What is said, and what is refused, where a program takes less than a transform and an X-axis tilt for each view."""

from __future__ import annotations

import numpy as np

from tiltflow.errors import UnsupportedError
from tiltflow.interchange.series_geometry import SeriesGeometry

_WORTH_SAYING_PX = 0.05


def rigid_remarks(series: SeriesGeometry) -> list[str]:
    """Return by how much views are displaced without their magnification and stretch."""
    error = series.rigid_error_px()
    if error < _WORTH_SAYING_PX:
        return []
    return [
        f"magnification and stretch of the views are left out, as only an angle and a shift are taken: up to {error:.1f} px at a corner"
    ]


def pitch_remarks(series: SeriesGeometry, program: str) -> list[str]:
    """Return how the volume of a program that knows no tilt about x lies to ours.

    Raises
    ------
    UnsupportedError
        If the pitch changes from view to view, which must not be left out.
    """
    pitch = series.one_pitch_deg
    if pitch is None:
        kept = series.pitch_deg[series.included]
        raise UnsupportedError(
            f"{series.name}: the tilt about x changes from view to view, from {kept.min():g} to {kept.max():g} degrees, which {program} "
            "cannot take: export to imod or relion5"
        )
    if np.isclose(pitch, 0, atol=5e-4):
        return []
    turned = f"turned by {pitch:.2f} degrees about x against {series.name}_rec.mrc"
    return [f"{program} takes no tilt about x: its volume is not levelled, but {turned}"]
