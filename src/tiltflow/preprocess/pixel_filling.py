"""Small groups of pixels replaced from their surroundings: a polynomial surface fitted to the ring around each, all at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_LEAST_VOLUME = 1e-9
"""Least determinant of the normal equations of a ring over the product of their diagonal (1 when the terms are orthogonal, 0 when
they are dependent).  Rings around hits have 0.001 (order 3) to 0.2, those in a corner of the image or along a line less than 1e-16;
any value between does."""


def fill_groups(
    image: NDArray[np.float32], marked: NDArray[np.bool_], indices: Integers, starts: Integers, width: float, order: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return new values for the pixels of groups, and which groups could be fitted.

    A polynomial surface is fitted to the ring of pixels within `width` of a group, and its values are clipped to the range of
    those of the ring.  A group is not fitted when its ring has too few pixels for the polynomial, or lies along a line.

    Parameters
    ----------
    image
        `(ny, nx)`.
    marked
        `(ny, nx)`: pixels excluded from all rings, those of all groups.
    indices, starts
        Group k is the pixels `indices[starts[k] : starts[k + 1]]` of the image, as `y * nx + x`.
    width
        Width of the ring, pixels.
    order
        Order of the polynomial.

    Returns
    -------
    values, fitted
        New values in the order of `indices`, and `(groups,)` which groups have them.
    """
    group = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    owner, ring = _rings(group, indices, marked, width)
    y, x = np.divmod(indices, image.shape[1])
    boxes = [(np.minimum.reduceat(at, starts[:-1]), np.maximum.reduceat(at, starts[:-1])) for at in (y, x)]
    (cy, hy), (cx, hx) = (((low + high) / 2, (high - low) / 2) for low, high in boxes)
    scale = np.maximum(hy, hx) + np.ceil(width)

    def terms(of: Integers, pixels: Integers) -> Floats:
        y, x = np.divmod(pixels, image.shape[1])
        v, u = (y - cy[of]) / scale[of], (x - cx[of]) / scale[of]
        return np.stack([u ** (degree - k) * v**k for degree in range(order + 1) for k in range(degree + 1)], axis=-1)

    known, values = terms(owner, ring), image.reshape(-1)[ring].astype(np.float64)
    count = np.bincount(owner, minlength=len(cy))
    there = np.flatnonzero(count)
    first = (np.cumsum(count) - count)[there]
    normal, right = np.zeros((len(cy), known.shape[1], known.shape[1])), np.zeros((len(cy), known.shape[1]))
    normal[there] = np.add.reduceat(known[:, :, None] * known[:, None], first)
    right[there] = np.add.reduceat(known * values[:, None], first)
    volume = np.linalg.det(normal) / np.maximum(np.diagonal(normal, axis1=1, axis2=2).prod(axis=1), np.finfo(float).tiny)
    fitted = (count > known.shape[1]) & (volume > _LEAST_VOLUME)
    normal[~fitted] = np.eye(known.shape[1])
    surface = np.einsum("pt,pt->p", terms(group, indices), np.linalg.solve(normal, right[..., None])[group, :, 0])
    lowest, highest = np.zeros((2, len(cy)))
    lowest[there], highest[there] = np.minimum.reduceat(values, first), np.maximum.reduceat(values, first)
    return np.clip(surface, lowest[group], highest[group]).astype(np.float32), fitted


def _rings(group: Integers, indices: Integers, marked: NDArray[np.bool_], width: float) -> tuple[Integers, Integers]:
    """Return the unmarked pixels within `width` of each group, group by group: the group of each, and its index."""
    ny, nx = marked.shape
    y, x = np.divmod(indices, nx)
    reach = int(np.ceil(width))
    dy, dx = (each.ravel() for each in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    near = dy**2 + dx**2 <= width**2
    y, x = y[:, None] + dy[near], x[:, None] + dx[near]
    inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
    owner, ring = np.divmod(np.unique((group[:, None] * ny * nx + y * nx + x)[inside]), ny * nx)
    free = ~marked.reshape(-1)[ring]
    return owner[free], ring[free]
