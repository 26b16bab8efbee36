"""Edge-enhancing diffusion of a tomogram: noise is smoothed along edges and away from them, and edges stay.

    du / dt = div(D grad u)

The diffusion tensor D lets grey values flow freely along an edge, and across it with `1 - exp(-3.31488 / (g / K)^8)`, where g is the
gradient of the volume smoothed by a Gaussian: steeper than about K is an edge, flatter is noise (Weickert 1998, *Anisotropic diffusion
in image processing*; Frangakis & Hegerl 2001, doi:10.1006/jsbi.2001.4406).  IMOD's nad_eed_3d, which this answers to, has the same
parameters; the numbers are not its, since steps and differences are taken in another way.

Each iteration is an explicit step, and a pass through the volume in blocks with a margin as wide as a step reaches, so that the result
does not depend on the blocks.  What flows out of a voxel flows into another: the mean stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import DTypeLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.filters.volumes import MEMORY_BYTES, NotFiniteError, ScratchVolume, VolumeSink, VolumeSource, filtered_file
from tiltflow.kernels.diffusion import diffuse_step, diffusion_tensor
from tiltflow.model import Progress
from tiltflow.parallel import map_threads

_LARGEST_STEP = 1 / 6
"""The longest step of an explicit scheme in three dimensions, beyond which values oscillate and grow."""
_REACH = 2
"""Voxels from which a step takes something: a flux needs the tensors beside it, and these the gradients of their neighbours."""
_TRUNCATE = 3.0
"""Standard deviations at which the Gaussian ends, 0.3 % of it."""
_BYTES = 4 * 10
"""Bytes a voxel of a block: its values, smoothed and new ones, and the six numbers of the tensor."""
_SECTIONS = 24
"""Sections of a block: with a margin of 2 to 5 on either side, 17 to 42 % more are read than written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffuseParams:
    """How far noise is smoothed.

    Attributes
    ----------
    k
        Gradient, grey values a voxel, above which something is an edge: nad_eed_3d's K.  Of use are 0.02 to 5 standard deviations of the
        volume; try several on a small part.
    iterations
        Steps; 5 to 20 in common use.
    sigma
        Of the Gaussian that smooths the volume before its gradient is taken, voxels; 0 for none.  0.7 to 1 does better where noise is as
        strong as the edges: of a ball with noise of 0.6 of its contrast, the error left is 10 % less.
    step
        Time of a step, at most 1/6; the smoothing of even areas is that of a Gaussian of `sqrt(2 * iterations * step)` voxels.

    Raises
    ------
    ParameterError
        If a value is out of range.
    """

    k: float
    iterations: int = 10
    sigma: float = 0.0
    step: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.k < np.inf:
            raise ParameterError(
                f"a K of {self.k:g} for diffusion: give a gradient above 0, 0.02 to 5 standard deviations of the volume"
            )
        if self.iterations < 1:
            raise ParameterError(f"{self.iterations} iterations of diffusion: give at least 1; 5 to 20 are usual")
        if not 0 <= self.sigma <= 10:
            raise ParameterError(f"a sigma of {self.sigma:g} voxels for the gradients of diffusion: give 0 to 10")
        if not 0 < self.step <= _LARGEST_STEP:
            raise ParameterError(
                f"a time step of {self.step:g} for diffusion: give above 0 and at most 1/6, beyond which it is unstable"
            )

    @property
    def margin(self) -> int:
        """Voxels around a block that a step needs."""
        return _REACH + (int(_TRUNCATE * self.sigma + 0.5) if self.sigma else 0)


