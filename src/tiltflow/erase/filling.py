"""What takes the place of a bead: the grey values that its surroundings make likely, with their noise.

A disc of one value, as ccderaser writes it (`PolynomialOrder 0`), is smoother than anything around it, and back-projection makes a
smooth column of it.  The texture here is a Gaussian random field with the covariance of the surroundings, drawn so that it goes
over into the ring around the patch: a sample s of the field is corrected by kriging (Chilès & Delfiner 2012, "Geostatistics",
chapter 7),

    value = m + s + C_ur C_rr^-1 (z_r - m - s_r)

with the ring's values z_r, its mean m by generalised least squares, and the covariances C of its pixels (r) and those of the patch
(u). The standard deviation is the ring's.  Where the surroundings are white noise this is their mean plus noise; where they vary
slowly it is a smooth interpolation plus noise.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.erase.patches import Mask, Patch
from tiltflow.errors import StageError

Floats = NDArray[np.float64]
Filling = Literal["texture", "flat"]

_FEWEST_RING = 8
"""Pixels of a ring at least; one that other patches or the edge of the view leave with fewer is widened."""
_LEAST_REACH_PX, _REACH = 24, 1.0
"""Pixels about a patch whose covariance is taken: a number at least, and so many times the patch's own size."""
_LEAST_LAG_PX, _LAG = 12, 0.5
"""Distance up to which pixels covary: a number at least, and a fraction of the reach, so that each is found many times."""
_MOST_RING = 1200
"""Pixels of a ring that a texture is joined to; of larger ones every second, third... is taken.  Their equations take 0.05 s."""
_AT_ONCE = 4096
"""Pixels of a patch whose covariances with the ring are in memory together: 40 MB."""
_NUGGET = 1e-6
"""Part of the variance that is added to the diagonal of the equations, so that rounding leaves them definite."""


def fill(
    view: NDArray[np.generic], patch: Patch, mask: Mask, ring_px: tuple[float, float], how: Filling, rng: np.random.Generator
) -> Floats:
    """Return the values of the pixels of a patch, `(pixels,)`, in its order.

    Parameters
    ----------
    view
        `(ny, nx)`, as it was before anything was erased.
    patch
        Pixels to be filled.
    mask
        `(ny, nx)`: the pixels of all patches, of which none is in a ring.
    ring_px
        From where to where outside the patch its ring lies, pixels.
    how
        `texture`, or the mean of the ring, `flat`.
    rng
        Random numbers of this patch.

    Raises
    ------
    StageError
        If all pixels of the view are to be erased.
    """
    box, ring = _ring(patch, mask, ring_px)
    grey = np.asarray(view[box], float)
    if how == "flat" or np.ptp(grey[ring]) == 0:
        return np.full(len(patch.rows), grey[ring].mean())
    return _texture(view, patch, mask, (box, ring), rng)


def _ring(patch: Patch, mask: Mask, ring_px: tuple[float, float]) -> tuple[tuple[slice, slice], Mask]:
    """Return a rectangle of the view, and which of its pixels are the ring of a patch, wider where few would be left."""
    inner, outer = ring_px
    while True:
        box = patch.box(int(np.ceil(outer)) + 1, mask.shape)
        away = patch.distance(box)
        ring = (away > inner) & (away <= outer) & ~mask[box]
        if np.count_nonzero(ring) >= _FEWEST_RING:
            return box, ring
        if outer > np.hypot(*mask.shape):
            break
        outer = 2 * outer
    left = ~mask
    if not left.any():
        raise StageError(
            f"beads and what is added to them cover all of a view of {mask.shape[1]} x {mask.shape[0]} pixels, and nothing tells what "
            "to fill it with: give a smaller diameter, or leave the view out"
        )
    return (slice(0, mask.shape[0]), slice(0, mask.shape[1])), left


