"""What a slab of unknown content lets each view tell about the others: a Gaussian model of a tilt series.

A view stretched to zero tilt is `g_i(x, y) = integral of rho(x - z tan t_i, y, z) dz`.  Its Fourier transform over x and y at the
frequency `(q, p)` is that of the specimen along z, taken at `q tan t_i`: every frequency of the images is a one-dimensional
series of samples of a band-limited function, for the specimen ends at its surfaces.  When the content is as random as it can be,
with a power `s` that depends on the frequency and is spread over depth by a profile `w(z)`, the samples of all views are Gaussian
with covariance

    C_ij = s ( k_ij + n d_i [i = j] ),     k_ij = integral of w(z) exp(-2 pi i z q (tan t_i - tan t_j)) dz,

noise `n` by band of frequency and `d` by view.  From this follow, without any volume: what each view must look like given all the
others (the best linear prediction), how sure that is, and the likelihood of the whole series.  Profile, powers and noise are
learnt from the series itself by the fixed point of the likelihood (each variance times what its component explains over what it
is expected to explain), so that the thickness of the section and a layer of gold are found on the way.

The leave-out prediction of view i, from `a = C^-1 g` alone: `g_i - a_i / (C^-1)_ii` (Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, eq. 5.12).  IMOD has no counterpart.

The many small systems are solved one after the other: threads would wait for the interpreter, and take longer than one alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from tiltflow.align.projection.frequency_band import FrequencyBand

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Spectra = NDArray[np.complex64]
"""`(q, views, p)`: the frequencies of all views within the band, q contiguous last so that one q is a matrix."""

_LEAST = 1e-6
"""No variance falls below this fraction of the signal's."""
_STRIDE = 2
"""Only every second frequency along x is learnt from: those between add little, as the field fills most of the frame."""
_FAINTEST = 0.02
"""Least power of a view in a ring, relative to that of the others."""
_NYQUIST = 0.42
"""Frequency, cycles per pixel of a view, above which its interpolation is not to be trusted."""


@dataclass(frozen=True, slots=True, eq=False)
class CovarianceModel:
    """The variances of the model.

    Attributes
    ----------
    z
        Depths, pixels of the frame.
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
    def vague(cls, thickness_px: float, groups: int, views: int) -> CovarianceModel:
        """Return a model that knows no more than a thickness, pixels of the frame; its edges are soft."""
        half = max(int(np.ceil(0.75 * thickness_px)), 2)
        z = np.arange(-half, half + 1, dtype=float)
        profile = np.clip(1.5 - np.abs(z) / (0.5 * thickness_px), 0.02, 1.0)
        return cls(z, profile / profile.sum(), np.ones(groups), np.full(groups, 0.1), np.ones(views))

    def loosened(self) -> CovarianceModel:
        """Return the model with what it learnt about depth and about single views half forgotten."""
        reach = 0.65 * self.thickness
        middle = float(self.z @ self.profile)
        even = np.clip(2.0 - np.abs(self.z - middle) / reach, 0.02, 1.0)
        profile = 0.3 * self.profile + 0.7 * even / even.sum()
        return replace(self, profile=profile, noise=np.maximum(self.noise, 0.03), view_noise=np.sqrt(self.view_noise))

    @property
    def thickness(self) -> float:
        """Extent in z that holds nine tenths of the power, scaled to that of an even slab, pixels of the frame."""
        low, high = self._surfaces()
        return float(high - low) / 0.9

    @property
    def middle(self) -> float:
        """Depth half way between the surfaces, pixels of the frame."""
        return float(np.mean(self._surfaces()))

    def _surfaces(self) -> Floats:
        return np.asarray(np.interp([0.05, 0.95], np.cumsum(self.profile), self.z))


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the others say of each view; all arrays are `(q, views, p)`.

    Attributes
    ----------
    predicted
        Each view as the others have it.
    by_tilt
        Its derivative by the tilt of the view, radians, at fixed x and y.
    weighted
        Residual over its variance: what the gradient of any parameter is made of.
    certainty
        The inverse of that variance.
    """

    predicted: Spectra
    by_tilt: Spectra
    weighted: Spectra
    certainty: NDArray[np.float32]


def depth_phases(q: float, tangents: Floats, z: Floats) -> Complexes:
    """Return `exp(-2 pi i z q tan t)`, `(views, z)`: how content at each depth shows at this frequency in each view."""
    return np.asarray(np.exp(-2j * np.pi * q * tangents[:, None] * z[None, :]))


