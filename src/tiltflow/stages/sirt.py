"""SIRT: the volume whose projections agree with the views, by repeated back-projection of the differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from numpy.typing import ArrayLike

from tiltflow.model import Progress, Stack
from tiltflow.stages.reconstruct import ReconstructParams, Sink


@dataclass(frozen=True, slots=True, kw_only=True)
class SirtParams:
    """How the iterations go.

    Attributes
    ----------
    iterations
        Rounds (`sirtsetup` `LeaveIterations`, 10 by default).
    relaxation
        Part of each correction that is applied, between 0 and 2.
    start
        From nothing, or from the weighted back-projection.
    radial_cutoff, radial_falloff
        Low-pass of the corrections, cycles per pixel (`RadiusAndSigma`).
    """

    iterations: int = 10
    relaxation: float = 1.0
    start: Literal["zero", "back-projection"] = "zero"
    radial_cutoff: float = 0.4
    radial_falloff: float = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class SirtResult:
    """How the iterations went: `residual_rms[k]` is the rms difference of views and projections before round k."""

    shape: tuple[int, int, int]
    views: int
    residual_rms: tuple[float, ...]
    minimum: float
    maximum: float
    mean: float
    scale_factor: float
    seconds: Mapping[str, float] = field(default_factory=dict)


def reconstruct_sirt(
    aligned: Stack,
    tilt_deg: ArrayLike,
    params: ReconstructParams,
    sirt: SirtParams,
    *,
    included: ArrayLike | None = None,
    sink: Sink,
    threads: int = 1,
    progress: Progress | None = None,
) -> SirtResult:
    """Reconstruct by SIRT and hand the volume to `sink`, slab by slab in the order of y."""
    raise NotImplementedError
