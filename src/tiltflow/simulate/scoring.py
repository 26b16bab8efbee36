"""The geometry that a simulated series has in truth, and how far an alignment is from it.

An alignment is scored by applying it to the true positions of the beads and fitting a 3-D point to each bead: the residual is the
error that blurs the tomogram.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry

Floats = NDArray[np.float64]


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
        Their positions in the raw images, `(views, beads, 2)`, pixels; of a specimen that deforms, where they are in each view.
    probes_xy
        Points in the raw images at which an alignment is scored, `(views, points, 2)`: the beads, or a grid of points of the section.
    dark_views, lost_views
        Views that are dark, and views that show something else or nothing; counted from 0.
    defocus_nm
        On the tilt axis, through the centre of the specimen, `(views,)`; None where there is no phase contrast.
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
    lost_views: tuple[int, ...] = ()
    defocus_nm: Floats | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(self).items()}

    def transforms(self) -> Floats:
        """Return the perfect alignment of a rigid specimen, `(views, 2, 3)`."""
        matrices = np.stack([geometry.rotation(-a) / m for a, m in zip(self.axis_deg, self.magnification, strict=True)])
        return geometry.transform(matrices, -np.einsum("vij,vj->vi", matrices, self.shift_px))


@dataclass(frozen=True, slots=True)
class Score:
    """True alignment error, pixels: root mean square over points and views, along u and v, and that of the worst view."""

    rms_px: float
    rms_u_px: float
    rms_v_px: float
    worst_view_px: float
    worst_view: int


def score(truth: Truth, transforms: ArrayLike, tilt_deg: ArrayLike) -> Score:
    """Return the true error of an alignment.

    It does not depend on the origin, the scale and the tilt offset that the alignment has chosen.  Dark and lost views are left out.
    What a specimen deforms counts as error, as it blurs the tomogram, but for what a view's transform takes up.

    Parameters
    ----------
    truth
        Of the series.
    transforms
        `(views, 2, 3)`, raw to aligned.
    tilt_deg
        Refined tilts, `(views,)`, degrees.
    """
    use = np.setdiff1d(np.arange(len(truth.nominal_deg)), (*truth.dark_views, *truth.lost_views))
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
