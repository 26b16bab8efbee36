"""Where the specimen lies: its two surfaces in a low-resolution volume, and what levels and centres it.

Two small volumes are made from a small aligned stack: one as it is, where gold shows, and one from views in which all that stands
out (gold, dirt) was replaced by its surroundings, where only the texture of the specimen is left.  Slopes come from gold if it lies
on one or two planes, and from texture otherwise; the surfaces come from texture, and from gold where the two agree
(:mod:`tiltflow.stages.surfaces`).  The part of IMOD's `findsection`, `cryoposition` and `tomopitch`; the method differs.

The result is trusted when two scales of texture agree on the slopes (or gold gives them) and the specimen stands out of the noise.
If not it says why, and asks for no change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from tiltflow.errors import ParameterError
from tiltflow.model import Progress, Stack
from tiltflow.parallel import map_threads
from tiltflow.stages.reconstruct import ReconstructParams, reconstruct, volume_shape
from tiltflow.stages.surfaces import STEEPEST_DEG, Gold, Surfaces, columns, find_gold, find_surfaces, fit_gold, fit_slab
from tiltflow.stages.weighting import chosen_views

_SCALES = (1.5, 2.0)
_LEAST_CONTRAST = 100.0
_MOST_SLOPE_CHANGE_DEG = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionParams:
    """How the section is looked for.

    Attributes
    ----------
    sample_type
        0 not at all, 1 plastic, 2 cryo (`runtime.Positioning.any.sampleType`).
    thickness
        Of the volume that is searched, raw pixels (`runtime.Positioning.any.thickness`); None for a size by the image, as IMOD.
    whole_tomogram
        Search the whole volume (`wholeTomogram`); samples of it are not offered, as the whole takes a second.
    has_gold_beads
        Gold lies on the specimen (`hasGoldBeads`).  It is found either way; without it no gold is looked for.
    extra_thickness
        Added to the thickness found, raw pixels (`extraThickness`).
    """

    sample_type: int = 0
    thickness: int | None = None
    whole_tomogram: bool = True
    has_gold_beads: bool = True
    extra_thickness: float = 0.0

    def __post_init__(self) -> None:
        if self.sample_type not in (0, 1, 2):
            raise ParameterError(f"sample type {self.sample_type} for positioning: give 0 (none), 1 (plastic) or 2 (cryo)")


@dataclass(frozen=True, slots=True)
class PositionResult:
    """Where the specimen lies; lengths in raw pixels.

    Attributes
    ----------
    tilt_offset_deg
        To be added to the tilt angles (`OFFSET`), to level the specimen.
    x_axis_tilt_deg
        To be added to `XAXISTILT`: minus its pitch.
    z_shift
        To be added to `shift_z` (`SHIFT`), to centre it.
    thickness
        Of the specimen, with the extra asked for.
    confident
        Whether the numbers may be used; if not, angles and shift are 0 and the thickness is that of the volume searched.
    reason
        What was seen, in a sentence.
    contrast
        Height of the texture's hump over the noise of its profile.
    beads
        Beads of gold that set the slopes.
    """

    tilt_offset_deg: float
    x_axis_tilt_deg: float
    z_shift: float
    thickness: float
    confident: bool
    reason: str
    contrast: float = 0.0
    beads: int = 0


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
    tilt = np.asarray(tilt_deg, np.float64)[views]
    height = params.thickness or _search_thickness(aligned.shape[2] * binning)
    recipe = replace(
        base or ReconstructParams(thickness=height),
        thickness=max(height, 24 * binning),
        binning=binning,
        scale_factor=100.0,
        scale_offset=0.0,
        log_offset=None,
        exclude_views=(),
        mode=2,
    )
    plain = np.stack(list(map_threads(lambda v: _flattened(aligned[int(v)], erase=False), views, threads)))
    bare = np.stack(list(map_threads(lambda v: _flattened(aligned[int(v)], erase=True), views, threads)))
    gold = None
    if params.has_gold_beads:
        gold = fit_gold(find_gold(_volume(plain, tilt, recipe, threads)))
    if progress is not None:
        progress(0.5)
    return find_section(_volume(bare, tilt, recipe, threads), params, binning=binning, gold=gold)


def find_section(
    volume: NDArray[np.float32], params: PositionParams, *, binning: float = 1.0, gold: Gold | None = None
) -> PositionResult:
    """Find the specimen in a small volume `(y, z, x)`, its first row the top, whose voxels are `binning` raw pixels wide.

    Parameters
    ----------
    volume
        Without gold and other dense things.
    gold
        The planes that gold was found on.
    """
    nz = volume.shape[1]
    kept = PositionResult(0.0, 0.0, 0.0, nz * binning, confident=False, reason="")
    slopes, doubt = _slopes(volume, gold)
    if doubt:
        return replace(kept, reason=doubt)
    found = _surfaces(volume, slopes)
    if gold is not None:
        found = _with_gold(found, gold)
    doubt = _doubt(found, nz)
    if doubt:
        return replace(kept, reason=doubt, contrast=found.contrast)
    level = float(np.prod(np.cos(np.deg2rad(slopes))))
    source = "texture" if gold is None else f"{gold.beads} beads on {len(gold.heights)} plane{'s' * (len(gold.heights) > 1)}"
    return PositionResult(
        tilt_offset_deg=-slopes[0],
        x_axis_tilt_deg=-slopes[1],
        z_shift=float((found.bottom + found.top) / 2 * level * binning),
        thickness=float((found.top - found.bottom) * level * binning + params.extra_thickness),
        confident=True,
        reason=f"slopes from {source}; texture {found.contrast:.0f} times its noise",
        contrast=found.contrast,
        beads=0 if gold is None else gold.beads,
    )


def _search_thickness(width: int) -> int:
    """Return IMOD's thickness of the volume searched for raw images of a width."""
    return next((t for below, t in ((512, 250), (1024, 400), (2048, 500)) if width < below), 600)


