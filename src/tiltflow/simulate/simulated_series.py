"""A phantom specimen and its tilt series, with the answer known exactly.

The specimen is a section filled with vesicles, filaments, blobs and gold beads.  Every object is an ellipsoid, so every
projection is an exact line integral: no interpolation of a voxel volume blurs the answer.  A specimen point p, pixels from the
centre of the section, is seen in view i at

    q = Rx(pitch) p,    u = q.x cos t_i + q.z sin t_i,    v = q.y
    raw = size / 2 + mag_i R(axis_i) (u, v) + shift_i

which is :mod:`tiltflow.geometry` with one rotation, magnification and shift per view.  An alignment is scored by applying it to
the true bead positions and fitting a 3-D point to each bead: the residual is the error that blurs the tomogram.

The sizes and densities below make images that look like those of plastic sections and lamellae, with the contrast and noise of real
series; benchmarks and thresholds were set with them, so that changing one makes their figures incomparable.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage

from tiltflow import geometry
from tiltflow.errors import ParameterError
from tiltflow.kernels.phantom import add_ellipsoid, fill_ellipsoid
from tiltflow.model import Alignment, Progress, TiltSeries
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

_COUNTS = 4000.0
"""Mean counts of the unattenuated beam, whatever the dose: a camera's gain, below the 32 000 of 16 bits."""
_READOUT_NOISE = 15.0
"""Standard deviation of the readout noise, counts: 1.5 electrons at a dose of 400."""
_CAMERA_BLUR_PX = 0.55
"""Standard deviation of the camera's point spread, pixels: a transfer of 0.22 at the Nyquist frequency."""
_COUNT_LIMIT = 32_000
"""Greatest and least count that is written, within 16 bits."""
_HIT_COUNTS = 8_000, 25_000
"""Range of the counts that an x-ray hit adds: two to six times the beam."""
_DARK = 0.02
"""Transmission of a view that a grid bar or a closed shutter darkens."""

_BEAM_TILT, _BEAM_FALL = 0.05, 0.08
"""Standard deviation of the slope of the beam over the field, and its fall to a distance of one field from the centre, both as
fractions of the beam."""
_PLASTIC_PATH_PX, _PLASTIC_ABSORPTION = 200.0, 0.9
"""Path in pixels over which the resin of a plastic section attenuates the beam by `exp(-0.9)`: a mean free path of 220 nm at 1 nm
pixels, with stained tissue at 200 kV."""
_PLASTIC_CONTRAST = 0.008
"""Absorption of a pixel of density 1: a structure of 30 pixels takes a fifth of the beam."""
_ICE_PATH_PX, _ICE_ABSORPTION = 300.0, 0.5
"""Path in pixels over which ice attenuates the beam by `exp(-0.5)`: a mean free path of 600 nm at 1 nm pixels; with an energy filter
at 300 kV, 200 to 400 nm are measured."""
_ICE_CONTRAST = 0.012
"""Phase contrast of a pixel of density 1."""
_LEAST_INTENSITY = 0.02
"""Fraction of the beam to which intensities are raised, as linear phase contrast goes below 0 in gold."""

_KILOVOLT, _CS_MM, _AMPLITUDE_CONTRAST = 300.0, 2.7, 0.07
"""The microscope of cryo series: a Titan Krios and the usual amplitude contrast of ice."""

_GOLD_DENSITY = 14.0
"""Density of gold over that of a membrane; in plastic a bead of 10 pixels takes two thirds of the beam."""
_BEAD_FIELD = 0.46
"""Beads lie within this part of the field to either side of its centre, so that most are whole in the untilted view."""
_BEAD_APART = 1.6
"""Least distance of two beads in the untilted view, diameters."""
_BEAD_HEIGHT_SD = 0.02
"""Standard deviation of the height of beads about their surface, fractions of the thickness: a section is not flat."""
_BEAD_TRIES = 20_000
"""Random positions tried for beads; a field too small for all of them gets fewer."""

