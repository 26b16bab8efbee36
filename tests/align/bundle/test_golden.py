"""Real tracks of gold beads, as IMOD measured them, against tiltalign's solution of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiltflow.align.bundle import SolveParams, solve
from tiltflow.model import Tracks

TILTALIGN = SolveParams(
    rotation="each", tilt="grouped", magnification="each", stretch=True, skew=True, surfaces=2, adapt=False, robust=False
)
"""What tiltalign was asked: no estimation of priors, which it does not have, and no robust fit."""


def _solve(folder: Path, axis: str, params: SolveParams):
    """Return the solution, and tiltalign's table: view, rotation, tilt, change of tilt, magnification, ..."""
    rows = np.loadtxt(folder / f"BB{axis}_points.txt")
    nominal = np.loadtxt(folder / f"BB{axis}.rawtlt")
    table = np.loadtxt(folder / f"BB{axis}_solution.txt", skiprows=1)
    bead, view = rows[:, 0].astype(int) - 1, np.rint(rows[:, 3]).astype(int)
    xy = np.full((bead.max() + 1, len(nominal), 2), np.nan)
    xy[bead, view] = rows[:, 1:3]
    start = {"a": -11.0, "b": -12.0}[axis]
    offset = {"a": -0.5, "b": 0.0}[axis]
    params = replace(params, tilt_angle_offset_deg=offset)
    return solve(Tracks(xy, "bead"), nominal, start, params, image_shape=(512, 512)), table


def _apart(ours, theirs):
    """Return the largest difference after removing what is common to all views."""
    difference = ours - theirs
    return np.abs(difference - np.median(difference)).max()


@pytest.mark.parametrize(("axis", "residual_px"), [("a", 0.315), ("b", 0.337)])
def test_the_residual_is_tiltaligns(data, axis, residual_px):
    solution, _ = _solve(data / "solve", axis, TILTALIGN)
    assert solution.evidence.residual_mean_px < residual_px


@pytest.mark.parametrize(("axis", "residual_px"), [("a", 0.315), ("b", 0.336)])
def test_a_robust_fit_leaves_less_than_tiltalign(data, axis, residual_px):
    solution, _ = _solve(data / "solve", axis, replace(TILTALIGN, robust=True))
    assert solution.evidence.residual_mean_px < residual_px
    assert solution.evidence.residual_weighted_mean_px < 0.87 * residual_px


@pytest.mark.parametrize("robust", [True, False])
@pytest.mark.parametrize("axis", ["a", "b"])
def test_rotations_tilts_and_magnifications_are_tiltaligns(data, axis, robust):
    solution, table = _solve(data / "solve", axis, replace(TILTALIGN, robust=robust))
    assert _apart(solution.rotation_deg, table[:, 1]) < 0.1
    assert _apart(solution.tilt_deg, table[:, 2]) < 0.15
    assert _apart(solution.magnification / solution.magnification.mean(), table[:, 4] / table[:, 4].mean()) < 0.002


@pytest.mark.parametrize("axis", ["a", "b"])
def test_estimating_the_priors_lowers_the_leave_out_error(data, axis):
    plain = _solve(data / "solve", axis, replace(TILTALIGN, robust=True))[0].evidence
    estimated = _solve(data / "solve", axis, replace(TILTALIGN, robust=True, adapt=True))[0].evidence
    assert estimated.leave_out_px < plain.leave_out_px
    assert estimated.residual_mean_px < 1.02 * plain.residual_mean_px
