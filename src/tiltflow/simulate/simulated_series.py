"""A phantom specimen and its tilt series, with the answer known exactly.

The specimen is a slab filled with vesicles, filaments, blobs and gold beads.  Every object is an ellipsoid, so every
projection is an exact line integral: no interpolation of a voxel volume blurs the answer.  A specimen point p, pixels from the
centre of the slab, is seen in view i at

    q = Rx(pitch) p,    u = q.x cos t_i + q.z sin t_i,    v = q.y
    raw = size / 2 + mag_i R(axis_i) (u, v) + shift_i

which is :mod:`tiltflow.geometry` with one rotation, magnification and shift per view.  An alignment is scored by carrying the true
bead positions through it and fitting a 3-D point to each bead: what is left is the error that blurs the tomogram.
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

_GOLD_DENSITY = 14.0
_COUNTS = 4000.0
_READOUT_NOISE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationParams:
    """What is simulated.  Lengths are pixels unless a name says otherwise; `sd` means standard deviation.

    `axis_error_deg` is how far the angle in the header is off; `shift_px` the sd of the step from view to view; `dose`
    electrons per pixel and view; `crowding` scales the number of cellular objects; `z_offset_px` lifts the slab.
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
                "sizes start at 32, views at 1, dose and pixel above 0"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The geometry of each view, the beads, and where an alignment is scored.

    `(views,)` arrays, `beads_px` `(beads, 3)`, `beads_xy` `(views, beads, 2)`.  `probes_xy` `(views, points, 2)` are the beads,
    or a grid of points of the slab where there are none.
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
    """Images as a camera gives them, `(views, y, x)` int16, what their header would say, and the truth."""

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
    """True alignment error, pixels: root mean square over beads and views, and that of the worst view."""

    rms_px: float
    rms_u_px: float
    rms_v_px: float
    worst_view_px: float
    worst_view: int


def simulate(params: SimulationParams, *, threads: int = 1, progress: Progress | None = None) -> SimulatedSeries:
    """Return a tilt series of a random specimen; the same `seed` gives the same series."""
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
    """Return the density of the specimen that :func:`simulate` shows, as voxels `(thickness, size, size)`: z upwards, y, x.

    It is what a perfect reconstruction would give, to a scale and a level: pitched as in the views, before the drift of the stage.
    """
    _, _, objects = _scene(params, np.random.default_rng(params.seed))
    turn = _about("x", params.pitch_deg)
    volume = np.zeros((thickness, params.size, params.size), np.float32)
    for item in objects:
        x, y, z = turn @ item.centre + np.array([params.size, params.size, thickness]) / 2
        fill_ellipsoid(volume, x, y, z, turn @ item.matrix @ turn.T, item.reach, item.density)
    return volume


