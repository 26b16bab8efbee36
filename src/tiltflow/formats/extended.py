"""What acquisition programs write into an MRC file besides the images: tilt angles, pixel size, tilt axis, exposure.

Four layouts of extended header are read, distinguished by the type at byte 104 or, in files older than that field, by the
two short integers at bytes 128 and 130:

========  ==================================================================================================
SERI      SerialEM: short integers, `nint` bytes a section; the bits of `nreal` say which items are present
FEI1/2    Thermo Fisher (EPU, Tomography 4 and 5): one block of doubles a section, with bit masks of what is valid
AGAR      Agard, also older FEI: `nint` integers, then `nreal` 4-byte reals, a section
========  ==================================================================================================

An impossible value (not finite, a tilt beyond 180 degrees, a pixel size of 0) is None, so that the next source is used.

The tilt axis of Thermo Fisher (FEI1, FEI2, and the Agard layout of a file whose first title begins with `Fei `) has the opposite
sign of IMOD's and is negated; of FEI1 and FEI2, only values that the mask of the record vouches for are taken, and one version
wrote its angles in radians.  The evidence for these rules is in `docs/formats.md`.

Sources: the IMOD and SerialEM descriptions of the MRC format; FEI's note on the extended header (2011); the MRC2014
extension of Thermo Fisher, whose record layout comes from mrcfile; what IMOD's `header` prints.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from mrcfile.dtypes import get_ext_header_dtype
from numpy.typing import NDArray

from tiltflow.model import Acquisition

# Bytes that each bit of SerialEM's flags stands for, in the order in which they are stored.
_SERIALEM_ITEMS = {1: 2, 2: 6, 4: 4, 8: 2, 16: 2, 32: 4, 64: 4, 128: 4, 256: 2, 512: 2, 1024: 4}
_SERIALEM_TILT, _SERIALEM_PIECE, _SERIALEM_DOSE = 1, 2, 32

# Places of the reals in a section of the Agard layout.
_AGARD_TILT, _AGARD_AXIS, _AGARD_PIXEL = 0, 10, 11

# Bits of the first mask of a Thermo Fisher record.
_FEI_DOSE, _FEI_TILT, _FEI_AXIS, _FEI_PIXEL = 1 << 6, 1 << 7, 1 << 12, 1 << 14
_FEI_VERSION_IN_RADIANS = b"4.4.0.4981"
"""Version of the application that wrote angles in radians."""
_OLD_FEI_TITLE = "Fei "
"""Start of the first title of a file in the Agard layout that was written by FEI."""

_AGARD_PIXEL_IN_ANGSTROM = 0.05, 1e5
"""A pixel size between these is in ångström: in metres, as the description has it, it would be centimetres and more."""

_AXIS_IN_TITLE = re.compile(r"tilt\s*axis\s*(?:rotation\s*)?(?:angle)?\s*[=:]\s*([-+]?\d*\.?\d+(?:e[-+]?\d+)?)", re.IGNORECASE)


_TOMOGRAPHY = re.compile(r"\s*(?:TEM\s+)?Tomography\b", re.IGNORECASE)
_TOMOGRAPHY_AXIS = re.compile(r"TiltAxisAngle", re.IGNORECASE)


def decode_extended(
    raw: bytes, *, kind: bytes, sections: int, byte_order: str, nint: int = 0, nreal: int = 0, labels: Sequence[str] = ()
) -> Acquisition | None:
    """Return the contents of an extended header, or None when its layout is not one of those above.

    Parameters
    ----------
    raw
        Its bytes.
    kind
        The four bytes at 104 of the main header.
    sections
        Sections in the file; a header with records for fewer gives the values it has.
    byte_order
        `<` or `>`.
    nint, nreal
        The short integers at bytes 128 and 130.
    labels
        Title lines of the main header, whose first tells who wrote the Agard layout.
    """
    if kind in (b"FEI1", b"FEI2"):
        return _decode_fei(raw, kind, sections, byte_order)
    if kind == b"SERI" or (kind != b"AGAR" and nint > 0 and _serialem_bytes(nreal) == nint):
        return _decode_serialem(raw, sections, byte_order, nint, nreal)
    if kind == b"AGAR" or not kind.strip(b"\0 "):
        of_fei = bool(labels) and labels[0].startswith(_OLD_FEI_TITLE)
        return _decode_agard(raw, sections, byte_order, nint, nreal, of_fei=of_fei)
    return None


def axis_angle_in_labels(labels: Iterable[str]) -> float | None:
    """Return the tilt axis angle, degrees, from a title line such as `Tilt axis angle = -4.3, binning = 1`.

    >>> axis_angle_in_labels(["SerialEM: lamella 3", "    Tilt axis angle = -4.3, binning = 1  spot = 8  camera = 0"])
    -4.3
    """
    for label in labels:
        # Runs of blanks are one: the pattern would need a time that grows with their square.
        if (found := _AXIS_IN_TITLE.search(" ".join(label.split()))) and math.isfinite(angle := float(found[1])):
            return angle
    return None


def axis_of_tomography(titles: Sequence[str]) -> float | None:
    """Return the tilt axis angle, degrees, from the titles of Tomography 5, whose `TiltAxisAngle` is -(axis + 90).

    None where no title is Tomography's or none has the angle in that spelling.

    >>> axis_of_tomography(["Tomography: KRIOS-0000  13-Jan-2025", "  TiltAxisAngle = -175.00  Binning = 1"])
    85.0
    """
    if not is_of_tomography(titles):
        return None
    angle = axis_angle_in_labels(label for label in titles if _TOMOGRAPHY_AXIS.search(label))
    return None if angle is None else turned_axis(angle)


def is_of_tomography(titles: Iterable[str]) -> bool:
    """Return whether title lines are those of Thermo Fisher's Tomography."""
    return any(_TOMOGRAPHY.match(label) for label in titles)


