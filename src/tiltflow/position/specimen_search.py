"""The position of the specimen: its two surfaces in a small volume, and the changes that level and centre it.

Several small volumes are reconstructed from a small aligned stack.  One of the views as they are shows gold
(:mod:`tiltflow.position.gold_planes`).  For the others, gold, dirt and all else that is strong is replaced by its surroundings and the
views are filtered to be sharp in depth, so that only the texture of the specimen is left (:mod:`tiltflow.position.texture`).  Slopes and
surfaces come from both, weighted by their errors (:mod:`tiltflow.position.combination`).  If the section reaches the ends of the
volume, a thicker one is searched.  Corresponds to IMOD's `findsection`, `cryoposition` and `tomopitch`; the method differs.

The result is trusted when the texture exceeds the noise, and slopes and height do not depend on which part of the field is left out.
Otherwise the reason is given, and no change is asked for.  The thickness is trusted, or not, separately.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import Alignment, Progress, Stack
from tiltflow.parallel import map_threads
from tiltflow.position.combination import SectionPosition, combine
from tiltflow.position.gold_planes import Gold, find_gold, fit_gold
from tiltflow.position.texture import HIGH_BANDS, LOW_BAND, Columns, TextureBand, columns, coverage, sharp_in_depth
from tiltflow.position.texture_surfaces import STEEPEST_DEG
from tiltflow.reconstruct.line_weighting import chosen_views
from tiltflow.reconstruct.wbp import ReconstructParams, axis_position, reconstruct, volume_grid, volume_shape

_MOST_SLOPE_ERROR_DEG = 1.0
"""Standard error of a slope beyond which the position is not used: it would lean the section by as much as it levels it.  With
half of it a simulated section at low dose, without gold and found to 0.6 degrees, is not used (`docs/sensitivity/position.md`)."""
_KNOWN_SLOPE_ERROR_DEG = 0.25
"""Standard error of a slope up to which it is known to half a degree (two standard errors), the limit of
`benchmarks/positioning.py`."""
_MOST_CENTRE_ERROR = 0.2
"""Standard error of the centre beyond which the position is not used, as a fraction of the thickness."""
_MOST_THICKNESS_ERROR = 0.1
"""Standard error of the thickness beyond which it is not used, as a fraction of the thickness."""
_ENDS = 4
"""Voxels next to the ends of the volume in which a surface means that the section may reach beyond: what slopes cut off there, and
the blur."""
_THINNEST = 24
"""Voxels of the thickness of the volume searched, at least: the background and a section of a few voxels, both blurred."""
SECOND_SEARCH_FACTOR = 2
"""Thickness of the volume of the second search over that of the first, which the section reached beyond."""
_WIDTHS, _THICKNESSES = (512, 1024, 2048), (250, 400, 500, 600)
"""Thickness of the volume searched for images narrower than each width, and for all others, raw pixels: those of batchruntomo."""
_SCALE_FACTOR = 100.0
"""Scale of the grey values of the small volumes; all that is taken from them are ratios."""

_BACKGROUND_PART, _LEAST_BACKGROUND = 8, 5
"""Side of the squares whose mean, taken twice, is the background of a view: this part of the field (one over), and pixels at least.
4 or 16 change slopes by 0.04 degrees and the thickness by 1 to 3 %."""
_SMOOTHING, _TRUNCATE = 1.0, 3.0
"""Standard deviation of the Gaussian that a view is smoothed with to find gold and dirt, pixels, and where it is cut off, standard
deviations."""
_STRONG_SD = 5.0
"""Standard deviations from the background beyond which pixels are gold or dirt and are replaced.  With 2.5 the texture is lost too, and
nothing is found; with 10 the thickness changes by 2 %."""
_STRONG_BORDER = 3
"""Pixels around these that are replaced too: the limb of a bead, smoothed.  1 or 6 change the thickness by 1 %."""
_LEAST_KEPT = 1e-2
"""Least fraction of a square that is kept for its mean to be used; gold that covers more leaves nothing to be found."""
_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionParams:
    """How the specimen is searched for.

    Attributes
    ----------
    sample_type
        0 no positioning, 1 plastic, 2 cryo (`runtime.Positioning.any.sampleType`).
    thickness
        Of the volume that is searched first, raw pixels (`runtime.Positioning.any.thickness`); None for one by the width of the
        images, as IMOD.
    whole_tomogram
        Search the whole volume (`wholeTomogram`); samples of it are not offered, as the whole takes a second.
    has_gold_beads
        Gold may lie on the specimen and is searched for (`hasGoldBeads`).
    sets_thickness
        The thickness found, with the extra, becomes that of the volume, and the one given is the fallback
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
    """Where the specimen lies; lengths in raw pixels, angles in degrees, errors are standard errors.

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
        Whether the position may be used; if not, angles and shift are 0 and the thickness is that of the volume searched.
    slopes_known
        Whether tilt and pitch are known to half a degree.
    thickness_known
        Whether the thickness is known to a tenth of it, and may be used too.
    reason
        How well the position is known and from what, or why it is not used; a sentence.
    tilt_error_deg, pitch_error_deg, centre_error, thickness_error
        Standard errors.
    contrast
        Height of the peak of the texture over the scatter of what lies outside.
    beads
        Gold beads that contributed to the slopes.
    cut_off
        The section found reaches the ends of the volume searched.
    """

    tilt_offset_deg: float
    x_axis_tilt_deg: float
    z_shift: float
    thickness: float
    confident: bool
    slopes_known: bool
    thickness_known: bool
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
            thickness=math.ceil(self.thickness + margin) if self.thickness_known else alignment.thickness,
        )