_FIELD_X, _FIELD_Y = 1.2, 0.7
"""Half the extent of the structures over the size of the images: at 60 degrees and with drift, views see the double along x."""
_VOLUME_PER_OBJECT = 6.0e5
"""Cubic pixels for each vesicle: they fill a tenth of a section 90 pixels thick."""
_VESICLE_RADIUS = 0.12, 0.45
"""Range of the radius of vesicles over the thickness."""
_VESICLE_FIELD = 0.25
"""Fraction of the field that takes the place of the thickness, if it is less: no vesicle fills the images."""
_LEAST_HEIGHT_PX, _LEAST_LUMEN_PX = 2.0, 1.0
"""Range of the heights of centres at least, and half axes of the inside of a vesicle at least, in thin sections; pixels."""
_VESICLE_AXES = 0.75, 1.0
"""Range of their half axes over the radius."""
_MEMBRANE_PX, _MEMBRANE_PART = 2.0, 0.08
"""Thickness of their membrane: pixels at least, or a part of the radius."""
_LUMEN = -0.9
"""Density inside a vesicle, added to that of its membrane of 1."""
_BLOBS_PER_OBJECT, _BLOB_RADIUS_PX, _BLOB_AXES, _BLOB_DENSITY = 6, (3.0, 6.5), (0.8, 1.2), 1.2
"""Blobs for each vesicle, the ranges of their radius and of their half axes over it, and their density: ribosomes of 13 nm at 1 to
2 nm pixels."""
_BLOB_MARGIN_PX, _FILAMENT_MARGIN_PX = 6.0, 8.0
"""Distance of centres of blobs, and of the beginnings of filaments, from the surfaces."""
_FILAMENT_AXES_PX, _FILAMENT_STEP_PX, _FILAMENT_DENSITY = (4.5, 2.6, 2.6), 4.0, 0.8
"""A filament is a row of ellipsoids of these half axes, this far apart, of this density."""
_FILAMENT_STEPS = 30, 90
"""Range of the number of its ellipsoids."""
_FILAMENT_SLOPE = 0.15
"""Standard deviation of its direction along z over that along x and y: filaments in sections lie flat."""
_REACH_MARGIN = 1.05
"""Pixels are drawn to so many times the reach of an ellipsoid, which rounding may not cut."""
_PROBES = (-0.4, 0.0, 0.4)
"""Points over the field, and through the thickness, where an alignment without beads is scored; fractions of the size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationParams:
    """What is simulated; the defaults are a plastic section of 90 nm with gold on one surface, recorded by a good microscope.

    Attributes
    ----------
    seed
        Of the random numbers.
    size
        Of the square images, pixels.
    views, max_tilt_deg
        Number of views, evenly spaced between plus and minus this tilt.
    regime
        Absorption contrast (plastic) or phase contrast (cryo).
    thickness_px
        Of the section, pixels.
    pixel_nm
        Size of a pixel, nm.
    beads, bead_nm, two_surfaces
        Gold beads, their diameter in nm, and whether they lie on both surfaces.
    axis_deg, axis_error_deg
        Angle of the tilt axis, and the error of the one in the header.
    shift_px
        Standard deviation of the step of the stage from view to view, pixels.
    tilt_error_deg
        Standard deviation of the true tilt about the nominal one.
    rotation_jitter_deg
        Three standard deviations of the step of the axis angle from view to view.
    magnification_jitter
        Standard deviation of the magnification.
    pitch_deg, z_offset_px
        Pitch of the section about x, and its height above the centre, pixels.
    dose
        Electrons per pixel and view.
    crowding
        Factor on the number of cellular structures.
    defocus_um
        Of cryo series, micrometres.
    hot_pixels
        X-ray hits of a view, one pixel each.
    dropped_views, dark_views
        Views that are missing, and dark ones; counted from 0.

    Raises
    ------
    ParameterError
        If a size, a number of views, a dose or a pixel is out of range.
    """

    seed: int = 1
    size: int = 512
    views: int = 41
    max_tilt_deg: float = 60.0
    regime: Literal["plastic", "cryo"] = "plastic"
    thickness_px: float = 90.0
    pixel_nm: float = 1.0
    beads: int = 25
    bead_nm: float = 10.0
    two_surfaces: bool = False
    axis_deg: float = -8.0
    axis_error_deg: float = 0.0
    shift_px: float = 4.0
    tilt_error_deg: float = 0.15
    rotation_jitter_deg: float = 0.08
    magnification_jitter: float = 0.0008
    pitch_deg: float = 1.5
    z_offset_px: float = 0.0
    dose: float = 400.0
    crowding: float = 1.0
    defocus_um: float = 4.0
    hot_pixels: int = 30
    dropped_views: tuple[int, ...] = ()
    dark_views: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 32 or self.views < 1 or self.dose <= 0 or self.pixel_nm <= 0:
            raise ParameterError(
                f"Cannot simulate size {self.size}, {self.views} views, dose {self.dose}, pixel {self.pixel_nm} nm: "
                "give a size of at least 32, at least 1 view, and a dose and a pixel above 0"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The geometry of each view, the beads, and where an alignment is scored.

    Attributes
    ----------
    size
        Of the square images, pixels.
    nominal_deg, true_deg
        Tilts in the header, and true ones, `(views,)`.
    axis_deg, magnification
        `(views,)`.
    shift_px
        `(views, 2)`.
    beads_px
        Positions of the beads in the specimen, `(beads, 3)`, pixels from its centre.
    beads_xy
        Their positions in the raw images, `(views, beads, 2)`, pixels.
    probes_xy
        Points in the raw images at which an alignment is scored, `(views, points, 2)`: the beads, or a grid of points of the section.
    dark_views
        Views that are dark, counted from 0.
    """

    size: int
    nominal_deg: Floats
    true_deg: Floats
    axis_deg: Floats
    magnification: Floats
    shift_px: Floats
    beads_px: Floats
    beads_xy: Floats
    probes_xy: Floats
    dark_views: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(self).items()}

    def transforms(self) -> Floats:
        """Return the perfect alignment, `(views, 2, 3)`."""
        matrices = np.stack([geometry.rotation(-a) / m for a, m in zip(self.axis_deg, self.magnification, strict=True)])
        return geometry.transform(matrices, -np.einsum("vij,vj->vi", matrices, self.shift_px))


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedSeries:
    """Images as a camera gives them, `(views, y, x)` int16, the values in their header, and the truth."""

    images: NDArray[np.int16]
    nominal_deg: Floats
    header_axis_deg: float
    pixel_size_angstrom: float
    truth: Truth

    @property
    def series(self) -> TiltSeries:
        """The series as its reader would see it."""
        return TiltSeries.from_images(
            self.images,
            self.nominal_deg,
            pixel_size_angstrom=self.pixel_size_angstrom,
            axis_angle_deg=self.header_axis_deg,
            name="simulated",
        )

    def error_of(self, alignment: Alignment) -> Score:
        """Return how far an alignment is from the truth, raw pixels, over the views that take part in it."""
        left_out = tuple(sorted({*self.truth.dark_views, *np.flatnonzero(~alignment.included).tolist()}))
        return score(replace(self.truth, dark_views=left_out), alignment.transforms, alignment.tilt_deg)


