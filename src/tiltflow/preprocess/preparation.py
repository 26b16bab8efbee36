"""Raw views prepared for alignment: repaired as they are read, and bad views excluded with the reason.

X-ray hits, faults of the camera and pixels that are not numbers are repaired.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import StageError
from tiltflow.model import LEAST_VIEWS, Stack
from tiltflow.observer import SILENT, Observer, StageObserver
from tiltflow.preprocess.bad_views import ViewParams, find_bad_views
from tiltflow.preprocess.camera_faults import CameraFaults, find_camera_faults
from tiltflow.preprocess.xrays import RepairedAlike, RepairedStack, XrayParams, XrayResult, find_xrays


class RepairingStack:
    """A stack whose x-ray hits, faults of the camera and pixels that are not numbers are repaired as views are read.

    Faults of the camera are searched when the first view is read, all else when a view is first read.
    Hits are a few numbers a view and are kept, so that reading a view again costs no second search.  Images are not kept.
    """

    def __init__(self, stack: Stack, params: XrayParams | None = None) -> None:
        self._stack = stack
        self._params = params or XrayParams()
        self._hits: dict[int, XrayResult] = {}
        self._faults: CameraFaults | None = None
        self._one_at_a_time = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """`(views, ny, nx)`."""
        return self._stack.shape

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        view = int(view)
        with self._one_at_a_time:
            if self._faults is None:
                self._faults = find_camera_faults(self._stack) if self._params.enabled else CameraFaults()
        one = _OneView(self._stack[view])
        if view not in self._hits:
            self._hits[view] = find_xrays(one, self._params, faults=self._faults)
        return RepairedStack(one, self._hits[view])[0]


class _OneView:
    """A view that was read, as a stack of one."""

    def __init__(self, image: NDArray[Any]) -> None:
        self._image = np.asarray(image)
        self.shape = (1, *self._image.shape)

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        return self._image


def prepare_views(
    raw: Stack,
    tilt_deg: ArrayLike,
    xrays: XrayParams,
    views: ViewParams,
    *,
    left_out: Mapping[int, str],
    name: str,
    observer: Observer = SILENT,
    threads: int = 1,
) -> tuple[Stack, dict[int, str]]:
    """Return the views, repaired, and the reason for every view that is not to be used, counted from 0.

    X-ray hits, faults of the camera and pixels that are not numbers are repaired as views are read.

    Parameters
    ----------
    raw
        The views, `(view, y, x)`.
    tilt_deg
        Nominal tilt of each view, degrees, `(views,)`.
    xrays, views
        Criteria of hits and of bad views.
    left_out
        Views that are excluded in any case, with the reason.
    name
        Of the series, in messages.

    Raises
    ------
    StageError
        If fewer than three views are left.
    """
    stack = repair_views(raw, xrays, observer=observer, threads=threads)
    return stack, leave_out_bad_views(stack, tilt_deg, views, left_out=left_out, name=name, observer=observer, threads=threads)


def repair_views(raw: Stack, params: XrayParams, *, observer: Observer = SILENT, threads: int = 1) -> Stack:
    """Return the views with x-ray hits, faults of the camera and pixels that are not numbers repaired as they are read.

    Where the repair of x-rays is not asked for, only pixels that are not numbers are replaced.
    """
    if not params.enabled and np.asarray(raw[0]).dtype.kind != "f":
        return raw
    with observer.stage("x-rays") as notes:
        found = find_xrays(raw, params, threads=threads, progress=notes.progress)
        notes.number("hits", int(found.hits_per_view.sum()))
        notes.number("pixels_replaced", int(found.pixels_per_view.sum()))
        if found.faults.pixels:
            notes.number("camera_pixels_replaced", found.faults.pixels * raw.shape[0])
            notes.warn(found.faults.sentence())
        _tell_not_numbers(found.not_numbers_per_view, int(np.prod(raw.shape[1:])), notes)
    return RepairedStack(raw, found)


def repair_alike(half: Stack, whole: Stack, params: XrayParams) -> Stack:
    """Return views repaired where other images of the same views are, from their own surroundings.

    Parameters
    ----------
    half
        As read: images of half the frames of each view.
    whole
        What :func:`repair_views` made of those of all frames.
    params
        With which it did.
    """
    if isinstance(whole, RepairedStack):
        return RepairedAlike(half, whole.repairs, params)
    return RepairingStack(half, replace(params, enabled=False))


def _tell_not_numbers(per_view: NDArray[np.int64], pixels: int, notes: StageObserver) -> None:
    """Count the pixels that are not numbers, and name the views with many."""
    if not per_view.any():
        return
    notes.number("pixels_not_numbers", int(per_view.sum()))
    total, worst = int(per_view.sum()), int(per_view.argmax())
    views = np.count_nonzero(per_view)
    where = f"view {worst + 1}" if views == 1 else f"{views} views, most of them in view {worst + 1}"
    what = "1 pixel is not a number" if total == 1 else f"{total} pixels are not numbers"
    notes.warn(
        f"{what} (NaN or infinity), in {where} ({100 * per_view[worst] / pixels:.2g} % of it): replaced from the pixels beside them"
    )


def leave_out_bad_views(
    stack: Stack,
    tilt_deg: ArrayLike,
    params: ViewParams,
    *,
    left_out: Mapping[int, str],
    name: str,
    observer: Observer = SILENT,
    threads: int = 1,
) -> dict[int, str]:
    """Return the views not to be used, counted from 0, with the reason: those of `left_out`, and bad ones.

    Raises
    ------
    StageError
        If fewer than three views are left.
    """
    tilts = np.asarray(tilt_deg, float)
    excluded = dict(left_out)
    with observer.stage("views") as notes:
        check = find_bad_views(stack, tilts, params, threads=threads, progress=notes.progress)
        for view, reason in check.reasons.items():
            if view not in excluded:
                notes.warn(f"view {view + 1} ({tilts[view]:.1f}°) is left out: {reason}")
                excluded[view] = reason
        views = stack.shape[0]
        notes.number("views_used", views - len(excluded))
        notes.number("views_left_out", len(excluded))
        if (left := views - len(excluded)) < LEAST_VIEWS:
            reasons = {**excluded, **check.reasons}
            first = "".join(f"; view {view + 1}: {reason}" for view, reason in sorted(reasons.items())[:1])
            raise StageError(f"{name}: {left} of its {views} views can be used, and a tomogram needs at least {LEAST_VIEWS}{first}")
    return dict(sorted(excluded.items()))
