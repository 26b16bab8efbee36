"""Loops over pixels for bead detection and centring."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.kernels import kernel

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
Spectrum = NDArray[np.complex64]

_BACKGROUND_RING = 0.65
"""The background of a bead is the mean over radii from this fraction of the reach to the reach."""
_BACKGROUND_RING_SQUARED = 0.6
"""The same for the response of the filter, as a fraction of the squared reach: 0.77 of it."""
_MOST_CLIMBS = 20
_LONGEST_CLIMB_PX = 0.5
_SETTLED_PX = 1e-3
"""A peak is climbed in steps of at most half a pixel, so that a limit of several is reached, until a step is far below the error of a
centre, a few hundredths of a pixel."""
_CENTRE_PX = 1e-9
"""Radius within which a pixel is at the centre and has no direction."""
_SMOOTH = 0.2
"""Least value about a maximum, as a fraction of it, from which its logarithm is taken: about a bead of 4 samples it is 0.5, and the
logarithm of what is next to nothing would make of noise a peak several times as high."""
_AT_ONCE = 32
"""Pixels whose heights are looked at together: one in thousands is a maximum."""


@kernel()
def mirror_rows(image: NDArray[Any], begin: int, mean: float, pad: int, out: Image) -> None:
    """Write the rows of an image of any type from `begin` on, minus `mean`, into `out`, mirrored beyond both ends.

    `pad` pixels lie before the first.
    """
    size, length, level = image.shape[1], out.shape[1], np.float32(mean)
    end = pad + size
    for j in range(len(out)):
        row = out[j]
        for i in range(size):
            row[pad + i] = np.float32(image[begin + j, i]) - level
        for i in range(pad):
            row[i] = row[2 * pad - 1 - i]
        for i in range(end, length):
            row[i] = row[2 * end - 1 - i]


@kernel(fastmath=True)
def keep_columns(spectrum: Spectrum, finest: int, step: int, out: Spectrum) -> float:
    """Write the first columns of a spectrum into `out`; return the power of every `step`-th row over all columns from `finest` on."""
    total = 0.0
    for j in range(len(spectrum)):
        for i in range(out.shape[1]):
            out[j, i] = spectrum[j, i]
        if j % step == 0:
            for i in range(finest, spectrum.shape[1]):
                total += spectrum[j, i].real ** 2 + spectrum[j, i].imag ** 2
    return total


@kernel()
def apply_gain(spectrum: Spectrum, bins: NDArray[np.uint16], gain: NDArray[np.float32], out: Spectrum) -> None:
    """Write a spectrum times the gain of each frequency's bin into `out`; all but `gain`, `(bins,)`, are `(ny, nx)`."""
    for j in range(spectrum.shape[0]):
        for i in range(spectrum.shape[1]):
            out[j, i] = gain[bins[j, i]] * spectrum[j, i]


@kernel()
def copy_around(image: NDArray[Any], xy: Floats, reach: float, factor: float, out: Image) -> None:
    """Write `factor` times an image of any type into `out` near points `(points, 2)`, and nothing elsewhere.

    Near is what lies within `reach` along both axes.
    """
    ny, nx = image.shape
    for n in range(len(xy)):
        left, right = max(int(np.floor(xy[n, 0] - reach)), 0), min(int(np.ceil(xy[n, 0] + reach)) + 1, nx)
        low, high = max(int(np.floor(xy[n, 1] - reach)), 0), min(int(np.ceil(xy[n, 1] + reach)) + 1, ny)
        for j in range(low, high):
            for i in range(left, right):
                out[j, i] = np.float32(factor) * np.float32(image[j, i])


@kernel()
def _is_highest(response: Image, j: int, i: int, radius: float) -> bool:
    """Return whether a pixel is the highest within `radius`; of equal ones the first is."""
    ny, nx = response.shape
    reach, value = int(np.ceil(radius)), response[j, i]
    for q in range(max(j - reach, 0), min(j + reach + 1, ny)):
        for p in range(max(i - reach, 0), min(i + reach + 1, nx)):
            near, other = (q - j) ** 2 + (p - i) ** 2 <= radius * radius, response[q, p]
            if near and (other > value or (other == value and (q < j or (q == j and p < i)))):
                return False
    return True


