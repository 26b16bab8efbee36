"""The covariance of the views of a patch by a model of their coherence, and its inverse.

See :mod:`tiltflow.align.patches.coherence` for the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.patches.coherence import BANDS, LEAST_COHERENT, Coherence
from tiltflow.align.patches.patch_spectra import FrequencyCells
from tiltflow.kernels.patches import fill_covariance, invert_unsettled

Floats = NDArray[np.float64]
Covariance = NDArray[np.complex64]

_MOST_COHERENT = 0.95
"""Upper bound of r^2: near 1 the covariance becomes singular in single precision."""
_PLACES_PER_CYCLE, _FEWEST_PLACES = 16, 64
"""Samples of the transform of a profile, which is interpolated linearly: per cycle at the greatest height, and at least."""
_EVERY_BIN = 5
"""Views are rated by every fifth bin, which suffices for one number."""
_MOST_QUALITY = 1.3
"""Upper bound of a view's quality: r^2 of the sharpest view is at most 1.7 times the typical one."""
_QUALITY_CYCLES = 4
"""Fixed-point iterations of the views' qualities."""
_INVERTED = 3
"""Covariances are inverted at every third x frequency at least, and their inverses interpolated between.  The taper of a window mixes
neighbouring frequencies, which an inverse of each denies: with every third the errors of 25 simulated series are 0.95 +- 0.02 of
those with all, and with every sixth those of cryo series 1.1 times as large."""
_MOST_TURNED = 0.07
"""Cycles that the depth of the specimen may turn by, in one view against the next, from one inverse to the next: all covariances are
inverted where tilts are far apart, and of a specimen as thick as a window is wide.  With twice as much the errors of such series, one of
them simulated by others, are 1.2 to 1.3 times as large, with three times as much 1.7 times."""
_ALL_INVERTED = 2
"""Column of a window's transform up to which every covariance is inverted: there even views far apart agree, and by how much changes
quickly."""


@dataclass(frozen=True, slots=True, eq=False)
class ViewCovariances:
    """What the covariances of all patches share: the frequencies of every view, and the waves that depth is seen by.

    Attributes
    ----------
    cells
        The frequencies that are compared.
    tangent
        `(views,)` of the tilts.
    seen
        `(bins, views)` the frequencies of the bins in each view, cycles per raw pixel.
    heights
        `(heights,)` of the profiles, before they are centred, raw pixels.
    grid
        `(places,)` X (tan t_k - tan t_i), cycles per raw pixel, at which the transform of a profile is sampled.
    waves
        `(2, heights, places)` cosine and minus sine of a height's phase.
    between, share
        `(bins, 2)` and `(bins,)`: the bins that the inverse of a bin is interpolated between, and how much of the second; a bin that is
        inverted lies between itself and itself.
    """

    cells: FrequencyCells
    tangent: Floats
    seen: Floats
    heights: Floats
    grid: Floats
    waves: NDArray[np.float32]
    between: NDArray[np.int64]
    share: NDArray[np.float32]

    @classmethod
    def of(cls, cells: FrequencyCells, tilt: Floats, heights: Floats, depth_px: float) -> ViewCovariances:
        """Return what is shared by models of these heights; `tilt` `(views,)` in radians, `depth_px` about the depth of the specimen."""
        tangent = np.tan(tilt)
        seen = np.hypot(cells.bin_x[:, None] / np.cos(tilt), cells.bin_y[:, None])
        furthest = max(float(np.ptp(tangent) * cells.bin_x.max()), 1e-9)
        places = max(int(furthest * _PLACES_PER_CYCLE * np.abs(heights).max()), _FEWEST_PLACES)
        grid = np.linspace(0, furthest, places)
        angle = 2 * np.pi * heights[:, None] * grid
        # Between the heights the profile is linear: without the sinc its transform would repeat itself.
        linear = np.sinc(grid * (heights[1] - heights[0])) ** 2
        waves = np.stack([np.cos(angle) * linear, -np.sin(angle) * linear]).astype(np.float32)
        return cls(
            cells,
            tangent,
            seen,
            heights,
            grid,
            waves,
            *inverted_between(cells, float(np.median(np.diff(np.sort(tangent)))) * depth_px),
        )

    def settled(self, model: Coherence, *, every: int = 1) -> Covariance:
        """Return the model's covariance of a_i and a_k for aligned views, `(bins, views, views)`, 1 on the diagonal.

        With `every` n, of each nth bin only.
        """
        bin_x, bin_y = self.cells.bin_x[::every], self.cells.bin_y[::every]
        centres = 0.5 * (model.edges[1:] + model.edges[:-1])
        strength = np.interp(self.seen[::every], centres, model.signal, right=LEAST_COHERENT) * model.quality**2
        r = np.sqrt(np.minimum(strength, _MOST_COHERENT))
        band = np.clip(np.searchsorted(model.edges, np.hypot(bin_x, bin_y), side="right") - 1, 0, BANDS - 1)
        real, imaginary = model.profile.astype(np.float32) @ self.waves
        centred = np.exp(-2j * np.pi * (model.heights[0] - self.heights[0]) * self.grid)
        table = ((real + 1j * imaginary) * centred).astype(np.complex64)
        out = np.empty((len(bin_x), len(self.tangent), len(self.tangent)), np.complex64)
        fill_covariance(table, self.grid[1], band, bin_x, self.tangent, r, out)
        return out

    def precision(self, settled: Covariance, px: float) -> Covariance:
        """Return the inverse covariance of views that may be displaced by `px` (standard deviation of a coordinate, raw pixels).

        Their coherence falls with the frequency.  `settled` `(bins, views, views)` is the covariance of aligned views.  Inverses are
        interpolated along x (:func:`inverted_between`).

        Raises
        ------
        LinAlgError
            If a covariance is not positive definite.
        """
        decay = np.exp(-0.5 * (2 * np.pi * self.seen * px) ** 2).astype(np.float32)
        out = np.empty_like(settled)
        views = len(self.tangent)
        room = np.empty((2, views, views), np.float32), np.empty((2, views), np.float32)
        if not invert_unsettled(settled, decay, self.between, self.share, out, *room):
            raise np.linalg.LinAlgError("the covariance of the views is not positive")
        return out


