"""Weights of spatial frequencies by exposure: what a specimen that was exposed so long still has.

After the exposure N (electrons per square ångström) the amplitude of a structure at the frequency k is `exp(-N / (2 Nc))` of what it was,
with the critical exposure at 300 kV

    Nc(k) = 0.24499 k^-1.6649 + 2.8141        k in 1/Å

and 0.8 of it at 200 kV (Grant & Grigorieff 2015, doi:10.7554/eLife.06980, measured on rotavirus).  This is also the weight with which the
view adds best to the others.  The exposure of a view is what came before it and a half of its own, the mean over the time it was taken;
programs that take its beginning or its end differ by less than 4 % at 3 electrons a view and 1/20 Å.  Weights are not divided by their
root mean square over the views, as unblur does: a tomogram is weighted by its own filter, and the mean of each view stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import Image, Stack
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

_CRITICAL = 0.24499, -1.6649, 2.8141
"""Coefficients of the critical exposure at 300 kV, as Grant & Grigorieff fitted them."""
_VOLTAGES_KV, _OF_300_KV = (200.0, 300.0), (0.8, 1.0)
"""Voltages at which damage was measured, and the critical exposure there in parts of that at 300 kV; between, it is taken as linear."""
_PAD = 16
"""Pixels of repeated edge around a view, so that its opposite sides do not meet in the transform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureParams:
    """How exposure weakens a specimen.

    Attributes
    ----------
    voltage_kv
        Accelerating voltage; below 200 and above 300 kV the values there are taken.
    sensitivity
        Factor on the exposure: above 1 for a specimen that suffers more than the virus that was measured.

    Raises
    ------
    ParameterError
        If a value is not above 0.
    """

    voltage_kv: float = 300.0
    sensitivity: float = 1.0

    def __post_init__(self) -> None:
        if self.voltage_kv <= 0 or self.sensitivity <= 0:
            raise ParameterError(f"{self.voltage_kv} kV and a sensitivity of {self.sensitivity}: both must be above 0")


def critical_exposure(frequency: ArrayLike, voltage_kv: float = 300.0) -> Floats:
    """Return the exposure, electrons per square ångström, at which an amplitude has fallen to exp(-1/2), infinite at frequency 0.

    Parameters
    ----------
    frequency
        1/Å.
    voltage_kv
        Accelerating voltage.

    Examples
    --------
    >>> critical_exposure([1 / 20, 1 / 3]).round(2)
    array([38.73,  4.34])
    """
    k = np.asarray(frequency, float)
    a, b, c = _CRITICAL
    with np.errstate(divide="ignore"):
        at_300 = a * k**b + c
    return np.asarray(at_300 * np.interp(voltage_kv, _VOLTAGES_KV, _OF_300_KV))


def exposure_weights(frequency: ArrayLike, exposure: float, params: ExposureParams) -> Floats:
    """Return the weights of frequencies, 1/Å, after an exposure, electrons per square ångström; 1 at frequency 0.

    >>> float(exposure_weights(1 / 20, 60.0, ExposureParams()).round(4))
    0.4609
    """
    return np.asarray(np.exp(-0.5 * params.sensitivity * exposure / critical_exposure(frequency, params.voltage_kv)))


def exposures_at_views(exposure: ArrayLike, order: ArrayLike) -> Floats:
    """Return the exposure at the middle of each view, `(views,)`: what came before, and half of its own.

    Parameters
    ----------
    exposure
        Of each view, `(views,)`, electrons per square ångström.
    order
        The views in the order in which they were taken, `(views,)`, counted from 0.

    Raises
    ------
    ParameterError
        If an exposure is negative, or the order does not name every view once.

    Examples
    --------
    >>> exposures_at_views([3.0, 3.0, 3.0], [1, 2, 0])
    array([7.5, 1.5, 4.5])
    """
    own, of = np.asarray(exposure, float), np.asarray(order, np.int64)
    if not np.isfinite(own).all() or (own < 0).any():
        raise ParameterError("exposures must be numbers of at least 0")
    if not np.array_equal(np.sort(of), np.arange(len(own))):
        raise ParameterError(f"an order of {len(of)} views for {len(own)} exposures: it must name every view once")
    out = np.empty(len(own))
    out[of] = np.cumsum(own[of]) - own[of] / 2
    return out


def weight_view(view: NDArray[np.generic], exposure: float, pixel_angstrom: float, params: ExposureParams) -> Image:
    """Return a view, `(ny, nx)`, filtered by what is left after an exposure, electrons per square ångström."""
    ny, nx = view.shape
    tall, wide = (scipy.fft.next_fast_len(side + 2 * _PAD, real=True) for side in (ny, nx))
    padded = np.pad(view.astype(np.float32), ((_PAD, tall - ny - _PAD), (_PAD, wide - nx - _PAD)), "edge")
    k = np.hypot(scipy.fft.fftfreq(tall, pixel_angstrom)[:, None], scipy.fft.rfftfreq(wide, pixel_angstrom))
    spectrum = scipy.fft.rfft2(padded) * exposure_weights(k, exposure, params).astype(np.float32)
    return np.asarray(scipy.fft.irfft2(spectrum, (tall, wide))[_PAD : _PAD + ny, _PAD : _PAD + nx], np.float32)


def weight_stack(
    stack: Stack, exposures: ArrayLike, pixel_angstrom: float, params: ExposureParams, *, threads: int = 1
) -> Iterator[Image]:
    """Yield the views of a stack, each filtered by what is left after its exposure.

    Parameters
    ----------
    stack
        Raw or aligned views; at most `2 * threads + 1` filtered ones exist at a time.
    exposures
        At each view, `(views,)`, electrons per square ångström (:func:`exposures_at_views`).
    pixel_angstrom
        Size of a pixel.
    params
        Voltage and sensitivity.
    threads
        Views filtered at the same time.

    Raises
    ------
    ParameterError
        If there is not one exposure for each view.
    """
    each = np.asarray(exposures, float)
    if each.shape != (stack.shape[0],):
        raise ParameterError(f"{each.size} exposures for {stack.shape[0]} views; give one for each")
    yield from map_threads(lambda v: weight_view(stack[v], float(each[v]), pixel_angstrom, params), range(len(each)), threads)
