"""The fit of a tilt series at one resolution: Gauss-Newton steps, and searches for the parameters on which they converge slowly.

The tilt axis angle and the slope of the specimen are correlated with the profile over depth that the model estimates: at a wrong
value the profile broadens and explains most of the difference, so that steps at a given profile converge slowly.  These two are found
by the maximum of the likelihood with the profile estimated anew for each value, which is broad and single.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.align.projection.covariance_model import CovarianceModel, Spectra, em_step, independent_log_likelihood, predict
from tiltflow.align.projection.frequency_band import FrequencyBand
from tiltflow.align.projection.lost_views import lost_views
from tiltflow.align.projection.matching import PARAMETERS, Matcher, MatchStep
from tiltflow.align.projection.posterior import FreeParameters, Posterior, Prior, solve_posterior
from tiltflow.align.projection.stretched_views import Frame, StretchedViews, ViewGeometry
from tiltflow.parallel import map_threads
from tiltflow.preprocess.binned_views import BinnedViews

Floats = NDArray[np.float64]

INITIAL_THICKNESS = 0.3
"""Thickness of the specimen before it is estimated, as a fraction of the field.  Coarse alignments of simulated sections (0.2 of the
field) are 6 % better with half of it, and three times worse with twice of it."""

_MARGIN = 1.25
"""Frame over field: a margin of an eighth at each side keeps content from wrapping around.  On five simulated series a frame of half
the size gives 1.2 to 5.7 times the error, one of twice the size, with four times the pixels, between 34 % less and 16 % more."""
_WINDOW = 0.1
"""Width of the tapered border of the field, as a fraction of it."""
_TAPER_PX = 8.0
"""Width of the tapered border of a view, pixels of the frame."""
_FARTHEST = 1.5
"""Longest move of a search, in half widths: the paraboloid is extrapolated no farther."""
_LONGEST = np.array([3.0, 3.0, 0.02, 0.01, 0.02, 0.05])
"""Longest step of each parameter (pixels of the frame, pixels, radians, fraction, radians, radians): the range over which the
predicted view changes about linearly."""
HIGHEST = 0.4
"""Highest frequency compared, cycles per pixel: interpolation distorts above (:mod:`tiltflow.align.projection.covariance_model`)."""
_SMALL_PX = 4_000_000
"""Pixels of all frames below which the places of a search are tried at the same time."""
_GROUPS = 8
"""Rings of frequencies that have a power of their own."""


@dataclass(frozen=True, slots=True)
class Search:
    """Result of a search for axis and slope.

    Attributes
    ----------
    turn, slope
        Changes of the axis angle, radians, and of the slope.
    spread
        Standard deviation of the turn by the curvature of the likelihood, radians; infinite when the maximum lies outside the range.
    settled
        Whether the best slope lies within the range.
    """

    turn: float
    slope: float
    spread: float
    settled: bool


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """The evidence for a geometry.

    Attributes
    ----------
    likelihood
        Log-likelihood minus that of independent views.
    correlation
        Of each view with its prediction, `(views,)`.
    heights
        Height of each view's correlation peak, `(views,)` standard deviations (:meth:`Matcher.heights`).
    rivals
        Height of the highest peak elsewhere, `(views,)`.
    """

    likelihood: float
    correlation: Floats
    heights: Floats
    rivals: Floats

    @property
    def lost(self) -> NDArray[np.intp]:
        """Views that may be anywhere, counted from 0."""
        return lost_views(self.correlation, self.heights, self.rivals)


class ProjectionFit:
    """A geometry and a covariance model of the series at one resolution, with the steps that improve them.

    Attributes
    ----------
    where
        The geometry.
    model
        The covariance model.
    prior
        Standard deviations of the view parameters.
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
        highest: float = HIGHEST,
        groups: int = _GROUPS,
        threads: int = 1,
    ) -> None:
        frame = Frame.around(views, where.axis_deg, (_MARGIN, _MARGIN))
        band = FrequencyBand.up_to(frame.shape, highest, groups)
        self.where = where
        self.model = CovarianceModel.initial(thickness_px / frame.pixel, groups, len(where.tilts))
        self.frame = frame
        self.last_move = np.inf
        self._nominal = where.tilts if nominal is None else nominal
        self.prior = Prior.initial()
        self._matcher = Matcher(StretchedViews(views, frame, _TAPER_PX), band, _WINDOW, threads=threads)
        self._threads = threads
        self._filling: Spectra | None = None
        self._matrix: Floats | None = None

    @property
    def thickness_px(self) -> float:
        """Thickness of the specimen, raw pixels."""
        return self.model.thickness * self.frame.pixel

    def centred(self) -> ViewGeometry:
        """Return the geometry with the middle of the specimen on the tilt axis."""
        lift = self.model.middle * self.frame.pixel * np.sin(self.where.tilts)
        return self.where.displaced(np.stack([lift, np.zeros_like(lift)], axis=1))

    def step(self, free: FreeParameters, *, em_iterations: int = 2, depth: bool = True, renew: bool = True) -> MatchStep:
        """Update the model, move all views, and return the normal equations of the step.

        Parameters
        ----------
        free
            Which parameters may change beside the shifts.
        em_iterations
            EM iterations of the model before; two suffice where the model carries over from an earlier step.
        depth
            Whether the profile over depth is updated too.
        renew
            Whether the matrix is computed anew, or that of the step before is used.

        Returns
        -------
        MatchStep
            Normal equations at the geometry before the step.
        """
        matcher, tangents = self._matcher, np.tan(self.where.tilts)
        spectra = matcher.spectra(self.where, self._filling)
        for _ in range(em_iterations):
            self.model, _ = em_step(self.model, matcher.band, spectra, tangents, depth=depth, threads=self._threads)
        prediction = predict(self.model, matcher.band, spectra, tangents, threads=self._threads)
        step = matcher.step(self.where, self.model, spectra, prediction, matrix=None if renew else self._matrix)
        self._matrix, self._filling = step.matrix, prediction.predicted
        found = self.solve_posterior(step, free)
        change = np.clip(found.change, -_LONGEST, _LONGEST)
        self.prior = found.prior
        self.where = moved(self.where, change, self.frame.pixel)
        self.last_move = float(np.sqrt(np.mean(change[:, 0] ** 2 + change[:, 1] ** 2)))
        return step

    def solve_posterior(self, step: MatchStep, free: FreeParameters) -> Posterior:
        """Return the posterior of the normal equations at the present geometry."""
        matrices = self.where.matrices
        deviation = np.zeros((len(matrices), PARAMETERS))
        turn = np.arctan2(matrices[:, 1, 0] - matrices[:, 0, 1], matrices[:, 0, 0] + matrices[:, 1, 1])
        deviation[:, 2] = np.angle(np.exp(1j * (turn - np.deg2rad(self.where.axis_deg))))
        deviation[:, 3] = np.log(np.linalg.det(matrices)) / 2
        deviation[:, 4] = self.where.tilts - self._nominal
        return solve_posterior(step, free, deviation, self.where.tilts, self.prior)

    def assess(self, where: ViewGeometry, *, em_iterations: int = 4) -> Assessment:
        """Return the evidence for a geometry, with a model of its own; four EM iterations from the initial one suffice."""
        matcher, tangents = self._matcher, np.tan(where.tilts)
        spectra = matcher.spectra(where, None)
        model, value = CovarianceModel.initial(self.model.thickness, matcher.band.groups, len(tangents)), 0.0
        for _ in range(em_iterations):
            model, value = em_step(model, matcher.band, spectra, tangents, threads=self._threads)
        prediction = predict(model, matcher.band, spectra, tangents, threads=self._threads)
        value -= independent_log_likelihood(matcher.band, spectra)
        return Assessment(value, matcher.correlation(where, spectra, prediction), *matcher.heights(spectra, prediction))

    def likelihood(self, where: ViewGeometry, *, em_iterations: int = 2, threads: int = 1) -> float:
        """Return the log-likelihood of a geometry, minus that of independent views, with the model broadened and estimated again.

        Nothing is filled in outside the views: the predictions would favour the geometry that they were made at.
        """
        spectra, tangents = self._matcher.spectra(where, None), np.tan(where.tilts)
        model, value = self.model.broadened(), 0.0
        for _ in range(em_iterations + 1):
            model, value = em_step(model, self._matcher.band, spectra, tangents, threads=threads)
        return value - independent_log_likelihood(self._matcher.band, spectra)

    def search(self, width: float, slope_width: float) -> Search:
        """Move the axis angle and the slope of the specimen to the maximum of the likelihood.

        The two are correlated: a paraboloid is put through six values around the present ones, and where it has no maximum each is
        moved on its own.  `width`, radians, and `slope_width` are half widths of the range.
        """
        scale = np.array([width, slope_width])
        places = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [1, 1]])
        around = (sloped(turned(self.where, float(x)), float(y)) for x, y in places * scale)
        # Small series gain most by a place on each thread; large ones take memory for each, and fill the threads by themselves.
        small = np.prod(self.frame.shape) * len(self.where.tilts) < _SMALL_PX
        at_once, each = (self._threads, 1) if small else (1, self._threads)
        values = np.array(list(map_threads(lambda where: self.likelihood(where, threads=each), around, at_once)))
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
    """Return the geometry after a step of the parameters `(views, 6)`; the mean magnification stays 1."""
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
