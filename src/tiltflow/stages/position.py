"""Where the specimen lies: its two surfaces in a low-resolution volume, and what levels and centres it.

Two small volumes are made from a small aligned stack: one as it is, where gold shows, and one of views in which all that stands out
(gold, dirt) was replaced by its surroundings and that are filtered so that the volume is sharp in depth, where only the texture of
the specimen is left (:mod:`tiltflow.stages.texture`).  The surfaces come from texture (:mod:`tiltflow.stages.surfaces`), and from
gold where the two agree; so do the slopes, each with the weight of its error.  A section that reaches the ends of the volume is
looked for again in a thicker one.  The part of IMOD's `findsection`, `cryoposition` and `tomopitch`; the method differs.

The result is trusted when the texture stands out, and both slopes and surfaces keep to their place whichever part of the field is
left out.  If not it says why, and asks for no change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from tiltflow.errors import ParameterError
from tiltflow.model import Progress, Stack
from tiltflow.parallel import map_threads
from tiltflow.stages.goldplanes import Gold, find_gold, fit_gold
from tiltflow.stages.reconstruct import ReconstructParams, axis_position, reconstruct, volume_grid, volume_shape
from tiltflow.stages.surfaces import STEEPEST_DEG, Slab, Slopes, fit_slab, fit_slopes
from tiltflow.stages.texture import Columns, columns, coverage, sharp_in_depth
from tiltflow.stages.weighting import chosen_views

_LEAST_CONTRAST = 5.0
_MOST_SLOPE_ERROR_DEG = 1.0
_MOST_SURFACE_ERROR = 0.2
"""Part of the thickness."""
_LEAST_SLOPE_ERROR_DEG = 0.1
_ENDS = 4
"""Voxels next to the ends of the volume where no surface is believed."""
_THINNEST = 24
"""Voxels of the volume that is searched, at least."""


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
    reason: str
    tilt_error_deg: float = 0.0
    pitch_error_deg: float = 0.0
    centre_error: float = 0.0
    thickness_error: float = 0.0
    contrast: float = 0.0
    beads: int = 0
    cut_off: bool = False


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
    height = max(params.thickness or _search_thickness(aligned.shape[2] * binning), _THINNEST * binning)
    prepared = list(map_threads(lambda v: _prepared(aligned[int(v)]), views, threads))
    plain = np.stack([view for view, _ in prepared])
    sharp = np.stack(list(map_threads(lambda k: sharp_in_depth(prepared[k][1], float(tilt[k])), range(len(views)), threads)))
    search = _Search(plain, sharp, tilt, params, given, binning, threads)
    found = search.within(height)
    if found.cut_off:
        found = search.within(2 * height)
    if progress is not None:
        progress(1.0)
    return found


class _Search:
    """Looks for the specimen in volumes of some height."""

    def __init__(
        self,
        plain: NDArray[np.float32],
        sharp: NDArray[np.float32],
        tilt_deg: NDArray[np.float64],
        params: PositionParams,
        base: ReconstructParams,
        binning: int,
        threads: int,
    ) -> None:
        self._plain, self._sharp, self._tilt, self._params = plain, sharp, tilt_deg, params
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
        shape = self._sharp.shape
        seen = coverage(volume_grid(shape, recipe).section, shape[2], axis_position(shape, recipe), self._tilt)
        texture = columns(self._volume(self._sharp, recipe), seen)
        return find_section(texture, binning=recipe.binning, gold=gold)

    def _volume(self, views: NDArray[np.float32], recipe: ReconstructParams) -> NDArray[np.float32]:
        out = np.empty(volume_shape(views.shape, recipe), np.float32)

        def keep(y0: int, slab: NDArray[np.float32]) -> None:
            out[y0 : y0 + len(slab)] = slab

        reconstruct(views, self._tilt, recipe, sink=keep, threads=self._threads)
        return out


def find_section(texture: Columns, *, binning: float = 1.0, gold: Gold | None = None) -> PositionResult:
    """Find the specimen in the texture of a small volume whose voxels are `binning` raw pixels wide.

    Parameters
    ----------
    gold
        The planes that gold was found on.
    """
    nz = texture.level.shape[-1]
    slopes, errors = fit_slopes(texture)
    source = "texture"
    if gold is not None:
        slopes, errors = _with_gold(slopes, errors, gold)
        source = f"{gold.beads} beads on {len(gold.heights)} plane{'s' * (len(gold.heights) > 1)} and texture"
    slab = fit_slab(texture, slopes, errors)
    bottom, top = _surfaces(slab, gold)
    level = float(np.prod(np.cos(np.deg2rad(slopes)))) * binning
    found = PositionResult(
        tilt_offset_deg=-slopes[0],
        x_axis_tilt_deg=-slopes[1],
        z_shift=(bottom + top) / 2 * level,
        thickness=(top - bottom) * level,
        confident=True,
        reason=f"slopes from {source}; texture {slab.contrast:.0f} times its noise",
        tilt_error_deg=errors[0],
        pitch_error_deg=errors[1],
        centre_error=slab.centre_error * level,
        thickness_error=slab.thickness_error * level,
        contrast=slab.contrast,
        beads=0 if gold is None else gold.beads,
        cut_off=max(-bottom, top) > nz / 2 - _ENDS,
    )
    doubt = _doubt(slab, found.cut_off)
    if not doubt:
        return found
    return replace(
        found, tilt_offset_deg=0.0, x_axis_tilt_deg=0.0, z_shift=0.0, thickness=nz * binning, confident=False, reason=doubt
    )


def _search_thickness(width: int) -> int:
    """Return IMOD's thickness of the volume searched for raw images of a width."""
    return next((t for below, t in ((512, 250), (1024, 400), (2048, 500)) if width < below), 600)


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


