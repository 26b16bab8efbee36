"""The free variables: their map to the seven parameters of every view, and their priors.

A grouped variable has a value every few views (in order of tilt) and changes linearly between them.  Every variable but the
shifts has a Gaussian prior: independent scatter from view to view (`independent_sd`) and drift (`drift_sd`, a random walk in order of
tilt).  The prior decides where the tracks do not: for the tilts of a flat specimen near zero, or the rotation of a view with two
points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.align.bundle.params import SolveParams

Floats = NDArray[np.float64]

SHIFT_X, SHIFT_Y, ROTATION, TILT, MAGNIFICATION, STRETCH, SKEW = range(7)
PER_VIEW = 7
_AXIS_SD_DEG = 30.0
"""Prior standard deviation of the mean tilt axis angle about the nominal one: no constraint in practice."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Prior standard deviations of a variable, in its own unit (radians, or a fraction)."""

    independent_sd: float
    drift_sd: float = 0.0
    mean_sd: float = 0.0


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of variable: `map` `(views, nodes)` gives each view its value, `rank` `(nodes,)` where the nodes lie.

    Of a learnable kind the prior is estimated: its scatter, and its drift if it drifts.
    """

    name: str
    parameter: int
    map: Floats
    rank: Floats
    spread: Spread
    learnable: bool
    drifts: bool = True

    def covariance(self, spread: Spread | None = None) -> Floats:
        """Return the prior covariance of the nodes, `(nodes, nodes)`."""
        spread = spread or self.spread
        scatter, drift = spread.independent_sd**2 * np.eye(len(self.rank)), spread.drift_sd**2 * self.drift()
        return np.asarray(scatter + drift + spread.mean_sd**2)

    def drift(self) -> Floats:
        """Return the covariance of a random walk of unit steps, up to a constant, `(nodes, nodes)`, not to be written to."""
        return self._drift

    @cached_property
    def _drift(self) -> Floats:
        distance = np.abs(self.rank[:, None] - self.rank[None])
        walk = np.asarray(0.5 * (max(float(distance.max()), 1.0) - distance))
        walk.setflags(write=False)
        return walk


@dataclass(frozen=True, eq=False)
class Rows:
    """The map from variables to the seven parameters of every view by rows, of which most entries are zero.

    Parameter a of view i is the sum over k, from `first[7 i + a]` to `first[7 i + a + 1]`, of `share[k]` times variable `column[k]`.
    """

    first: NDArray[np.int64]
    column: NDArray[np.int64]
    share: Floats
    variables: int

    @classmethod
    def of(cls, matrix: Floats) -> Rows:
        """Return the rows of a map, `(7 views, variables)`."""
        row, column = np.nonzero(matrix)
        first = np.searchsorted(row, np.arange(len(matrix) + 1)).astype(np.int64)
        return cls(first, column.astype(np.int64), matrix[row, column], matrix.shape[1])

    @classmethod
    def of_parameters(cls, views: int) -> Rows:
        """Return those of variables that are the parameters themselves."""
        size = views * PER_VIEW
        return cls(np.arange(size + 1, dtype=np.int64), np.arange(size, dtype=np.int64), np.ones(size), size)

    @cached_property
    def transposed(self) -> scipy.sparse.csr_array:
        """The map as a sparse matrix, transposed: `(variables, 7 views)`."""
        return scipy.sparse.csr_array((self.share, self.column, self.first), (len(self.first) - 1, self.variables)).T.tocsr()


@dataclass(frozen=True, eq=False)
class Variables:
    """All free numbers: two shifts a view, then the kinds one after the other."""

    views: int
    kinds: tuple[Kind, ...]

    @property
    def count(self) -> int:
        """Free numbers without the shifts: what tiltalign counts as view parameters."""
        return sum(kind.map.shape[1] for kind in self.kinds)

    @property
    def blocks(self) -> dict[str, slice]:
        """Where the variables of each kind lie."""
        blocks, start = {}, 2 * self.views
        for kind in self.kinds:
            blocks[kind.name] = slice(start, start + kind.map.shape[1])
            start += kind.map.shape[1]
        return blocks

    def matrix(self) -> Floats:
        """Return the map `(7 views, variables)`, not to be written to."""
        return self._matrix

    def precision(self) -> Floats:
        """Return the inverse prior covariance of all variables, not to be written to; zero for the shifts."""
        return self._precision

    @cached_property
    def rows(self) -> Rows:
        """The map by rows."""
        return Rows.of(self._matrix)

    @cached_property
    def _matrix(self) -> Floats:
        out = np.zeros((self.views, PER_VIEW, 2 * self.views + self.count))
        index = np.arange(self.views)
        out[index, SHIFT_X, 2 * index] = 1.0
        out[index, SHIFT_Y, 2 * index + 1] = 1.0
        for kind, block in zip(self.kinds, self.blocks.values(), strict=True):
            out[:, kind.parameter, block] = kind.map
        out.setflags(write=False)
        return out.reshape(self.views * PER_VIEW, -1)

    @cached_property
    def _precision(self) -> Floats:
        n = 2 * self.views + self.count
        out = np.zeros((n, n))
        for kind, block in zip(self.kinds, self.blocks.values(), strict=True):
            out[block, block] = np.linalg.inv(kind.covariance())
        out.setflags(write=False)
        return out

    def with_spreads(self, spreads: Mapping[str, Spread]) -> Variables:
        """Return the same variables with other priors."""
        kinds = tuple(replace(kind, spread=spreads.get(kind.name, kind.spread)) for kind in self.kinds)
        return Variables(self.views, kinds)


def choose_variables(params: SolveParams, tilt_deg: Floats) -> Variables:
    """Return the variables that `params` ask for, for views at `tilt_deg` `(views,)`."""
    rank = np.empty(len(tilt_deg))
    rank[np.argsort(tilt_deg, kind="stable")] = np.arange(len(tilt_deg))
    kinds: list[Kind] = []

    def add(name: str, parameter: int, group: int, spread: Spread) -> None:
        kinds.append(grouped_kind(name, parameter, rank, group, spread))

    rotation_sd = float(np.deg2rad(params.rotation_sd_deg))
    if params.rotation == "one":
        kinds.append(
            Kind(
                "rotation",
                ROTATION,
                np.ones((len(rank), 1)),
                np.zeros(1),
                Spread(0.0, mean_sd=np.deg2rad(_AXIS_SD_DEG)),
                learnable=False,
            )
        )
    elif params.rotation != "fixed":
        group = params.rotation_group if params.rotation == "grouped" else 1
        add("rotation", ROTATION, group, Spread(rotation_sd, mean_sd=float(np.deg2rad(_AXIS_SD_DEG))))
    if params.tilt != "fixed":
        group = params.tilt_group if params.tilt == "grouped" else 1
        tilt = grouped_kind("tilt", TILT, rank, group, Spread(float(np.deg2rad(params.tilt_sd_deg))))
        kinds.append(replace(tilt, drifts=params.tilt_drift))
    if params.magnification != "fixed":
        group = params.magnification_group if params.magnification == "grouped" else 1
        add("magnification", MAGNIFICATION, group, Spread(params.magnification_sd))
    if params.stretch:
        add("stretch", STRETCH, params.stretch_group, Spread(params.stretch_sd))
    if params.skew:
        add("skew", SKEW, params.skew_group, Spread(float(np.deg2rad(params.skew_sd_deg))))
    return Variables(len(rank), tuple(kinds))


def grouped_kind(name: str, parameter: int, rank: Floats, group: int, spread: Spread) -> Kind:
    """Return a kind that has a value every `group` views in their order `rank`, `(views,)`, and changes linearly between them."""
    nodes = _nodes(len(rank), group)
    return Kind(name, parameter, _interpolation(rank, nodes), nodes, spread, learnable=True)


def _nodes(views: int, group: int) -> Floats:
    """Return the ranks, in order of tilt, at which a variable has a value of its own."""
    if views == 1:
        return np.zeros(1)
    return np.linspace(0, views - 1, max(round((views - 1) / group), 1) + 1)


def _interpolation(rank: Floats, nodes: Floats) -> Floats:
    """Return `(views, nodes)`: the linear interpolation between the nodes."""
    return np.stack([np.interp(rank, nodes, unit) for unit in np.eye(len(nodes))], axis=1)