@kernel()
def local_maxima(response: Image, threshold: float, radius: float, margin: int, out: NDArray[np.int32]) -> int:
    """Write `(row, column)` of the pixels above `threshold` that are the highest within `radius`; return how many there are.

    Pixels nearer than `margin` to an edge do not count, nor do those beyond the length of `out`.
    """
    ny, nx = response.shape
    count = 0
    for j in range(max(margin, 1), ny - max(margin, 1)):
        i, last = max(margin, 1), nx - max(margin, 1)
        while i < last:
            end = min(i + _AT_ONCE, last)
            row, some = response[j, i:end], 0
            for p in range(len(row)):
                some |= row[p] >= threshold
            if not some:
                i = end
                continue
            while i < end:
                value = response[j, i]
                if (
                    value >= threshold
                    and value >= response[j, i - 1]
                    and value >= response[j, i + 1]
                    and _is_highest(response, j, i, radius)
                    and count < out.shape[0]
                ):
                    out[count, 0], out[count, 1] = j, i
                    count += 1
                i += 1
    return count


@kernel()
def ring_scale(response: Image, j: int, i: int, inner: float, outer: float, ceiling: float) -> float:
    """Return the mean of `min(|response|, ceiling)` over a ring of pixels around `[j, i]`."""
    ny, nx = response.shape
    reach = int(np.ceil(outer))
    total, count = 0.0, 0
    for q in range(max(j - reach, 0), min(j + reach + 1, ny)):
        for p in range(max(i - reach, 0), min(i + reach + 1, nx)):
            d2 = (q - j) ** 2 + (p - i) ** 2
            if inner * inner <= d2 <= outer * outer:
                total += min(abs(response[q, p]), ceiling)
                count += 1
    return total / max(count, 1)


@kernel()
def _height(value: float, logarithm: bool) -> float:
    """Return a value, or its logarithm."""
    return np.log(float(value)) if logarithm else float(value)


@kernel()
def describe_maxima(
    response: Image, found: NDArray[np.int32], inner: float, outer: float, ceiling: float, farthest: float, out: Floats
) -> None:
    """Write x, y (corner-based), height and surroundings of each maximum `(row, column)` to `out`, `(maxima, 4)`.

    Place and height are those of the peak of the paraboloid through its 3 x 3 values, or through their logarithms where it is broad, at
    most `farthest` from its pixel along x and y; the surroundings are :func:`ring_scale`.
    """
    for n in range(found.shape[0]):
        j, i = found[n, 0], found[n, 1]
        middle = float(response[j, i])
        lowest = middle
        for q in range(j - 1, j + 2):
            for p in range(i - 1, i + 2):
                lowest = min(lowest, float(response[q, p]))
        smooth = lowest > _SMOOTH * middle
        height = _height(middle, smooth)
        left, right = _height(response[j, i - 1], smooth), _height(response[j, i + 1], smooth)
        above, below = _height(response[j - 1, i], smooth), _height(response[j + 1, i], smooth)
        gx, gy = (right - left) / 2, (below - above) / 2
        hxx, hyy = right - 2 * height + left, below - 2 * height + above
        rising = _height(response[j + 1, i + 1], smooth) + _height(response[j - 1, i - 1], smooth)
        falling = _height(response[j + 1, i - 1], smooth) + _height(response[j - 1, i + 1], smooth)
        hxy = (rising - falling) / 4
        det = hxx * hyy - hxy * hxy
        dx, dy = 0.0, 0.0
        if det > 0 and hxx < 0:
            dx = min(max(-(hyy * gx - hxy * gy) / det, -farthest), farthest)
            dy = min(max(-(hxx * gy - hxy * gx) / det, -farthest), farthest)
        out[n, 0], out[n, 1] = i + 0.5 + dx, j + 0.5 + dy
        out[n, 2] = height + (gx * dx + gy * dy) / 2
        if smooth:
            out[n, 2] = np.exp(out[n, 2])
        out[n, 3] = ring_scale(response, j, i, inner, outer, ceiling)


