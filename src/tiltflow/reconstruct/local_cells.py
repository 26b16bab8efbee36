"""Back-projection of a specimen that is not rigid: local alignments, and heights displaced along the tilt axis.

A point (x, y, z) of the specimen is seen in a globally aligned view at

    L^-1 (x cos t + z sin t,  y + p z)

with t the tilt there, p the z factor of the view (the displacement along y for each pixel of height), and L the local alignment
(globally to locally aligned), all of them interpolated bilinearly between the centres of the areas and constant beyond the
outermost ones.  Corresponds to IMOD's `tilt` with a LOCALFILE and a ZFACTORFILE.

A slice is divided into cells.  Within a cell, positions in a view are approximated by parallel straight rays: linear in x between
exact positions at the two sides of the cell, with the same slope along every ray.  The error grows with the size of the cell, which
is chosen so that neither approximation blurs by more than :data:`TOLERANCE_PX`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import ParameterError
from tiltflow.geometry import folded_tilts
from tiltflow.kernels.cells import backproject_cells
from tiltflow.model import LocalAlignment, Stack
from tiltflow.reconstruct.line_weighting import Weighting, filter_lines, read_lines
from tiltflow.reconstruct.stretched_lines import MAX_TILT_DEG
from tiltflow.reconstruct.volume_slabs import Clock, VolumeGrid

Floats = NDArray[np.float64]

CELL_COLUMNS = 128
"""Columns of a cell, halved until positions are linear enough or :data:`LEAST_COLUMNS` are reached.  The samples that a line has for
rays that leave the cell at its sides are few compared with these, so that wider cells save little work."""

LEAST_COLUMNS, LEAST_ROWS = 16, 16
"""Smallest cell.  At high tilt the lines of smaller ones would hold more samples beyond the cell than within."""
TOLERANCE_PX = 0.1
"""Blur that approximations may add, root mean square over the views, pixels of the aligned stack: a third of the
blur by the pixel itself, `1 / sqrt(12)`.  In a noisy volume with strongly varying areas the cells then differ from the smallest
possible by 10 % of the standard deviation (`benchmarks/sensitivity_volume.py`)."""
_LINES_TESTED = 9
"""Lines from the first to the last at which the size of the cells is tested; the centres of areas are farther apart.  5 or 18 choose
the same cells."""
_MARGIN_SAMPLES = 0.25
"""Pixels by which a line begins before the first voxel, half a sample, so that no position is negative after rounding."""
_MORE_SAMPLES = 4
"""Samples of a line beyond those of its voxels: for the margin, the neighbour after the last one, and an even number of them."""
_ROWS_BEFORE, _ROWS_AFTER = 2, 3
"""Rows of the views read beyond those that lines cross, for cubic convolution across them."""


@dataclass(frozen=True, slots=True, eq=False)
class Distortion:
    """The mapping from the specimen to some views; pixels of the aligned stack.

    Attributes
    ----------
    tilt_deg
        `(views,)`, degrees.
    y_per_z
        `(views,)`: displacement along y for each pixel of height.
    across, along
        `(areas along x,)` and `(areas along y,)`: centres of the areas, from the centre of the aligned image.
    forward
        `(areas along y, areas along x, views, 2, 3)`: globally to locally aligned coordinates.
    delta_tilt_deg
        `(areas along y, areas along x, views)`, degrees.
    """

    tilt_deg: Floats
    y_per_z: Floats
    across: Floats
    along: Floats
    forward: Floats
    delta_tilt_deg: Floats

    def at(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return where the points `(x, y, 0)` are seen, and the change of that with z: `(y, x, views, 2)` each."""
        wx, wy = _shares(self.across, x), _shares(self.along, y)
        forward = np.einsum("ma,nb,abvij->mnvij", wy, wx, self.forward, optimize=True)
        t = np.deg2rad(self.tilt_deg + np.einsum("ma,nb,abv->mnv", wy, wx, self.delta_tilt_deg, optimize=True))
        back = np.linalg.inv(forward[..., :2])
        flat = np.stack(np.broadcast_arrays(x[:, None] * np.cos(t), y[:, None, None]), axis=-1) - forward[..., 2]
        rise = np.stack(np.broadcast_arrays(np.sin(t), self.y_per_z), axis=-1)
        return np.einsum("...ij,...j->...i", back, flat), np.einsum("...ij,...j->...i", back, rise)


