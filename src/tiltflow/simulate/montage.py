"""Montaged tilt series whose answer is known: every view taken in overlapping pieces, each an exposure of its own, with faults.

Nothing is cut out of a pixel image: the specimen (:mod:`tiltflow.simulate.specimen`) is projected into each piece as it truly lay, so
that no interpolation blurs the answer.  With the frame's nominal whole of W x H pixels, piece k of view i shows a point of the frame X at

    X = (W/2, H/2) + mag_i R(axis_i) (u, v) + shift_i
    x = P/2 + (1 + m_ik) R(r_ik) (X - (n_k + P/2 + e_ik))

with n_k the written corner and P the size of a piece.  The offset e_ik, which stitching has to find, is a constant pattern (a wrong
calibration of image shift with it), a part that follows the sine of the tilt, drift while the pieces of a view are taken, and jitter; its
mean over the pieces of a view is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from tiltflow.ctf.model import Microscope
from tiltflow.kernels.phantom import add_ellipsoid
from tiltflow.model import Progress
from tiltflow.parallel import map_views
from tiltflow.piece_grid import PieceGrid
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scene import about
from tiltflow.simulate.scoring import Truth
from tiltflow.simulate.specimen import Ellipsoid, gold_beads, structures

Floats = NDArray[np.float64]

_STREAMS = 5
"""Of random numbers: geometry, specimen, faults, noise of the pieces, and noise of the series in one piece."""
_BEAD_FIELD = 0.46
"""Beads lie within this part of the frame to either side of its centre."""
_CAMERA_BLUR_PX, _COUNTS, _READOUT_NOISE, _COUNT_LIMIT, _HIT_COUNTS = 0.55, 4000.0, 15.0, 32_000, (8_000, 25_000)
"""The camera of :mod:`tiltflow.simulate.camera` and :mod:`tiltflow.simulate.exposure`."""
_HIT_AREA = 512**2
"""Pixels to which the number of x-ray hits refers."""
_PLASTIC, _PLASTIC_CONTRAST = (0.9, 200.0), 0.008
"""Absorption of a plastic section over a path in pixels, and contrast of density 1 over a pixel."""
_ICE, _ICE_CONTRAST, _LEAST_INTENSITY = (0.5, 300.0), 0.012, 0.02
"""The same for ice, and the fraction of the beam to which intensities are raised."""
_DARK = 0.02
"""Transmission of a bar of the grid."""
_DRIFT_VIEWS = 3.0
"""Standard deviation, in views, of the Gaussian over which the drift changes."""
_OF_VIEW = 1 / 3
"""Part of the spread of gains, magnifications and rotations of pieces that changes from view to view, over the constant one."""
_REACH_MARGIN = 1.05
"""Pixels are drawn to so many times the reach of an ellipsoid, which rounding may not cut."""
_MICROSCOPE = Microscope()
"""Of cryo series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceFaults:
    """What is wrong with pieces: standard deviations, 0 for none.

    Attributes
    ----------
    pattern_px
        Constant error of the place of each piece.
    calibration_px
        Displacement of the outermost piece by a wrong calibration of image shift.
    tilt_px
        Part that follows the sine of the tilt.
    drift_px
        From piece to piece of a view, changing slowly over the series.
    jitter_px
        Of each piece in each view.
    gain
        Relative intensity of a piece; a third of it again in each view.
    magnification, rotation_deg
        Of a piece; a third of it again in each view.
    vignette, gradient
        Fall of the beam towards the edges of every piece, and the slope of the beam over a piece in each view.
    focus_magnification, focus_rotation_deg
        By which a micrometre of focus magnifies (a fraction) and turns, where the focus follows the height of each piece; 0 where it does
        not.
    jumps
        `(view, piece, dx, dy)`: one piece of one view far off.
    missing, blank
        `(view, piece)`: pieces that were never taken, and pieces behind a bar of the grid.
    """

    pattern_px: float = 3.0
    calibration_px: float = 2.0
    tilt_px: float = 1.0
    drift_px: float = 0.3
    jitter_px: float = 0.7
    gain: float = 0.02
    magnification: float = 0.0
    rotation_deg: float = 0.0
    vignette: float = 0.08
    gradient: float = 0.03
    focus_magnification: float = 0.0
    focus_rotation_deg: float = 0.0
    jumps: tuple[tuple[int, int, float, float], ...] = ()
    missing: tuple[tuple[int, int], ...] = ()
    blank: tuple[tuple[int, int], ...] = ()

    def in_place(self) -> PieceFaults:
        """Return the same faults without those of position."""
        return replace(self, pattern_px=0, calibration_px=0, tilt_px=0, drift_px=0, jitter_px=0)


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedMontage:
    """A montaged series and its truth.

    Attributes
    ----------
    images
        Sections `(sections, ny, nx)`, int16, as an acquisition program stores them: view by view, y fastest.
    grid
        Which section is which piece.
    truth
        Geometry of the views in a square that has the nominal frame in its middle.
    offset_px
        True offsets, `(views, pieces, 2)`, mean 0 in a view.
    magnification, rotation_deg, log_gain
        Of each piece, `(views, pieces)`.
    whole
        The same views taken in one piece, evenly lit, `(views, height, width)` of the nominal whole; None unless asked for.
    """

    images: NDArray[np.int16]
    grid: PieceGrid
    truth: Truth
    offset_px: Floats
    magnification: Floats
    rotation_deg: Floats
    log_gain: Floats
    whole: NDArray[np.int16] | None = None

    def placement_error(self, offset_px: ArrayLike) -> Floats:
        """Return how far pieces are from where they truly were, `(views, pieces)` pixels, the mean of each view aside; NaN if missing."""
        taken = self.grid.taken[..., None]
        away = np.where(taken, np.asarray(offset_px, float) - self.offset_px, np.nan)
        return np.asarray(np.linalg.norm(away - np.nanmean(away, axis=1, keepdims=True), axis=2))

    def truth_as_stitched(self, offset_px: ArrayLike, linear: ArrayLike | None = None) -> Truth:
        """Return the truth with every bead where it is seen in the stitched views, so that an alignment of them can be scored.

        Parameters
        ----------
        offset_px
            With which pieces were put together, `(views, pieces, 2)`.
        linear
            From the frame to the piece, `(views, pieces, 2, 2)`; None where pieces were only shifted.
        """
        offset = np.asarray(offset_px, float)
        views, pieces = self.grid.section.shape
        undone = np.broadcast_to(np.eye(2), (views, pieces, 2, 2)) if linear is None else np.linalg.inv(np.asarray(linear, float))
        half = np.array(self.grid.piece_shape[::-1]) / 2
        corner = self._in_square
        ramp = np.array([width or size for width, size in zip(self.grid.overlap_px, 2 * half, strict=True)])
        seen, weight = np.zeros(self.truth.probes_xy.shape), np.zeros(self.truth.probes_xy.shape[:2])
        for v, k in np.argwhere(self.grid.taken):
            turn = (1 + self.magnification[v, k]) * about("z", float(self.rotation_deg[v, k]))[:2, :2]
            centre = corner + self.grid.corner_px[k] + half
            x = (self.truth.probes_xy[v] - centre - self.offset_px[v, k]) @ turn.T
            depth = np.clip((half - np.abs(x)) / ramp, 0, 1).prod(axis=1)
            seen[v] += depth[:, None] * (centre + offset[v, k] + x @ undone[v, k].T)
            weight[v] += depth
        inside = weight[..., None] > 0
        probes = np.where(inside, seen / np.maximum(weight, 1e-12)[..., None], self.truth.probes_xy)
        return replace(self.truth, probes_xy=probes, beads_xy=probes)

    @property
    def _in_square(self) -> Floats:
        """Corner of the nominal whole in the square of the truth."""
        height, width = self.grid.nominal_shape
        return np.asarray((self.truth.size - np.array([width, height])) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """The specimen, and how each view shows it in the frame."""

    params: SimulationParams
    truth: Truth
    rotations: list[Floats]
    objects: list[Ellipsoid]


def simulate_montage(
    params: SimulationParams,
    *,
    columns: int = 2,
    rows: int = 2,
    overlap_px: int = 32,
    faults: PieceFaults | None = None,
    whole: bool = False,
    threads: int = 1,
    progress: Progress | None = None,
) -> SimulatedMontage:
    """Return a montaged series of a random specimen; the same `seed` gives the same series.

    Parameters
    ----------
    params
        Specimen and microscope; `size` is that of a piece.  What it says of faults of the camera, of deformation and of odd views is not
        used.
    columns, rows
        Of pieces.
    overlap_px
        Of neighbours.
    faults
        Of the pieces; None for the usual ones.
    whole
        Whether the same views are taken in one piece, too.
    threads
        Views drawn at the same time.
    progress
        Called with the fraction done.
    """
    fault = PieceFaults() if faults is None else faults
    geometry, body, wrong, noise, whole_noise = (
        np.random.default_rng(s) for s in np.random.SeedSequence(params.seed).spawn(_STREAMS)
    )
    step = params.size - overlap_px
    frame = np.array([params.size + (n - 1) * step for n in (columns, rows)])
    corners = np.array([(i * step, j * step) for i in range(columns) for j in range(rows)])
    stage, gradients = _set_stage(params, fault, frame, geometry, body)
    centres = corners + params.size / 2 - frame / 2
    offset, gain, magnification, rotation, height = _errors(params, fault, stage.truth.true_deg, centres, wrong)
    coordinates = [(*corners[k], v) for v in range(params.views) for k in range(len(corners)) if (v, k) not in fault.missing]
    grid = PieceGrid.of_sections(coordinates, (params.size, params.size))
    images = np.empty((len(coordinates), params.size, params.size), np.int16)
    first = np.concatenate([[0], np.cumsum(grid.taken.sum(axis=1))])
    noises, whole_noises = noise.spawn(params.views), whole_noise.spawn(params.views)
    one = np.empty((params.views, frame[1], frame[0]), np.int16) if whole else None
    focus = bool(fault.focus_magnification or fault.focus_rotation_deg)

    def draw(view: int) -> None:
        section = int(first[view])
        for k, corner in enumerate(corners):
            if (view, k) in fault.missing:
                continue
            turn, scale = about("z", float(rotation[view, k])), 1 + magnification[view, k]
            away = frame / 2 + stage.truth.shift_px[view] - (corner + params.size / 2 + offset[view, k])
            origin = params.size / 2 + scale * turn[:2, :2] @ away
            beam = _beam((params.size, params.size), gradients[view], fault.vignette) * np.exp(gain[view, k])
            beam *= _DARK if (view, k) in fault.blank else 1.0
            defocus = params.defocus_um + (0.0 if focus else height[view, k])
            shape = params.size, params.size
            images[section] = _exposure(stage, view, shape, turn, scale, origin, defocus, beam, noises[view])
            section += 1
        if one is not None:
            middle = frame / 2 + stage.truth.shift_px[view]
            even = np.ones((frame[1], frame[0]))
            one[view] = _exposure(stage, view, even.shape, np.eye(3), 1.0, middle, params.defocus_um, even, whole_noises[view])

    for _ in map_views(draw, params.views, threads, progress):
        pass
    # Pieces are drawn y fastest, and places of the grid are counted x fastest.
    order = np.lexsort((corners[:, 0], corners[:, 1]))
    return SimulatedMontage(
        images, grid, stage.truth, offset[:, order], magnification[:, order], rotation[:, order], gain[:, order], one
    )


def _set_stage(
    params: SimulationParams, fault: PieceFaults, frame: NDArray[np.int64], geometry: np.random.Generator, body: np.random.Generator
) -> tuple[_Stage, Floats]:
    """Return the specimen in the frame, and the slopes of the beam."""
    views = params.views
    nominal = np.linspace(-params.max_tilt_deg, params.max_tilt_deg, views)
    true = nominal + geometry.normal(0, params.tilt_error_deg, views)
    shifts = np.cumsum(geometry.normal(0, params.shift_px, (views, 2)), axis=0)
    shifts -= shifts[np.argmin(np.abs(nominal))]
    axis = params.axis_deg + np.cumsum(geometry.normal(0, params.rotation_jitter_deg / 3, views))
    magnification = 1 + geometry.normal(0, params.magnification_jitter, views)
    gradients = fault.gradient * geometry.normal(0, 1, (views, 2))
    square = int(frame.max())
    wide = replace(params, size=square, beads=round(params.beads * square**2 / (frame[0] * frame[1])))
    gold, rest = gold_beads(wide, body), structures(wide, body)
    gold = [bead for bead in gold if (np.abs(bead.centre[:2]) < _BEAD_FIELD * frame).all()]
    rotations = [about("z", a) @ about("y", t) @ about("x", params.pitch_deg) for a, t in zip(axis, true, strict=True)]
    centres = np.array([bead.centre for bead in gold]).reshape(-1, 3)
    seen = np.einsum("vij,bj->vbi", np.array(rotations), centres)[..., :2]
    beads = square / 2 + magnification[:, None, None] * seen + shifts[:, None]
    truth = Truth(square, nominal, true, axis, magnification, shifts, centres, beads, beads, ())
    return _Stage(wide, truth, rotations, gold + rest), gradients


def _errors(
    params: SimulationParams, fault: PieceFaults, tilts: Floats, centres: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return offsets `(views, pieces, 2)`, log gains, magnifications, rotations (degrees) and heights (micrometres) of pieces."""
    views, pieces = len(tilts), len(centres)
    pattern = rng.normal(0, fault.pattern_px, (pieces, 2))
    calibration = fault.calibration_px / max(float(np.abs(centres).max()), 1.0) * rng.normal(0, 1, (2, 2))
    pattern += centres @ calibration.T
    with_tilt = rng.normal(0, 1, (pieces, 2)) * fault.tilt_px
    rate = scipy.ndimage.gaussian_filter1d(rng.normal(0, 1, (views, 2)), _DRIFT_VIEWS, axis=0, mode="nearest")
    rate *= fault.drift_px / max(float(rate.std()), 1e-9)
    order = np.arange(pieces) - (pieces - 1) / 2
    offset = pattern + np.sin(np.deg2rad(tilts))[:, None, None] * with_tilt + rate[:, None] * order[None, :, None]
    offset += rng.normal(0, fault.jitter_px, (views, pieces, 2))
    for view, piece, dx, dy in fault.jumps:
        offset[view, piece] += dx, dy
    offset -= offset.mean(axis=1, keepdims=True)

    def of_piece(spread: float) -> Floats:
        return np.asarray(rng.normal(0, spread, pieces) + rng.normal(0, _OF_VIEW * spread, (views, pieces)))

    gain, magnification, rotation = of_piece(fault.gain), of_piece(fault.magnification), of_piece(fault.rotation_deg)
    axis = np.deg2rad(params.axis_deg)
    height = (centres @ np.array([np.cos(axis), np.sin(axis)])) * np.tan(np.deg2rad(tilts))[:, None] * params.pixel_nm / 1e3
    return offset, gain, magnification + fault.focus_magnification * height, rotation + fault.focus_rotation_deg * height, height


def _beam(shape: tuple[int, int], slope: Floats, fall: float) -> Floats:
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in shape)
    return np.asarray(1 + slope[0] * x + slope[1] * y[:, None] - fall * (x**2 + y[:, None] ** 2))


def _exposure(
    stage: _Stage,
    view: int,
    shape: tuple[int, ...],
    turn: Floats,
    scale: float,
    origin: Floats,
    defocus_um: float,
    beam: Floats,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """Return the counts of one exposure: the view turned and magnified about the centre of the specimen, which is seen at `origin`."""
    params, (ny, nx) = stage.params, shape
    rotation, size = turn @ stage.rotations[view], scale * stage.truth.magnification[view]
    image = np.zeros((ny, nx))
    for item in stage.objects:
        cx, cy = origin + size * (rotation @ item.centre)[:2]
        margin = 2 * item.reach
        if -margin < cx < nx + margin and -margin < cy < ny + margin:
            matrix = rotation @ item.matrix @ rotation.T / size**2
            add_ellipsoid(image, cx, cy, matrix, item.reach * size * _REACH_MARGIN, item.density)
    path = params.thickness_px / np.cos(np.deg2rad(stage.truth.true_deg[view]))
    if params.regime == "cryo":
        (absorbed, over), contrast = _ICE, 1 + _ICE_CONTRAST * _phase_contrast(image, params.pixel_nm, defocus_um)
        electrons = params.dose * beam * np.exp(-absorbed * path / over) * np.maximum(contrast, _LEAST_INTENSITY)
    else:
        absorbed, over = _PLASTIC
        electrons = params.dose * beam * np.exp(-absorbed * path / over - _PLASTIC_CONTRAST * image)
    electrons = scipy.ndimage.gaussian_filter(electrons, _CAMERA_BLUR_PX)
    counts = rng.poisson(np.maximum(electrons, 0)) * (_COUNTS / params.dose) + rng.normal(0, _READOUT_NOISE, (ny, nx))
    hits = round(params.hot_pixels * nx * ny / _HIT_AREA)
    counts[rng.integers(ny, size=hits), rng.integers(nx, size=hits)] += rng.uniform(*_HIT_COUNTS, hits)
    return np.asarray(np.clip(counts, -_COUNT_LIMIT, _COUNT_LIMIT), np.int16)


def _phase_contrast(image: Floats, pixel_nm: float, defocus_um: float) -> Floats:
    """Return what the microscope makes of a projection that goes on beyond its edges, mirrored."""
    ny, nx = image.shape
    side = 2 * max(ny, nx)
    padded = np.pad(image - image.mean(), [(0, side - ny), (0, side - nx)], mode="reflect")
    fy, fx = scipy.fft.fftfreq(side, pixel_nm)[:, None], scipy.fft.rfftfreq(side, pixel_nm)
    wave: NDArray[Any] = scipy.fft.irfft2(scipy.fft.rfft2(padded) * _MICROSCOPE.ctf(fx**2 + fy**2, 1e3 * defocus_um), (side, side))
    return np.asarray(wave[:ny, :nx])