def diffuse_volume(
    source: VolumeSource,
    sink: VolumeSink,
    params: DiffuseParams,
    *,
    scratch: Path,
    threads: int = 1,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> None:
    """Diffuse a volume of any size.

    Parameters
    ----------
    source
        The volume, `(nz, ny, nx)`, any real type.
    sink
        Receives blocks of float32.
    params
        K, iterations, smoothing.
    scratch
        Folder with room for the volume as float32, twice if there are more than two iterations; not used for one.
    threads
        Blocks at the same time; the result does not depend on it.
    memory_bytes
        For the blocks that are worked on at once.
    progress
        Called with the fraction done.

    Raises
    ------
    ParameterError
        If a voxel is not finite: its sections are named.
    ResourceError
        If the scratch folder or the place of the result has too little room.
    """
    blocks = _blocks(source.shape, params.margin, memory_bytes // max(threads, 1))
    with ExitStack() as stack:
        spare = [
            stack.enter_context(ScratchVolume(scratch, source.shape, np.float32)) for _ in range(min(params.iterations - 1, 2))
        ]
        for iteration in range(params.iterations):
            given = source if iteration == 0 else spare[(iteration - 1) % len(spare)]
            taker = sink if iteration == params.iterations - 1 else spare[iteration % len(spare)]
            for done, _ in enumerate(map_threads(_step_of(given, taker, params), blocks, threads), 1):
                if progress is not None:
                    progress((iteration + done / len(blocks)) / params.iterations)


def diffuse_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    params: DiffuseParams,
    *,
    dtype: DTypeLike = np.float32,
    scratch: Path | None = None,
    threads: int = 1,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> None:
    """Write the volume in an MRC file diffused to another, which says so in its title.

    Parameters
    ----------
    source, target
        The files; the second appears when it is complete.
    dtype
        Type of the voxels written (:class:`tiltflow.formats.mrc.MrcWriter`).
    scratch
        Folder for scratch; that of the target if not given.
    params, threads, memory_bytes, progress
        As of :func:`diffuse_volume`.

    Raises
    ------
    LocationError, FormatError
        If the source cannot be read, or holds voxels that are not finite.
    ParameterError, ResourceError
        As :func:`diffuse_volume`.
    """
    done = f"diffused, K {params.k:g}, {params.iterations} iterations"
    place = Path(target).parent if scratch is None else scratch
    with filtered_file(source, target, done, dtype) as (volume, out):
        diffuse_volume(volume, out, params, scratch=place, threads=threads, memory_bytes=memory_bytes, progress=progress)


@dataclass(frozen=True, slots=True)
class _Span:
    """First and one past the last of what is written, and of what is read for it."""

    first: int
    last: int
    read_first: int
    read_last: int

    @classmethod
    def all(cls, n: int, size: int, margin: int) -> list[_Span]:
        """Return the spans of `n` sections or rows."""
        ends = [(first, min(first + size, n)) for first in range(0, n, size)]
        return [cls(first, last, max(first - margin, 0), min(last + margin, n)) for first, last in ends]


def _blocks(shape: tuple[int, int, int], margin: int, memory_bytes: int) -> list[tuple[_Span, _Span]]:
    nz, ny, nx = shape
    sections = min(_SECTIONS, nz)
    room = memory_bytes // (_BYTES * nx * (min(sections + 2 * margin, nz)))
    rows = int(np.clip(room - 2 * margin, 1, ny))
    return [(z, y) for z in _Span.all(nz, sections, margin) for y in _Span.all(ny, rows, margin)]


def _step_of(source: VolumeSource, sink: VolumeSink, params: DiffuseParams) -> Callable[[tuple[_Span, _Span]], None]:
    def step(block: tuple[_Span, _Span]) -> None:
        z, y = block
        u = source.read_block(slice(z.read_first, z.read_last), slice(y.read_first, y.read_last)).astype(np.float32)
        if not np.isfinite(u).all():
            raise NotFiniteError(
                f"sections {z.read_first + 1} to {z.read_last} hold values that are not finite, which would spread; replace them"
            )
        tensor = np.empty((6, *u.shape), np.float32)
        diffusion_tensor(_smoothed(u, params.sigma), params.k, tensor)
        out = np.empty((z.last - z.first, y.last - y.first, u.shape[2]), np.float32)
        diffuse_step(u, tensor, params.step, z.first - z.read_first, y.first - y.read_first, out)
        sink.write_block(out, z=z.first, y=y.first)

    return step


def _smoothed(u: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(scipy.ndimage.gaussian_filter(u, sigma, mode="nearest", truncate=_TRUNCATE), np.float32) if sigma else u
