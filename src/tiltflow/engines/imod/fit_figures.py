"""The figures of the last fit in tiltalign's log.

IMOD 5 prints lengths in nanometres and says so; IMOD 4 prints pixels of the stack that it tracked, and the binning of that stack stands
at the head of the log.  IMOD 5 also prints leave-out errors.  With local areas the figures of each area follow those of the global fit,
and their means come last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LENGTH = r"\s*([\d.]+)"
_RESIDUAL = re.compile(rf"Residual error mean and sd:{_LENGTH}{_LENGTH}\s*(nm)?")
_WEIGHTED = re.compile(rf"Residual error weighted mean:{_LENGTH}\s*(nm)?")
_AREAS = re.compile(r"^\s*Doing\s+\d+\s+by\s+\d+\s+local areas", re.MULTILINE)
_LOCAL = re.compile(rf"Residual error local mean:{_LENGTH}\s*(nm)?")
_LOCAL_WEIGHTED = re.compile(rf"Weighted error local mean:{_LENGTH}\s*(nm)?")
_LEAVE_OUT = re.compile(rf"Global\s+(?:non-robust\s+|robust\s+)?leave-out error[^:]*:{_LENGTH}\s*(nm)?")
_RATIO = re.compile(r"Ratio of total measured values to all unknowns\s*=\s*(\d+)\s*/\s*(\d+)")
_BINNED = re.compile(r"ImagesAreBinned\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFigures:
    """What tiltalign says of its last fit; lengths in raw pixels, None where it says nothing.

    With local areas, the residuals are the means over the areas, and `global_residual_mean_px` is that of the global fit; measurements
    and unknowns are always those of the global fit.
    """

    residual_mean_px: float | None = None
    residual_sd_px: float | None = None
    residual_weighted_mean_px: float | None = None
    global_residual_mean_px: float | None = None
    leave_out_px: float | None = None
    measurements: int | None = None
    unknowns: int | None = None


def parse_fit_figures(log: str, pixel_size_angstrom: float) -> FitFigures:
    r"""Return the figures of the last fit of `align.log`.

    Parameters
    ----------
    log
        Text of `align.log`, or of it and `taSolution.log`.
    pixel_size_angstrom
        Size of a raw pixel.

    >>> parse_fit_figures("ImagesAreBinned = 2\nResidual error mean and sd:     0.083   0.049", 10.0).residual_mean_px
    0.166
    >>> parse_fit_figures("Residual error mean and sd:     0.5   0.1 nm", 2.5).residual_mean_px
    2.0
    """
    scale: Mapping[str, float] = {"nm": 10 / pixel_size_angstrom, "": prealigned_binning(log)}

    areas = _AREAS.search(log)
    fit = log[: areas.start()] if areas else log

    def last(pattern: re.Pattern[str], column: int = 0, text: str = fit) -> float | None:
        found = pattern.findall(text)
        return float(found[-1][column]) * scale[found[-1][-1]] if found else None

    ratio = _RATIO.findall(fit)
    mean = last(_RESIDUAL)
    return FitFigures(
        residual_mean_px=last(_LOCAL, text=log) or mean,
        residual_sd_px=None if areas else last(_RESIDUAL, 1),
        residual_weighted_mean_px=last(_LOCAL_WEIGHTED, text=log) or last(_WEIGHTED),
        global_residual_mean_px=mean if areas else None,
        leave_out_px=last(_LEAVE_OUT),
        measurements=int(ratio[-1][0]) if ratio else None,
        unknowns=int(ratio[-1][1]) if ratio else None,
    )


def prealigned_binning(log: str) -> float:
    """Return the binning of the stack that was tracked, from the head of `align.log`; 1 where it says nothing.

    >>> prealigned_binning("  ImagesAreBinned = 4")
    4.0
    """
    binned = _BINNED.findall(log)
    return float(binned[-1]) if binned else 1.0