def score(truth: Truth, transforms: ArrayLike, tilt_deg: ArrayLike) -> Score:
    """Return the true error of an alignment: `transforms` `(views, 2, 3)`, raw to aligned, and refined tilts `(views,)`.

    It does not depend on where the aligner put the origin, the scale or the tilt offset.  Views that were dark are left out.
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
    """Points over the field and through the thickness of the slab, `(27, 3)`."""
    side = np.array([-0.4, 0.0, 0.4]) * params.size
    x, y, z = np.meshgrid(side, side, params.z_offset_px + np.array([-0.4, 0.0, 0.4]) * params.thickness_px)
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
    """Beads on one surface or both, no two closer than 1.6 diameters in the untilted view."""
    diameter = params.bead_nm / params.pixel_nm
    beads: list[Floats] = []
    for _ in range(20_000):
        if len(beads) == params.beads:
            break
        side = 0.5 if not params.two_surfaces or rng.random() < 0.5 else -0.5
        z = params.z_offset_px + side * params.thickness_px + rng.normal(0, 0.02 * params.thickness_px)
        centre = np.array([*(rng.uniform(-0.46, 0.46, 2) * params.size), z])
        if all(np.hypot(*(centre - other)[:2]) > 1.6 * diameter for other in beads):
            beads.append(centre)
    radius = diameter / 2
    return [_Ellipsoid(centre, np.eye(3) / radius**2, radius, _GOLD_DENSITY) for centre in beads]


def _cell(params: SimulationParams, rng: np.random.Generator) -> list[_Ellipsoid]:
    """Vesicles, ribosome-like blobs and filaments, over all that tilt and drift bring into view."""
    reach_x, reach_y = 1.2 * params.size, 0.7 * params.size
    thickness = params.thickness_px
    count = int(params.crowding * 4 * reach_x * reach_y * thickness / 6.0e5)
    objects: list[_Ellipsoid] = []

    def place(margin: float) -> Floats:
        z = params.z_offset_px + rng.uniform(-0.5, 0.5) * max(thickness - 2 * margin, 2.0)
        return np.array([rng.uniform(-reach_x, reach_x), rng.uniform(-reach_y, reach_y), z])

    def add(centre: Floats, axes: Floats, turn: Floats, density: float) -> None:
        objects.append(_Ellipsoid(centre, turn @ np.diag(1.0 / axes**2) @ turn.T, float(axes.max()), density))

    for _ in range(count):
        radius = rng.uniform(0.12, 0.45) * min(thickness, 0.25 * params.size)
        axes = radius * rng.uniform(0.75, 1.0, 3)
        turn, centre = _random_rotation(rng), place(radius)
        add(centre, axes, turn, 1.0)
        add(centre, np.maximum(axes - max(2.0, 0.08 * radius), 1.0), turn, -0.9)
    for _ in range(6 * count):
        add(place(6), rng.uniform(3.0, 6.5) * rng.uniform(0.8, 1.2, 3), _random_rotation(rng), 1.2)
    for _ in range(count // 2 + 1):
        start, direction = place(8), rng.normal(size=3) * [1, 1, 0.15]
        direction /= np.linalg.norm(direction)
        axes = np.array([4.5, 2.6, 2.6])
        for step in range(int(rng.uniform(30, 90))):
            centre = start + 4.0 * step * direction
            if abs(centre[2] - params.z_offset_px) <= thickness / 2 - axes[2]:
                add(centre, axes, np.eye(3), 0.8)
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
            add_ellipsoid(image, cx, cy, shape, item.reach * scale * 1.05, item.density)
    return image


def _expose(image: Floats, view: int, truth: Truth, params: SimulationParams, rng: np.random.Generator) -> NDArray[np.int16]:
    """Beam, absorption or phase contrast, camera blur, counting noise and x-ray hits."""
    n = params.size
    path = params.thickness_px / np.cos(np.deg2rad(truth.true_deg[view]))
    yy, xx = np.mgrid[:n, :n] / n - 0.5
    beam = 1 + 0.05 * xx * rng.normal() + 0.05 * yy * rng.normal() - 0.08 * (xx**2 + yy**2)
    if params.regime == "plastic":
        electrons = params.dose * beam * np.exp(-0.9 * path / 200.0 - 0.008 * image)
    else:
        wave = fft.irfft2(fft.rfft2(image - image.mean()) * _ctf(n, params.pixel_nm, params.defocus_um), (n, n))
        electrons = params.dose * beam * np.exp(-0.5 * path / 300.0) * np.maximum(1 + 0.012 * wave, 0.02)
    electrons = ndimage.gaussian_filter(electrons, 0.55)
    if view in params.dark_views:
        electrons = electrons * 0.02
    counts = rng.poisson(np.maximum(electrons, 0)) * (_COUNTS / params.dose) + rng.normal(0, _READOUT_NOISE, (n, n))
    hits = rng.integers(n, size=(params.hot_pixels, 2))
    counts[hits[:, 0], hits[:, 1]] += rng.uniform(8_000, 25_000, params.hot_pixels)
    return np.asarray(np.clip(counts, -32_000, 32_000), np.int16)


def _ctf(n: int, pixel_nm: float, defocus_um: float, kv: float = 300.0, cs_mm: float = 2.7, amplitude: float = 0.07) -> Floats:
    """Contrast transfer of a microscope, `(n, n // 2 + 1)`; wavelength in nm from the relativistic formula."""
    wavelength = 1.22639 / np.sqrt(kv * 1e3 + 0.97845e-6 * (kv * 1e3) ** 2)
    f = np.hypot(fft.fftfreq(n, pixel_nm)[:, None], fft.rfftfreq(n, pixel_nm)[None])
    chi = np.pi * wavelength * defocus_um * 1e3 * f**2 - 0.5 * np.pi * cs_mm * 1e6 * wavelength**3 * f**4
    return np.asarray(-(np.sqrt(1 - amplitude**2) * np.sin(chi) + amplitude * np.cos(chi)))
