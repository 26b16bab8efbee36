"""Beads erased from the views of an aligned stack: discs about their places, grown, and filled from what is around.

IMOD's ccderaser does the same under golderaser.com.  It fills each patch with one value; what that leaves in a volume, and what the
texture here leaves, is measured by ``benchmarks/erase.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.erase.filling import Filling, fill
from tiltflow.erase.patches import discs, grown, patches_of, reached
from tiltflow.errors import ParameterError
from tiltflow.model import Progress, Stack
from tiltflow.parallel import map_views


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseParams:
    """What is erased, and what takes its place.

    Attributes
    ----------
    diameter_nm
        Of the beads.
    extra_diameter_px
        Added to it, pixels of the aligned stack (`runtime.GoldErasing.any.extraDiameter`, whose default in IMOD is 0): 4 covers the
        blur of the rim and the first fringe of the CTF, which a disc of the bead's own size leaves.
    expand
        Times that each disc may grow over pixels of its rim that are the bead's (`ExpandCircleIterations`, 2 or 3 in com files).
        Noise grows too: what stays at the rim is biased away from the bead, and each bead leaves a ghost of 0.16 to 0.29 standard
        deviations in the volume, so that the default is 0; the extra diameter does the work.
    fill
        `texture`, or `flat` for one value, as with IMOD's `PolynomialOrder 0`.
    ring_px
        From where to where outside a patch the pixels lie that tell what to fill it with; without the adjacent ones, as with IMOD's
        `ExcludeAdjacent`.
    seed
        Of the texture.

    Raises
    ------
    ParameterError
        If a size is out of range.
    """

    diameter_nm: float
    extra_diameter_px: float = 4.0
    expand: int = 0
    fill: Filling = "texture"
    ring_px: tuple[float, float] = (1.0, 3.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.diameter_nm > 0:
            raise ParameterError(f"beads of {self.diameter_nm} nm cannot be erased: give their diameter, above 0")
        if self.expand < 0:
            raise ParameterError(f"{self.expand} iterations of growth: give 0 or more")
        if not 0 <= self.ring_px[0] < self.ring_px[1]:
            raise ParameterError(
                f"a ring from {self.ring_px[0]} to {self.ring_px[1]} pixels: it must begin at 0 or more, and end after that"
            )

    def radius_px(self, pixel_nm: float) -> float:
        """Return the radius of the discs, pixels of a size.

        >>> EraseParams(diameter_nm=10.0).radius_px(1.0)
        7.0

        Raises
        ------
        ParameterError
            If the extra diameter, which may be negative, leaves nothing.
        """
        diameter = self.diameter_nm / pixel_nm + self.extra_diameter_px
        if not diameter > 0:
            raise ParameterError(
                f"beads of {self.diameter_nm} nm at {pixel_nm:g} nm a pixel and {self.extra_diameter_px} pixels more have "
                "no size: give a larger extra diameter"
            )
        return diameter / 2


@dataclass(frozen=True, slots=True, eq=False)
class ErasedView:
    """A view without beads.

    Attributes
    ----------
    image
        `(ny, nx)`, of the type that it was read as.
    beads
        Discs that have a pixel in it.
    pixels
        How many of its pixels are new.
    """

    image: NDArray[Any]
    beads: int
    pixels: int


def erase_stack(
    aligned: Stack,
    points_per_view: Sequence[ArrayLike],
    pixel_nm: float,
    params: EraseParams,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> Iterator[ErasedView]:
    """Yield the views without beads, in the order of the stack.

    Parameters
    ----------
    aligned
        `(views, ny, nx)`; at most `2 * threads + 1` erased views exist at a time.
    points_per_view
        Centres of the beads in each view, `(points, 2)`: x, y, pixels of the aligned stack from its corner.  Points outside the
        view, and those that are not numbers, are passed over.
    pixel_nm
        Size of a pixel of the aligned stack.
    params
        Diameter, growth and filling.
    threads
        Views erased at the same time; the result does not depend on it.
    progress
        Called with the fraction done.

    Raises
    ------
    ParameterError
        If there are not as many lists of points as views, or the beads have no size.
    StageError
        If all pixels of a view are to be erased.
    """
    views = aligned.shape[0]
    if len(points_per_view) != views:
        raise ParameterError(f"beads of {len(points_per_view)} views for a stack of {views}; give one list of points for each")
    radius = params.radius_px(pixel_nm)
    yield from map_views(
        lambda v: erase_view(aligned[v], points_per_view[v], radius, params, view_number=v), views, threads, progress
    )


def erase_view(view: NDArray[Any], points: ArrayLike, radius: float, params: EraseParams, *, view_number: int = 0) -> ErasedView:
    """Return a view without beads.

    Parameters
    ----------
    view
        `(ny, nx)`; it is not changed.
    points
        `(points, 2)`: x, y, pixels from the corner of the view.
    radius
        Of the discs, pixels.
    params
        Growth and filling.
    view_number
        Number of the view, which the texture of a patch depends on, as on its place in the view, and on nothing else.

    Raises
    ------
    StageError
        If all of its pixels are to be erased.
    """
    mask = grown(view, discs(points, view.shape, radius), params.expand)
    image = np.array(view)
    for patch in patches_of(mask):
        first = int(patch.rows[0]) * view.shape[1] + int(patch.columns[0])
        rng = np.random.default_rng((params.seed, view_number, first))
        values = fill(view, patch, mask, params.ring_px, params.fill, rng)
        image[patch.rows, patch.columns] = _as_type(values, image.dtype)
    return ErasedView(image, int(np.count_nonzero(reached(points, view.shape, radius))), int(np.count_nonzero(mask)))


def _as_type(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values as they can be stored, rounded and clipped for integers."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
