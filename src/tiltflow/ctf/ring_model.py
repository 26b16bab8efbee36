"""The power that a model of the whole series expects in every view, column, sector and shell.

    E = exp(level + N(s)) (1 + R(s) (1 - a cos 2 chi) / 2)

N is the logarithm of the noise, R what the specimen adds to it where the transfer is 1, in parts of the noise.  N and log R are
polynomials in log s, the same for all views, but for small differences between views, and for a level and a strength of each column of
each view: a cell fills a part of the field.  `a` is what is left of the rings when a tile averages over frequencies and over defocus
(:func:`ring_contrast`), and `chi` the phase at the defocus of the column (:mod:`tiltflow.ctf.model`).

The periodogram of noise and of an irregular specimen is distributed exponentially about its mean, so that the deviance is that of
Whittle's likelihood, `2 sum n (P / E - 1 - log(P / E))` over n independent cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from tiltflow.ctf.model import Microscope
from tiltflow.ctf.spectra import SeriesSpectra

Floats = NDArray[np.float64]

_NOISE_ORDER, _STRENGTH_ORDER = 3, 4
"""Orders of the polynomials.  One more or less of either moves the mean defocus of EMPIAR-10499's series 00254, of which a single ring is
seen, by 10 nm, and that of simulated series by 1."""
_STRENGTH_SD, _FALL_SD = 0.7, 0.7
"""Standard deviation between views of the logarithm of the strength, and of its slope over half the range of frequencies: from
the untilted view to the steepest and most exposed one the rings of a real series fall to a fifth."""
_SLOPE_SD, _CURVE_SD = 0.2, 0.1
"""Standard deviation between views of slope and curvature of the logarithm of the noise; 0.2 and 0.05 in a real series."""
_LEVEL_SD, _COLUMN_SD = 10.0, 0.3
"""Standard deviation between columns of the logarithm of the power, which is free, and of that of the strength.  Without the latter
the misfit of a real series is 1.5 times its noise, and with it 1.05 times."""
_NOISE_SD = 1.0
"""Standard deviation of the coefficients of the logarithm of the noise: a camera's transfer falls by a factor of 2 to 10."""
_STRENGTH_MEAN, _STRENGTH_START_SD, _STRENGTH_SLOPE_SD, _STRENGTH_BEND_SD = (-0.7, -2.0), 3.0, 2.0, 1.0
"""Mean of the first two coefficients of the logarithm of the strength, and standard deviations of the first, the second and the others:
spectra of specimens fall, by a factor of 50 over half the range of frequencies.  A slow ring and a spectrum that rises would explain
one fast ring as well."""
_LOG_LIMIT = 6.0
"""Logarithm of the strength beyond which it is cut: the specimen is then 400 times the noise, or nothing."""
_LEVEL_LIMIT = 30.0
"""The same of the power, which has a mean of 1."""

_HANN_VARIANCE = 1 / 3
"""Variance of the frequencies that a Hann window mixes, along one side, in units of its side to the power of -2."""

OWN, OF_COLUMN = 4, 2
"""Parameters of a view besides its defocus, and of a column of it."""


@dataclass(frozen=True, slots=True, eq=False)
class RingData:
    """Spectra in the range of frequencies that is fitted.

    Attributes
    ----------
    power, weight
        `(views, columns, sectors, shells)`.
    s, s2, x
        Frequency of the shells, 1/nm, its square where the rings are (:func:`recentred`), and the place of a shell in the range of
        frequencies, -1 to 1, `(shells,)`.
    noise, strength
        Polynomials of x, `(order, shells)`: from order 1, and from order 0.
    noise_slope, strength_slope
        Their derivatives by the frequency, nm.
    per_hand
        Change of the defocus with the gradient factor, nm, `(views, columns)`.
    spread_nm
        Root mean square of the defocus within a column, nm, `(views, columns)`.
    double
        Cosine and sine of twice the direction of the sectors, `(2, sectors)`.
    tile_nm
        Side of a tile.
    """

    power: Floats
    weight: Floats
    s: Floats
    s2: Floats
    x: Floats
    noise: Floats
    strength: Floats
    noise_slope: Floats
    strength_slope: Floats
    per_hand: Floats
    spread_nm: Floats
    double: Floats
    tile_nm: float


