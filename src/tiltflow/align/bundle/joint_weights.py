"""Weights of tracks whose errors are correlated from view to view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class JointWeights:
    """The weight matrix of all positions of a track together, x and y of a view side by side.

    Patches have the same one but for a factor, so that whatever costs the square of the views is done once for all of them.

    Attributes
    ----------
    matrices
        `(kinds, 2 views, 2 views)`, symmetric.
    kind, factor
        `(tracks,)` which of them a track has, and what it is multiplied by.
    """

    matrices: Floats
    kind: Indices
    factor: Floats

    @classmethod
    def of(cls, matrices: Floats) -> JointWeights:
        """Return those of `matrices` `(tracks, 2 views, 2 views)`, equal ones kept once."""
        kinds: list[Floats] = []
        kind = np.empty(len(matrices), np.int64)
        for track, matrix in enumerate(matrices):
            same = (number for number, other in enumerate(kinds) if np.array_equal(other, matrix))
            kind[track] = next(same, len(kinds))
            if kind[track] == len(kinds):
                kinds.append(matrix)
        return cls(np.array(kinds), kind, np.ones(len(matrices)))

    def scaled(self, factor: Floats | float) -> JointWeights:
        """Return the weights multiplied by one number, or by one a track, `(tracks,)`."""
        return replace(self, factor=self.factor * factor)

    def only(self, track: int) -> JointWeights:
        """Return the weights of one track."""
        one = slice(track, track + 1)
        return JointWeights(self.matrices[self.kind[one]], np.zeros(1, np.int64), self.factor[one])

    def of_track(self, track: int) -> Floats:
        """Return the weight matrix of one track, `(2 views, 2 views)`."""
        return np.asarray(self.factor[track] * self.matrices[self.kind[track]])

    def groups(self) -> Iterator[tuple[Floats, Indices]]:
        """Yield every matrix, without factor, and the indices of the tracks that have it."""
        for number, matrix in enumerate(self.matrices):
            if len(tracks := np.flatnonzero(self.kind == number)):
                yield matrix, tracks

    def times(self, positions: Floats) -> Floats:
        """Return the product of each track's matrix with its `positions` `(tracks, views, 2)`, in the same shape."""
        flat = positions.reshape(len(positions), -1)
        out = np.empty_like(flat)
        for matrix, tracks in self.groups():
            out[tracks] = self.factor[tracks, None] * (flat[tracks] @ matrix)
        return out.reshape(positions.shape)