@kernel()
def blank_discs(image: Image, xy: Floats, radius: float, value: np.float32) -> int:
    """Set the pixels within `radius` of points, corner-based, to a value in place; return how many were changed."""
    ny, nx = image.shape
    count = 0
    for n in range(xy.shape[0]):
        x, y = xy[n, 0] - 0.5, xy[n, 1] - 0.5
        for j in range(max(int(np.ceil(y - radius)), 0), min(int(np.floor(y + radius)) + 1, ny)):
            for i in range(max(int(np.ceil(x - radius)), 0), min(int(np.floor(x + radius)) + 1, nx)):
                if (i - x) ** 2 + (j - y) ** 2 <= radius * radius and image[j, i] != value:
                    image[j, i] = value
                    count += 1
    return count


@kernel(fastmath=True)
def radial_power(spectrum: NDArray[np.complex64], bins: NDArray[np.uint16], out: Floats) -> None:
    """Add `|spectrum|^2` to `out` by radial bin; the columns between the first and the last count twice."""
    rows, columns = spectrum.shape
    for j in range(rows):
        for i in range(columns):
            value = spectrum[j, i]
            power = value.real * value.real + value.imag * value.imag
            out[bins[j, i]] += power if i == 0 else 2 * power


@kernel()
def add_to_rings(image: Image, xy: Floats, sign: float, reach: float, width: float, out: Floats) -> None:
    """Add the pixels around points `(n, 2)`, corner-based, to rings of `width` pixels, relative to the mean of the outermost ones.

    Sums, squares and counts are added to `out` `(3, rings)`.  A box that is cut by the edge of the image adds nothing.
    """
    ny, nx = image.shape
    for n in range(xy.shape[0]):
        x, y = xy[n, 0] - 0.5, xy[n, 1] - 0.5
        j0, j1 = int(np.ceil(y - reach)), int(np.floor(y + reach)) + 1
        i0, i1 = int(np.ceil(x - reach)), int(np.floor(x + reach)) + 1
        if j0 < 0 or i0 < 0 or j1 > ny or i1 > nx:
            continue
        base, pixels = 0.0, 0
        for j in range(j0, j1):
            for i in range(i0, i1):
                r = np.sqrt((i - x) ** 2 + (j - y) ** 2)
                if _BACKGROUND_RING * reach <= r < reach:
                    base += image[j, i]
                    pixels += 1
        base /= max(pixels, 1)
        for j in range(j0, j1):
            for i in range(i0, i1):
                r = np.sqrt((i - x) ** 2 + (j - y) ** 2)
                ring = int(r / width)
                if r < reach and ring < out.shape[1]:
                    value = sign * (image[j, i] - base)
                    out[0, ring] += value
                    out[1, ring] += value * value
                    out[2, ring] += 1