@dataclass(frozen=True, slots=True)
class Score:
    """True alignment error, pixels: root mean square over points and views, along u and v, and that of the worst view."""

    rms_px: float
    rms_u_px: float
    rms_v_px: float
    worst_view_px: float
    worst_view: int


def simulate(params: SimulationParams, *, threads: int = 1, progress: Progress | None = None) -> SimulatedSeries:
    """Return a tilt series of a random specimen; the same `seed` gives the same series.

    Parameters
    ----------
    params
        Specimen, microscope and errors.
    threads
        Views drawn at the same time.
    progress
        Called with the fraction done.
    """
    rng = np.random.default_rng(params.seed)
    truth, rotations, objects = _scene(params, rng)
    seeds = rng.spawn(len(truth.nominal_deg))
    images = np.empty((len(seeds), params.size, params.size), np.int16)

    def draw(view: int) -> int:
        images[view] = _expose(_projection(view, truth, rotations[view], objects, params), view, truth, params, seeds[view])
        return view

    for done, _ in enumerate(map_threads(draw, range(len(seeds)), threads), start=1):
        if progress:
            progress(done / len(seeds))
    return SimulatedSeries(
        images=images,
        nominal_deg=truth.nominal_deg,
        header_axis_deg=params.axis_deg + params.axis_error_deg,
        pixel_size_angstrom=params.pixel_nm * 10,
        truth=truth,
    )