def inverted_between(cells: FrequencyCells, apart_px: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return for each bin the two of the same range of y whose inverses its own is interpolated between, and how much of the second.

    They are `(bins, 2)` and `(bins,)`; a bin that is inverted lies between itself and itself.  `apart_px` is by how much more the top of
    the specimen moves than its bottom from one view to the next: the more for the size of the windows, the more are inverted.
    """
    spacing = float(cells.bin_x.max()) / max(int(cells.column.max()), 1)
    every = int(np.clip(_MOST_TURNED / max(spacing * apart_px, 1e-9), 1, _INVERTED))
    column, bins = cells.column[:, 0], np.arange(len(cells.column))
    between, share = np.stack([bins, bins], axis=1), np.zeros(len(bins), np.float32)
    for band in np.unique(cells.band):
        some = np.flatnonzero(cells.band == band)
        place = column[some]
        ends = (some == some[0]) | (some == some[-1])
        inverted = some[ends | (place <= _ALL_INVERTED) | ((place - _ALL_INVERTED) % every == 0)]
        after = np.searchsorted(inverted, some)
        first, second = inverted[np.maximum(after - 1, 0)], inverted[after]
        others = some != second
        between[some[others]] = np.stack([first, second], axis=1)[others]
        share[some[others]] = ((place - column[first]) / np.maximum(column[second] - column[first], 1))[others]
    return between, share


def rate_views(model: Coherence, covariances: ViewCovariances, cross: NDArray[np.complex64]) -> Coherence:
    """Return the model with the quality of each view: least squares of its coherence with the others.

    `cross` `(bins, views, views)` are the sums over patches.
    """
    found = cross[::_EVERY_BIN].conj()
    power = np.maximum(np.einsum("bii->bi", found).real, 1e-12)
    found = found / np.sqrt(power[:, :, None] * power[:, None, :])
    weight = covariances.cells.count[::_EVERY_BIN, None, None]
    expected = covariances.settled(model, every=_EVERY_BIN)
    wanted = expected / np.maximum(model.quality[:, None] * model.quality[None], 1e-6)
    agreement = (weight * (wanted.conj() * found).real).sum(axis=0)
    norm = (weight * np.abs(wanted) ** 2).sum(axis=0)
    np.fill_diagonal(agreement, 0.0)
    np.fill_diagonal(norm, 0.0)
    quality = model.quality.copy()
    for _ in range(_QUALITY_CYCLES):
        quality = np.clip((agreement @ quality) / np.maximum(norm @ quality**2, 1e-12), 0.0, _MOST_QUALITY)
    return replace(model, quality=np.where(model.quality > 0, quality, 0.0))