@kernel()
def ascend(
    image: Image,
    start_x: float,
    start_y: float,
    table: Floats,
    spacing: float,
    reach: float,
    margin: float,
    curvature: float,
    limit: float,
    out: Floats,
) -> None:
    """Climb to the nearest peak of the response of a round filter, and write `(x, y, response)` to `out`; NaN where it fails.

    `table` holds the filter and its derivative over the radius, `(2, samples)`, `spacing` apart.  A step is the gradient over the
    response times `curvature`, that expected of the noise-free peak.  It fails if the peak is nearer than `margin` to the edge of
    the image or farther than `limit` from the start.  Pixels outside the image count as background.
    """
    ny, nx = image.shape
    out[:] = np.nan
    x, y = start_x - 0.5, start_y - 0.5
    for _ in range(_MOST_CLIMBS):
        if x < margin - 0.5 or y < margin - 0.5 or x > nx - 0.5 - margin or y > ny - 0.5 - margin:
            return
        # With the background b, sum (v - b) w = sum v w - b sum w: both in one pass.
        base, pixels = 0.0, 0
        response, gx, gy = 0.0, 0.0, 0.0
        weight, wx, wy = 0.0, 0.0, 0.0
        for j in range(max(int(np.ceil(y - reach)), 0), min(int(np.floor(y + reach)) + 1, ny)):
            dy = j - y
            half = np.sqrt(max(reach * reach - dy * dy, 0.0))
            for i in range(max(int(np.ceil(x - half)), 0), min(int(np.floor(x + half)) + 1, nx)):
                dx = i - x
                r2 = dx * dx + dy * dy
                if r2 >= reach * reach:
                    continue
                r = np.sqrt(r2)
                s = r / spacing
                k = int(s)
                f = s - k
                value = image[j, i]
                if r2 >= _BACKGROUND_RING_SQUARED * reach * reach:
                    base += value
                    pixels += 1
                filtered = table[0, k] + f * (table[0, k + 1] - table[0, k])
                response += value * filtered
                weight += filtered
                if r > _CENTRE_PX:
                    slope = (table[1, k] + f * (table[1, k + 1] - table[1, k])) / r
                    gx -= value * slope * dx
                    gy -= value * slope * dy
                    wx -= slope * dx
                    wy -= slope * dy
        base /= max(pixels, 1)
        response -= base * weight
        gx -= base * wx
        gy -= base * wy
        if response <= 0:
            return
        step_x, step_y = gx / (response * curvature), gy / (response * curvature)
        length = np.sqrt(step_x * step_x + step_y * step_y)
        if length > _LONGEST_CLIMB_PX:
            step_x, step_y = step_x * _LONGEST_CLIMB_PX / length, step_y * _LONGEST_CLIMB_PX / length
        x, y = x + step_x, y + step_y
        if (x + 0.5 - start_x) ** 2 + (y + 0.5 - start_y) ** 2 > limit * limit:
            return
        if length < _SETTLED_PX:
            out[0], out[1], out[2] = x + 0.5, y + 0.5, response
            return


@kernel()
def add_profile(image: Image, x: float, y: float, amplitude: float, profile: Floats, spacing: float) -> None:
    """Add a round profile, sampled `spacing` pixels apart, at a point, corner-based, to an image in place."""
    ny, nx = image.shape
    reach = (profile.shape[0] - 2) * spacing
    x, y = x - 0.5, y - 0.5
    for j in range(max(int(np.ceil(y - reach)), 0), min(int(np.floor(y + reach)) + 1, ny)):
        for i in range(max(int(np.ceil(x - reach)), 0), min(int(np.floor(x + reach)) + 1, nx)):
            r = np.sqrt((i - x) ** 2 + (j - y) ** 2)
            if r < reach:
                s = r / spacing
                k = int(s)
                f = s - k
                image[j, i] += amplitude * (profile[k] + f * (profile[k + 1] - profile[k]))


@kernel()
def centre_in_turn(
    image: Image,
    beads: Floats,
    turns: NDArray[np.int64],
    table: Floats,
    spacing: float,
    reach: float,
    margin: float,
    curvature: float,
    limit: float,
    profile: Floats,
    profile_spacing: float,
    energy: float,
    found: Floats,
) -> None:
    """Centre beads one after the other, with those found subtracted from the image, in place.

    `turns` are the indices of the beads, which start from `beads` `(beads, 2)` or from where they were found before; `found`
    `(beads, 3)` holds the results of :func:`ascend`, and `energy` is the response to a bead of amplitude 1.
    """
    for n in turns:
        x, y = beads[n, 0], beads[n, 1]
        if np.isfinite(found[n, 2]):
            x, y = found[n, 0], found[n, 1]
            add_profile(image, x, y, found[n, 2] / energy, profile, profile_spacing)
        ascend(image, x, y, table, spacing, reach, margin, curvature, limit, found[n])
        if np.isfinite(found[n, 2]):
            add_profile(image, found[n, 0], found[n, 1], -found[n, 2] / energy, profile, profile_spacing)