_SMALL_SIDE_PX = 300
"""Greatest side of the small views that the specimen is searched in: three bands of texture and gold take 1 to 3 CPU seconds, and a
voxel is less than a tenth of a usual section."""
_LEAST_BINNING = 2
"""Least binning of the small views, which halves the noise of small images."""


def small_binning(shape: tuple[int, ...]) -> int:
    """Return the binning of the small stack that the specimen is searched in, for raw views `(views, ny, nx)`."""
    return max(_LEAST_BINNING, -(-max(shape[1:]) // _SMALL_SIDE_PX))


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
    """Reconstruct small volumes and find the specimen in them.

    Parameters
    ----------
    aligned
        Aligned views `(views, ny, nx)`, the tilt axis along y, of 150 to 300 pixels a side; all of them are held in memory.
    tilt_deg
        `(views,)`, degrees.
    params
        How to search; the `sample_type` is not looked at.
    binning
        Binning of the aligned views relative to the raw ones.
    included
        `(views,)`: which views take part; None for all.
    base
        Offset, shift and x-axis tilt that the volume is already made with; the result is relative to them.
    threads
        Threads that filter and reconstruct.
    progress
        Called with the fraction done.

    Returns
    -------
    PositionResult
        The position, or why it is not known.
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
        found = search.within(SECOND_SEARCH_FACTOR * height)
    if progress is not None:
        progress(1.0)
    return found


class _Search:
    """Searches volumes of some thickness for the specimen."""

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
            scale_factor=_SCALE_FACTOR,
            axis_offset=base.axis_offset,
            shift_x=base.shift_x,
            shift_z=base.shift_z,
            x_axis_tilt_deg=base.x_axis_tilt_deg,
            mode=2,
        )

    def within(self, height: int) -> PositionResult:
        """Return what is found in a volume of a thickness, raw pixels."""
        recipe = replace(self._recipe, thickness=height)
        gold = fit_gold(find_gold(self._volume(self._plain, recipe))) if self._params.has_gold_beads else None
        shape = self._bare.shape
        seen = coverage(volume_grid(shape, recipe).xz, shape[2], axis_position(shape, recipe), self._tilt)
        lowest, *finer = (self._texture(band, recipe, seen) for band in (LOW_BAND, *HIGH_BANDS))
        return find_section(lowest, finer, binning=recipe.binning, gold=gold)

    def _texture(self, band: TextureBand, recipe: ReconstructParams, seen: NDArray[np.float64]) -> Columns:
        def filtered(k: int) -> NDArray[np.float32]:
            return sharp_in_depth(self._bare[k], float(self._tilt[k]), band)

        views = np.stack(list(map_threads(filtered, range(len(self._tilt)), self._threads)))
        return columns(self._volume(views, recipe), seen, band)

    def _volume(self, views: NDArray[np.float32], recipe: ReconstructParams) -> NDArray[np.float32]:
        out = np.empty(volume_shape(views.shape, recipe), np.float32)

        def keep(y0: int, slab: NDArray[np.float32]) -> None:
            out[y0 : y0 + len(slab)] = slab

        reconstruct(views, self._tilt, recipe, sink=keep, threads=self._threads)
        return out


def find_section(
    texture: Columns, finer: Sequence[Columns] = (), *, binning: float = 1.0, gold: Gold | None = None
) -> PositionResult:
    """Return the position of the specimen from the texture of a small volume, and gold.

    Parameters
    ----------
    texture
        Of the lowest frequency band.
    finer
        Of higher bands, which refine slopes and thickness.
    binning
        Raw pixels to a voxel.
    gold
        The planes of gold, if there are any.
    """
    nz = texture.level.shape[-1]
    position = combine(texture, finer, gold)
    level = float(np.prod(np.cos(np.deg2rad(position.slopes)))) * binning
    cut_off = max(-position.bottom, position.top) > nz / 2 - _ENDS
    problem = _problem(position, cut_off)
    thickness_known = position.thickness_error <= _MOST_THICKNESS_ERROR * position.thickness
    return PositionResult(
        tilt_offset_deg=0.0 if problem else -position.slopes[0],
        x_axis_tilt_deg=0.0 if problem else -position.slopes[1],
        z_shift=0.0 if problem else (position.bottom + position.top) / 2 * level,
        thickness=nz * binning if problem else position.thickness * level,
        confident=not problem,
        slopes_known=max(position.slope_errors) <= _KNOWN_SLOPE_ERROR_DEG and not problem,
        thickness_known=thickness_known and not problem,
        reason=problem or _summary(position, level, thickness_known),
        tilt_error_deg=position.slope_errors[0],
        pitch_error_deg=position.slope_errors[1],
        centre_error=float(position.centre_error * level),
        thickness_error=float(position.thickness_error * level),
        contrast=position.contrast,
        beads=0 if gold is None else gold.beads,
        cut_off=cut_off,
    )


def _summary(position: SectionPosition, level: float, thickness_known: bool) -> str:
    """Return how well the position is known and from what, in a sentence."""
    part, slope_error = 100 * position.thickness_error / position.thickness, max(position.slope_errors)
    only = " only" * (slope_error > _KNOWN_SLOPE_ERROR_DEG)
    thickness = f"thickness to {part:.0f} %" if thickness_known else f"but the thickness is uncertain by {part:.0f} % and not used"
    return (
        f"from {position.source}: slopes to {slope_error:.1f} degrees{only}, centre to {position.centre_error * level:.1f} px, "
        f"{thickness}"
    )


def search_height(params: PositionParams, width: int, binning: int) -> int:
    """Return the thickness of the volume searched first, raw pixels, for aligned views of a width and binning."""
    usual = _THICKNESSES[bisect.bisect_right(_WIDTHS, width * binning)]
    return max(params.thickness or usual, _THINNEST * binning)


def _prepared(view: NDArray[np.generic]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a view without its background, in standard deviations: as it is, and with strong features replaced by 0."""
    image = view.astype(np.float32)
    side = max(min(image.shape) // _BACKGROUND_PART, _LEAST_BACKGROUND)
    flat = image - _blurred(image, side)
    smooth = scipy.ndimage.gaussian_filter(flat, _SMOOTHING, truncate=_TRUNCATE)
    strong = np.abs(smooth) > _STRONG_SD * _MAD_TO_SD * np.median(np.abs(smooth[::2, ::2]))
    kept = (~scipy.ndimage.binary_dilation(strong, iterations=_STRONG_BORDER)).astype(np.float32)
    around = _blurred(image * kept, side) / np.maximum(_blurred(kept, side), _LEAST_KEPT)
    bare = (image - around) * kept
    spread = float(np.sqrt((bare**2).sum() / max(kept.sum(), 1.0)))
    return flat / np.float32(max(float(flat.std()), 1e-6)), bare / np.float32(max(spread, 1e-6))


def _blurred(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the mean over squares, twice."""
    return np.asarray(scipy.ndimage.uniform_filter(scipy.ndimage.uniform_filter(image, side, mode="nearest"), side, mode="nearest"))


def _problem(position: SectionPosition, cut_off: bool) -> str:
    """Return why a position is not used; an empty text if it is."""
    slope_error, centre_error = max(position.slope_errors), position.centre_error / position.thickness
    if not position.stands_out:
        problem = f"the specimen does not stand out from the noise: the contrast of its texture is {position.contrast:.1f}"
    elif cut_off:
        problem = "the specimen reaches the ends of the volume searched: give a greater thickness for positioning"
    elif max(map(abs, position.slopes)) >= STEEPEST_DEG:
        problem = f"the slope of the texture is beyond the {STEEPEST_DEG:g} degrees searched"
    elif slope_error > _MOST_SLOPE_ERROR_DEG:
        problem = f"the slopes differ between parts of the field, by a standard error of {slope_error:.1f} degrees"
    elif centre_error > _MOST_CENTRE_ERROR:
        problem = f"its height differs between parts of the field, by {100 * centre_error:.0f} % of the thickness (standard error)"
    else:
        return ""
    return f"{problem}; nothing was changed"
