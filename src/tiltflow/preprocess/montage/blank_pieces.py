"""Pieces that show nothing: behind a bar of the grid, or taken without a beam."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DARK = 0.2
"""Brightness below this part of that of the brighter pieces of the view is no specimen: neighbours differ less in thickness."""
_DARK_VIEW = 0.05
"""Brightness that pieces have at least in a view that has a beam, as a part of the usual one of the series: at 70 degrees a section
attenuates three times as much as at zero."""
_FLAT = 0.1
"""The same for the contrast, which decides where counts do not begin at zero."""
_SAMPLE = 4
"""Every fourth pixel along x and y is asked."""


def levels_of(piece: NDArray[np.generic]) -> tuple[float, float]:
    """Return the median of a piece, and how much its smooth part varies."""
    small = np.asarray(piece[::_SAMPLE, ::_SAMPLE], np.float32)
    small = small[np.isfinite(small).all(axis=1)] if piece.dtype.kind == "f" else small
    if not small.size:
        return 0.0, 0.0
    low, middle, high = np.quantile(small, [0.16, 0.5, 0.84])
    return float(middle), float(high - low) / 2


def blank_pieces(median: Floats, spread: Floats) -> NDArray[np.bool_]:
    """Return which pieces are blank, from their brightness and contrast, `(views, pieces)`; NaN for pieces that were not taken.

    >>> blank_pieces(np.array([[400., 420, 8], [380, 390, 400]]), np.ones((2, 3)))
    array([[False, False,  True],
           [False, False, False]])
    """
    taken = np.isfinite(median)
    counts = bool(np.nanmedian(median) > 2 * np.nanmedian(spread)) and bool((median[taken] >= 0).mean() > 0.9)
    value, least = (median, _DARK) if counts else (spread, _FLAT)
    filled = np.where(taken, value, -np.inf)
    bright = np.sort(filled, axis=1)[:, -max(value.shape[1] // 4, 1)]
    reference = np.maximum(bright, _DARK_VIEW / _DARK * float(np.nanmedian(value)))
    return np.asarray(taken & (np.where(taken, value, 0) < least * reference[:, None]))
