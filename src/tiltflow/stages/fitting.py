"""The fit of a tilt series at one resolution: steps of matching, and searches for what steps find too slowly.

Three properties of the whole series, the angle of the tilt axis, the slope of the specimen and an offset of the tilts, trade with
the profile over depth that the model learns: at a wrong value the profile grows broad and explains most of it, so that steps at a
given profile creep.  They are searched for by the likelihood after the profile has been learnt anew for each value, which has one
wide maximum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiltflow import geometry
from tiltflow.stages.binned import BinnedViews
from tiltflow.stages.matching import PARAMETERS, Matcher, Step
from tiltflow.stages.slab import Band, Slab, Spectra, learn, predict
from tiltflow.stages.stretched import Frame, StretchedViews, ViewGeometry

Floats = NDArray[np.float64]

_MARGIN = 1.25
"""Frame over field: what lies outside the field must not come in again at the other side."""
_WINDOW = 0.1
"""Width of the border of the field that fades, as a fraction of it."""
_TAPER_PX = 8.0
"""Width of the border of a view that fades, pixels of the frame."""
_LONGEST = np.array([3.0, 3.0, 0.02, 0.01, 0.02, 0.05])
"""Longest step of each parameter: pixels of the frame, radians, fraction, radians, radians, radians."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """Which parameters a step may change beside the shifts."""

    axis: bool = False
    slope: bool = False
    rotation: bool = False
    magnification: bool = False
    tilt: bool = False

    def design(self, views: int) -> Floats:
        """Return how the parameters of all views, `(views * 6,)`, follow from the free ones."""
        columns = []
        for parameter, free in enumerate((True, True, self.rotation, self.magnification, self.tilt)):
            if free:
                each = np.zeros((views, PARAMETERS, views))
                each[np.arange(views), parameter, np.arange(views)] = 1.0
                columns.append(each)
        for parameter, free in ((2, self.axis and not self.rotation), (5, self.slope)):
            if free:
                common = np.zeros((views, PARAMETERS, 1))
                common[:, parameter] = 1.0
                columns.append(common)
        return np.concatenate(columns, axis=2).reshape(views * PARAMETERS, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stiffness:
    """What is believed before looking: standard deviations of the parameters of a view.

    Shifts are pixels of the frame; rotations and magnifications are about their mean; tilts about the nominal ones with a common
    offset.
    """

    shift: float = 20.0
    rotation_deg: float = 0.5
    magnification: float = 0.005
    tilt_deg: float = 0.7

    def information(self, views: int) -> Floats:
        """Return the inverse covariance, `(views * 6, views * 6)`."""
        spread = np.array(
            [self.shift, self.shift, np.deg2rad(self.rotation_deg), self.magnification, np.deg2rad(self.tilt_deg), 1.0]
        )
        about_mean = np.eye(views) - 1.0 / views
        information = np.zeros((views, PARAMETERS, views, PARAMETERS))
        for parameter, sd in enumerate(spread):
            information[:, parameter, :, parameter] = (about_mean if parameter in {2, 3, 4} else np.eye(views)) / sd**2
        return information.reshape(views * PARAMETERS, -1)


class Fit:
    """A geometry and a model of the series at one resolution, and what improves them.

    Attributes
    ----------
    where
        The geometry.
    slab
        The model.
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
        stiffness: Stiffness | None = None,
        threads: int = 1,
    ) -> None:
        frame = Frame.around(views, where.axis_deg, (_MARGIN, _MARGIN))
        band = Band.up_to(frame.shape, highest, groups)
        self.where = where
        self.slab = Slab.vague(thickness_px / frame.pixel, groups, len(where.tilts))
        self.frame = frame
        self.last_move = np.inf
        self._nominal = where.tilts if nominal is None else nominal
        self._stiffness = stiffness or Stiffness()
        self._threads = threads
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

    def step(self, free: Free, *, lessons: int = 2, depth: bool = True, renew: bool = True) -> Step:
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
            self.slab, _ = learn(self.slab, matcher.band, spectra, tangents, depth=depth, threads=self._threads)
        prediction = predict(self.slab, matcher.band, spectra, tangents, threads=self._threads)
        step = matcher.step(self.where, self.slab, spectra, prediction, matrix=None if renew else self._matrix)
        self._matrix, self._filling = step.matrix, prediction.predicted
        change = self.solve(step, free, step.gradient.sum(axis=0))
        self.where = moved(self.where, change, self.frame.pixel)
        self.last_move = float(np.sqrt(np.mean(change[:, 0] ** 2 + change[:, 1] ** 2)))
        return step

    def solve(self, step: Step, free: Free, gradient: Floats, *, clipped: bool = True) -> Floats:
        """Return the change of all parameters, `(views, 6)`, that a gradient asks for, no larger than a step may be.

        When not `clipped` it is what the gradient alone asks for, without the pull towards what was believed before.
        """
        views = len(self.where.tilts)
        design, prior = free.design(views), self._stiffness.information(views)
        pull = np.zeros((views, PARAMETERS))
        error = self.where.tilts - self._nominal
        pull[:, 4] = (error.mean() - error) / np.deg2rad(self._stiffness.tilt_deg) ** 2
        normal = design.T @ (step.matrix + prior) @ design
        right = gradient + pull.ravel() if clipped else gradient
        change = (design @ np.linalg.solve(normal, design.T @ right)).reshape(views, PARAMETERS)
        return np.clip(change, -_LONGEST, _LONGEST) if clipped else change

    def assess(self, where: ViewGeometry, *, lessons: int = 4) -> tuple[float, Floats]:
        """Return the log-likelihood of a geometry and the correlation of each view with its prediction, with a model of its own."""
        matcher, tangents = self._matcher, np.tan(where.tilts)
        spectra = matcher.spectra(where, None)
        slab, value = Slab.vague(self.slab.thickness, matcher.band.groups, len(tangents)), 0.0
        for _ in range(lessons):
            slab, value = learn(slab, matcher.band, spectra, tangents, threads=self._threads)
        prediction = predict(slab, matcher.band, spectra, tangents, threads=self._threads)
        return value, matcher.correlation(where, spectra, prediction)

    def likelihood(self, where: ViewGeometry, *, lessons: int = 2) -> float:
        """Return the log-likelihood of a geometry after the model, made to forget half of what it knows, has learnt from it.

        Nothing is filled in outside the views: the predictions would speak for the geometry that they were made at.
        """
        spectra, tangents = self._matcher.spectra(where, None), np.tan(where.tilts)
        slab, value = self.slab.loosened(), 0.0
        for _ in range(lessons + 1):
            slab, value = learn(slab, self._matcher.band, spectra, tangents, threads=self._threads)
        return value

    def search(
        self, change: Callable[[ViewGeometry, float], ViewGeometry], width: float, *, rounds: int = 2
    ) -> tuple[float, float]:
        """Move to the most likely value of one property; return the move and its standard deviation as the likelihood has it.

        Each round lays a parabola through three values, and narrows the interval to a third when the best lies inside.
        """
        total, spread = 0.0, np.inf
        for _ in range(rounds):
            low, here, high = (self.likelihood(change(self.where, offset)) for offset in (-width, 0.0, width))
            curvature = low - 2 * here + high
            if curvature < 0:
                best = float(np.clip(0.5 * (low - high) / curvature, -1.5, 1.5)) * width
                spread = width / np.sqrt(-curvature)
            else:
                best = width if high > low else -width
            self.where = change(self.where, best)
            total += best
            width /= 3 if abs(best) < width else 1
        return total, spread


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


def tilted(where: ViewGeometry, angle: float) -> ViewGeometry:
    """Return the geometry with all tilts larger by an angle, radians."""
    return replace(where, tilts=where.tilts + angle)
