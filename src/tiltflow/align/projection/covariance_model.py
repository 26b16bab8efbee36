"""A Gaussian model of a tilt series: the covariance of all views of a specimen of unknown content between two surfaces.

A view stretched to zero tilt is `g_i(x, y) = integral of rho(x - z tan t_i, y, z) dz`.  Its Fourier transform over x and y at the
frequency `(q, p)` is that of the specimen along z, taken at `q tan t_i`: every frequency of the images is a one-dimensional
series of samples of a band-limited function, for the specimen ends at its surfaces.  When the content is as random as it can be,
with a power `s` that depends on the frequency and is distributed over depth by a profile `w(z)`, the samples of all views are
Gaussian with covariance

    C_ij = s ( k_ij + n d_i [i = j] ),     k_ij = integral of w(z) exp(-2 pi i z q (tan t_i - tan t_j)) dz,

noise `n` by band of frequency and `d` by view.  From this follow, without any volume: the best linear prediction of each view from
all others, the variance of that prediction, and the likelihood of the whole series.  Profile, powers and noise are estimated from
the series itself by EM-like iterations: each variance is multiplied by the power its component explains over the power that the
model expects it to explain; at the fixed point the gradient of the likelihood is zero (MacKay 1992, doi:10.1162/neco.1992.4.3.415).  The
thickness of the section and layers of gold appear in the profile.

The leave-out prediction of view i, from `a = C^-1 g` alone: `g_i - a_i / (C^-1)_ii` (Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, eq. 5.12).  IMOD has no counterpart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.align.projection.frequency_band import FrequencyBand
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Spectra = NDArray[np.complex64]
"""`(q, views, p)`: the frequencies of all views within the band, q contiguous last so that one q is a matrix."""

_LEAST = 1e-6
"""Lower bound of every noise variance, as a fraction of the signal's: the covariance stays positive in double precision."""
_STRIDE = 2
"""The variances are estimated from every second frequency along x: neighbouring ones are correlated, as the field fills most of the
frame."""
_FAINTEST = 0.02
"""Least power of a view in a ring, relative to that of the others."""
_RESOLVED = 0.42
"""Frequency, cycles per pixel of a view, above which interpolation distorts it: the gain of cubic B-splines is 0.78 there and 0.5 at
the Nyquist frequency."""
_STEEPNESS = 12
"""Power of the frequency with which the noise of what a view does not resolve rises: 1 % of the signal at 0.7 of `_RESOLVED`."""
_RESOLVED_NOISE = 0.1
"""Noise, relative to the signal, up to which a frequency counts as resolved where the noise of a view is estimated."""
_SOFT_EDGE = 1.5
"""The initial profile reaches this many half thicknesses: flat to half of one, then falling linearly."""
_SOFT_EDGE_BROADENED = 2.0
"""The same for the broadened profile."""
_BROADENED = 0.65
_REMEMBERED = 0.3
"""A broadened model is an even profile of half width `_BROADENED` thicknesses, with this share of the profile it had."""
_LEAST_PROFILE = 0.02
"""Relative power far from the specimen in these profiles: not 0, as an iteration multiplies and could not raise it again."""
_INITIAL_NOISE, _LEAST_NOISE_BROADENED = 0.1, 0.03
"""Noise over signal at the beginning, and the least after broadening: starting values of the EM iterations."""
_TAILS = 0.05
"""Share of the power left out at each side when the thickness is measured."""
_NOISE_BOUNDS = 1e-4, 1e3
"""Bounds of the noise over signal of a ring."""
_PARTS = 8
"""Parts that the frequencies along x are shared out in: threads that are of use."""
_WORTH_THREADS = 1_000_000
"""Frequencies times the third power of the views from which threads are used: about a millisecond of work."""
_LEAST_SHARE = 1e-9
"""Least power of a depth where matrices are over depths, which are divided by it: far below `_LEAST`."""
_NOT_POSITIVE = "the covariance of the views is not positive"
_VIEW_NOISE_BOUNDS = 0.05, 1e4
"""Bounds of the noise of a view relative to the typical one; a view of something else must be able to lose all weight."""


