"""Specimens that repeat themselves, such as crystals, gratings and arrays: at which of many nearly equal peaks a view belongs.

On a lattice the correlation of two views has a peak at every lattice point.  The right one is higher than the others only by what is
not periodic: vacancies, disorder, an edge.  A series is called periodic when a second peak of the correlation of neighbours, averaged
over the pairs about the first, is nearly as high as that.  Averaged in this way noise makes no second peak.

The displacements of all neighbours are then chosen together.  Each has several candidates; the sums of two steps must be candidates
of the pairs of next neighbours too.  The chain with the highest sum of coefficients, each in units of the scatter of the peaks around
its own, is found by dynamic programming, and so is, for every step, the best chain that makes another step there.  Where that one is
hardly worse, the views on either side may be one lattice spacing apart, and are said to be.

IMOD has no counterpart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.coarse.correlation import vertex
from tiltflow.align.coarse.overlap import Overlap, OverlapCorrelator
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.preprocess.binned_views import BinnedViews

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

_PERIODIC = 0.6
"""Height of the second peak over the first from which on a series is periodic.  Particles on a lattice with 2 % vacancies have 0.74 to
0.79, simulated and real specimens without one 0.17 to 0.30, three beads and nothing else 0.42."""
_SUSPECT = 0.45
"""The same from which on it may be: noisy series of a lattice, or of one with other things on it, have 0.50 to 0.59.  Views are not
placed by lattice points then, as the chain of noisy peaks is not to be trusted, but what places them is doubted."""
_LOOKED_AT, _UNSUSPECT = 10, 0.35
"""Pairs over the whole series that are looked at first, and the height of their second peak below which no others are: it was 0.23 to
0.32 for series without a lattice, 0.51 and more on one, and within 0.09 of that of all pairs where any was above 0.3."""
_LOBE = 0.3
"""The first peak is what is connected with it above this part of its height."""
_FARTHEST = 0.45
"""Second peaks are looked for within this part of the field's smaller side: more than one period must lie in the field."""
_LEAST_HEIGHT = 0.05
"""Least mean coefficient of neighbours for which peaks are compared: below, noise is all there is."""
_CANDIDATES = 12
"""Peaks of each pair that are weighed: the first, its eight neighbours on a square lattice, and some beyond."""
_AROUND = 8
"""Peaks nearest to the highest whose scatter is the uncertainty of its height: its neighbours on a square lattice."""
_LEAST_SCATTER = 2e-3
"""Least scatter of the coefficients: that of peaks which are sampled at whole pixels."""
_FEWEST_VIEWS = 4
"""Views that two steps and the sum of them can be compared over, more than once."""
_SURE = 4.0
"""Standard deviations by which a chain must be better than the best with another step: chance gives that one time in thirty
thousand, and a series has a hundred steps with a dozen candidates each."""
_HALF, _LEAST_COSINE = 0.5, 0.1
"""A step that is off by more than this part of a spacing leads to another lattice point; the least cosine that one is divided by."""
_TERMS = 3
"""Coefficients in which two chains that differ by one step differ: its own, and those of the two pairs of next neighbours across it."""


