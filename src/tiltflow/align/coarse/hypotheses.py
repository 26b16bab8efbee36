"""Several hypotheses of where the views lie, followed from view to view at once.

A view whose correlation hardly stands out of the noise has its highest peak at a wrong place as often as not, and every
view that is placed after it inherits the error.  The right place is then among the highest few peaks, and the views that
follow tell it from the others: only along the right one do they correlate with all that were placed before.  So the best
hypotheses are kept, each a place for every view so far, with the sum of the heights of their peaks, and each is continued by
several places of the next view (Reid 1979, An algorithm for tracking multiple targets, doi:10.1109/TAC.1979.1102177).

For a matched filter in white noise the log-likelihood ratio of a place is the height of the correlation there, in standard
deviations, times the height expected at the right one, less a constant; heights of independent comparisons therefore add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

Images = NDArray[np.float32]
Place = tuple[int, int]
"""Displacement of a view along y and x, whole pixels."""
PairMap = Callable[[int, int], Images]
"""Returns the correlation of the second view with the first one's prediction of it, by the displacement of the second, periodic."""

_KEPT = 16
"""Hypotheses kept: of four simulated series of ice at a dose of 40 electrons per pixel two are lost with 1 and none with 16; 32 change
nothing."""
_CONTINUED = 12
"""Places of the next view that each is continued by: the right one is among so many where its height is near that of the noise."""
_NEAR = 0.06
"""Standard deviation of a step from view to view, as a fraction of the frame's smaller side: twice that of a bad stage."""
_FAR = 0.02
"""Probability of a step that may lead anywhere."""
_EXPECTED = 8.0
"""Height of the right peak, standard deviations, against which the probability of a step is weighed: 7 to 9 in series for which this
is needed.  A step across the frame then costs about one standard deviation."""
_APART = 5
"""Pixels along each side within which there is one peak: places closer than 3 pixels are one, as later steps move views by that."""


def best_hypothesis(
    sequence: Sequence[tuple[int, Sequence[int]]], pair_map: PairMap, shape: tuple[int, int]
) -> Mapping[int, Place]:
    """Return the places of all views under the hypothesis with the highest peaks.

    Parameters
    ----------
    sequence
        Each view in the order of placing, with the views placed before that it is compared with, the nearest first.  The first view has
        none and stays in place.
    pair_map
        Correlation of two views, `shape`.
    shape
        `(ny, nx)` of the correlations.

    Returns
    -------
    Mapping
        Displacement of every view from where it was.
    """
    near = _step_heights(shape)
    hypotheses: list[tuple[float, dict[int, Place]]] = [(0.0, {sequence[0][0]: (0, 0)})]
    for view, others in sequence[1:]:
        maps = [pair_map(other, view) for other in others]
        longer = [
            (height + peak, {**places, view: place})
            for height, places in hypotheses
            for place, peak in _peaks(_joined(maps, [places[other] for other in others], near))
        ]
        hypotheses = _best_distinct(longer, [view, *others[:-1]])
    return hypotheses[0][1]


def _step_heights(shape: tuple[int, int]) -> Images:
    """Return the log-probability of a step from view to view by its length, in standard deviations of a correlation."""
    y, x = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
    sd = _NEAR * min(shape)
    square = y[:, None] ** 2 + x[None, :] ** 2
    probability = (1 - _FAR) * np.exp(-square / (2 * sd**2)) / (2 * np.pi * sd**2) + _FAR / (shape[0] * shape[1])
    return np.asarray(np.log(probability) / _EXPECTED, np.float32)


def _joined(maps: Sequence[Images], places: Sequence[Place], near: Images) -> Images:
    """Return the height of a view at each displacement, by all comparisons with views that are placed."""
    total = np.sum([np.roll(each, place, (0, 1)) for each, place in zip(maps, places, strict=True)], axis=0)
    spread = float(total.std()) or 1.0
    return np.asarray((total - total.mean()) / spread + np.roll(near, places[0], (0, 1)), np.float32)


def _peaks(heights: Images) -> list[tuple[Place, float]]:
    """Return the highest peaks, with their heights."""
    tops = np.flatnonzero(heights == scipy.ndimage.maximum_filter(heights, _APART, mode="wrap"))
    tops = tops[np.argsort(-heights.ravel()[tops], kind="stable")[:_CONTINUED]]
    ny, nx = heights.shape
    rows, columns = np.unravel_index(tops, heights.shape)
    centred = ((rows + ny // 2) % ny - ny // 2, (columns + nx // 2) % nx - nx // 2)
    return [((int(y), int(x)), float(heights.ravel()[top])) for y, x, top in zip(*centred, tops, strict=True)]


def _best_distinct(hypotheses: list[tuple[float, dict[int, Place]]], last: Sequence[int]) -> list[tuple[float, dict[int, Place]]]:
    """Return the best hypotheses of which no two agree on the `last` views: what follows cannot tell these apart."""
    kept: dict[tuple[Place, ...], tuple[float, dict[int, Place]]] = {}
    for height, places in sorted(hypotheses, key=lambda each: -each[0]):
        kept.setdefault(tuple(places[view] for view in last), (height, places))
        if len(kept) == _KEPT:
            break
    return list(kept.values())