def distortion(
    local: LocalAlignment | None,
    y_per_z: Floats | None,
    views: NDArray[np.int64],
    tilt_deg: Floats,
    binning: int,
) -> Distortion:
    """Return the mapping from the specimen to some views of a binned stack.

    Parameters
    ----------
    local
        Local alignments of all views, raw pixels; None for none.
    y_per_z
        `(all views,)`: displacement along y for each pixel of height; None for none.
    views
        Which views, counted from 0.
    tilt_deg
        `(views,)`: their tilts, degrees.
    binning
        Of the aligned stack.

    Raises
    ------
    ParameterError
        If a local tilt is too steep.
    """
    skew = np.zeros(len(views)) if y_per_z is None else np.asarray(y_per_z, float)[views]
    if local is None:
        identity = np.broadcast_to(np.eye(2, 3), (1, 1, len(views), 2, 3))
        return Distortion(tilt_deg, skew, np.zeros(1), np.zeros(1), identity, np.zeros((1, 1, len(views))))
    across, along = local.grid
    forward = local.transforms[:, views].reshape(along, across, len(views), 2, 3).copy()
    forward[..., 2] /= binning
    centres = local.centre_px.reshape(along, across, 2) / binning
    delta = local.delta_tilt_deg[:, views].reshape(along, across, len(views))
    if np.abs(folded_tilts(tilt_deg + delta)).max() > MAX_TILT_DEG:
        raise ParameterError(f"a local area is tilted by more than {MAX_TILT_DEG:g} degrees: exclude the steepest views")
    return Distortion(tilt_deg, skew, centres[0, :, 0], centres[:, 0, 1], forward, delta)


def _shares(nodes: Floats, at: Floats) -> Floats:
    """Return the weights `(at, nodes)` of linear interpolation between nodes, constant beyond them."""
    return np.stack([np.interp(at, nodes, unit) for unit in np.eye(len(nodes))], axis=1)


