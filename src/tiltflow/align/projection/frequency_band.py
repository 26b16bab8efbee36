"""Which frequencies of a frame are compared, and how they are grouped: q along x, p along y, rings of equal radius."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """The frequencies of one q within the band, ring by ring.

    Attributes
    ----------
    order
        Where they are among the frequencies along y.
    groups
        The rings that this q meets.
    starts, counts
        Where in `order` each of these begins, and how many frequencies it has.
    """

    order: NDArray[np.intp]
    groups: NDArray[np.intp]
    starts: NDArray[np.intp]
    counts: NDArray[np.intp]

    @classmethod
    def of(cls, group: NDArray[np.intp]) -> Rings:
        """Return the rings of frequencies whose ring is `group`, -1 outside the band."""
        order = np.argsort(group, kind="stable")
        order = order[np.count_nonzero(group < 0) :]
        groups, starts, counts = np.unique(group[order], return_index=True, return_counts=True)
        return cls(order, groups, starts, counts)

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        """Yield the number of each ring among those that are met, and its part of `order`."""
        for k, (start, count) in enumerate(zip(self.starts.tolist(), self.counts.tolist(), strict=True)):
            yield k, slice(start, start + count)


@dataclass(frozen=True, slots=True, eq=False)
class FrequencyBand:
    """Which frequencies of a frame are used, and how they are grouped.

    Attributes
    ----------
    shape
        Of the frame, `(ny, nx)`.
    q, p
        Frequencies along x (positive ones) and y, cycles per pixel.
    columns, rows
        Where they are in a real transform of the frame.
    group
        `(q, p)`: the ring of each frequency, -1 outside the band.
    groups
        Number of rings.
    rings
        For each q, its frequencies ring by ring.
    order, starts
        The same in two arrays, `(q, p)` and `(q, groups + 1)`: frequencies along y by ring, and where each ring begins among them.
    """

    shape: tuple[int, int]
    q: Floats
    p: Floats
    columns: slice
    rows: NDArray[np.intp]
    group: NDArray[np.intp]
    groups: int
    rings: tuple[Rings, ...]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]

    @classmethod
    def up_to(cls, shape: tuple[int, int], highest: float, groups: int) -> FrequencyBand:
        """Return the band of frequencies up to `highest`, cycles per pixel, in rings of equal width."""
        q, p = (np.asarray(f, np.float64) for f in (np.fft.rfftfreq(shape[1]), np.fft.fftfreq(shape[0])))
        columns = slice(1, int(np.searchsorted(q, highest)))
        rows = np.flatnonzero(np.abs(p) < highest)
        q, p = q[columns], p[rows]
        radius = np.hypot(q[:, None], p[None, :])
        group = np.where(radius < highest, np.floor(radius / highest * groups), -1).astype(np.intp)
        order = np.argsort(group, axis=1, kind="stable")
        starts = np.stack([np.count_nonzero(group < ring, axis=1) for ring in range(groups + 1)], axis=1)
        return cls(shape, q, p, columns, rows, group, groups, tuple(map(Rings.of, group)), order, starts)

    def on_fewest_samples(self) -> FrequencyBand:
        """Return the band on a frame of the same extent with as few samples as hold it, which has fewer pixels.

        Its frequencies are still those per pixel of this frame.
        """
        signed = np.where(self.rows <= self.shape[0] // 2, self.rows, self.rows - self.shape[0])
        highest = int(np.abs(signed).max()), self.columns.stop - 1
        shape = tuple(min(n, scipy.fft.next_fast_len(2 * most + 2, real=True)) for n, most in zip(self.shape, highest, strict=True))
        return replace(self, shape=shape, rows=np.where(signed < 0, signed + shape[0], signed))

    def crop(self, transforms: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Return the bands `(..., q, p)` of real transforms of the frame, `(..., ny, nx // 2 + 1)`."""
        return np.ascontiguousarray(transforms[..., self.rows, self.columns].swapaxes(-1, -2))

    def embed(self, values: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Return the real transforms whose bands are `values`, `(..., q, p)`, and 0 elsewhere."""
        transforms = np.zeros((*values.shape[:-2], self.shape[0], self.shape[1] // 2 + 1), np.complex64)
        transforms[..., self.rows, self.columns] = values.swapaxes(-1, -2)
        return transforms
