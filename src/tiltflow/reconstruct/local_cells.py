"""Back-projection where the specimen is not seen as one rigid body: local alignments, and heights displaced along the tilt axis.

A point (x, y, z) of the specimen is seen in a globally aligned view at

    L^-1 (x cos t + z sin t,  y + p z)

with t the tilt there, p what is left of the skew of the view (its z factor), and L the local alignment (globally to locally aligned),
all of them interpolated bilinearly between the centres of the areas and held beyond the outermost ones.  IMOD's `tilt` does as
much with a LOCALFILE and a ZFACTORFILE.

A section is cut into cells.  In a cell the position in a view is taken to follow straight rays: linear in x between exact positions
at its two sides, and the same along every ray.  What that leaves out grows with the size of the cell, which is chosen so that
neither step blurs by more than :data:`TOLERANCE_PX`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import ParameterError
from tiltflow.kernels.cells import backproject_cells
from tiltflow.model import LocalAlignment, Stack
from tiltflow.reconstruct.line_weighting import Weighting, filter_lines, read_lines
from tiltflow.reconstruct.stretched_lines import MAX_TILT_DEG
from tiltflow.reconstruct.volume_slabs import Clock, VolumeGrid

Floats = NDArray[np.float64]

CELL_COLUMNS = 128
"""Columns of a cell, halved until positions are linear enough or :data:`LEAST_COLUMNS` are reached."""

LEAST_COLUMNS = 16
LEAST_ROWS = 16
TOLERANCE_PX = 0.1
"""Pixels of the aligned stack."""


@dataclass(frozen=True, slots=True, eq=False)
class Distortion:
    """How some views see the specimen, pixels of the aligned stack.

    Attributes
    ----------
    tilt_deg
        `(views,)`.
    y_per_z
        `(views,)` how far a height is displaced along y, as a fraction of it.
    across, along
        `(areas along x,)` and `(areas along y,)`: where the areas are, from the centre of the aligned image.
    forward
        `(areas along y, areas along x, views, 2, 3)`: globally to locally aligned coordinates.
    delta_tilt_deg
        `(areas along y, areas along x, views)`.
    """

    tilt_deg: Floats
    y_per_z: Floats
    across: Floats
    along: Floats
    forward: Floats
    delta_tilt_deg: Floats

    def at(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return where the points `(x, y, 0)` are seen, and by how much that changes with z: `(y, x, views, 2)` each."""
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
    """Return how `views` at `tilt_deg` see the specimen in a stack of that binning.

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
    if np.abs(tilt_deg + delta).max() > MAX_TILT_DEG:
        raise ParameterError(f"a local area is tilted by more than {MAX_TILT_DEG:g} degrees: exclude the steepest views")
    return Distortion(tilt_deg, skew, centres[0, :, 0], centres[:, 0, 1], forward, delta)


def _shares(nodes: Floats, at: Floats) -> Floats:
    """Return `(at, nodes)`: the linear interpolation between nodes, held beyond them."""
    return np.stack([np.interp(at, nodes, unit) for unit in np.eye(len(nodes))], axis=1)


def _off(displacement: Floats) -> float:
    """Return the greatest root mean square over the views of displacements `(..., views, axes)`: what they blur."""
    return float(np.sqrt((displacement**2).sum(axis=-1).mean(axis=-1)).max())


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The cells of the sections of some lines: arrays `(lines, cells, views)` as the kernel wants them."""

    column: Floats
    row: Floats
    step: Floats
    shift: Floats
    slope: Floats
    count: NDArray[np.int64]