@dataclass(frozen=True, slots=True, eq=False)
class CovarianceModel:
    """The variances of the model.

    Attributes
    ----------
    z
        Depths, pixels of the frame: whole numbers from minus the last to the last.
    profile
        Share of the power at each depth; adds up to 1.
    signal, noise
        Power of the specimen in each ring, and of the noise relative to it.
    view_noise
        Noise of each view relative to the others.
    """

    z: Floats
    profile: Floats
    signal: Floats
    noise: Floats
    view_noise: Floats

    @classmethod
    def initial(cls, thickness_px: float, groups: int, views: int) -> CovarianceModel:
        """Return a model of a given thickness, pixels of the frame, with soft edges and equal powers."""
        half = max(int(np.ceil(0.5 * _SOFT_EDGE * thickness_px)), 2)
        z = np.arange(-half, half + 1, dtype=float)
        profile = np.clip(_SOFT_EDGE - np.abs(z) / (0.5 * thickness_px), _LEAST_PROFILE, 1.0)
        return cls(z, profile / profile.sum(), np.ones(groups), np.full(groups, _INITIAL_NOISE), np.ones(views))

    def broadened(self) -> CovarianceModel:
        """Return the model with its profile broadened and the noise of single views drawn towards the typical one."""
        half_width = _BROADENED * self.thickness
        middle = float(self.z @ self.profile)
        even = np.clip(_SOFT_EDGE_BROADENED - np.abs(self.z - middle) / half_width, _LEAST_PROFILE, 1.0)
        profile = _REMEMBERED * self.profile + (1 - _REMEMBERED) * even / even.sum()
        noise = np.maximum(self.noise, _LEAST_NOISE_BROADENED)
        return replace(self, profile=profile, noise=noise, view_noise=np.sqrt(self.view_noise))

    @property
    def sums(self) -> Floats:
        """The profile as even and odd sums over depth, `(4, half + 1)`: of the phases' cosines and sines, then of their derivatives by q.

        The sum over z of `w(z) exp(-i z t)` is that of `even cos(z t) + i odd sin(z t)` over z from 0; the last two are, for the sum of
        `z w(z) exp(-i z t)`, what stands before the cosine and, but for the factor i, the sine.
        """
        half = len(self.z) // 2
        above, below = self.profile[half:], self.profile[half::-1]
        even, odd = above + below, below - above
        even[0] = above[0]
        return np.stack([even, odd, -self.z[half:] * odd, -self.z[half:] * even])

    @property
    def thickness(self) -> float:
        """Extent in z that holds nine tenths of the power, scaled to that of an even profile, pixels of the frame."""
        low, high = self._surfaces()
        return float(high - low) / (1 - 2 * _TAILS)

    @property
    def middle(self) -> float:
        """Depth half way between the surfaces, pixels of the frame."""
        return float(np.mean(self._surfaces()))

    def _surfaces(self) -> Floats:
        return np.asarray(np.interp([_TAILS, 1 - _TAILS], np.cumsum(self.profile), self.z))


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The prediction of each view from all others; all arrays are `(q, views, p)`.

    Attributes
    ----------
    predicted
        The best linear prediction of each view.
    by_tilt
        Its derivative by the tilt of the view, radians, at fixed x and y.
    weighted
        Residual over its variance, from which the gradient of any parameter follows.
    precision
        The inverse of that variance.
    """

    predicted: Spectra
    by_tilt: Spectra
    weighted: Spectra
    precision: NDArray[np.float32]


def resolution_noise(q: ArrayLike, tangents: Floats) -> Floats:
    """Return the noise relative to the signal, `(..., views)`, that stands for the limited resolution of stretched views at each q."""
    cosine = 1 / np.sqrt(1 + tangents**2)
    return np.asarray((np.asarray(q)[..., None] / (_RESOLVED * cosine)) ** _STEEPNESS)


def precisions(model: CovarianceModel, q: float, tangents: Floats, groups: NDArray[np.intp]) -> tuple[Complexes, Floats]:
    """Return the inverses of the covariances in some rings over the signal's power, and the log-determinants of the inverses.

    Parameters
    ----------
    model
        The variances.
    q
        Frequency along x, cycles per pixel of the frame.
    tangents
        Of the tilts, `(views,)`.
    groups
        Numbers of the rings.

    Returns
    -------
    inverses, determinants
        `(groups, views, views)` and `(groups,)`.

    Raises
    ------
    LinAlgError
        If a covariance is not positive definite.
    """
    noise = model.noise[groups][:, None] * model.view_noise + _LEAST
    inverses, determinants = _inverses(model, np.array([q]), tangents, noise)
    return inverses[0], determinants[0]


def _inverses(model: CovarianceModel, q: Floats, tangents: Floats, noise: Floats) -> tuple[Complexes, Floats]:
    """Return :func:`precisions` for several q, `(q, groups, views, views)` and `(q, groups)`; `noise` is `(groups, views)`."""
    from tiltflow.kernels import covariance  # numba is slow to import

    noise = noise + resolution_noise(q, tangents)[:, None]
    even, odd, _, _ = model.sums
    inverses, logarithms = np.empty((*noise.shape, len(tangents)), np.complex128), np.empty(noise.shape[:2])
    views = len(tangents)
    room = np.empty((covariance.MATRICES, views, views)), np.empty((covariance.VECTORS, views))
    covariance.invert_rings(2 * np.pi * q[:, None] * tangents, even, odd, noise, inverses, logarithms, *room)
    if not np.all(np.isfinite(logarithms)):
        raise np.linalg.LinAlgError(_NOT_POSITIVE)
    return inverses, -logarithms


def em_step(
    model: CovarianceModel, band: FrequencyBand, spectra: Spectra, tangents: Floats, *, depth: bool = True, threads: int = 1
) -> tuple[CovarianceModel, float]:
    """Return the model after one EM iteration, and the log-likelihood of the one given.

    Each variance is multiplied by the power that its component explains over the power it is expected to explain.  `depth` says
    whether the profile is estimated too.
    """
    chosen = np.arange(0, len(band.q), _STRIDE)
    terms, algebra = _Terms.of(model, band, tangents), _Algebra.of(model, len(tangents))

    def at(some: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        by_depth, noise = np.zeros((2, len(model.z))), np.zeros((2, band.groups, len(tangents)))
        power, room = np.zeros((3, band.groups)), algebra.room()
        for q in some:
            sums, angles, seen = (by_depth, noise, power), terms.angles[q], terms.unresolved[q] < _RESOLVED_NOISE
            where = band.order[q], band.starts[q], spectra[q]
            if not algebra.explain(
                angles, algebra.profile, terms.noise + terms.unresolved[q], seen, model.signal, *where, *sums, *room
            ):
                raise np.linalg.LinAlgError(_NOT_POSITIVE)
        return by_depth, noise, power

    parts = map_threads(at, _shared(chosen), _worth(threads, len(chosen), len(tangents)))
    by_depth, noise, power = (np.sum(sums, axis=0) for sums in zip(*parts, strict=True))
    signal = model.signal * np.where(power[1] > 0, power[0] / np.maximum(power[1], 1), 1.0)
    profile = model.profile * (_ratio(*by_depth) if depth else 1.0)
    by_group, by_view = noise.sum(axis=2), noise.sum(axis=1)
    view_noise = np.clip(model.view_noise * _ratio(*by_view), *_VIEW_NOISE_BOUNDS)
    view_noise /= np.exp(np.median(np.log(view_noise)))
    likelihood = -_STRIDE * float(np.sum(power[2]) + np.sum(power[1] * np.log(np.maximum(signal, 1e-300))) + np.sum(power[1]))
    updated = replace(
        model,
        profile=profile / profile.sum(),
        signal=np.maximum(signal, 1e-30),
        noise=np.clip(model.noise * _ratio(*by_group) / profile.sum(), *_NOISE_BOUNDS),
        view_noise=view_noise,
    )
    return updated, likelihood


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """What the covariances of all q are made of, beside the profile.

    `angles` and `unresolved` are `(q, views)`: the phase of each view at the depth of one pixel, and the noise of what it does not
    resolve; `noise` is `(groups, views)`.
    """

    angles: Floats
    unresolved: Floats
    noise: Floats

    @classmethod
    def of(cls, model: CovarianceModel, band: FrequencyBand, tangents: Floats) -> _Terms:
        angles = 2 * np.pi * band.q[:, None] * tangents
        return cls(angles, resolution_noise(band.q, tangents), model.noise[:, None] * model.view_noise + _LEAST)


@dataclass(frozen=True, slots=True, eq=False)
class _Algebra:
    """The kernels for a model of some views: with matrices over depths, or over views where there are more depths.

    `explain` and `foretell` are those of :mod:`tiltflow.kernels.covariance` or of :mod:`tiltflow.kernels.depths`, `profile` is what they
    take, and `shapes` are those of their room to work in.
    """

    explain: Callable[..., bool]
    foretell: Callable[..., bool]
    profile: Floats
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, model: CovarianceModel, views: int) -> _Algebra:
        """Return those for `views` views."""
        from tiltflow.kernels import covariance, depths  # numba is slow to import

        size = len(model.z)
        if size > views:
            shapes = (covariance.MATRICES, views, views), (covariance.VECTORS, views)
            return cls(covariance.explain, covariance.foretell, model.sums, shapes)
        profile = np.maximum(model.profile, _LEAST_SHARE)
        rooms = (depths.MATRICES, size, size), (depths.BY_DEPTH, size), (depths.BY_VIEW + 2 * size, views)
        return cls(depths.explain, depths.foretell, profile, rooms)

    def room(self) -> list[Floats]:
        """Return arrays for the kernels to work in."""
        return [np.empty(shape) for shape in self.shapes]


def _shared(chosen: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return numbers in parts of about equal work, as high q meet fewer rings; always as many, so that sums do not depend on threads."""
    return [chosen[k::_PARTS] for k in range(min(_PARTS, len(chosen)))]