def ring_data(spectra: SeriesSpectra, tilt_deg: Floats, lowest: float, highest: float) -> RingData:
    """Return the spectra between two frequencies, 1/nm, scaled so that all columns have the mean 1."""
    s = np.sqrt(spectra.s2)
    used = (s >= lowest) & (s <= highest)
    power, weight = spectra.power[..., used], spectra.weight[..., used]
    total = weight.sum(axis=(2, 3))
    level = (weight * power).sum(axis=(2, 3)) / np.maximum(total, 1e-9)
    power = np.where(weight > 0, power / np.maximum(level, 1e-30)[:, :, None, None], 1.0)
    tangent = np.tan(np.deg2rad(tilt_deg))[:, None]
    s = s[used]
    per_log = 2 / np.log(s[-1] / s[0])
    x, per_s = per_log * np.log(s / s[0]) - 1, per_log / s
    return RingData(
        power=np.maximum(power, 1e-9),
        weight=weight,
        s=s,
        s2=spectra.s2[used],
        x=x,
        noise=chebyshev.chebvander(x, _NOISE_ORDER).T[1:],
        strength=chebyshev.chebvander(x, _STRENGTH_ORDER).T,
        noise_slope=per_s * _slopes(x, _NOISE_ORDER)[1:],
        strength_slope=per_s * _slopes(x, _STRENGTH_ORDER),
        per_hand=spectra.u_nm * tangent,
        spread_nm=np.abs(spectra.spread_nm * tangent),
        double=np.stack([np.cos(2 * spectra.direction), np.sin(2 * spectra.direction)]),
        tile_nm=spectra.tile_nm,
    )


def recentred(data: RingData, shared: Floats) -> RingData:
    """Return data with the squared frequencies at which the rings of a shell are, for a spectrum with these polynomials.

    The window mixes frequencies: the mean of their squares is larger than that of the shell, and where the spectrum falls, lower ones
    prevail.  At 3 µm and a tile of 50 nm the two move a defocus by 5 nm.
    """
    of_noise, of_strength = np.split(shared, [len(data.noise)])
    falling = data.s * (of_noise @ data.noise_slope + of_strength @ data.strength_slope)
    return replace(data, s2=data.s**2 + _HANN_VARIANCE * 2 * (1 + falling) / data.tile_nm**2)


def _slopes(x: Floats, order: int) -> Floats:
    """Return the derivatives of the polynomials, `(order + 1, shells)`."""
    return np.array([chebyshev.chebval(x, chebyshev.chebder(row)) for row in np.eye(order + 1)])


def ring_contrast(data: RingData, scope: Microscope, defocus_nm: float) -> Floats:
    """Return what a tile leaves of the amplitude of rings, 0 to 1, `(views, columns, shells)`.

    The two images of a point lie `2 lambda D s` apart and overlap in the window, as its autocorrelation says; a shell has a width; and
    the defocus varies within a column.
    """
    lag = np.minimum(2 * scope.wavelength_nm * defocus_nm * np.sqrt(data.s2) / data.tile_nm, 1.0)
    overlap = (1 - lag) * (2 + np.cos(2 * np.pi * lag)) / 3 + np.sin(2 * np.pi * lag) / (2 * np.pi)
    phase = 2 * scope.per_defocus * data.s2 * data.spread_nm[:, :, None]
    return np.asarray(overlap * np.sinc(lag) * np.exp(-0.5 * phase**2))


@dataclass(frozen=True, slots=True, eq=False)
class RingModel:
    """Parameters of the model.

    Attributes
    ----------
    defocus_nm
        On the tilt axis, `(views,)`.
    own
        Of each view: logarithm of the strength and its slope, slope and curvature of the noise, `(views, 4)`.
    of_column
        Of each column: logarithm of the power, and of the strength, `(views, columns, 2)`.
    shared
        Polynomial of the noise (order 1 up) and of the strength (order 0 up).
    gradient
        Factor of the gradient: the hand, where it is not fitted.
    astigmatism
        Its two components, nm (:meth:`tiltflow.ctf.model.Astigmatism.from_components`).
    phase_deg
        Phase shift.
    """

    defocus_nm: Floats
    own: Floats
    of_column: Floats
    shared: Floats
    gradient: float
    astigmatism: Floats
    phase_deg: float = 0.0

    @property
    def special(self) -> Floats:
        """Gradient, astigmatism and phase shift, `(4,)`."""
        return np.array([self.gradient, *self.astigmatism, self.phase_deg])