def _off(displacement: Floats) -> float:
    """Return the blur of displacements `(..., views, axes)`: their root mean square over the views, where it is greatest."""
    return float(np.sqrt((displacement**2).sum(axis=-1).mean(axis=-1)).max())


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The cells of the slices of some lines: arrays `(lines, cells, views)`, see `kernels.cells.backproject_cells`."""

    column: Floats
    row: Floats
    step: Floats
    shift: Floats
    slope: Floats
    count: NDArray[np.int64]


class CellBackprojector:
    """Makes slices of lines by weighted back-projection, cell by cell.

    Parameters
    ----------
    axis_px
        Where the tilt axis crosses the lines, pixels from their beginning.
    """

    def __init__(self, aligned: Stack, weighting: Weighting, grid: VolumeGrid, axis_px: float, seen: Distortion) -> None:
        self._aligned, self._weighting, self._grid, self._seen, self._axis_px = aligned, weighting, grid, seen, axis_px
        xz, y = grid.xz, np.linspace(0.5 - grid.ny / 2, grid.ny / 2 - 0.5, _LINES_TESTED)
        starts = np.arange(0, xz.nx, self._columns(y))
        self._sides = np.append(starts, xz.nx)
        self._x = xz.x_first + self._sides
        rows = self._rows(y)
        tops = np.arange(0, grid.line_nz, rows)
        heights = np.minimum(rows, grid.line_nz - tops)
        self._corner = np.array([(z, x) for z in tops for x in starts])
        self._size = np.array([(h, w) for h in heights for w in np.diff(self._sides)])
        self._rows_above, self._height = tops, heights

    @property
    def outside(self) -> float:
        """Grey value of voxels that no view sees."""
        return self._weighting.base + float(self._weighting.fill.sum())

    def _columns(self, y: Floats) -> int:
        """Return the columns of a cell, as many as let positions between its sides be linear."""
        xz = self._grid.xz
        x = xz.x_first + LEAST_COLUMNS * np.arange((xz.nx + CELL_COLUMNS) // LEAST_COLUMNS + 1, dtype=np.float64)
        flat, rise = self._seen.at(x, y)
        ends = np.array([xz.z_first, xz.z_first - self._grid.line_nz])
        exact = flat + ends[:, None, None, None, None] * rise
        columns = CELL_COLUMNS
        while columns > LEAST_COLUMNS:
            stride = columns // LEAST_COLUMNS
            sides, middles = exact[:, :, ::stride], exact[:, :, stride // 2 :: stride]
            count = min(sides.shape[2] - 1, middles.shape[2])
            between = (sides[:, :, :count] + sides[:, :, 1 : count + 1]) / 2
            if _off(middles[:, :, :count] - between) <= TOLERANCE_PX:
                break
            columns //= 2
        return columns

    def _rows(self, y: Floats) -> int:
        """Return the rows of a cell, as many as let its rays be straight and parallel."""
        nz = self._grid.line_nz
        flat, rise = self._seen.at(self._x, y)
        along = np.diff(flat, axis=1) / np.diff(self._x)[:, None, None]
        middle = (rise[:, 1:] + rise[:, :-1]) / 2
        off_line = middle[..., 1] - middle[..., 0] / along[..., 0] * along[..., 1]
        off = max(_off(off_line[..., None]), _off(np.diff(rise, axis=1) / 2))
        rows = nz if off * nz <= 2 * TOLERANCE_PX else max(int(2 * TOLERANCE_PX / off), LEAST_ROWS)
        bands = -(-nz // rows)
        return -(-nz // bands)

    def slices(self, y0: int, tops: Floats, clock: Clock) -> Iterator[NDArray[np.float32]]:
        """Yield the slice of each line from y0 on."""
        w, ny = self._weighting, self._aligned.shape[1]
        cells = self._cells(y0, tops)
        clock.lap("cut")
        end_row = cells.row + (cells.count - 1) * cells.step[..., 1]
        low = int(np.clip(np.floor(min(cells.row.min(), end_row.min())) - _ROWS_BEFORE, 0, ny - 1))
        high = int(np.clip(np.ceil(max(cells.row.max(), end_row.max())) + _ROWS_AFTER, low + 1, ny))
        lines = read_lines(self._aligned, w, low, high)
        clock.lap("read")
        filter_lines(lines, w.weights, out=lines)
        clock.lap("filter")
        scratch = np.empty(int((cells.count + _MORE_SAMPLES).sum(axis=-1).max()), np.float32)
        block = np.empty(int(self._size.prod(axis=1).max()), np.float32)
        xz = np.empty((self._grid.line_nz, self._grid.xz.nx), np.float32)
        for j in range(len(tops)):
            backproject_cells(
                lines,
                self._corner,
                self._size,
                cells.column[j],
                cells.row[j] - low,
                cells.step[j],
                cells.shift[j],
                cells.slope[j],
                cells.count[j],
                w.fill,
                np.float32(w.base),
                scratch,
                block,
                xz,
            )
            clock.lap("back-project")
            yield xz

    def _cells(self, y0: int, tops: Floats) -> _Cells:
        """Return the cells of the lines from y0 on whose slices have their first row at the heights `tops`."""
        y = np.arange(y0, y0 + len(tops), dtype=np.float64) + 0.5 - self._grid.ny / 2
        flat, rise = self._seen.at(self._x, y)
        z = tops[:, None] - self._rows_above - (self._height - 1) / 2
        position = flat[:, None] + z[:, :, None, None, None] * rise[:, None]
        along = np.diff(position, axis=2) / np.diff(self._sides)[:, None, None]
        middle = (rise[:, 1:] + rise[:, :-1]) / 2
        per_z = middle[:, None, ..., 0] / along[..., 0]
        reach = np.abs(per_z) * ((self._height - 1) / 2)[:, None, None]
        first = -reach - _MARGIN_SAMPLES
        start = position[:, :, :-1] + first[..., None] * along
        width = np.diff(self._sides)[:, None]
        lines, views = len(tops), len(self._weighting.views)
        shape = (lines, -1, views)
        return _Cells(
            column=(start[..., 0] + self._axis_px - 0.5).reshape(shape),
            row=(start[..., 1] + self._grid.ny / 2 - 0.5).reshape(shape),
            step=(along / 2).reshape(*shape, 2),
            shift=(2 * (per_z * ((self._height - 1) / 2)[:, None, None] - first)).reshape(shape),
            slope=(-2 * per_z).reshape(shape),
            count=(np.ceil(2 * (width - 1 + 2 * reach)) + _MORE_SAMPLES).astype(np.int64).reshape(shape),
        )