@dataclass(frozen=True, slots=True, eq=False)
class LatticePlacement:
    """Views of a periodic specimen, placed by the chain of displacements that fits all pairs best.

    Attributes
    ----------
    where
        The geometry of the views.
    spacing_px
        Distance from the first peak to the second, raw pixels at zero tilt.
    margin
        By how much the chain is better than the best one with another step there, standard deviations; `(views - 1,)` in order of tilt.
    order
        Views in that order, `(views,)`.
    """

    where: ViewGeometry
    spacing_px: float
    margin: Floats
    order: NDArray[np.intp]

    @property
    def doubtful(self) -> NDArray[np.intp]:
        """Pairs of neighbouring views, `(pairs, 2)`, that may be a lattice spacing apart."""
        unsure = np.flatnonzero(self.margin < _SURE)
        return np.stack([self.order[unsure], self.order[unsure + 1]], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """How the views of a periodic specimen lie by their correlation.

    Attributes
    ----------
    spacing_px
        Of the lattice, raw pixels at zero tilt.
    views
        Those that were placed, in order of tilt, counted from 0.
    shifts_px
        `(placed, 2)` of each of them in raw pixels.
    doubtful
        `(pairs, 2)` views that may be a spacing apart, counted from 0.
    """

    spacing_px: float
    views: NDArray[np.intp]
    shifts_px: Floats
    doubtful: NDArray[np.intp]

    @classmethod
    def of(cls, placement: LatticePlacement, chosen: NDArray[np.intp]) -> Lattice:
        """Return the lattice in numbers of all views, of which those `chosen` `(n,)` were placed."""
        order = placement.order
        return cls(placement.spacing_px, chosen[order], placement.where.shifts[order], chosen[placement.doubtful])

    def doubts(self) -> tuple[str, ...]:
        """Return the trust warning that names views which may be a spacing apart."""
        if not len(self.doubtful):
            return ()
        pairs = ", ".join(f"{one + 1} and {other + 1}" for one, other in self.doubtful)
        return (
            f"{self._repeats()}, and the correlation does not tell whether neighbouring views lie one spacing apart: views {pairs}",
        )

    def contradictions(self, transforms: Floats, tilt_deg: Floats, included: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the trust warning that an alignment puts neighbouring views a spacing from where their correlation is highest.

        Parameters
        ----------
        transforms, tilt_deg, included
            The alignment, `(views, 2, 3)`, `(views,)` degrees and `(views,)`.
        """
        used = included[self.views]
        views, inverse = self.views[used], geometry.invert(transforms[self.views[used]])
        away = np.einsum("vji,vj->vi", inverse[..., :2], inverse[..., 2] - self.shifts_px[used])
        steps = np.abs(np.diff(away, axis=0))
        # Along x a spacing is foreshortened.
        steps[:, 0] /= np.maximum(np.abs(np.cos(np.deg2rad(tilt_deg[views[1:]]))), _LEAST_COSINE)
        apart = np.flatnonzero(steps.max(axis=1, initial=0.0) > _HALF * self.spacing_px)
        if not len(apart):
            return ()
        pairs = ", ".join(f"{views[k] + 1} and {views[k + 1] + 1}" for k in apart)
        return (f"{self._repeats()}, and neighbouring views lie a spacing from where their correlation is highest: views {pairs}",)

    def _repeats(self) -> str:
        return f"the specimen repeats itself every {self.spacing_px:.0f} px"


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """What speaks for each displacement of a pair of views.

    Attributes
    ----------
    coefficients
        By displacement, periodic.
    excess
        Of each over the typical peak, times the square root of the part that is shared, as the error of a coefficient falls with its
        square root; in units of the scatter of the peaks around the highest.
    places
        `(peaks, 2)` displacements y and x of the peaks with the greatest excess, that first.
    """

    coefficients: Images
    excess: Images
    places: NDArray[np.intp]

    @property
    def scores(self) -> Floats:
        """The excess of each peak less that of the first, `(peaks,)`."""
        return self.at(self.places) - float(self.at(self.places[:1])[0])

    def at(self, places: NDArray[np.intp]) -> Floats:
        """Return the excess at displacements `(..., 2)`."""
        at = places % self.excess.shape
        return np.asarray(self.excess[at[..., 0], at[..., 1]], np.float64)


def place_on_lattice(views: BinnedViews, where: ViewGeometry) -> tuple[LatticePlacement | None, str]:
    """Return where the views of a periodic specimen belong, or None, and a doubt where it may be periodic; else the doubt is empty.

    Parameters
    ----------
    views
        Binned, flattened images, `(views, ny, nx)`, in which a period has several pixels.
    where
        The nominal geometry, without shifts; the view nearest to zero tilt stays.
    """
    if len(where.tilts) < _FEWEST_VIEWS:
        return None, ""
    folded = geometry.folded_tilts(np.rad2deg(where.tilts))
    order = np.argsort(folded, kind="stable")
    correlator = OverlapCorrelator(views, where)

    def peaks(pairs: Iterable[tuple[np.intp, np.intp]]) -> Iterator[Peaks]:
        return (find_peaks(correlator.correlate(int(one), int(other))) for one, other in pairs)

    field, every = min(correlator.frame.field), list(pairwise(order))
    if _second_peak(peaks(every[:: max(len(every) // _LOOKED_AT, 1)]), field)[0] < _UNSUSPECT:
        return None, ""
    ratio, spacing = _second_peak(peaks(every), field)
    if ratio < _PERIODIC:
        return None, _suspicion(ratio)
    steps, leaps = list(peaks(every)), list(peaks(zip(order[:-2], order[2:], strict=True)))
    chosen, margin = choose_steps(steps, leaps)
    places = _positions(steps, leaps, chosen)
    middle = int(np.argmin(np.abs(folded[order])))
    moves = np.zeros((len(order), 2))
    moves[order] = (places - places[middle]) * correlator.frame.pixel
    displaced = where.displaced(np.stack([moves[:, 1] * np.cos(where.tilts), moves[:, 0]], axis=1))
    return LatticePlacement(displaced, spacing * correlator.frame.pixel, margin, order), ""


def _suspicion(ratio: float) -> str:
    """Return why views may be a spacing away from their places, by the second peak over the first; empty where there is no reason.

    >>> _suspicion(0.3)
    ''
    >>> _suspicion(0.5)[:31]
    'the specimen may repeat itself:'
    """
    if ratio < _SUSPECT:
        return ""
    return (
        f"the specimen may repeat itself: the correlation of neighbouring views has a second peak {ratio:.2f} times as high as the "
        "first, and views may be a spacing away from their places"
    )


def find_peaks(overlap: Overlap) -> Peaks:
    """Return the peaks of a pair, and what speaks for each."""
    coefficients = overlap.coefficients
    summits = (scipy.ndimage.maximum_filter(coefficients, 3, mode="wrap") == coefficients) & (coefficients > 0)
    summits.flat[int(np.argmax(coefficients))] = True
    places = np.argwhere(summits)
    best = places[int(np.argmax(coefficients[summits]))]
    around = np.argsort(np.hypot(*_signed(places - best, coefficients.shape).T), kind="stable")[1 : _AROUND + 1]
    rows, columns = places[around].T
    typical = float(coefficients[rows, columns].mean()) if len(around) else 0.0
    excess = (coefficients - np.float32(typical)) * np.sqrt(np.clip(overlap.shared, 0, 1))
    scatter = max(float(np.std(excess[rows, columns])) if len(around) > 1 else 0.0, _LEAST_SCATTER)
    greatest = np.argsort(-excess[summits], kind="stable")[:_CANDIDATES]
    return Peaks(coefficients, excess / np.float32(scatter), _signed(places[greatest], coefficients.shape))


def _signed(places: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return places of a periodic map as displacements to either side."""
    half = np.array(shape) // 2
    return np.asarray((places + half) % shape - half)


def _second_peak(steps: Iterable[Peaks], field: float) -> tuple[float, float]:
    """Return the height of the second peak of the mean map over that of the first, and its distance, pixels; 0 and 0 without a first."""
    total, count = np.zeros((1, 1), np.float32), 0
    for each in steps:
        total = total + np.roll(np.maximum(each.coefficients, 0), -each.places[0], (0, 1))
        count += 1
    mean = total / np.float32(count)
    height = float(mean[0, 0])
    if height < _LEAST_HEIGHT:
        return 0.0, 0.0
    middle = tuple(n // 2 for n in mean.shape)
    centred = np.roll(mean, middle, (0, 1))
    lobes, _ = scipy.ndimage.label(centred > _LOBE * height)
    y, x = (np.arange(n) - m for n, m in zip(centred.shape, middle, strict=True))
    away = np.hypot(y[:, None], x[None])
    beyond = np.where((lobes != lobes[middle]) & (away < _FARTHEST * field), centred, 0)
    ratio = float(beyond.max()) / height
    # Of peaks that are as high as the second but for noise, the nearest is one spacing away.
    least = min(_PERIODIC, ratio)
    summits = (scipy.ndimage.maximum_filter(centred, 3) == centred) & (beyond >= least * height)
    return ratio, float(away[summits].min(initial=_FARTHEST * field))


def choose_steps(steps: list[Peaks], leaps: list[Peaks]) -> tuple[NDArray[np.intp], Floats]:
    """Return the candidate of each step in the best chain, and by how much that is better than the best with another one there.

    Parameters
    ----------
    steps, leaps
        Peaks of each view with the next one, `(views - 1,)`, and with the one after, `(views - 2,)`.

    Returns
    -------
    chosen, margin
        `(views - 1,)`; the margin in standard deviations.
    """
    own = [each.scores for each in steps]
    together = [_sums_of_steps(leap, one, other) for leap, one, other in zip(leaps, steps[:-1], steps[1:], strict=True)]
    forward, backward = [own[0]], [np.zeros_like(own[-1])]
    for joint, here in zip(together, own[1:], strict=True):
        forward.append((forward[-1][:, None] + joint).max(axis=0) + here)
    for joint, after in zip(reversed(together), reversed(own[1:]), strict=True):
        backward.append((joint + (backward[-1] + after)[None]).max(axis=1))
    totals = [ahead + behind for ahead, behind in zip(forward, reversed(backward), strict=True)]
    chosen = np.array([int(np.argmax(total)) for total in totals])
    others = [np.delete(total, best).max(initial=-np.inf) for total, best in zip(totals, chosen, strict=True)]
    best = [total[choice] for total, choice in zip(totals, chosen, strict=True)]
    return chosen, (np.array(best) - np.array(others)) / np.sqrt(_TERMS)


def _sums_of_steps(leap: Peaks, one: Peaks, other: Peaks) -> Floats:
    """Return the score of every two successive steps, `(candidates, candidates)`, from the map of the pair of next neighbours."""
    nearby = replace(leap, excess=scipy.ndimage.maximum_filter(leap.excess, 3, mode="wrap"))
    return nearby.at(one.places[:, None] + other.places[None]) - float(leap.at(leap.places[:1])[0])


def _positions(steps: list[Peaks], leaps: list[Peaks], chosen: NDArray[np.intp]) -> Floats:
    """Return the displacement of each view, `(views, 2)` y and x, that fits the steps chosen and the sums of two of them."""
    moves = np.array([each.places[choice] for each, choice in zip(steps, chosen, strict=True)])
    first = [_refined(each.coefficients, move) for each, move in zip(steps, moves, strict=True)]
    second = [_refined(each.coefficients, move) for each, move in zip(leaps, moves[:-1] + moves[1:], strict=True)]
    views = len(steps) + 1
    rows = np.concatenate([np.eye(views)[1:] - np.eye(views)[:-1], np.eye(views)[2:] - np.eye(views)[:-2]])
    return np.asarray(np.linalg.lstsq(rows, np.array([*first, *second]), rcond=None)[0], np.float64)


def _refined(coefficients: Images, place: NDArray[np.intp]) -> Floats:
    """Return the summit within a pixel of a place, to a fraction of one."""
    ny, nx = coefficients.shape
    near = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    y, x = max(near, key=lambda move: float(coefficients[(place[0] + move[0]) % ny, (place[1] + move[1]) % nx])) + place
    dy = vertex(*(float(coefficients[(y + k) % ny, x % nx]) for k in (-1, 0, 1)))
    dx = vertex(*(float(coefficients[y % ny, (x + k) % nx]) for k in (-1, 0, 1)))
    return np.array([y + dy, x + dx], np.float64)
