"""X-ray hits, detected and replaced before anything else uses the images.

A pixel is a candidate when it exceeds the mean of its block (free of outliers) or the pixels two steps away by a number of standard
deviations.  The connected bright pixels around it are a hit when they are smaller than a gold bead, or fall off faster than the
projection of a sphere can, so that beads four pixels or more across are left alone, dark or light.  A hit is replaced by a
polynomial surface fitted to the ring around it.

Before that, faults of the camera (:mod:`tiltflow.preprocess.camera_faults`) and pixels that are not numbers (NaN, infinity) are
replaced from the pixels beside them, in every view, so that no threshold depends on them.

Corresponds to IMOD's `ccderaser -find`, whose criteria it takes over.  It differs in the test of shape, which finds hits on top of
dark beads too; in that the edges of the image are searched; and in that no file is written: the repairs are a short list per view,
applied when a view is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import Progress, Stack
from tiltflow.parallel import map_views
from tiltflow.preprocess.camera_faults import CameraFaults, find_camera_faults
from tiltflow.preprocess.missing_pixels import fill_marked, not_numbers
from tiltflow.preprocess.offset import large_level, less
from tiltflow.preprocess.pixel_filling import fill_groups

_LARGEST_GROUP = 200
"""Pixels of the largest hit, a disc of 8 pixels radius: IMOD's ExtraLargeRadius."""
_SMALLEST = 5
"""Pixels along each side of the smallest image searched: candidates are compared with the pixels two steps away."""
_USUAL_CANDIDATES = 0.01
"""Fraction of the pixels of a view that the list of candidates holds at first; where there are more, a second pass is made."""
_MOST_CANDIDATES = 0.25
"""Fraction of the pixels of a view that may be candidates; with more of them the image is something else (two grey values, say)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XrayParams:
    """When a pixel is a hit.  Defaults are those of the `eraser.com` of IMOD's ccderaser, unless a line says otherwise.

    Attributes
    ----------
    enabled
        Whether hits are searched for.
    peak_criterion
        Standard deviations above the local mean that make a pixel a candidate.
    diff_criterion
        Standard deviations of the difference between neighbours that a hit must stand above its surroundings.  The two decide how weak
        a hit is found: of simulated hits, weak ones included, a fifth of the pixels is missed, and two fifths with either doubled.
    giant_criterion
        As `peak_criterion`, for a hit larger than `maximum_radius_px`.
    big_diff_criterion
        As `diff_criterion`, for a hit larger than `maximum_radius_px`.
    grow_criterion
        Standard deviations above the surroundings down to which a hit grows over its neighbours.  With 2 it takes in good pixels.
    edge_exclusion
        Pixels along the edges that are not searched.  IMOD leaves out 4, but a hit there would darken every picture that is scaled
        to its brightest pixel.
    annulus_width
        Width of the ring around a hit, pixels, to which its replacement is fitted.  With 4, or with an order of 1, the replacement
        has 10 % less noise, and follows gradients less.
    scan_size
        Side of the blocks of the local mean and standard deviation, pixels; from 50 to 200 the pixels missed change by 1 %.
    polynomial_order
        Order of the surface fitted to the ring, 0 to 3.
    maximum_radius_px
        Largest radius of an ordinary hit, pixels; IMOD has 1.1 to 4.2, by the pixel size.
    """

    enabled: bool = True
    peak_criterion: float = 10.0
    diff_criterion: float = 8.0
    giant_criterion: float = 12.0
    big_diff_criterion: float = 19.0
    grow_criterion: float = 4.0
    edge_exclusion: int = 0
    annulus_width: float = 2.0
    scan_size: int = 100
    polynomial_order: int = 2
    maximum_radius_px: float = 2.1

    def __post_init__(self) -> None:
        if not 0 <= self.polynomial_order <= 3:
            raise ParameterError(
                f"polynomial order {self.polynomial_order} of the surface that replaces an x-ray hit: give 0, 1, 2 (the default) or 3"
            )


@dataclass(frozen=True, slots=True, eq=False)
class XrayResult:
    """The pixels to replace and their new values: one array for each view.

    Attributes
    ----------
    indices
        For each view the pixels to replace, as `y * nx + x`.
    values
        Their new values, counts.
    starts
        For each view where the groups of these pixels begin, and the end of the last.
    hits_per_view
        Connected groups of replaced pixels, `(views,)`.
    not_numbers_per_view
        Pixels that are NaN, infinite or too large to be counts, `(views,)`; they are replaced as a view is read.
    faults
        Faults of the camera, replaced as a view is read.
    """

    indices: tuple[NDArray[np.int64], ...]
    values: tuple[NDArray[np.floating[Any]], ...]
    starts: tuple[NDArray[np.int64], ...]
    hits_per_view: NDArray[np.int64]
    not_numbers_per_view: NDArray[np.int64]
    faults: CameraFaults

    @property
    def pixels_per_view(self) -> NDArray[np.int64]:
        """Pixels of hits, `(views,)`."""
        return np.array([len(each) for each in self.indices], np.int64)


class RepairedStack:
    """A stack whose views are repaired as they are read; no repaired copy is ever stored."""

    def __init__(self, stack: Stack, repairs: XrayResult) -> None:
        self._stack = stack
        self._repairs = repairs

    @property
    def repairs(self) -> XrayResult:
        """What is repaired."""
        return self._repairs

    @property
    def shape(self) -> tuple[int, ...]:
        """`(views, ny, nx)`."""
        return self._stack.shape

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        image, _ = without_gaps(self._stack[view], self._repairs.faults)
        indices = self._repairs.indices[view]
        if not indices.size:
            return image
        values = self._values(view, image)
        repaired = image if getattr(self._stack, "reads_anew", False) else np.array(image, order="C")
        if np.issubdtype(repaired.dtype, np.integer):
            limits = np.iinfo(repaired.dtype)
            repaired.reshape(-1)[indices] = np.clip(np.rint(values), limits.min, limits.max).astype(repaired.dtype)
        else:
            repaired.reshape(-1)[indices] = values
        return repaired

    def _values(self, view: int, image: NDArray[Any]) -> NDArray[np.floating[Any]]:  # noqa: ARG002  needed by another stack
        return self._repairs.values[view]


class RepairedAlike(RepairedStack):
    """A stack that is repaired where another one of the same views is, from its own surroundings.

    Parameters
    ----------
    stack
        `(views, ny, nx)`, as a stack of half the frames of each view.
    repairs
        Of the other stack: its hits and faults of the camera; pixels that are not numbers are those of this one.
    params
        Criteria with which these were found.
    """

    def __init__(self, stack: Stack, repairs: XrayResult, params: XrayParams) -> None:
        super().__init__(stack, repairs)
        self._params = params

    def _values(self, view: int, image: NDArray[Any]) -> NDArray[np.floating[Any]]:
        indices, starts = self._repairs.indices[view], self._repairs.starts[view]
        level = large_level(image)
        marked = np.zeros(image.shape, bool)
        marked.reshape(-1)[indices] = True
        values = _filled(np.ascontiguousarray(less(image, level)), marked, indices, starts, self._params)
        return values + np.float64(level) if level else values


def without_gaps(image: NDArray[Any], faults: CameraFaults) -> tuple[NDArray[Any], int]:
    """Return a view without faults of the camera and pixels that are not numbers, and how many of the latter there are."""
    missing = not_numbers(image)
    mask = faults.mask if missing is None else missing if faults.mask is None else missing | faults.mask
    if mask is None:
        return image, 0
    values = fill_marked(image, mask)[mask]
    repaired = np.array(image, order="C")
    if np.issubdtype(repaired.dtype, np.integer):
        limits = np.iinfo(repaired.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    repaired[mask] = values.astype(repaired.dtype)
    return repaired, 0 if missing is None else int(np.count_nonzero(missing))


def find_xrays(
    stack: Stack,
    params: XrayParams | None = None,
    *,
    faults: CameraFaults | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> XrayResult:
    """Return the x-ray hits of every view, and the values that replace them.

    Parameters
    ----------
    stack
        Raw views, `(views, ny, nx)`.
    params
        Criteria; None for the defaults.  Where they are not `enabled`, only pixels that are not numbers are replaced.
    faults
        Faults of the camera; None to find them in these views.
    threads
        Views searched at the same time.
    progress
        Called with the fraction done.

    Returns
    -------
    XrayResult
        The replacements of each view, for :class:`RepairedStack`.
    """
    params = params or XrayParams()
    if faults is None:
        faults = find_camera_faults(stack, threads=threads) if params.enabled else CameraFaults()
    room = _Room()
    found = list(map_views(lambda view: _find_in_view(stack[view], params, faults, room), stack.shape[0], threads, progress))
    return XrayResult(
        indices=tuple(indices for indices, _, _, _ in found),
        values=tuple(values for _, values, _, _ in found),
        starts=tuple(starts for _, _, starts, _ in found),
        hits_per_view=np.array([len(starts) - 1 for _, _, starts, _ in found], np.int64),
        not_numbers_per_view=np.array([missing for _, _, _, missing in found], np.int64),
        faults=faults,
    )


_View = tuple[NDArray[np.int64], NDArray[np.floating[Any]], NDArray[np.int64], int]


class _Room:
    """Images as large as a view to work in, which one view after the other uses: to map their memory anew takes longer than the work."""

    def __init__(self) -> None:
        self._idle: list[tuple[NDArray[np.float32], NDArray[np.uint8]]] = []

    @contextmanager
    def lent(self, shape: tuple[int, ...]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
        """Lend an image of real numbers and one of marks to a `with` block; threads get one each."""
        try:
            room = self._idle.pop()
        except IndexError:
            room = np.empty(shape, np.float32), np.empty(shape, np.uint8)
        yield room
        self._idle.append(room)


def _find_in_view(raw: NDArray[Any], params: XrayParams, faults: CameraFaults, room: _Room) -> _View:
    """Return the pixels of hits, their new values, where each hit begins, and the number of pixels that are not numbers."""
    whole, missing = without_gaps(np.asarray(raw), faults)
    nothing = np.empty(0, np.int64), np.empty(0, np.float32), np.zeros(1, np.int64), missing
    if not params.enabled or min(whole.shape) < _SMALLEST:
        return nothing
    level = large_level(whole)
    with room.lent(whole.shape) as (image, state):
        less(whole, level, image)
        hits = _hits(image, state, params)
    if hits is None:
        return nothing
    indices, values, starts = hits
    return indices, values + np.float64(level) if level else values, starts, missing


def _hits(
    image: NDArray[np.float32], state: NDArray[np.uint8], params: XrayParams
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]] | None:
    """Return the pixels of hits, their new values and where each hit begins; None if there are none.  `state` is room for marks."""
    from tiltflow.kernels import xrays as kernels  # numba is slow to import

    edges_y, edges_x = (_edges(n, params.scan_size) for n in image.shape)
    mean, sd, step_sd = np.empty((3, len(edges_y) - 1, len(edges_x) - 1))
    kernels.block_statistics(image, edges_y, edges_x, mean, sd, step_sd)
    candidates = np.empty(int(_USUAL_CANDIDATES * image.size) + 1, np.int64)
    thresholds = mean + params.peak_criterion * sd, params.diff_criterion * step_sd
    count = kernels.find_candidates(image, edges_y, edges_x, *thresholds, params.edge_exclusion, candidates)
    if count == 0 or count > _MOST_CANDIDATES * image.size:
        return None
    if count > len(candidates):
        candidates = np.empty(count, np.int64)
        kernels.find_candidates(image, edges_y, edges_x, *thresholds, params.edge_exclusion, candidates)
    indices, starts = np.empty(len(candidates), np.int64), np.empty(count + 1, np.int64)
    state[...], ring = 0, np.empty((2 * kernels.RING_REACH + 1) ** 2)
    hits = kernels.examine(
        image,
        candidates[:count],
        edges_y,
        edges_x,
        step_sd,
        (params.peak_criterion, params.diff_criterion, params.giant_criterion, params.big_diff_criterion, params.grow_criterion),
        np.pi * params.maximum_radius_px**2,
        state,
        np.empty(_LARGEST_GROUP, np.int64),
        ring,
        starts,
        indices,
    )
    indices = indices[: starts[hits]].copy()
    if hits == 0:
        return None
    starts = starts[: hits + 1].copy()
    return indices, _filled(image, state == 1, indices, starts, params), starts


def _filled(
    image: NDArray[np.float32],
    marked: NDArray[np.bool_],
    indices: NDArray[np.int64],
    starts: NDArray[np.int64],
    params: XrayParams,
) -> NDArray[np.float32]:
    """Return new values for the pixels of hits, from the rings around them; parameters as of :func:`fill_groups`."""
    from tiltflow.kernels import xrays as kernels  # numba is slow to import

    values, fitted = fill_groups(image, marked, indices, starts, params.annulus_width, params.polynomial_order)
    ring = np.empty((2 * kernels.RING_REACH + 1) ** 2)
    for hit in np.flatnonzero(~fitted):
        y, x = divmod(int(indices[starts[hit]]), image.shape[1])
        values[starts[hit] : starts[hit + 1]] = kernels.ring_median(image, y, x, ring)
    return values


def _edges(n: int, size: int) -> NDArray[np.int64]:
    """Return where blocks of about `size` begin and end."""
    return np.linspace(0, n, max(round(n / size), 1) + 1).astype(np.int64)