def turned_axis(angle_deg: float) -> float:
    """Return -(angle + 90) within a half turn: the axis from Tomography's `TiltAxisAngle`, and back."""
    return round((90.0 - angle_deg) % 360.0 - 180.0, 6)


def render_serialem_tilts(tilt_deg: NDArray[np.floating[Any]]) -> bytes:
    """Return a SerialEM extended header that holds only tilt angles, padded to a multiple of 1024 bytes.

    Its section takes 2 bytes and its flags are 1.
    """
    raw: bytes = np.rint(np.asarray(tilt_deg, float) * 100).astype("<i2").tobytes()
    return raw + bytes(-len(raw) % 1024)


def _serialem_bytes(flags: int) -> int:
    return sum(size for bit, size in _SERIALEM_ITEMS.items() if flags & bit)


def _decode_serialem(raw: bytes, sections: int, byte_order: str, nint: int, nreal: int) -> Acquisition | None:
    if nint <= 0 or _serialem_bytes(nreal) > nint:
        return None
    count = min(sections, len(raw) // nint)
    records = np.frombuffer(raw, np.uint8, count * nint).reshape(count, nint)

    def shorts(bit: int, size: int) -> NDArray[np.float64]:
        start = _serialem_bytes(nreal & (bit - 1))
        return np.ascontiguousarray(records[:, start : start + 2 * size]).view(f"{byte_order}i2").astype(float)

    tilts = shorts(_SERIALEM_TILT, 1)[:, 0] / 100 if nreal & _SERIALEM_TILT else None
    exposure = _float_of_shorts(*shorts(_SERIALEM_DOSE, 2).T) if nreal & _SERIALEM_DOSE else None
    return Acquisition(
        "SerialEM",
        tilt_deg=_plausible_tilts(tilts),
        exposure=_plausible_exposure(exposure),
        piece_coordinates=_without_sign(shorts(_SERIALEM_PIECE, 3)) if nreal & _SERIALEM_PIECE else None,
    )


def _without_sign(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return short integers read without their sign: corners of pieces may lie beyond 32767 pixels."""
    return values.astype(np.int64) % (1 << 16)


def _float_of_shorts(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decode SerialEM's real numbers in two short integers: mantissa of 23 bits, exponent of 7, a sign for each."""
    magnitude = np.abs(second)
    mantissa = np.abs(first) * 256 + magnitude % 256
    exponent = np.sign(second) * (magnitude // 256)
    return np.asarray(np.sign(first) * mantissa * 2.0**exponent)


def _decode_fei(raw: bytes, kind: bytes, sections: int, byte_order: str) -> Acquisition | None:
    dtype = get_ext_header_dtype(kind, byte_order)
    if len(raw) < dtype.itemsize:
        return None
    stride = struct.unpack_from(f"{byte_order}i", raw)[0]
    if not dtype.itemsize <= stride <= len(raw):
        stride = dtype.itemsize
    count = min(sections, len(raw) // stride)
    records = np.frombuffer(raw, np.uint8, count * stride).reshape(count, stride)[:, : dtype.itemsize]
    blocks = np.ascontiguousarray(records).view(dtype)[:, 0]
    valid = int(np.bitwise_and.reduce(blocks["Bitmask 1"]))
    degrees = math.degrees(1) if bytes(blocks["Application version"][0]).rstrip(b"\0") == _FEI_VERSION_IN_RADIANS else 1.0
    return Acquisition(
        f"Thermo Fisher {kind.decode()}",
        tilt_deg=_plausible_tilts(blocks["Alpha tilt"].astype(float) * degrees) if valid & _FEI_TILT else None,
        pixel_size_angstrom=_plausible_pixel(float(blocks["Pixel size X"][0]) * 1e10) if valid & _FEI_PIXEL else None,
        axis_angle_deg=_plausible_axis(-float(blocks["Tilt axis angle"][0]) * degrees) if valid & _FEI_AXIS else None,
        exposure=_plausible_exposure(blocks["Dose"].astype(float) * 1e-20) if valid & _FEI_DOSE else None,
    )


def _decode_agard(raw: bytes, sections: int, byte_order: str, nint: int, nreal: int, *, of_fei: bool) -> Acquisition | None:
    stride = 4 * (nint + nreal)
    if nint < 0 or nreal <= 0 or len(raw) < stride:
        return None
    count = min(sections, len(raw) // stride)
    words = np.frombuffer(raw, f"{byte_order}f4", count * (nint + nreal)).reshape(count, nint + nreal)
    reals = words[:, nint:].astype(float)
    whole = nreal > _AGARD_PIXEL
    return Acquisition(
        "Agard, by FEI" if of_fei else "Agard",
        tilt_deg=_plausible_tilts(reals[:, _AGARD_TILT]),
        pixel_size_angstrom=_agard_pixel(reals[0, _AGARD_PIXEL]) if whole else None,
        axis_angle_deg=_plausible_axis(-reals[0, _AGARD_AXIS] if of_fei else reals[0, _AGARD_AXIS]) if whole else None,
    )


def _agard_pixel(written: float) -> float | None:
    least, greatest = _AGARD_PIXEL_IN_ANGSTROM
    return _plausible_pixel(written if least < written < greatest else written * 1e10)


def _plausible_tilts(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    if values is None or not len(values) or not bool((np.abs(values) <= 180).all()):
        return None
    return values


def _plausible_exposure(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    if values is None or not bool((np.isfinite(values) & (values >= 0)).all()) or not values.any():
        return None
    return values


PIXEL_ANGSTROM = 0.01, 1e5
"""Pixel sizes between these are believed: from a tenth of what a lens resolves to ten micrometres."""


def is_pixel_size(angstrom: float) -> bool:
    """Return whether a pixel size can be that of a microscope.

    >>> is_pixel_size(2.5), is_pixel_size(1e-9), is_pixel_size(1e7)
    (True, False, False)
    """
    least, greatest = PIXEL_ANGSTROM
    return least < angstrom < greatest


def _plausible_pixel(angstrom: float) -> float | None:
    return float(angstrom) if is_pixel_size(angstrom) else None


def _plausible_axis(degrees: float) -> float | None:
    return float(degrees) if 0 < abs(degrees) <= 360 else None
