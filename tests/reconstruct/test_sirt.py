"""Tests of SIRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tiltflow.errors import ParameterError
from tiltflow.kernels.projection import project, relax_lines
from tiltflow.reconstruct.sirt import SirtParams, SirtResult, reconstruct_sirt
from tiltflow.reconstruct.stretched_lines import SliceGrid, stretched_lines
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct

TILT = np.linspace(-60, 60, 41)
NZ, NX = 40, 96


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """A slice of overlapping ellipses."""
    rng = np.random.default_rng(3)
    x, z = np.meshgrid(np.arange(NX) - (NX - 1) / 2, (NZ - 1) / 2 - np.arange(NZ))
    xz = np.zeros((NZ, NX), np.float32)
    for _ in range(30):
        at = rng.uniform(-44, 44), rng.uniform(-15, 15)
        axes = rng.uniform(2, 8, 2)
        xz += rng.choice([-1, 1]) * (((x - at[0]) / axes[0]) ** 2 + ((z - at[1]) / axes[1]) ** 2 < 1)
    return xz


@pytest.fixture(scope="module")
def views(truth: np.ndarray) -> np.ndarray:
    """Its projections, the same on two lines: `(views, 2, x)`."""
    s = stretched_lines(TILT, NX, SliceGrid(NX, NZ))
    lines, out = np.empty(s.length, np.float32), np.empty((len(TILT), NX), np.float32)
    project(truth, s.even, s.odd, s.shift, s.slope, lines)
    relax_lines(lines, s.even, s.odd, s.inside, s.pixel, s.fraction, out)
    return np.repeat(out[:, None], 2, axis=1)


def noisy(views: np.ndarray, sd: float) -> np.ndarray:
    return views + np.random.default_rng(5).normal(0, sd, views.shape).astype(np.float32)


def solved(views: np.ndarray, sirt: SirtParams, **changes: Any) -> tuple[np.ndarray, SirtResult]:
    params = ReconstructParams(**({"thickness": NZ, "scale_factor": 1.0, "mode": 2} | changes))
    slabs: list[np.ndarray] = []
    result = reconstruct_sirt(views, TILT, params, sirt, sink=lambda _, slab: slabs.append(slab))
    return np.concatenate(slabs), result


def back_projected(views: np.ndarray, **changes: Any) -> np.ndarray:
    params = ReconstructParams(**({"thickness": NZ, "scale_factor": 1.0, "mode": 2} | changes))
    slabs: list[np.ndarray] = []
    reconstruct(views, TILT, params, sink=lambda _, slab: slabs.append(slab))
    return np.concatenate(slabs)


def likeness(volume: np.ndarray, truth: np.ndarray) -> float:
    """Correlation with the truth where most views see the slice."""
    inner = (slice(None), slice(4, -4), slice(12, -12))
    return float(np.corrcoef(volume[inner].ravel(), np.broadcast_to(truth, volume.shape)[inner].ravel())[0, 1])


@pytest.mark.parametrize("start", ["zero", "back-projection"])
@pytest.mark.parametrize("relaxation", [0.5, 1.0, 1.5])
def test_projections_approach_the_views_in_every_round(views: np.ndarray, start: Any, relaxation: float) -> None:
    _, result = solved(noisy(views, 4.0), SirtParams(iterations=12, start=start, relaxation=relaxation))
    assert len(result.residual_rms) == 13
    assert np.all(np.diff(result.residual_rms) < 0)
    assert result.residual_rms[0] > 1.05 * result.residual_rms[-1]


def test_without_noise_it_goes_on_towards_the_truth_and_past_back_projection(views: np.ndarray, truth: np.ndarray) -> None:
    found = [likeness(solved(views, SirtParams(iterations=n))[0], truth) for n in (2, 8, 40)]
    assert found == sorted(found)
    assert found[-1] > likeness(back_projected(views), truth) + 0.01


def test_at_low_dose_ten_rounds_come_nearer_to_the_truth_than_back_projection(views: np.ndarray, truth: np.ndarray) -> None:
    few = noisy(views, 8.0)
    assert likeness(solved(few, SirtParams(iterations=10))[0], truth) > likeness(back_projected(few), truth) + 0.05


def test_grey_values_are_those_of_back_projection(views: np.ndarray) -> None:
    counts = views * 5 + 2000
    for changes in ({}, {"scale_factor": 0.2, "scale_offset": 100.0}, {"thickness": 80, "binning": 2}):
        sirt, _ = solved(counts, SirtParams(iterations=15), **changes)
        wbp = back_projected(counts, **changes)
        inner = (slice(None), slice(4, -4), slice(12, -12))
        slope, _ = np.polyfit(wbp[inner].ravel().astype(float), sirt[inner].ravel().astype(float), 1)
        assert slope == pytest.approx(1, abs=0.3)
        assert abs(sirt[inner].mean() - wbp[inner].mean()) < 0.2 * wbp[inner].std()


def test_a_start_from_back_projection_needs_fewer_rounds(views: np.ndarray) -> None:
    _, from_zero = solved(views, SirtParams(iterations=5))
    _, from_wbp = solved(views, SirtParams(iterations=5, start="back-projection"))
    assert from_wbp.residual_rms[0] < 0.5 * from_zero.residual_rms[0]
    assert from_wbp.residual_rms[-1] < from_zero.residual_rms[-1]


def test_a_pitched_specimen_is_levelled_as_by_back_projection(rng: np.random.Generator) -> None:
    y, z, x = 20, 13, 60
    ny = 30
    a, t = np.deg2rad(5.0), np.deg2rad(TILT)
    point = np.array([x - (NX - 1) / 2, y - (ny - 1) / 2, (NZ - 1) / 2 - z])
    py, pz = point[1] * np.cos(a) - point[2] * np.sin(a), point[1] * np.sin(a) + point[2] * np.cos(a)
    u = point[0] * np.cos(t) + pz * np.sin(t) + (NX - 1) / 2
    across = np.exp(-((np.arange(NX) - u[:, None]) ** 2) / 8)
    along = np.exp(-((np.arange(ny) - py - (ny - 1) / 2) ** 2) / 8)
    pitched = (100 * along[:, None] * across[:, None, :]).astype(np.float32)
    volume, _ = solved(pitched, SirtParams(iterations=4), x_axis_tilt_deg=-5.0)
    assert np.unravel_index(np.argmax(volume), volume.shape) == (y, z, x)


def test_the_result_does_not_depend_on_the_threads(rng: np.random.Generator) -> None:
    views = rng.normal(100, 10, (5, 40, 24)).astype(np.float32)
    params = ReconstructParams(thickness=10, mode=2)
    made = []
    for threads in (1, 3):
        slabs: list[np.ndarray] = []
        result = reconstruct_sirt(
            views,
            np.linspace(-40, 40, 5),
            params,
            SirtParams(iterations=3),
            sink=lambda _, slab, slabs=slabs: slabs.append(slab),
            threads=threads,
        )
        made.append((np.concatenate(slabs), result.residual_rms))
    np.testing.assert_array_equal(made[0][0], made[1][0])
    assert made[0][1] == pytest.approx(made[1][1], rel=1e-9)


@pytest.mark.parametrize("bad", [{"iterations": 0}, {"relaxation": 2.0}, {"relaxation": 0.0}])
def test_iterations_that_cannot_converge_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        SirtParams(**bad)