def _volume(views: NDArray[np.float32], tilt: NDArray[np.float64], recipe: ReconstructParams, threads: int) -> NDArray[np.float32]:
    out = np.empty(volume_shape(views.shape, recipe), np.float32)

    def keep(y0: int, slab: NDArray[np.float32]) -> None:
        out[y0 : y0 + len(slab)] = slab

    reconstruct(views, tilt, recipe, sink=keep, threads=threads)
    return out


def _flattened(view: NDArray[np.generic], *, erase: bool) -> NDArray[np.float32]:
    """Return a view less its slow changes, in standard deviations; with `erase`, less all that stands out too."""
    image = view.astype(np.float32)
    wide = max(min(image.shape) / 12, 3.0)
    rest = image - ndimage.gaussian_filter(image, wide)
    if not erase:
        return np.asarray(rest / max(float(rest.std()), 1e-6))
    for _ in range(3):
        smooth = ndimage.gaussian_filter(rest, 1.0)
        sticks_out = np.abs(smooth) > 5 * 1.4826 * np.median(np.abs(smooth))
        dense = ndimage.binary_dilation(sticks_out, iterations=2)
        kept = (~dense).astype(np.float32)
        around = ndimage.gaussian_filter(image * kept, wide) / np.maximum(ndimage.gaussian_filter(kept, wide), 1e-3)
        rest = np.where(dense, 0, image - around)
    return np.asarray(rest / max(float(rest[~dense].std()) if kept.any() else 1.0, 1e-6), np.float32)


def _slopes(volume: NDArray[np.float32], gold: Gold | None) -> tuple[tuple[float, float], str]:
    """Return tilt and pitch of the specimen, degrees, and why they are not to be trusted."""
    if gold is not None:
        return (gold.tilt_deg, gold.pitch_deg), ""
    first, second = (fit_slab(columns(volume, scale)) for scale in _SCALES)
    slopes = (first.tilt_deg + second.tilt_deg) / 2, (first.pitch_deg + second.pitch_deg) / 2
    tilt, pitch = abs(first.tilt_deg - second.tilt_deg), abs(first.pitch_deg - second.pitch_deg)
    if max(tilt, pitch) > _MOST_SLOPE_CHANGE_DEG:
        return slopes, f"two scales of texture disagree by {tilt:.1f} degrees in tilt and {pitch:.1f} in pitch; nothing was changed"
    if max(abs(slope) for slope in slopes) >= STEEPEST_DEG:
        return slopes, f"the slope of the texture is beyond the {STEEPEST_DEG:g} degrees searched; nothing was changed"
    return slopes, ""


def _surfaces(volume: NDArray[np.float32], slopes: tuple[float, float]) -> Surfaces:
    """Return the surfaces; of those at two scales the inner ones, as noise moves them outwards."""
    fine, coarse = (find_surfaces(columns(volume, scale, block=16, widest=2.0, kept=1.0), slopes) for scale in (1.0, 1.5))
    return Surfaces(max(fine.bottom, coarse.bottom), min(fine.top, coarse.top), fine.contrast)


def _with_gold(found: Surfaces, gold: Gold) -> Surfaces:
    """Return the surfaces, moved to gold that lies near them."""
    near = 0.25 * (found.top - found.bottom)
    bottom, top = (
        min((h for h in gold.heights if abs(h - s) < near), key=lambda h: abs(h - s), default=s) for s in (found.bottom, found.top)
    )
    return replace(found, bottom=bottom, top=top)


def _doubt(found: Surfaces, nz: int) -> str:
    """Return why surfaces are not to be trusted; nothing if they are."""
    if max(-found.bottom, found.top) > nz / 2 - 6:
        return "the specimen reaches the ends of the volume searched; nothing was changed: give a greater thickness for positioning"
    if found.contrast < _LEAST_CONTRAST:
        return (
            f"the specimen does not stand out: its texture is {found.contrast:.0f} times its noise, {_LEAST_CONTRAST:.0f} needed; "
            "nothing was changed"
        )
    return ""