def _with_gold(slopes: Slopes, errors: Slopes, gold: Gold) -> tuple[Slopes, Slopes]:
    """Return the mean of the slopes of texture and gold, weighted by their errors, and its errors."""
    both = np.array([slopes, (gold.tilt_deg, gold.pitch_deg)])
    spread = np.array([errors, (gold.tilt_error_deg, gold.pitch_error_deg)])
    weight = 1 / np.maximum(spread, _LEAST_SLOPE_ERROR_DEG) ** 2
    mean, error = (both * weight).sum(axis=0) / weight.sum(axis=0), 1 / np.sqrt(weight.sum(axis=0))
    return (float(mean[0]), float(mean[1])), (float(error[0]), float(error[1]))


def _surfaces(slab: Slab, gold: Gold | None) -> tuple[float, float]:
    """Return bottom and top of the slab, moved to gold that lies near them.

    With gold on one of them the other follows from the centre, and counts so with two thirds: the centre is known better than the
    thickness.
    """
    half = slab.thickness / 2
    bottom, top = slab.centre - half, slab.centre + half
    near = {side: _nearest(gold, height, half / 2) for side, height in ((-1, bottom), (1, top))}
    if near[-1] is not None and near[1] is not None:
        return near[-1], near[1]
    if near[1] is not None:
        return bottom + (2 * slab.centre - near[1] - bottom) * 2 / 3, near[1]
    if near[-1] is not None:
        return near[-1], top + (2 * slab.centre - near[-1] - top) * 2 / 3
    return bottom, top


def _nearest(gold: Gold | None, height: float, reach: float) -> float | None:
    """Return the height of the plane of gold that lies nearest to a surface, within a reach."""
    heights = () if gold is None else gold.heights
    return min((h for h in heights if abs(h - height) < reach), key=lambda h: abs(h - height), default=None)


def _doubt(slab: Slab, cut_off: bool) -> str:
    """Return why a slab is not to be trusted; nothing if it is."""
    slope_error = max(slab.tilt_error_deg, slab.pitch_error_deg)
    surface_error = max(slab.centre_error, slab.thickness_error) / slab.thickness
    if slab.contrast < _LEAST_CONTRAST:
        doubt = f"the specimen does not stand out: its texture is {slab.contrast:.0f} times its noise, {_LEAST_CONTRAST:.0f} needed"
    elif cut_off:
        doubt = "the specimen reaches the ends of the volume searched: give a greater thickness for positioning"
    elif max(abs(slab.tilt_deg), abs(slab.pitch_deg)) >= STEEPEST_DEG:
        doubt = f"the slope of the texture is beyond the {STEEPEST_DEG:g} degrees searched"
    elif slope_error > _MOST_SLOPE_ERROR_DEG:
        doubt = f"parts of the field disagree about the slopes, by a standard error of {slope_error:.1f} degrees"
    elif surface_error > _MOST_SURFACE_ERROR:
        doubt = f"parts of the field disagree about the surfaces, by {100 * surface_error:.0f} % of the thickness (standard error)"
    else:
        return ""
    return f"{doubt}; nothing was changed"
