"""X-ray hits found and repaired: pixels far above their surroundings, before anything else looks at the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.model import Progress, Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class XrayParams:
    """When a pixel is a hit.  Defaults are those of IMOD's ccderaser command file.

    Attributes
    ----------
    enabled
        Whether to look at all.
    peak_criterion
        Standard deviations above the local mean that make a pixel a candidate.
    diff_criterion
        Standard deviations (of the difference between neighbours) that a candidate must stand above its surroundings.
    giant_criterion
        As `peak_criterion`, for a hit larger than `maximum_radius_px`.
    big_diff_criterion
        As `diff_criterion`, for a hit larger than `maximum_radius_px`.
    grow_criterion
        Standard deviations above the local mean down to which a hit grows over its neighbours.
    edge_exclusion
        Pixels along the edges that are left alone.
    annulus_width
        Width of the ring around a hit, pixels, that its replacement is fitted to.
    scan_size
        Side of the blocks whose mean and standard deviation are the local ones, pixels.
    polynomial_order
        Order of the surface fitted to the ring.
    maximum_radius_px
        Largest radius of an ordinary hit.
    """

    enabled: bool = True
    peak_criterion: float = 10.0
    diff_criterion: float = 8.0
    giant_criterion: float = 12.0
    big_diff_criterion: float = 19.0
    grow_criterion: float = 4.0
    edge_exclusion: int = 4
    annulus_width: float = 2.0
    scan_size: int = 100
    polynomial_order: int = 2
    maximum_radius_px: float = 2.1


@dataclass(frozen=True, slots=True, eq=False)
class XrayResult:
    """What to put where: one array a view.

    Attributes
    ----------
    indices
        For each view the pixels to replace, as `y * nx + x`.
    values
        Their new values.
    hits_per_view
        Connected groups of replaced pixels, `(views,)`.
    """

    indices: tuple[NDArray[np.int64], ...]
    values: tuple[NDArray[np.float32], ...]
    hits_per_view: NDArray[np.int64]

    @property
    def pixels_per_view(self) -> NDArray[np.int64]:
        """Replaced pixels, `(views,)`."""
        return np.array([len(each) for each in self.indices], np.int64)


class RepairedStack:
    """A stack whose views are repaired as they are read; no repaired copy is ever stored."""

    def __init__(self, stack: Stack, repairs: XrayResult) -> None:
        self._stack = stack
        self._repairs = repairs

    @property
    def shape(self) -> tuple[int, ...]:
        """`(views, ny, nx)`."""
        return self._stack.shape

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        image = self._stack[view]
        indices = self._repairs.indices[view]
        if not indices.size:
            return image
        repaired = np.array(image)
        values = self._repairs.values[view]
        flat = repaired.reshape(-1)
        flat[indices] = np.rint(values) if np.issubdtype(flat.dtype, np.integer) else values
        return repaired


def find_xrays(stack: Stack, params: XrayParams | None = None, *, threads: int = 1, progress: Progress | None = None) -> XrayResult:
    """Find the x-ray hits of every view, and what to put in their place."""
    raise NotImplementedError
