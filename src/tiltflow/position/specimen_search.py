"""Where the specimen lies: its two surfaces in a low-resolution volume, and what levels and centres it.

Small volumes are made from a small aligned stack: one as it is, where gold shows (:mod:`tiltflow.position.gold_planes`), and others of
views in which all that stands out (gold, dirt) was replaced by its surroundings and that are filtered so that the volume is sharp in
depth, where only the texture of the specimen is left (:mod:`tiltflow.position.texture`).  SlopeFit and surfaces come from both, each with
the weight of its error (:mod:`tiltflow.position.combination`).  A section that reaches the ends of the volume is looked for again in a
thicker one.  The part of IMOD's `findsection`, `cryoposition` and `tomopitch`; the method differs.

The result is trusted when the specimen stands out, and slopes and height keep to their place whichever part of the field is left out.
If not it says why, and asks for no change.  The thickness is trusted, or not, on its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from tiltflow.errors import ParameterError
from tiltflow.model import Alignment, Progress, Stack
from tiltflow.parallel import map_threads
from tiltflow.position.combination import Placed, place
from tiltflow.position.gold_planes import Gold, find_gold, fit_gold
from tiltflow.position.texture import LONG, SHORT, Columns, Waves, columns, coverage, sharp_in_depth
from tiltflow.position.texture_surfaces import STEEPEST_DEG
from tiltflow.reconstruct.line_weighting import chosen_views
from tiltflow.reconstruct.wbp import ReconstructParams, axis_position, reconstruct, volume_grid, volume_shape

_MOST_SLOPE_ERROR_DEG = 1.0
_TELLS_SLOPES_DEG = 0.25
"""Twice this is half a degree."""
_MOST_CENTRE_ERROR = 0.2
_MOST_THICKNESS_ERROR = 0.1
"""Parts of the thickness."""
_ENDS = 4
"""Voxels next to the ends of the volume where no surface is believed."""
_THINNEST = 24
"""Voxels of the volume that is searched, at least."""
THICKER = 2
"""The second volume, where the first is too thin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionParams:
    """How the section is looked for.

    Attributes
    ----------
    sample_type
        0 not at all, 1 plastic, 2 cryo (`runtime.Positioning.any.sampleType`).
    thickness
        Of the volume that is searched first, raw pixels (`runtime.Positioning.any.thickness`); None for a size by the image, as IMOD.
    whole_tomogram
        Search the whole volume (`wholeTomogram`); samples of it are not offered, as the whole takes a second.
    has_gold_beads
        Gold lies on the specimen (`hasGoldBeads`).  It is found either way; without it no gold is looked for.
    sets_thickness
        The thickness found, with the extra, becomes that of the volume; the one asked for is what to fall back to
        (`runtime.Reconstruction.any.fallbackThickness`).
    extra_thickness
        Added to the thickness found, raw pixels (`extraThickness`).
    """

    sample_type: int = 0
    thickness: int | None = None
    whole_tomogram: bool = True
    has_gold_beads: bool = True
    sets_thickness: bool = False
    extra_thickness: int = 0

    def __post_init__(self) -> None:
        if self.sample_type not in (0, 1, 2):
            raise ParameterError(f"sample type {self.sample_type} for positioning: give 0 (none), 1 (plastic) or 2 (cryo)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionResult:
    """Where the specimen lies; lengths in raw pixels, errors are standard errors.

    Attributes
    ----------
    tilt_offset_deg
        To be added to the tilt angles (`OFFSET`), to level the specimen.
    x_axis_tilt_deg
        To be added to `XAXISTILT`: minus its pitch.
    z_shift
        To be added to `shift_z` (`SHIFT`), to centre it.
    thickness
        Of the specimen.
    confident
        Whether the numbers may be used; if not, angles and shift are 0 and the thickness is that of the volume searched.
    slopes_told
        Whether tilt and pitch are known to half a degree.
    thickness_told
        Whether the thickness is known to about a tenth of it, and may be used too.
    reason
        What was seen, in a sentence.
    contrast
        Height of the texture's hump over the scatter of what lies outside.
    beads
        Beads of gold that set the slopes.
    cut_off
        What was found reaches the ends of the volume searched.
    """

    tilt_offset_deg: float
    x_axis_tilt_deg: float
    z_shift: float
    thickness: float
    confident: bool
    slopes_told: bool
    thickness_told: bool
    reason: str
    tilt_error_deg: float = 0.0
    pitch_error_deg: float = 0.0
    centre_error: float = 0.0
    thickness_error: float = 0.0
    contrast: float = 0.0
    beads: int = 0
    cut_off: bool = False

    def level(self, alignment: Alignment, *, margin: int = 0) -> Alignment:
        """Return the alignment that levels and centres the specimen; `alignment` itself where the specimen was not found.

        Where the thickness is known, the volume becomes as thick as the specimen and a `margin`, raw pixels.
        """
        if not self.confident:
            return alignment
        return replace(
            alignment,
            tilt_deg=alignment.tilt_deg + self.tilt_offset_deg,
            x_axis_tilt_deg=alignment.x_axis_tilt_deg + self.x_axis_tilt_deg,
            z_shift=alignment.z_shift + self.z_shift,
            thickness=math.ceil(self.thickness + margin) if self.thickness_told else alignment.thickness,
        )


_SMALL_SIDE_PX = 300
"""Largest side of the small views that the specimen is searched in: a volume of them takes a second and still shows texture."""


def small_binning(shape: tuple[int, ...]) -> int:
    """Return the binning of the small stack that the specimen is searched in, for raw views `(views, ny, nx)`."""
    return max(2, -(-max(shape[1:]) // _SMALL_SIDE_PX))


def position_section(
    aligned: Stack,
    tilt_deg: ArrayLike,
    params: PositionParams,
    *,
    binning: int,
    included: ArrayLike | None = None,
    base: ReconstructParams | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> PositionResult:
    """Reconstruct a small volume and find the specimen in it.

    Parameters
    ----------
    aligned
        `(views, ny, nx)`: a small stack, of 150 to 300 pixels a side; all of it is held.
    binning
        Raw pixels to one of its.
    base
        Offset, shift and x-axis tilt that the volume is made with already; the result is relative to them.
    """
    views = chosen_views(aligned.shape[0], included)
    given = base or ReconstructParams(thickness=binning)
    tilt = np.asarray(tilt_deg, np.float64)[views] + given.offset_deg
    height = search_height(params, aligned.shape[2], binning)
    prepared = list(map_threads(lambda v: _prepared(aligned[int(v)]), views, threads))
    plain = np.stack([view for view, _ in prepared])
    bare = np.stack([view for _, view in prepared])
    search = _Search(plain, bare, tilt, params, given, binning, threads)
    found = search.within(height)
    if found.cut_off:
        found = search.within(THICKER * height)
    if progress is not None:
        progress(1.0)
    return found


class _Search:
    """Looks for the specimen in volumes of some height."""

    def __init__(
        self,
        plain: NDArray[np.float32],
        bare: NDArray[np.float32],
        tilt_deg: NDArray[np.float64],
        params: PositionParams,
        base: ReconstructParams,
        binning: int,
        threads: int,
    ) -> None:
        self._plain, self._bare, self._tilt, self._params = plain, bare, tilt_deg, params
        self._threads = threads
        self._recipe = ReconstructParams(
            thickness=binning,
            binning=binning,
            scale_factor=100.0,
            axis_offset=base.axis_offset,
            shift_x=base.shift_x,
            shift_z=base.shift_z,
            x_axis_tilt_deg=base.x_axis_tilt_deg,
            mode=2,
        )

    def within(self, height: int) -> PositionResult:
        """Return what is found in a volume of a height, raw pixels."""
        recipe = replace(self._recipe, thickness=height)
        gold = fit_gold(find_gold(self._volume(self._plain, recipe))) if self._params.has_gold_beads else None
        shape = self._bare.shape
        seen = coverage(volume_grid(shape, recipe).section, shape[2], axis_position(shape, recipe), self._tilt)
        long, *short = (self._texture(waves, recipe, seen) for waves in (LONG, *SHORT))
        return find_section(long, short, binning=recipe.binning, gold=gold)

    def _texture(self, waves: Waves, recipe: ReconstructParams, seen: NDArray[np.float64]) -> Columns:
        def sharpened(k: int) -> NDArray[np.float32]:
            return sharp_in_depth(self._bare[k], float(self._tilt[k]), waves)

        views = np.stack(list(map_threads(sharpened, range(len(self._tilt)), self._threads)))
        return columns(self._volume(views, recipe), seen, waves)

    def _volume(self, views: NDArray[np.float32], recipe: ReconstructParams) -> NDArray[np.float32]:
        out = np.empty(volume_shape(views.shape, recipe), np.float32)

        def keep(y0: int, slab: NDArray[np.float32]) -> None:
            out[y0 : y0 + len(slab)] = slab

        reconstruct(views, self._tilt, recipe, sink=keep, threads=self._threads)
        return out


def find_section(
    texture: Columns, sharper: Sequence[Columns] = (), *, binning: float = 1.0, gold: Gold | None = None
) -> PositionResult:
    """Find the specimen in the texture of a small volume whose voxels are `binning` raw pixels wide.

    Parameters
    ----------
    sharper
        The texture of shorter waves, which tells more where it stands out.
    gold
        The planes that gold was found on.
    """
    nz = texture.level.shape[-1]
    placed = place(texture, sharper, gold)
    level = float(np.prod(np.cos(np.deg2rad(placed.slopes)))) * binning
    cut_off = max(-placed.bottom, placed.top) > nz / 2 - _ENDS
    doubt = _doubt(placed, cut_off)
    told = placed.thickness_error <= _MOST_THICKNESS_ERROR * placed.thickness
    return PositionResult(
        tilt_offset_deg=0.0 if doubt else -placed.slopes[0],
        x_axis_tilt_deg=0.0 if doubt else -placed.slopes[1],
        z_shift=0.0 if doubt else (placed.bottom + placed.top) / 2 * level,
        thickness=nz * binning if doubt else placed.thickness * level,
        confident=not doubt,
        slopes_told=max(placed.slope_errors) <= _TELLS_SLOPES_DEG and not doubt,
        thickness_told=told and not doubt,
        reason=doubt or _summary(placed, level, told),
        tilt_error_deg=placed.slope_errors[0],
        pitch_error_deg=placed.slope_errors[1],
        centre_error=placed.centre_error * level,
        thickness_error=placed.thickness_error * level,
        contrast=placed.contrast,
        beads=0 if gold is None else gold.beads,
        cut_off=cut_off,
    )


def _summary(placed: Placed, level: float, told: bool) -> str:
    """Return how well the position is known and from what, in a sentence."""
    part, slope_error = 100 * placed.thickness_error / placed.thickness, max(placed.slope_errors)
    only = " only" * (slope_error > _TELLS_SLOPES_DEG)
    return f"from {placed.source}: slopes to {slope_error:.1f} degrees{only}, centre to {placed.centre_error * level:.1f} px, " + (
        f"thickness to {part:.0f} %" if told else f"but the thickness cannot be told, it is uncertain by {part:.0f} %"
    )


def search_height(params: PositionParams, width: int, binning: int) -> int:
    """Return the thickness of the volume searched first, raw pixels, for a small stack of a width; that of IMOD if none is asked for."""
    usual = next((t for below, t in ((512, 250), (1024, 400), (2048, 500)) if width * binning < below), 600)
    return max(params.thickness or usual, _THINNEST * binning)


def _prepared(view: NDArray[np.generic]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a view less its slow changes, in standard deviations, as it is and less all that stands out."""
    image = view.astype(np.float32)
    wide = max(min(image.shape) // 8, 5)
    rest = image - _blurred(image, wide)
    smooth = ndimage.gaussian_filter(rest, 1.0, truncate=3)
    sticks_out = np.abs(smooth) > 5 * 1.4826 * np.median(np.abs(smooth[::2, ::2]))
    kept = (~ndimage.binary_dilation(sticks_out, iterations=3)).astype(np.float32)
    around = _blurred(image * kept, wide) / np.maximum(_blurred(kept, wide), 1e-2)
    bare = (image - around) * kept
    spread = float(np.sqrt((bare**2).sum() / max(kept.sum(), 1.0)))
    return rest / np.float32(max(float(rest.std()), 1e-6)), bare / np.float32(max(spread, 1e-6))


def _blurred(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the mean over squares, twice."""
    return np.asarray(ndimage.uniform_filter(ndimage.uniform_filter(image, side, mode="nearest"), side, mode="nearest"))


def _doubt(placed: Placed, cut_off: bool) -> str:
    """Return why a section is not to be trusted; nothing if it is."""
    slope_error, centre_error = max(placed.slope_errors), placed.centre_error / placed.thickness
    if not placed.stands_out:
        doubt = f"the specimen does not stand out: its texture is {placed.contrast:.1f} times its noise"
    elif cut_off:
        doubt = "the specimen reaches the ends of the volume searched: give a greater thickness for positioning"
    elif max(map(abs, placed.slopes)) >= STEEPEST_DEG:
        doubt = f"the slope of the texture is beyond the {STEEPEST_DEG:g} degrees searched"
    elif slope_error > _MOST_SLOPE_ERROR_DEG:
        doubt = f"parts of the field disagree about the slopes, by a standard error of {slope_error:.1f} degrees"
    elif centre_error > _MOST_CENTRE_ERROR:
        doubt = f"parts of the field disagree about its height, by {100 * centre_error:.0f} % of the thickness (standard error)"
    else:
        return ""
    return f"{doubt}; nothing was changed"
