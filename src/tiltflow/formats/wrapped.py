"""Whether integers that are stored as signed were counted without a sign, asked of the pixels.

Cameras count from 0 to 65535.  Programs that store the counts in MRC's signed mode 1 leave those above 32767 negative, and
bytes above 127 read with a sign are negative too: the brightest pixels of a picture come out darkest.  Read with the right sign, a
picture is smooth: neighbours hardly ever lie at opposite ends of the range.  Read with the wrong one they do so wherever a value
passes the middle (of counts) or zero (of signed numbers).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

_JUMP = 0.75
"""Difference of neighbours, as a part of the whole range, that is a jump from one end to the other."""
_LEAST_JUMPS = 8
"""Jumps in a sample that are not chance: a dead pixel beside a hot one makes two."""
_DOUBT = 20.0
"""Ratio of the jumps in the two readings below which neither is right beyond doubt."""
_HOLE = 1 / 16
"""Part of the range on either side of zero that is empty in counts whose dark and bright parts lie apart."""
_LEAST_PART = 1e-4
"""Part of the pixels on either side of such a hole that is not chance."""


class Sign(Enum):
    """How integers have to be read."""

    AS_STORED = auto()
    UNSIGNED = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a sample of pixels says about their sign.

    Attributes
    ----------
    sign
        How they have to be read.
    negative
        Part of the pixels that is negative as stored.
    jumps, jumps_unsigned
        Pairs of neighbours at opposite ends of the range, read with and without a sign.
    """

    sign: Sign
    negative: float
    jumps: int
    jumps_unsigned: int


def sign_of(samples: Iterable[NDArray[Any]]) -> Reading:
    """Return how signed integers have to be read.

    Parameters
    ----------
    samples
        Parts of views, each `(rows, columns)` of neighbouring pixels, of a signed type of 8 or 16 bits.

    Notes
    -----
    `UNSIGNED` needs at least 8 jumps as stored, and 20 times as many as without a sign; or values at both ends of the range and none
    around zero.  `UNKNOWN` is the answer if both readings jump about as often and much.
    """
    jumps = jumps_unsigned = pairs = pixels = negative = near_zero = 0
    for sample in samples:
        stored = np.ascontiguousarray(sample).astype(sample.dtype.newbyteorder("="), copy=False)
        counts = stored.view(np.dtype(f"u{stored.itemsize}"))
        whole = 1 << 8 * stored.itemsize
        jumps += _jumps(stored, _JUMP * whole)
        jumps_unsigned += _jumps(counts, _JUMP * whole)
        pairs += stored[:, 1:].size
        pixels += stored.size
        negative += int(np.count_nonzero(stored < 0))
        near_zero += int(np.count_nonzero(np.abs(stored.astype(np.int32)) < _HOLE * whole))
    part = negative / pixels if pixels else 0.0
    split = _LEAST_PART < part < 1 - _LEAST_PART and near_zero <= 0.01 * min(negative, pixels - negative)
    if jumps >= _LEAST_JUMPS and jumps >= _DOUBT * jumps_unsigned:
        sign = Sign.UNSIGNED
    elif jumps >= max(_LEAST_JUMPS, _LEAST_PART * pairs) and jumps_unsigned < _DOUBT * jumps:
        sign = Sign.UNKNOWN
    else:
        sign = Sign.UNSIGNED if split and not jumps_unsigned else Sign.AS_STORED
    return Reading(sign, part, jumps, jumps_unsigned)


def _jumps(sample: NDArray[Any], least: float) -> int:
    return int(np.count_nonzero(np.abs(np.diff(sample.astype(np.int32), axis=1)) > least))