def render_specimen(params: SimulationParams, thickness: int) -> NDArray[np.float32]:
    """Return the density of the specimen that :func:`simulate` shows.

    It is what a perfect reconstruction would give, up to scale and level: pitched as in the views, before the drift of the stage.

    Parameters
    ----------
    params
        As for :func:`simulate`.
    thickness
        Of the volume, pixels.

    Returns
    -------
    NDArray
        `(thickness, size, size)`: z upwards, y, x.
    """
    _, _, objects = _scene(params, np.random.default_rng(params.seed))
    turn = _about("x", params.pitch_deg)
    volume = np.zeros((thickness, params.size, params.size), np.float32)
    for item in objects:
        x, y, z = turn @ item.centre + np.array([params.size, params.size, thickness]) / 2
        fill_ellipsoid(volume, x, y, z, turn @ item.matrix @ turn.T, item.reach, item.density)
    return volume


def score(truth: Truth, transforms: ArrayLike, tilt_deg: ArrayLike) -> Score:
    """Return the true error of an alignment.

    It does not depend on the origin, the scale and the tilt offset that the alignment has chosen.  Dark views are left out.

    Parameters
    ----------
    truth
        Of the series.
    transforms
        `(views, 2, 3)`, raw to aligned.
    tilt_deg
        Refined tilts, `(views,)`, degrees.
    """
    use = np.setdiff1d(np.arange(len(truth.nominal_deg)), truth.dark_views)
    aligned = geometry.apply(np.asarray(transforms, float)[use, None], truth.probes_xy[use] - truth.size / 2)
    t = np.deg2rad(np.asarray(tilt_deg, float)[use])
    design = np.stack([np.cos(t), np.sin(t)], axis=1)
    u, v = aligned[..., 0], aligned[..., 1]
    residual_u = u - design @ np.linalg.lstsq(design, u, rcond=None)[0]
    residual_v = v - v.mean(axis=0)
    squared = residual_u**2 + residual_v**2
    per_view = np.sqrt(squared.mean(axis=1))
    return Score(
        rms_px=float(np.sqrt(squared.mean())),
        rms_u_px=float(np.sqrt(np.mean(residual_u**2))),
        rms_v_px=float(np.sqrt(np.mean(residual_v**2))),
        worst_view_px=float(per_view.max()),
        worst_view=int(use[per_view.argmax()]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ellipsoid:
    centre: Floats
    matrix: Floats
    reach: float
    density: float


def _scene(params: SimulationParams, rng: np.random.Generator) -> tuple[Truth, list[Floats], list[_Ellipsoid]]:
    nominal = np.delete(np.linspace(-params.max_tilt_deg, params.max_tilt_deg, params.views), list(params.dropped_views))
    views = len(nominal)
    true = nominal + rng.normal(0, params.tilt_error_deg, views)
    shifts = np.cumsum(rng.normal(0, params.shift_px, (views, 2)), axis=0)
    shifts -= shifts[np.argmin(np.abs(nominal))]
    axis = params.axis_deg + np.cumsum(rng.normal(0, params.rotation_jitter_deg / 3, views))
    magnification = 1 + rng.normal(0, params.magnification_jitter, views)
    rotations = [_about("z", a) @ _about("y", t) @ _about("x", params.pitch_deg) for a, t in zip(axis, true, strict=True)]
    gold, cell = _gold(params, rng), _cell(params, rng)
    centres = np.array([bead.centre for bead in gold]).reshape(-1, 3)

    def raw(points: Floats) -> Floats:
        seen = np.einsum("vij,bj->vbi", np.array(rotations), points)[..., :2]
        return np.asarray(params.size / 2 + magnification[:, None, None] * seen + shifts[:, None])

    truth = Truth(
        size=params.size,
        nominal_deg=nominal,
        true_deg=true,
        axis_deg=axis,
        magnification=magnification,
        shift_px=shifts,
        beads_px=centres,
        beads_xy=raw(centres),
        probes_xy=raw(centres if len(centres) else _grid(params)),
        dark_views=params.dark_views,
    )
    return truth, rotations, gold + cell


def _grid(params: SimulationParams) -> Floats:
    """Return points over the field and through the thickness of the section, `(27, 3)`."""
    side = np.array(_PROBES) * params.size
    x, y, z = np.meshgrid(side, side, params.z_offset_px + np.array(_PROBES) * params.thickness_px)
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)


def _about(axis: str, degrees: float) -> Floats:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrices = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(matrices[axis])


def _gold(params: SimulationParams, rng: np.random.Generator) -> list[_Ellipsoid]:
    """Return beads on one surface or both, no two closer than :data:`_BEAD_APART` in the untilted view."""
    diameter = params.bead_nm / params.pixel_nm
    beads: list[Floats] = []
    for _ in range(_BEAD_TRIES):
        if len(beads) == params.beads:
            break
        side = 0.5 if not params.two_surfaces or rng.random() < 0.5 else -0.5
        z = params.z_offset_px + side * params.thickness_px + rng.normal(0, _BEAD_HEIGHT_SD * params.thickness_px)
        centre = np.array([*(rng.uniform(-_BEAD_FIELD, _BEAD_FIELD, 2) * params.size), z])
        if all(np.hypot(*(centre - other)[:2]) > _BEAD_APART * diameter for other in beads):
            beads.append(centre)
    radius = diameter / 2
    return [_Ellipsoid(centre, np.eye(3) / radius**2, radius, _GOLD_DENSITY) for centre in beads]


def _cell(params: SimulationParams, rng: np.random.Generator) -> list[_Ellipsoid]:
    """Return vesicles, ribosome-like blobs and filaments, over all that tilt and drift bring into view."""
    reach_x, reach_y = _FIELD_X * params.size, _FIELD_Y * params.size
    thickness = params.thickness_px
    count = int(params.crowding * 4 * reach_x * reach_y * thickness / _VOLUME_PER_OBJECT)
    objects: list[_Ellipsoid] = []

    def place(margin: float) -> Floats:
        z = params.z_offset_px + rng.uniform(-0.5, 0.5) * max(thickness - 2 * margin, _LEAST_HEIGHT_PX)
        return np.array([rng.uniform(-reach_x, reach_x), rng.uniform(-reach_y, reach_y), z])

    def add(centre: Floats, axes: Floats, turn: Floats, density: float) -> None:
        objects.append(_Ellipsoid(centre, turn @ np.diag(1.0 / axes**2) @ turn.T, float(axes.max()), density))

    for _ in range(count):
        radius = rng.uniform(*_VESICLE_RADIUS) * min(thickness, _VESICLE_FIELD * params.size)
        axes = radius * rng.uniform(*_VESICLE_AXES, 3)
        turn, centre = _random_rotation(rng), place(radius)
        add(centre, axes, turn, 1.0)
        add(centre, np.maximum(axes - max(_MEMBRANE_PX, _MEMBRANE_PART * radius), _LEAST_LUMEN_PX), turn, _LUMEN)
    for _ in range(_BLOBS_PER_OBJECT * count):
        centre = place(_BLOB_MARGIN_PX)
        add(centre, rng.uniform(*_BLOB_RADIUS_PX) * rng.uniform(*_BLOB_AXES, 3), _random_rotation(rng), _BLOB_DENSITY)
    for _ in range(count // 2 + 1):
        start, direction = place(_FILAMENT_MARGIN_PX), rng.normal(size=3) * [1, 1, _FILAMENT_SLOPE]
        direction /= np.linalg.norm(direction)
        axes = np.array(_FILAMENT_AXES_PX)
        for step in range(int(rng.uniform(*_FILAMENT_STEPS))):
            centre = start + _FILAMENT_STEP_PX * step * direction
            if abs(centre[2] - params.z_offset_px) <= thickness / 2 - axes[2]:
                add(centre, axes, np.eye(3), _FILAMENT_DENSITY)
    return objects


def _random_rotation(rng: np.random.Generator) -> Floats:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))