def _worth(threads: int, frequencies: int, views: int) -> int:
    """Return the number of threads to use: one where starting others costs more than they save."""
    return threads if frequencies * views**3 >= _WORTH_THREADS else 1


def independent_log_likelihood(band: FrequencyBand, spectra: Spectra) -> float:
    """Return the log-likelihood of independent views, each with a power of its own in every ring.

    Interpolation changes the power of a view, noise included, with the angle at which it is sampled, so that only the difference of
    a likelihood from this one is evidence for a geometry.
    """
    power, counts = np.zeros((band.groups, spectra.shape[1])), np.zeros((band.groups, 1))
    for index in range(0, len(band.q), _STRIDE):
        rings = band.rings[index]
        if rings.groups.size:
            data = spectra[index][:, rings.order]
            power[rings.groups] += np.add.reduceat(data.real**2 + data.imag**2, rings.starts, axis=1).T
            counts[rings.groups] += rings.counts[:, None]
    # A blank view has no power; its logarithm must stay finite.
    power = np.maximum(power, _FAINTEST * power.mean(axis=1, keepdims=True) + 1e-30) / np.maximum(counts, 1)
    return -_STRIDE * float(np.sum(counts * (np.log(power) + 1)))


def _ratio(explained: Floats, expected: Floats) -> Floats:
    return np.asarray(np.where(expected > 0, explained / np.maximum(expected, 1e-300), 1.0))


