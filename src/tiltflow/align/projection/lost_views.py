"""Views that are recognised nowhere: their place is unknown, and they do the others no good."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_POOR = 0.5
"""A view correlates poorly when its correlation is below this fraction of the median of all."""
LOST = 6.0
"""Peak height, standard deviations, below which a view may be anywhere: what noise reaches."""
_DISTINCT = 1.5
"""Height of a peak over that of the highest elsewhere, below which its place is one of several.  Views of noise and of something else
have 0 to 1.4; views with eight times as much noise as the others, which are found, 3 to 4."""
_MOST = 1 / 3
"""Share of the views below which some are lost; where more are not recognised, it is the series that holds too little."""


def lost_views(correlation: Floats, heights: Floats, rivals: Floats) -> NDArray[np.intp]:
    """Return the views that may be anywhere, counted from 0; all arguments are `(views,)`.

    Their peak is no higher than noise makes it, or they correlate poorly and another place is nearly as good.

    Parameters
    ----------
    correlation
        Of each view with its prediction from the others.
    heights
        Of the peaks of these correlations over all displacements, standard deviations.
    rivals
        Of the highest peak elsewhere.
    """
    return np.flatnonzero((heights < LOST) | (_poor(correlation) & (heights < _DISTINCT * rivals)))


def poor_views(correlation: Floats) -> NDArray[np.intp]:
    """Return the views that correlate poorly, counted from 0; `correlation` `(views,)` is NaN for views that take no part."""
    return np.flatnonzero(_poor(correlation))


def _poor(correlation: Floats) -> NDArray[np.bool_]:
    known = ~np.isnan(correlation)
    return np.asarray(correlation < _POOR * np.median(correlation[known])) if known.any() else known


def reasons_to_leave_out(lost: NDArray[np.intp], correlation: Floats) -> dict[int, str]:
    """Return the reason to leave each lost view out; none where a third of all views or more are lost.

    Parameters
    ----------
    lost
        Their numbers, counted from 0.
    correlation
        Of each view with its prediction from the others, `(views,)`; NaN for views that take no part.

    >>> reasons_to_leave_out(np.array([2]), np.array([0.8, 0.79, 0.04, 0.81]))
    {2: 'is recognised nowhere in the field: its correlation with the others is 0.04, the median of all views 0.80'}
    >>> reasons_to_leave_out(np.array([0, 2]), np.array([0.1, 0.79, 0.04, 0.81]))
    {}
    """
    if not len(lost) or len(lost) >= _MOST * np.count_nonzero(~np.isnan(correlation)):
        return {}
    median = float(np.nanmedian(correlation))
    said = "is recognised nowhere in the field: its correlation with the others is {:.2f}, the median of all views {:.2f}"
    return {int(view): said.format(correlation[view], median) for view in lost}