def _texture(
    view: NDArray[np.generic], patch: Patch, mask: Mask, around: tuple[tuple[slice, slice], Mask], rng: np.random.Generator
) -> Floats:
    """Return a sample of the field, joined to a ring (a rectangle of the view, and which of its pixels)."""
    (ring_box, ring), size = around, max(np.ptp(patch.rows), np.ptp(patch.columns)) + 1
    reach = max(_LEAST_REACH_PX, int(_REACH * size))
    box = patch.box(max(reach, ring.shape[0], ring.shape[1]), mask.shape)
    rows, columns = np.nonzero(ring)
    step = -(-len(rows) // _MOST_RING)
    rows = rows[::step] + ring_box[0].start - box[0].start
    columns = columns[::step] + ring_box[1].start - box[1].start
    grey = np.asarray(view[box], float)
    known = grey[rows, columns]
    covariance = field_covariance(grey, ~mask[box], max(_LEAST_LAG_PX, int(_LAG * reach))) * known.var()
    sample = field_sample(covariance, rng)

    def between(y: NDArray[np.int64], x: NDArray[np.int64]) -> Floats:
        return np.asarray(covariance[np.abs(y[:, None] - rows), np.abs(x[:, None] - columns)])

    equations = scipy.linalg.cho_factor(between(rows, columns) + np.eye(len(rows)) * _NUGGET * covariance[0, 0])
    for_mean = scipy.linalg.cho_solve(equations, np.ones(len(rows)))
    mean = float(for_mean @ known / for_mean.sum())
    weight = scipy.linalg.cho_solve(equations, known - mean - sample[rows, columns])
    y, x = patch.rows - box[0].start, patch.columns - box[1].start
    joined = [between(y[i : i + _AT_ONCE], x[i : i + _AT_ONCE]) @ weight for i in range(0, len(y), _AT_ONCE)]
    return np.asarray(mean + sample[y, x] + np.concatenate(joined))


def field_covariance(image: Floats, known: Mask, most: int) -> Floats:
    """Return the covariance of pixels of an image by their distance, as a periodic image that holds it: 1 at `[0, 0]`.

    It is the mean over all pairs of known pixels and over directions, falls to 0 at the greatest distance, and is made positive
    definite.

    Parameters
    ----------
    image
        `(ny, nx)`.
    known
        `(ny, nx)`: pixels that count.
    most
        Greatest distance, pixels.

    Returns
    -------
    NDArray
        `(rows, columns)`, larger than the image by that distance, so that no pixel of the image meets another from behind.
    """
    shape = [scipy.fft.next_fast_len(side + most, real=True) for side in image.shape]
    weight = known.astype(float)
    level = float(image[known].mean())
    parts = (scipy.fft.rfft2(part, shape) for part in (np.where(known, image - level, 0.0), weight))
    products, pairs = (scipy.fft.irfft2(np.abs(part) ** 2, shape) for part in parts)
    lag = np.hypot(*np.meshgrid(*(np.minimum(np.arange(n), n - np.arange(n)) for n in shape), indexing="ij"))
    near = lag <= most
    place, share = lag[near].astype(int), lag[near] % 1
    total, count = (
        np.bincount(place, part[near] * (1 - share), most + 2) + np.bincount(place + 1, part[near] * share, most + 2)
        for part in (products, pairs)
    )
    line = total / np.maximum(count, 1.0)
    taper = np.cos(np.pi / 2 * np.minimum(np.arange(most + 2) / most, 1)) ** 2
    both = np.where(near, np.interp(lag, np.arange(most + 2), line * taper), 0.0)
    power = np.maximum(scipy.fft.rfft2(both).real, 0.0)
    made = scipy.fft.irfft2(power, shape)
    return np.asarray(made / made[0, 0]) if made[0, 0] > 0 else np.where(lag == 0, 1.0, 0.0)


def field_sample(covariance: Floats, rng: np.random.Generator) -> Floats:
    """Return a Gaussian random image with a covariance, as :func:`field_covariance` gives it, and a mean of 0; periodic."""
    gain = np.sqrt(np.maximum(scipy.fft.rfft2(covariance).real, 0.0))
    noise = scipy.fft.rfft2(rng.standard_normal(covariance.shape))
    return np.asarray(scipy.fft.irfft2(gain * noise, covariance.shape))