def _projection(view: int, truth: Truth, turn: Floats, objects: list[_Ellipsoid], params: SimulationParams) -> Floats:
    n = params.size
    image = np.zeros((n, n))
    scale = truth.magnification[view]
    for item in objects:
        cx, cy = n / 2 + scale * (turn @ item.centre)[:2] + truth.shift_px[view]
        margin = 2 * item.reach
        if -margin < cx < n + margin and -margin < cy < n + margin:
            shape = turn @ item.matrix @ turn.T / scale**2
            add_ellipsoid(image, cx, cy, shape, item.reach * scale * _REACH_MARGIN, item.density)
    return image


def _expose(image: Floats, view: int, truth: Truth, params: SimulationParams, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return the counts of a projection: beam, absorption or phase contrast, camera blur, counting noise and x-ray hits."""
    n = params.size
    path = params.thickness_px / np.cos(np.deg2rad(truth.true_deg[view]))
    yy, xx = np.mgrid[:n, :n] / n - 0.5
    beam = 1 + _BEAM_TILT * xx * rng.normal() + _BEAM_TILT * yy * rng.normal() - _BEAM_FALL * (xx**2 + yy**2)
    if params.regime == "plastic":
        electrons = params.dose * beam * np.exp(-_PLASTIC_ABSORPTION * path / _PLASTIC_PATH_PX - _PLASTIC_CONTRAST * image)
    else:
        wave = fft.irfft2(fft.rfft2(image - image.mean()) * _ctf(n, params.pixel_nm, params.defocus_um), (n, n))
        electrons = params.dose * beam * np.exp(-_ICE_ABSORPTION * path / _ICE_PATH_PX)
        electrons = electrons * np.maximum(1 + _ICE_CONTRAST * wave, _LEAST_INTENSITY)
    electrons = ndimage.gaussian_filter(electrons, _CAMERA_BLUR_PX)
    if view in params.dark_views:
        electrons = electrons * _DARK
    counts = rng.poisson(np.maximum(electrons, 0)) * (_COUNTS / params.dose) + rng.normal(0, _READOUT_NOISE, (n, n))
    hits = rng.integers(n, size=(params.hot_pixels, 2))
    counts[hits[:, 0], hits[:, 1]] += rng.uniform(*_HIT_COUNTS, params.hot_pixels)
    return np.asarray(np.clip(counts, -_COUNT_LIMIT, _COUNT_LIMIT), np.int16)


def _ctf(n: int, pixel_nm: float, defocus_um: float) -> Floats:
    """Return the contrast transfer of the microscope, `(n, n // 2 + 1)`.

    The wavelength in nm of electrons of V volts is `h / sqrt(2 m e V (1 + e V / (2 m c²)))`: 1.22639 over the root of
    `V + 0.97845e-6 V²`.
    """
    volts = _KILOVOLT * 1e3
    wavelength = 1.22639 / np.sqrt(volts + 0.97845e-6 * volts**2)
    f = np.hypot(fft.fftfreq(n, pixel_nm)[:, None], fft.rfftfreq(n, pixel_nm)[None])
    chi = np.pi * wavelength * defocus_um * 1e3 * f**2 - 0.5 * np.pi * _CS_MM * 1e6 * wavelength**3 * f**4
    return np.asarray(-(np.sqrt(1 - _AMPLITUDE_CONTRAST**2) * np.sin(chi) + _AMPLITUDE_CONTRAST * np.cos(chi)))