def predict(model: CovarianceModel, band: FrequencyBand, spectra: Spectra, tangents: Floats, *, threads: int = 1) -> Prediction:
    """Return each view as predicted from the others, the derivative by its tilt, and the weighted residual."""
    predicted, by_tilt, weighted = (np.zeros_like(spectra) for _ in range(3))
    precision = np.zeros(spectra.shape, np.float32)
    terms, algebra = _Terms.of(model, band, tangents), _Algebra.of(model, len(tangents))

    def at(some: NDArray[np.intp]) -> None:
        room = algebra.room()
        for q in some:
            # A change of tilt by dt moves content at depth z by z / cos^2 t dt.
            to_tilt, noise = 2 * np.pi * band.q[q] * (1 + tangents**2), terms.noise + terms.unresolved[q]
            given = terms.angles[q], algebra.profile, noise, to_tilt, model.signal, band.order[q], band.starts[q], spectra[q]
            if not algebra.foretell(*given, predicted[q], by_tilt[q], weighted[q], precision[q], *room):
                raise np.linalg.LinAlgError(_NOT_POSITIVE)

    every = np.arange(len(band.q))
    for _ in map_threads(at, _shared(every), _worth(threads, len(every), len(tangents))):
        pass
    return Prediction(predicted, by_tilt, weighted, precision)


def predict_unseen(
    model: CovarianceModel, band: FrequencyBand, spectra: Spectra, tangents: Floats, reliability: Floats, tangent: float
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Return the prediction of one view from some others, `(q, p)`, and its variance.

    Parameters
    ----------
    spectra, tangents
        Of the known views, `(q, views, p)` and `(views,)`.
    reliability
        Of each of them, `(views,)`, between 0 and 1: the noise of a view is divided by it.
    tangent
        Of the tilt of the view to predict.
    """
    tilts = np.append(tangents, tangent)
    inverses, _ = _inverses(model, band.q, tilts, model.noise[:, None] / np.append(reliability, 1.0) + _LEAST)
    # The conditional mean and variance of the last from the inverse of the covariance of all.
    left = 1 / np.real(inverses[..., -1, -1])
    weights = -inverses[..., -1, :-1] * left[..., None]
    columns = np.arange(len(band.q))[:, None]
    inside = band.group >= 0
    predicted = np.where(inside, np.einsum("qpv,qvp->qp", weights[columns, band.group], spectra), 0)
    variance = np.where(inside, (model.signal * left)[columns, band.group], 1)
    return np.asarray(predicted, np.complex64), np.asarray(variance, np.float32)