class CellBackprojector:
    """Makes sections of lines by weighted back-projection, cell by cell.

    Parameters
    ----------
    axis_px
        Where the tilt axis crosses the lines.
    """

    def __init__(self, aligned: Stack, weighting: Weighting, grid: VolumeGrid, axis_px: float, seen: Distortion) -> None:
        self._aligned, self._weighting, self._grid, self._seen, self._axis_px = aligned, weighting, grid, seen, axis_px
        section, y = grid.section, np.linspace(0.5 - grid.ny / 2, grid.ny / 2 - 0.5, 9)
        starts = np.arange(0, section.nx, self._columns(y))
        self._sides = np.append(starts, section.nx)
        self._x = section.x_first + self._sides
        rows = self._rows(y)
        tops = np.arange(0, grid.line_nz, rows)
        heights = np.minimum(rows, grid.line_nz - tops)
        self._corner = np.array([(z, x) for z in tops for x in starts])
        self._size = np.array([(h, w) for h in heights for w in np.diff(self._sides)])
        self._rows_above, self._height = tops, heights

    @property
    def outside(self) -> float:
        """Grey value of what no view sees."""
        return self._weighting.base + float(self._weighting.fill.sum())

    def _columns(self, y: Floats) -> int:
        """Return how many columns a cell may have: between its sides positions are linear enough."""
        section = self._grid.section
        x = section.x_first + LEAST_COLUMNS * np.arange((section.nx + CELL_COLUMNS) // LEAST_COLUMNS + 1, dtype=np.float64)
        flat, rise = self._seen.at(x, y)
        ends = np.array([section.z_first, section.z_first - self._grid.line_nz])
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
        """Return how many rows a cell may have: its rays are straight and parallel enough over so many."""
        nz = self._grid.line_nz
        flat, rise = self._seen.at(self._x, y)
        along = np.diff(flat, axis=1) / np.diff(self._x)[:, None, None]
        middle = (rise[:, 1:] + rise[:, :-1]) / 2
        off_line = middle[..., 1] - middle[..., 0] / along[..., 0] * along[..., 1]
        off = max(_off(off_line[..., None]), _off(np.diff(rise, axis=1) / 2))
        rows = nz if off * nz <= 2 * TOLERANCE_PX else max(int(2 * TOLERANCE_PX / off), LEAST_ROWS)
        bands = -(-nz // rows)
        return -(-nz // bands)

    def sections(self, y0: int, tops: Floats, clock: Clock) -> Iterator[NDArray[np.float32]]:
        """Yield the section of each line from y0 on."""
        w, ny = self._weighting, self._aligned.shape[1]
        cells = self._cells(y0, tops)
        clock.lap("cut")
        end_row = cells.row + (cells.count - 1) * cells.step[..., 1]
        low = int(np.clip(np.floor(min(cells.row.min(), end_row.min())) - 2, 0, ny - 1))
        high = int(np.clip(np.ceil(max(cells.row.max(), end_row.max())) + 3, low + 1, ny))
        lines = read_lines(self._aligned, w, low, high)
        clock.lap("read")
        filter_lines(lines, w.weights, out=lines)
        clock.lap("filter")
        scratch = np.empty(int((cells.count + 4).sum(axis=-1).max()), np.float32)
        block = np.empty(int(self._size.prod(axis=1).max()), np.float32)
        section = np.empty((self._grid.line_nz, self._grid.section.nx), np.float32)
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
                section,
            )
            clock.lap("back-project")
            yield section

    def _cells(self, y0: int, tops: Floats) -> _Cells:
        """Return the cells of the lines from y0 on whose sections have their first row at the heights `tops`."""
        y = np.arange(y0, y0 + len(tops), dtype=np.float64) + 0.5 - self._grid.ny / 2
        flat, rise = self._seen.at(self._x, y)
        z = tops[:, None] - self._rows_above - (self._height - 1) / 2
        position = flat[:, None] + z[:, :, None, None, None] * rise[:, None]
        along = np.diff(position, axis=2) / np.diff(self._sides)[:, None, None]
        middle = (rise[:, 1:] + rise[:, :-1]) / 2
        per_z = middle[:, None, ..., 0] / along[..., 0]
        reach = np.abs(per_z) * ((self._height - 1) / 2)[:, None, None]
        # Half a sample before the first voxel, so that no position is negative.
        first = -reach - 0.25
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
            count=(np.ceil(2 * (width - 1 + 2 * reach)) + 4).astype(np.int64).reshape(shape),
        )
