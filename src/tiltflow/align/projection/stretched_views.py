"""Views rotated, shifted and stretched to what they would show of a thin specimen at zero tilt.

A point of the specimen at `(x, y, z)` is seen at `u = x cos t + z sin t, v = y`.  On the plane `z = s y` through the axis, s
being the slope of the specimen along the tilt axis, `x = (u - s y sin t) / cos t`: a view sampled at `(x cos t + s y sin t, y)`
shows that plane in the same place at every tilt, and a point z above it displaced along x by `z tan t`.  Whole views are compared
on such frames only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.preprocess.binned_views import BinnedViews

Floats = NDArray[np.float64]
Images = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ViewGeometry:
    """How each view sees the specimen: `raw - centre = matrix (u, v) + shift`.

    Attributes
    ----------
    matrices
        `(views, 2, 2)`: aligned to raw coordinates, about the turn by the angle of the tilt axis.
    shifts
        `(views, 2)`, raw pixels.
    tilts
        `(views,)`, radians.
    slope
        z over y of the plane that stays in place.
    """

    matrices: Floats
    shifts: Floats
    tilts: Floats
    slope: float = 0.0

    @classmethod
    def from_transforms(cls, transforms: ArrayLike, tilt_deg: ArrayLike, slope: float = 0.0) -> ViewGeometry:
        """Return the geometry that transforms `(views, 2, 3)`, raw to aligned, undo."""
        inverse = geometry.invert(transforms)
        return cls(inverse[..., :2], inverse[..., 2], np.deg2rad(np.asarray(tilt_deg, float)), slope)

    @property
    def transforms(self) -> Floats:
        """`(views, 2, 3)`, raw to aligned."""
        return geometry.invert(geometry.transform(self.matrices, self.shifts))

    @property
    def axis_deg(self) -> float:
        """Mean angle of the tilt axis, degrees."""
        return float(np.rad2deg(np.angle(np.sum(self.matrices[:, 0, 0] + 1j * self.matrices[:, 1, 0]))))

    def of(self, views: NDArray[np.intp]) -> ViewGeometry:
        """Return the geometry of some of the views."""
        return replace(self, matrices=self.matrices[views], shifts=self.shifts[views], tilts=self.tilts[views])

    def displaced(self, shift_uv: Floats) -> ViewGeometry:
        """Return the geometry of views whose content lies `shift_uv`, `(views, 2)` raw pixels in aligned directions, farther."""
        return replace(self, shifts=self.shifts + np.einsum("vij,vj->vi", self.matrices, shift_uv))


@dataclass(frozen=True, slots=True)
class Frame:
    """The grid that views are stretched onto, centred on the axis.

    Attributes
    ----------
    shape
        `(ny, nx)`.
    pixel
        Raw pixels per pixel.
    field
        Extent of the raw image along y and x, pixels of the frame.
    """

    shape: tuple[int, int]
    pixel: float
    field: tuple[float, float]

    @classmethod
    def around(cls, views: BinnedViews, axis_angle_deg: float, margin: tuple[float, float]) -> Frame:
        """Return a frame with the pixels of the binned views, larger than their field by the factors `margin` along y and x."""
        ny, nx = views.images.shape[1:]
        c, s = (abs(f(np.deg2rad(axis_angle_deg))) for f in (np.cos, np.sin))
        field = float(np.hypot(ny * c, nx * s)), float(np.hypot(nx * c, ny * s))
        rows, columns = (scipy.fft.next_fast_len(2 * round(n * m / 2), real=True) for n, m in zip(field, margin, strict=True))
        return cls((rows, columns), float(views.binning), field)

    def coordinates(self, samples: tuple[int, int] | None = None) -> tuple[Images, Images]:
        """Return y `(ny, 1)` and x `(1, nx)` from the axis, pixels of the frame; of `samples` spread over it, or of its pixels."""
        y, x = (
            np.asarray(np.arange(m) * (n / m) + (0.5 - n / 2), np.float32)
            for n, m in zip(self.shape, samples or self.shape, strict=True)
        )
        return y[:, None], x[None, :]

    def window(self, taper: float, samples: tuple[int, int] | None = None) -> Images:
        """Return 1 inside the field, falling smoothly to 0 at its border over `taper` of its extent, at its pixels or at `samples`."""
        y, x = (
            np.clip((n / 2 - np.abs(c)) / (taper * n), 0, 1) for n, c in zip(self.field, self.coordinates(samples), strict=True)
        )
        return np.asarray((y * y * (3 - 2 * y)) * (x * x * (3 - 2 * x)), np.float32)


class StretchedViews:
    """Binned views that can be sampled on a frame at any geometry."""

    def __init__(self, views: BinnedViews, frame: Frame, taper_px: float) -> None:
        self.frame = frame
        self._views = views
        self._taper = taper_px
        self._coefficients = np.stack([scipy.ndimage.spline_filter(image, 3, np.float32, "mirror") for image in views.images])

    def __len__(self) -> int:
        return len(self._coefficients)

    def sample(self, view: int, where: ViewGeometry) -> tuple[Images, Images]:
        """Return a view on the frame and the weight of each pixel: 1 inside the image, 0 outside, smooth between.

        Densities are those along rays perpendicular to the section: a view is multiplied by the cosine of its tilt.
        """
        from tiltflow.kernels.refine import sample_view  # numba is slow to import

        out, weight = (np.empty(self.frame.shape, np.float32) for _ in range(2))  # one may be kept without the other
        lines = self._lines(view, where, self.frame.shape)
        sample_view(self._coefficients[view], lines, self._taper, abs(math.cos(float(where.tilts[view]))), out, weight)
        return out, weight

    def sample_filled(self, some: slice, where: ViewGeometry, filling: Images) -> Images:
        """Return views times their weights, plus `filling` times what these lack of 1; all are `(n, ny, nx)`, on the frame."""
        from tiltflow.kernels.refine import sample_filled  # numba is slow to import

        out = np.empty(filling.shape, np.float32)
        lines = self._lines_of(some, where, self.frame.shape)
        sample_filled(self._coefficients[some], lines, self._taper, np.abs(np.cos(where.tilts[some])), filling, out)
        return out

    def weights(self, some: slice, where: ViewGeometry, window: Images) -> Images:
        """Return the weights of views times `window`, `(ny, nx)` samples that are spread over the frame; `(n, ny, nx)`."""
        from tiltflow.kernels.refine import weigh_views  # numba is slow to import

        out = np.empty((some.stop - some.start, *window.shape), np.float32)
        weigh_views(self._coefficients.shape[1:], self._lines_of(some, where, window.shape), self._taper, window, out)
        return out

    def _lines_of(self, some: slice, where: ViewGeometry, samples: tuple[int, ...]) -> Floats:
        return np.stack([self._lines(view, where, samples) for view in range(some.start, some.stop)])

    def _lines(self, view: int, where: ViewGeometry, samples: tuple[int, ...]) -> Floats:
        """Return where a view has the first of `samples` spread over the frame, and the steps along x and along y; `(3, 2)`."""
        tilt, (ny, nx), (height, width) = float(where.tilts[view]), self.frame.shape, self._views.raw_shape
        (a, b), (c, d) = where.matrices[view].tolist()
        u, v = where.shifts[view].tolist()
        scale, cosine, lean = self.frame.pixel / self._views.binning, math.cos(tilt), where.slope * math.sin(tilt)
        step_x = scale * a * cosine, scale * c * cosine
        step_y = scale * (a * lean + b), scale * (c * lean + d)
        corner = (width / 2 + u) / self._views.binning, (height / 2 + v) / self._views.binning
        first = [at + x * (0.5 - nx / 2) + y * (0.5 - ny / 2) for at, x, y in zip(corner, step_x, step_y, strict=True)]
        return np.array([first, [x * (nx / samples[1]) for x in step_x], [y * (ny / samples[0]) for y in step_y]])
