"""The fit of a tilt series at one resolution: steps of matching, and searches for what steps find too slowly.

Three properties of the whole series, the angle of the tilt axis, the slope of the specimen and an offset of the tilts, trade with
the profile over depth that the model learns: at a wrong value the profile grows broad and explains most of it, so that steps at a
given profile creep.  They are searched for by the likelihood after the profile has been learnt anew for each value, which has one
wide maximum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.projection.covariance_model import CovarianceModel, Spectra, evidence_alone, learn, predict
from tiltflow.align.projection.frequency_band import FrequencyBand
from tiltflow.align.projection.matching import PARAMETERS, Matcher, MatchStep
from tiltflow.align.projection.posterior import FreeParameters, Posterior, Prior, solve_posterior
from tiltflow.align.projection.stretched_views import Frame, StretchedViews, ViewGeometry
from tiltflow.preprocess.binned_views import BinnedViews

Floats = NDArray[np.float64]

_MARGIN = 1.25
"""Frame over field: what lies outside the field must not come in again at the other side."""
_WINDOW = 0.1
"""Width of the border of the field that fades, as a fraction of it."""
_TAPER_PX = 8.0
"""Width of the border of a view that fades, pixels of the frame."""
_FARTHEST = 1.5
"""Longest move of a search, in widths."""
_LONGEST = np.array([3.0, 3.0, 0.02, 0.01, 0.02, 0.05])
"""Longest step of each parameter: pixels of the frame, radians, fraction, radians, radians, radians."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search for axis and slope came to.

    Attributes
    ----------
    turn, slope
        By how much the axis was turned, radians, and the slope changed.
    spread
        Standard deviation of the turn as the likelihood has it, radians; infinite when the best lies beyond what was looked at.
    settled
        Whether the best slope lies within what was looked at, or the images tell none.
    """

    turn: float
    slope: float
    spread: float
    settled: bool


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """What a geometry is worth.

    Attributes
    ----------
    likelihood
        Its logarithm, over that of views that know nothing of each other.
    correlation
        Of each view with its prediction, `(views,)`.
    heights
        How clearly each view is recognised, `(views,)` standard deviations (:meth:`Matcher.heights`).
    """

    likelihood: float
    correlation: Floats
    heights: Floats


class ProjectionFit:
    """A geometry and a model of the series at one resolution, and what improves them.

    Attributes
    ----------
    where
        The geometry.
    slab
        The model.
    prior
        How much views are believed to differ from each other.
    last_move
        Root mean square shift of the last step, pixels of the frame.
    """

    def __init__(
        self,
        views: BinnedViews,
        where: ViewGeometry,
        thickness_px: float,
        *,
        nominal: Floats | None = None,
        highest: float = 0.4,
        groups: int = 8,
        threads: int = 1,
    ) -> None:
        frame = Frame.around(views, where.axis_deg, (_MARGIN, _MARGIN))
        band = FrequencyBand.up_to(frame.shape, highest, groups)
        self.where = where
        self.slab = CovarianceModel.vague(thickness_px / frame.pixel, groups, len(where.tilts))
        self.frame = frame
        self.last_move = np.inf
        self._nominal = where.tilts if nominal is None else nominal
        self.prior = Prior.open()
        self._matcher = Matcher(StretchedViews(views, frame, _TAPER_PX), band, frame.window(_WINDOW), threads=threads)
        self._filling: Spectra | None = None
        self._matrix: Floats | None = None

    @property
    def thickness_px(self) -> float:
        """Thickness of the specimen, raw pixels."""
        return self.slab.thickness * self.frame.pixel

    def centred(self) -> ViewGeometry:
        """Return the geometry with the middle of the specimen on the tilt axis."""
        lift = self.slab.middle * self.frame.pixel * np.sin(self.where.tilts)
        return self.where.displaced(np.stack([lift, np.zeros_like(lift)], axis=1))

    def step(self, free: FreeParameters, *, lessons: int = 2, depth: bool = True, renew: bool = True) -> MatchStep:
        """Learn the model, move all views, and return the normal equations the step was made of.

        Parameters
        ----------
        lessons
            How often the model learns before.
        renew
            Whether the matrix is made anew, or that of an earlier step is good enough.
        """
        matcher, tangents = self._matcher, np.tan(self.where.tilts)
        spectra = matcher.spectra(self.where, self._filling)
        for _ in range(lessons):
            self.slab, _ = learn(self.slab, matcher.band, spectra, tangents, depth=depth)
        prediction = predict(self.slab, matcher.band, spectra, tangents)
        step = matcher.step(self.where, self.slab, spectra, prediction, matrix=None if renew else self._matrix)
        self._matrix, self._filling = step.matrix, prediction.predicted
        found = self.solve_posterior(step, free)
        change = np.clip(found.change, -_LONGEST, _LONGEST)
        self.prior = found.prior
        self.where = moved(self.where, change, self.frame.pixel)
        self.last_move = float(np.sqrt(np.mean(change[:, 0] ** 2 + change[:, 1] ** 2)))
        return step

    def solve_posterior(self, step: MatchStep, free: FreeParameters) -> Posterior:
        """Return what normal equations at the present geometry come to."""
        matrices = self.where.matrices
        deviation = np.zeros((len(matrices), PARAMETERS))
        turn = np.arctan2(matrices[:, 1, 0] - matrices[:, 0, 1], matrices[:, 0, 0] + matrices[:, 1, 1])
        deviation[:, 2] = np.angle(np.exp(1j * (turn - np.deg2rad(self.where.axis_deg))))
        deviation[:, 3] = np.log(np.linalg.det(matrices)) / 2
        deviation[:, 4] = self.where.tilts - self._nominal
        return solve_posterior(step, free, deviation, self.where.tilts, self.prior)

    def assess(self, where: ViewGeometry, *, lessons: int = 4) -> Assessment:
        """Return what a geometry is worth, with a model of its own."""
        matcher, tangents = self._matcher, np.tan(where.tilts)
        spectra = matcher.spectra(where, None)
        slab, value = CovarianceModel.vague(self.slab.thickness, matcher.band.groups, len(tangents)), 0.0
        for _ in range(lessons):
            slab, value = learn(slab, matcher.band, spectra, tangents)
        prediction = predict(slab, matcher.band, spectra, tangents)
        value -= evidence_alone(matcher.band, spectra)
        return Assessment(value, matcher.correlation(where, spectra, prediction), matcher.heights(spectra, prediction))

    def likelihood(self, where: ViewGeometry, *, lessons: int = 2) -> float:
        """Return the log-likelihood of a geometry after the model, made to forget half of what it knows, has learnt from it.

        It is that over views which know nothing of each other (:func:`tiltflow.align.projection.covariance_model.evidence_alone`).
        Nothing is filled in outside the views: the predictions would speak for the geometry that they were made at.
        """
        spectra, tangents = self._matcher.spectra(where, None), np.tan(where.tilts)
        slab, value = self.slab.loosened(), 0.0
        for _ in range(lessons + 1):
            slab, value = learn(slab, self._matcher.band, spectra, tangents)
        return value - evidence_alone(self._matcher.band, spectra)

    def search(self, width: float, slope_width: float) -> Search:
        """Turn the axis and slope the specimen to where both are most likely.

        The two imitate each other, so that a paraboloid is laid through six values around the present ones; where it has no top,
        each is moved on its own.
        """
        scale = np.array([width, slope_width])
        places = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [1, 1]])
        values = np.array([self.likelihood(sloped(turned(self.where, x), y)) for x, y in places * scale])
        x, y = places.T
        design = np.stack([np.ones(6), x, y, x * x / 2, x * y, y * y / 2], axis=1)
        _, *slopes, xx, xy, yy = np.linalg.solve(design, values)
        gradient, curvature = np.array(slopes), -np.array([[xx, xy], [xy, yy]])
        if not np.all(np.linalg.eigvalsh(curvature) > 0):
            curvature = np.diag(np.maximum(np.diag(curvature), np.abs(gradient) / _FARTHEST + 1e-9))
        best = np.linalg.solve(curvature, gradient)
        best = np.asarray(best / max(1.0, float(np.abs(best).max()) / _FARTHEST), np.float64)
        turn, slope = (float(move) for move in best * scale)
        self.where = sloped(turned(self.where, turn), slope)
        inside = np.abs(best) < 1
        spread = width * float(np.sqrt(np.linalg.inv(curvature)[0, 0]))
        return Search(turn, slope, spread if inside[0] else np.inf, bool(inside[1]))


def moved(where: ViewGeometry, change: Floats, pixel: float) -> ViewGeometry:
    """Return the geometry after the content of each view was found changed by `(views, 6)`; the mean magnification stays 1."""
    dx, dy, turn, growth, tilt, slope = change.T
    displaced = where.displaced(np.stack([dx * np.cos(where.tilts), dy], axis=1) * pixel)
    local = np.array([[1 + growth, -turn], [turn, 1 + growth]]).transpose(2, 0, 1)
    matrices = where.matrices @ local
    scale = np.exp(np.mean(np.log(np.linalg.det(matrices))) / 2 - np.mean(np.log(np.linalg.det(where.matrices))) / 2)
    return replace(displaced, matrices=matrices / scale, tilts=where.tilts + tilt, slope=where.slope + float(slope.mean()))


def turned(where: ViewGeometry, angle: float) -> ViewGeometry:
    """Return the geometry with the tilt axis turned by an angle, radians, in all views."""
    return replace(where, matrices=where.matrices @ geometry.rotation(float(np.rad2deg(angle))))


def sloped(where: ViewGeometry, slope: float) -> ViewGeometry:
    """Return the geometry with the specimen steeper along the tilt axis."""
    return replace(where, slope=where.slope + slope)