def blindness(q: float, tangents: Floats) -> Floats:
    """Return the noise, relative to the signal, of views stretched so far that they do not hold this frequency."""
    cosine = 1 / np.sqrt(1 + tangents**2)
    return np.asarray((q / (_NYQUIST * cosine)) ** 12)


def precisions(slab: CovarianceModel, phases: Complexes, groups: NDArray[np.intp], blind: Floats) -> tuple[Complexes, Floats]:
    """Return the inverses of the covariances in some rings over the signal's power, `(groups, views, views)`, and their log-determinants.

    Raises
    ------
    LinAlgError
        If a covariance is not positive: the model has become no model.
    """
    covariance = (phases * slab.profile) @ phases.conj().T
    views = len(covariance)
    noise = slab.noise[groups][:, None] * slab.view_noise + blind + _LEAST
    lower, determinants = np.empty((len(groups), views, views), np.complex128), np.empty(len(groups))
    for k in range(len(groups)):
        noisy = np.array(covariance, order="F")
        noisy[np.diag_indices(views)] += noise[k]
        root, failed = lapack.zpotrf(noisy, lower=1, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("the covariance of the views is not positive")
        determinants[k] = -2 * np.sum(np.log(np.real(np.diag(root))))
        lower[k], _ = lapack.zpotri(root, lower=1, overwrite_c=1)
    below = np.tril(lower, -1)
    inverses = below + below.conj().transpose(0, 2, 1)
    inverses[:, np.arange(views), np.arange(views)] = np.real(np.diagonal(lower, axis1=1, axis2=2))
    return inverses, determinants


def learn(
    slab: CovarianceModel, band: FrequencyBand, spectra: Spectra, tangents: Floats, *, depth: bool = True
) -> tuple[CovarianceModel, float]:
    """Return the model after one step towards the largest likelihood, and the log-likelihood of the one given.

    Each variance is multiplied by what its component explains over what the model expects it to.
    """
    sums = [np.zeros(()) for _ in range(3)]
    for index in range(0, len(band.q), _STRIDE):
        parts = _explained(slab, band, index, spectra[index], tangents)
        sums = [total + part for total, part in zip(sums, parts, strict=True)]
    by_depth, noise, power = sums
    # Rows of `power`: squares of whitened data, their number, log-determinants.
    signal = slab.signal * np.where(power[1] > 0, power[0] / np.maximum(power[1], 1), 1.0)
    profile = slab.profile * (_ratio(*by_depth) if depth else 1.0)
    by_group, by_view = noise.sum(axis=2), noise.sum(axis=1)
    view_noise = np.clip(slab.view_noise * _ratio(*by_view), 0.05, 1e4)
    view_noise /= np.exp(np.median(np.log(view_noise)))
    likelihood = -_STRIDE * float(np.sum(power[2]) + np.sum(power[1] * np.log(np.maximum(signal, 1e-300))) + np.sum(power[1]))
    learnt = replace(
        slab,
        profile=profile / profile.sum(),
        signal=np.maximum(signal, 1e-30),
        noise=np.clip(slab.noise * _ratio(*by_group) / profile.sum(), 1e-4, 1e3),
        view_noise=view_noise,
    )
    return learnt, likelihood


def evidence_alone(band: FrequencyBand, spectra: Spectra) -> float:
    """Return the log-likelihood of views that know nothing of each other: each has a power of its own in every ring.

    Interpolation changes the power of a view, noise included, with the angle at which it is sampled.  A likelihood speaks of where
    views belong only by what it has more than this.
    """
    power, counts = np.zeros((band.groups, spectra.shape[1])), np.zeros((band.groups, 1))
    for index in range(0, len(band.q), _STRIDE):
        rings = band.rings[index]
        if rings.groups.size:
            data = spectra[index][:, rings.order]
            power[rings.groups] += np.add.reduceat(data.real**2 + data.imag**2, rings.starts, axis=1).T
            counts[rings.groups] += rings.counts[:, None]
    # A view that is not there has no power, and tells nothing.
    power = np.maximum(power, _FAINTEST * power.mean(axis=1, keepdims=True) + 1e-30) / np.maximum(counts, 1)
    return -_STRIDE * float(np.sum(counts * (np.log(power) + 1)))


def _ratio(explained: Floats, expected: Floats) -> Floats:
    return np.asarray(np.where(expected > 0, explained / np.maximum(expected, 1e-300), 1.0))


def _explained(
    slab: CovarianceModel, band: FrequencyBand, index: int, data: NDArray[np.complex64], tangents: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return, for one q, what depths, noise and signal explain, and what they are expected to."""
    rings = band.rings[index]
    depth, noise, power = np.zeros((2, len(slab.z))), np.zeros((2, band.groups, len(tangents))), np.zeros((3, band.groups))
    if not rings.groups.size:
        return depth, noise, power
    phases = depth_phases(band.q[index], tangents, slab.z)
    blind = blindness(band.q[index], tangents)
    inverses, determinants = precisions(slab, phases, rings.groups, blind)
    given = data[:, rings.order] / np.sqrt(np.repeat(slab.signal[rings.groups], rings.counts))
    weighted = np.empty(given.shape, np.complex128)
    for k, part in rings:
        weighted[:, part] = inverses[k] @ given[:, part]
    seen, counts = blind < 0.1, rings.counts[:, None]
    # What a depth z explains is the quadratic form of its phases; those of all rings add up.
    for row, form in enumerate((weighted @ weighted.conj().T, np.tensordot(rings.counts, inverses, 1))):
        depth[row] = np.real(np.sum(phases.conj() * (form @ phases), axis=0))
    squares = weighted.real**2 + weighted.imag**2
    noise[0, rings.groups] = np.where(seen, np.add.reduceat(squares, rings.starts, axis=1).T, 0)
    noise[1, rings.groups] = np.where(seen, counts * np.real(np.diagonal(inverses, axis1=1, axis2=2)), 0)
    power[0, rings.groups] = np.add.reduceat(np.real(np.sum(given.conj() * weighted, axis=0)), rings.starts)
    power[1, rings.groups] = rings.counts * len(tangents)
    power[2, rings.groups] = rings.counts * -determinants
    return depth, noise, power


def predict(slab: CovarianceModel, band: FrequencyBand, spectra: Spectra, tangents: Floats) -> Prediction:
    """Return each view as predicted by the others, how that changes with its tilt, and the weighted residual."""
    predicted, by_tilt, weighted = (np.zeros_like(spectra) for _ in range(3))
    certainty = np.zeros(spectra.shape, np.float32)
    for index, rings in enumerate(band.rings):
        if not rings.groups.size:
            continue
        phases = depth_phases(band.q[index], tangents, slab.z)
        inverses, _ = precisions(slab, phases, rings.groups, blindness(band.q[index], tangents))
        # A change of tilt by dt moves content at depth z by z / cos^2 t dt.
        moved = (phases * (-2j * np.pi * band.q[index] * slab.z * slab.profile)) @ phases.conj().T * (1 + tangents**2)[:, None]
        np.fill_diagonal(moved, 0)
        alone = np.real(np.diagonal(inverses, axis1=1, axis2=2))
        own = np.sum(moved * inverses.transpose(0, 2, 1), axis=2)
        for k, part in rings:
            members = rings.order[part]
            data = spectra[index][:, members]
            solved = inverses[k] @ data
            predicted[index][:, members] = data - solved / alone[k][:, None]
            by_tilt[index][:, members] = moved @ solved - (own[k] / alone[k])[:, None] * solved
            weighted[index][:, members] = solved / slab.signal[rings.groups[k]]
            certainty[index][:, members] = alone[k][:, None] / slab.signal[rings.groups[k]]
    return Prediction(predicted, by_tilt, weighted, certainty)


def predict_unseen(
    slab: CovarianceModel, band: FrequencyBand, spectra: Spectra, tangents: Floats, reliability: Floats, tangent: float
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Return what some views say of one more, `(q, p)`, and the variance of that.

    Parameters
    ----------
    spectra, tangents
        Of the views that are known, `(q, views, p)` and `(views,)`.
    reliability
        Of each of them: the noise of a view counts by its inverse.
    tangent
        Of the tilt of the view to come.
    """
    tilts = np.append(tangents, tangent)
    phases = np.exp(-2j * np.pi * band.q[:, None, None] * tilts[:, None] * slab.z)
    covariance = (phases * slab.profile) @ phases.conj().transpose(0, 2, 1)
    blind = np.array([blindness(float(q), tilts) for q in band.q])
    known, sought = covariance[:, None, :-1, :-1], covariance[:, None, :-1, -1]
    noise = slab.noise[:, None] / reliability + blind[:, None, :-1]
    weights = np.linalg.solve(known + noise[..., None] * np.eye(len(tangents)), sought[..., None])[..., 0].conj()
    left = 1 + slab.noise + blind[:, -1:] - np.real(np.sum(weights * sought, axis=2))
    columns = np.arange(len(band.q))[:, None]
    inside = band.group >= 0
    predicted = np.where(inside, np.einsum("qpv,qvp->qp", weights[columns, band.group], spectra), 0)
    variance = np.where(inside, (slab.signal * left)[columns, band.group], 1)
    return np.asarray(predicted, np.complex64), np.asarray(variance, np.float32)
