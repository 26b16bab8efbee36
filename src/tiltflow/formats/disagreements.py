"""The kind of disagreement between two sources of one value: "the opposite sign" tells the user where to look.

Each function returns None when the two agree within the rounding of the formats, else the end of a sentence about the second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TILT_TOLERANCE_DEG = 0.06
"""Goniometers report to 0.05 degrees or better, and both files round to 0.01."""

REFINED_TILT_TOLERANCE_DEG = 5.0
"""Change of a tilt angle by an alignment that is plausible, its common offset included."""

AXIS_TOLERANCE_DEG = 0.2
"""Difference of two axis angles that is rounding, or a calibration of another day."""
PIXEL_TOLERANCE = 0.01
"""Relative difference of two pixel sizes that is rounding; calibrations are known to a few percent."""


def compare_tilts(used: NDArray[np.float64], other: NDArray[np.float64], tolerance_deg: float = TILT_TOLERANCE_DEG) -> str | None:
    """Return how other tilt angles, `(views,)`, differ from the ones in use.

    >>> compare_tilts(np.array([-60.0, 0.0, 59.0]), np.array([60.0, 0.0, -59.0]))
    'have the opposite sign'
    """
    if _near(used, other, tolerance_deg):
        return None
    opposite, reverse = _near(used, -other, tolerance_deg), _near(used, other[::-1], tolerance_deg)
    if opposite and reverse:
        return "have the opposite sign or the reverse order (a symmetric series cannot tell which)"
    if opposite:
        return "have the opposite sign"
    if reverse:
        return "are in reverse order"
    if _near(np.sort(used), np.sort(other), tolerance_deg):
        return "are the same angles in another order"
    offsets = other - used
    if np.ptp(offsets) <= 2 * tolerance_deg:
        return f"differ by a constant {np.median(offsets):+.2f} degrees"
    worst = int(np.argmax(np.abs(offsets)))
    return f"differ by up to {abs(offsets[worst]):.2f} degrees, in view {worst + 1}: {other[worst]:.2f} against {used[worst]:.2f}"


def places_of(used: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Return where each angle in use stands among others, `(views,)`, None unless they are the same angles in another order.

    >>> places_of(np.array([-3.0, 0.0, 3.0]), np.array([0.0, 3.0, -3.0]))
    array([2, 0, 1])
    """
    if len(used) != len(other) or not np.isfinite(other).all() or _near(used, other, TILT_TOLERANCE_DEG):
        return None
    rising, rising_others = np.argsort(used, kind="stable"), np.argsort(other, kind="stable")
    if not _near(used[rising], other[rising_others], TILT_TOLERANCE_DEG):
        return None
    places = np.empty(len(used), np.intp)
    places[rising] = rising_others
    return places


def compare_axes(used_deg: float, other_deg: float) -> str | None:
    """Return how another angle of the tilt axis differs from the one in use.

    >>> compare_axes(85.0, -95.0)
    'differs by 180 degrees, which inverts the handedness of the tomogram'
    """
    if _turn(other_deg - used_deg) <= AXIS_TOLERANCE_DEG:
        return None
    if _turn(other_deg + used_deg) <= AXIS_TOLERANCE_DEG:
        return "has the opposite sign"
    difference = _turn(other_deg - used_deg)
    if 180 - difference <= AXIS_TOLERANCE_DEG:
        return "differs by 180 degrees, which inverts the handedness of the tomogram"
    if abs(90 - difference) <= AXIS_TOLERANCE_DEG:
        return "differs by 90 degrees: one of the two is measured from the other axis of the image"
    return f"differs by {difference:.1f} degrees"


def compare_pixels(used: float, other: float) -> str | None:
    """Return how another pixel size differs from the one in use.

    >>> compare_pixels(2.0, 8.0)
    'is 4 times as large: the images were binned after one of the two was written'
    """
    if abs(other / used - 1) <= PIXEL_TOLERANCE:
        return None
    for ratio, words in ((other / used, "times as large"), (used / other, "times smaller")):
        if round(ratio) >= 2 and abs(ratio / round(ratio) - 1) <= PIXEL_TOLERANCE:
            return f"is {round(ratio)} {words}: the images were binned after one of the two was written"
    return f"differs by {100 * (other / used - 1):+.1f} %"


def _near(a: NDArray[np.float64], b: NDArray[np.float64], tolerance: float) -> bool:
    return bool((np.abs(a - b) <= tolerance).all())


def _turn(degrees: float) -> float:
    """Return the size of a rotation, 0 to 180 degrees."""
    return abs((degrees + 180) % 360 - 180)
