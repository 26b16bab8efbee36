"""Tracks of points whose geometry is known, for the tests of the bundle adjustment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.align.bundle import Solution, SolveParams, solve
from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.coarse.placement import CoarseResult, align_coarse
from tiltflow.model import Tracks
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import Truth, score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PointCase:
    """Measured tracks, and what they were made from."""

    tracks: Tracks
    truth: Truth
    points: Floats
    stretch: Floats
    skew_deg: Floats

    @property
    def exact_xy(self) -> Floats:
        """`(tracks, views, 2)` without noise, also where nothing was measured."""
        return np.swapaxes(self.truth.beads_xy, 0, 1)

    def solve(self, params: SolveParams | None = None, **more: Any) -> Solution:
        """Return the solution; the header's axis angle is the true one, rounded."""
        size = self.truth.size
        axis = round(float(self.truth.axis_deg.mean()))
        return solve(self.tracks, self.truth.nominal_deg, axis, params or SolveParams(), image_shape=(size, size), **more)

    def error(self, solution: Solution) -> float:
        """Return the true error of an alignment, pixels."""
        return score(self.truth, solution.transforms, solution.aligned_tilt_deg).rms_px

    def with_xy(self, xy: Floats, weight: Floats | None = None) -> PointCase:
        """Return the same case measured differently."""
        return replace(self, tracks=Tracks(xy, "bead", weight))


CaseMaker = Callable[..., PointCase]


@pytest.fixture
def point_case() -> CaseMaker:
    """Make tracks of points of a specimen that is tilted by imperfect angles about a wandering axis."""
    return make_point_case


def make_point_case(
    *,
    seed: int = 1,
    tracks: int = 25,
    views: int = 41,
    noise: float = 0.1,
    thickness: float = 80.0,
    two_surfaces: bool = False,
    pitch_deg: float = 0.0,
    axis_walk_deg: float = 0.03,
    tilt_sd_deg: float = 0.15,
    magnification_sd: float = 0.0008,
    stretch: float = 0.0,
    skew_deg: float = 0.0,
    missing: float = 0.1,
    size: int = 512,
) -> PointCase:
    """Return tracks with `noise` px per coordinate and a share of `missing` positions.

    The stretch swings between plus and minus `stretch`, the skew grows evenly with the tilt up to `skew_deg`.
    """
    rng = np.random.default_rng(seed)
    nominal = np.linspace(-60, 60, views)
    tilt = nominal + rng.normal(0, tilt_sd_deg, views)
    axis = -8 + np.cumsum(rng.normal(0, axis_walk_deg, views)) if axis_walk_deg else np.full(views, -8.0)
    magnification = 1 + rng.normal(0, magnification_sd, views)
    shift = np.cumsum(rng.normal(0, 3, (views, 2)), axis=0)
    grow = np.linspace(-1, 1, views)
    stretches, skews = stretch * np.cos(2 * np.pi * grow), skew_deg * grow
    points = rng.uniform(-0.46, 0.46, (tracks, 3)) * [size, size, thickness / 0.92]
    if two_surfaces:
        points[:, 2] = np.where(rng.random(tracks) < 0.5, 0.5, -0.5) * thickness + rng.normal(0, 0.02 * thickness, tracks)
    points[:, 2] += np.tan(np.deg2rad(pitch_deg)) * points[:, 1]
    x, y, z = points.T
    c, s = np.cos(np.deg2rad(tilt))[:, None], np.sin(np.deg2rad(tilt))[:, None]
    u = (1 + stretches[:, None]) * c * x + s * z
    v = y + np.deg2rad(skews)[:, None] * x
    ca, sa = np.cos(np.deg2rad(axis))[:, None], np.sin(np.deg2rad(axis))[:, None]
    flat = np.stack([ca * u - sa * v, sa * u + ca * v], axis=-1)
    exact = size / 2 + magnification[:, None, None] * flat + shift[:, None]
    xy = np.swapaxes(exact, 0, 1) + rng.normal(0, noise, (tracks, views, 2))
    xy[rng.random((tracks, views)) < missing] = np.nan
    truth = Truth(
        size=size,
        nominal_deg=nominal,
        true_deg=tilt,
        axis_deg=axis,
        magnification=magnification,
        shift_px=shift,
        beads_px=points,
        beads_xy=exact,
        probes_xy=exact,
        dark_views=(),
    )
    return PointCase(Tracks(xy, "bead"), truth, points, stretches, skews)


TEXTURED = SimulationParams(size=256, views=25, beads=6, thickness_px=50, hot_pixels=0, pitch_deg=2.0)


@pytest.fixture(scope="session")
def textured() -> SimulatedSeries:
    """A small series of a section full of texture, for the stages that align without tracks."""
    return simulate(TEXTURED, threads=2)


@pytest.fixture(scope="session")
def empty() -> SimulatedSeries:
    """A series of nothing but noise."""
    return simulate(replace(TEXTURED, beads=0, crowding=0.0), threads=2)


@pytest.fixture(scope="session")
def coarse(textured: SimulatedSeries) -> CoarseResult:
    """The textured series placed by coarse alignment, the angle of the axis 4 degrees off in its header."""
    return align_coarse(
        textured.images, textured.nominal_deg, textured.header_axis_deg + 4, params=CoarseParams(max_size_px=128), threads=2
    )


@pytest.fixture(scope="session")
def wild_track() -> tuple[SimulatedSeries, Tracks]:
    """A small series with the tracks of its 12 beads, and after them one of a point 300 px above the specimen, badly measured."""
    series = simulate(SimulationParams(size=128, views=21, beads=12))
    rng, tilts = np.random.default_rng(2), np.deg2rad(series.truth.nominal_deg)
    good = np.asarray(series.truth.probes_xy).swapaxes(0, 1)
    good = good + rng.normal(0, 0.1, good.shape)
    wild = good[:1].copy()
    wild[..., 0] += 300 * np.sin(tilts) + rng.normal(0, 8, len(tilts))
    return series, Tracks(np.concatenate([good, wild]), "patch")