def shared_prior(data: RingData) -> tuple[Floats, Floats]:
    """Return mean and precision of the coefficients of the polynomials."""
    orders = len(data.noise)
    mean, sd = np.zeros(orders + len(data.strength)), np.full(orders + len(data.strength), _STRENGTH_BEND_SD)
    mean[orders : orders + 2] = _STRENGTH_MEAN
    sd[:orders], sd[orders], sd[orders + 1] = _NOISE_SD, _STRENGTH_START_SD, _STRENGTH_SLOPE_SD
    return mean, 1 / sd**2


def prior_cost(data: RingData, model: RingModel) -> float:
    """Return the terms of the priors of all but the defocus: twice their logarithm below the most probable parameters."""
    mean, precision = shared_prior(data)
    own, of_column = (OWN_PRECISION * model.own**2).sum(), (COLUMN_PRECISION * model.of_column**2).sum()
    return float(own + of_column + (precision * (model.shared - mean) ** 2).sum())


OWN_PRECISION = 1 / np.array([_STRENGTH_SD, _FALL_SD, _SLOPE_SD, _CURVE_SD]) ** 2
"""Prior precision of the parameters of a view."""
COLUMN_PRECISION = 1 / np.array([_LEVEL_SD, _COLUMN_SD]) ** 2
"""... of a column."""


def first_model(data: RingData, defocus_nm: float, hand: float) -> RingModel:
    """Return a model to begin with: a strength of half the noise, that falls."""
    views, columns = data.power.shape[:2]
    orders = len(data.noise)
    shared = np.zeros(orders + len(data.strength))
    shared[orders : orders + 2] = _STRENGTH_MEAN
    own, of_column = np.zeros((views, OWN)), np.zeros((views, columns, OF_COLUMN))
    return RingModel(np.full(views, defocus_nm), own, of_column, shared, hand, np.zeros(2))


@dataclass(frozen=True, slots=True, eq=False)
class Expectation:
    """What a model expects, and how that changes, all `(views, columns, sectors, shells)`.

    Attributes
    ----------
    power
        The expected power.
    smooth
        What it would be if the rings were averaged out.
    to_phase, to_defocus, to_strength
        Derivatives of its logarithm by `chi`, the defocus, and the logarithm of the strength.
    """

    power: Floats
    smooth: Floats
    to_phase: Floats
    to_defocus: Floats
    to_strength: Floats


def expect(data: RingData, model: RingModel, scope: Microscope) -> Expectation:
    """Return what a model expects."""
    own, of_column = model.own, model.of_column
    of_noise, of_strength = np.split(model.shared, [len(data.noise)])
    noise = own[:, 2:3] * data.x + own[:, 3:4] * data.noise[1] + of_noise @ data.noise
    strength = own[:, :1] + own[:, 1:2] * data.x + of_strength @ data.strength
    log_strength = np.clip(strength[:, None] + of_column[:, :, 1:], -_LOG_LIMIT, _LOG_LIMIT)
    factor = 0.5 * np.exp(log_strength)[:, :, None]
    level = np.exp(np.clip(of_column[:, :, :1] + noise[:, None], -_LEVEL_LIMIT, _LEVEL_LIMIT))[:, :, None]
    along = (model.defocus_nm[:, None] + model.gradient * data.per_hand)[:, :, None]
    defocus = along + 0.5 * model.astigmatism @ data.double
    turn = 2 * scope.phase(data.s2, defocus[..., None], model.phase_deg)
    contrast = ring_contrast(data, scope, float(np.mean(model.defocus_nm)))[:, :, None]
    ring = 1 - contrast * np.cos(turn)
    gain = 1 + factor * ring
    to_phase = 2 * factor * contrast * np.sin(turn) / gain
    smooth = np.broadcast_to(level * (1 + factor), gain.shape)
    return Expectation(level * gain, smooth, to_phase, to_phase * scope.per_defocus * data.s2, factor * ring / gain)


def deviance(data: RingData, expected: Floats) -> float:
    """Return twice the logarithm of the ratio of the likelihoods of a perfect fit and this one."""
    ratio = data.power / expected
    return float(2 * np.sum(data.weight * (ratio - 1 - np.log(ratio))))
