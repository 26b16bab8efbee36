"""Projections of a specimen, and the phase contrast that the microscope makes of them.

In a tilted view the defocus changes across the axis, as the specimen is not level: the ellipsoids are sorted into slabs along the beam,
each is imaged with the defocus of its middle (:mod:`tiltflow.ctf.model`), and the images are added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import scipy
from numpy.typing import NDArray

from tiltflow.ctf.model import Astigmatism, Microscope
from tiltflow.errors import ParameterError
from tiltflow.kernels.phantom import add_ellipsoid
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scene import Scene
from tiltflow.simulate.specimen import Ellipsoid

Floats = NDArray[np.float64]

_REACH_MARGIN = 1.05
"""Pixels are drawn to so many times the reach of an ellipsoid, which rounding may not cut."""
_SLAB_NM = 25.0
"""Thickness of a slab along the beam: at 1/nm its ends differ by a twentieth of a cycle of the rings."""
_PAD_NM = 30.0
"""Border of the image within which what lies outside is drawn too: images are delocalised by lambda D s, 12 nm at 6 µm and 1/nm."""
_ICE, _ICE_LAYERS = 6, 3
"""Subject of random numbers apart, and layers of ice: in a specimen of 300 nm they are 100 nm apart, as far as rings blur at 1/nm."""
_MICROSCOPE = Microscope()
"""That of cryo series: a Titan Krios and the usual amplitude contrast of ice."""


def project(scene: Scene, view: int, params: SimulationParams) -> Floats:
    """Return the line integrals of the density that a view shows, `(size, size)`."""
    image = np.zeros((params.size, params.size))
    for item, centre in _seen(scene, view, params):
        _draw(image, item, centre, scene, view)
    return image


def phase_contrast(scene: Scene, view: int, params: SimulationParams) -> Floats:
    """Return the phase contrast of a view, `(size, size)`: what a density of 1 over a pixel would do to the intensity.

    Raises
    ------
    ParameterError
        If the series has no phase contrast.
    """
    defocus_nm = scene.truth.defocus_nm
    if defocus_nm is None:
        raise ParameterError(f"a series of the regime {params.regime} has no defocus, and no phase contrast; give cryo")
    n, pad = params.size, round(_PAD_NM / params.pixel_nm) if params.defocus_hand else 0
    astigmatism = Astigmatism(params.astigmatism_nm, params.astigmatism_deg)
    slabs: defaultdict[int, Floats] = defaultdict(lambda: np.zeros((n + 2 * pad, n + 2 * pad)))
    for item, centre in _seen(scene, view, params):
        height = float((scene.rotations[view] @ centre)[2])
        _draw(slabs[_slab(height, params)], item, centre, scene, view)
    if params.ice and view not in params.noise_views:
        _add_ice(slabs, n + 2 * pad, scene, view, params)
    fy, fx = scipy.fft.fftfreq(n + 2 * pad, params.pixel_nm)[:, None], scipy.fft.rfftfreq(n + 2 * pad, params.pixel_nm)
    s2, added = fx**2 + fy**2, astigmatism.added(np.arctan2(fy, fx))
    total = np.zeros(s2.shape, complex)
    for slab, image in slabs.items():
        total += scipy.fft.rfft2(image) * _MICROSCOPE.ctf(s2, defocus_nm[view] + slab * _SLAB_NM + added)
    total[0, 0] = 0
    wave = scipy.fft.irfft2(total, (n + 2 * pad, n + 2 * pad))
    return np.asarray(wave[pad : pad + n, pad : pad + n])


def _slab(height_px: float, params: SimulationParams) -> int:
    """Return the number of the slab at a height; without a gradient there is but one."""
    return round(-params.defocus_hand * height_px * params.pixel_nm / _SLAB_NM)


def _add_ice(slabs: defaultdict[int, Floats], side: int, scene: Scene, view: int, params: SimulationParams) -> None:
    """Add the noise of amorphous ice in a few layers of the specimen to the slabs that they pass through."""
    rng = params.apart(_ICE).spawn(view + 1)[view]
    t, axis = np.deg2rad(scene.truth.true_deg[view]), np.deg2rad(scene.truth.axis_deg[view])
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    u = (np.cos(axis) * (x - scene.truth.shift_px[view, 0]) + np.sin(axis) * (y - scene.truth.shift_px[view, 1])) * params.pixel_nm
    deviation = params.ice / np.sqrt(_ICE_LAYERS * np.cos(t))
    for layer in range(_ICE_LAYERS):
        z = ((layer + 0.5) / _ICE_LAYERS - 0.5) * params.thickness_px * params.pixel_nm
        deeper = params.defocus_hand * (u * np.tan(t) - z / np.cos(t))
        number = np.rint(deeper / _SLAB_NM).astype(np.int64)
        noise = rng.normal(0, deviation, (side, side))
        for slab in np.unique(number).tolist():
            slabs[slab] += np.where(number == slab, noise, 0)


def _seen(scene: Scene, view: int, params: SimulationParams) -> Iterator[tuple[Ellipsoid, Floats]]:
    """Yield what a view may show, and where its centre is in the specimen, pixels."""
    if view in params.noise_views:
        return
    objects = scene.strangers if view in params.foreign_views else scene.objects
    centres = [item.centre for item in objects]
    if scene.moves is not None and objects:
        centres = list(scene.moves.moved(np.array(centres), view))
    yield from zip(objects, centres, strict=True)


def _draw(image: Floats, item: Ellipsoid, centre: Floats, scene: Scene, view: int) -> None:
    """Add an ellipsoid to the image of a view, about its centre."""
    n = len(image)
    turn, scale = scene.rotations[view], scene.truth.magnification[view]
    cx, cy = n / 2 + scale * (turn @ centre)[:2] + scene.truth.shift_px[view]
    margin = 2 * item.reach
    if -margin < cx < n + margin and -margin < cy < n + margin:
        shape = turn @ item.matrix @ turn.T / scale**2
        add_ellipsoid(image, cx, cy, shape, item.reach * scale * _REACH_MARGIN, item.density)
